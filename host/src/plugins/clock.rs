//! The clocks plugins are told: time since the plugin host began, and CPU time of a thread.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The host's monotonic clock, as nanoseconds since it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// A moment on this clock; 0 for one before it began.
    #[inline]
    pub(super) fn at(self, moment: tokio::time::Instant) -> u64 {
        nanos(moment.into_std().saturating_duration_since(self.0))
    }
}

/// A length of time in nanoseconds, at most what 64 bits hold (584 years).
#[inline]
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}

/// CPU time the calling thread has used. Where the system cannot tell, the time that has passed.
#[expect(unsafe_code, reason = "the standard library has no clock of a thread's CPU time")]
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call may write to, and nothing else is touched.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if answer != 0 {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        return BEGIN.elapsed();
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_uses_cpu_time() {
        let before = thread_cpu_time();

        let mut sum = 0u64;
        while thread_cpu_time() < before + Duration::from_millis(1) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }

        assert!(sum > 0);
    }
}
