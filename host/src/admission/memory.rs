//! Whether this process has more memory than it should.
//!
//! What is measured is what the kernel's out-of-memory killer looks at first: anonymous memory that is resident
//! (`RssAnon` of `/proc/self/status`), plugins' memories included. On other systems nobody knows, and there is no limit.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::{info, warn};

use crate::telemetry::exposition::{Exposition, Kind};

/// How often it is measured.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// The memory of this process, as requests ask for it. On a cache line that is hardly ever written.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Memory {
    /// 0: none.
    limit: AtomicU64,
    short: AtomicBool,
}

impl Memory {
    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Relaxed);
        self.judge(limit.and_then(|_| resident()));
    }

    /// Whether new work is refused.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }

    /// Measures. Answers whether work is taken on again.
    pub(crate) fn measure(&self) -> bool {
        let limit = self.limit.load(Relaxed);
        limit > 0 && self.judge(resident())
    }

    fn judge(&self, used: Option<u64>) -> bool {
        let (limit, was) = (self.limit.load(Relaxed), self.is_short());
        let short = used.is_some_and(|used| limit > 0 && is_short(was, used, limit));
        self.short.store(short, Relaxed);
        match (was, short) {
            (false, true) => {
                warn!(target: super::TARGET, used, limit, "refusing new work: there is more memory in use than memory_limit");
            }
            (true, false) => info!(target: super::TARGET, used, limit, "taking on new work again"),
            _ => {}
        }
        was && !short
    }

    pub(super) fn write_metrics(&self, out: &mut Exposition) {
        if let Some(used) = resident() {
            out.family("staunch_process_memory_bytes", Kind::Gauge, "Anonymous memory that is resident.");
            out.sample(&[], used);
        }
        out.family("staunch_process_memory_limit_bytes", Kind::Gauge, "The memory_limit; 0: none.");
        out.sample(&[], self.limit.load(Relaxed));
        let help = "1 while new requests are refused because of memory_limit.";
        out.family("staunch_process_memory_short", Kind::Gauge, help);
        out.sample(&[], u8::from(self.is_short()));
    }
}

/// Work is refused above the limit, and until a tenth of it is free again: no swinging to and fro.
fn is_short(was: bool, used: u64, limit: u64) -> bool {
    used > if was { limit / 10 * 9 } else { limit }
}

/// Anonymous memory that is resident, in bytes.
fn resident() -> Option<u64> {
    rss_anon(&fs::read_to_string("/proc/self/status").ok()?)
}

fn rss_anon(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_a_tenth_is_free_again() {
        let mut short = false;
        let mut judge = |used| {
            short = is_short(short, used, 1000);
            short
        };

        assert_eq!(
            [900, 1000, 1001, 1000, 901, 900, 1000].map(&mut judge),
            [false, false, true, true, true, false, false]
        );
    }

    #[test]
    fn the_kernel_tells_it_in_kibibytes() {
        assert_eq!(rss_anon("VmRSS:\t    9 kB\nRssAnon:\t     128 kB\nRssFile:\t  1 kB\n"), Some(131_072));
        for text in ["", "RssAnon:", "RssAnon: x kB", "RssAnon: 1 MB", "RssAnon: 99999999999999999999 kB"] {
            assert_eq!(rss_anon(text), None, "{text}");
        }
        assert!(!cfg!(target_os = "linux") || resident() > Some(0));
    }
}
