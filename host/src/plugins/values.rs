//! The values that the instances of one use share: written over the version that was read, within a quota, and
//! forgotten least recently used first where the plugin says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes counted for a value beside its name and its bytes.
pub(super) const OVERHEAD: usize = 64;

/// Values by name.
#[derive(Debug)]
pub(super) struct Values {
    quota: usize,
    used: usize,
    entries: HashMap<Arc<str>, Value>,
    /// The remembered ones, the least recently used first.
    uses: BTreeMap<u64, Arc<str>>,
    /// Rises with every write, so that a version never comes back.
    version: u64,
    /// Rises with every use.
    clock: u64,
}

#[derive(Debug)]
struct Value {
    bytes: Arc<[u8]>,
    version: u64,
    /// For one to be remembered for a while only.
    remembered: Option<Remembered>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    /// Nanoseconds on the host's clock.
    until: u64,
    /// Its place in `uses`.
    used: u64,
}

/// Why a write was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWritten {
    Full,
    Conflict,
}

impl Values {
    /// Values of together `quota` bytes.
    pub(super) fn new(quota: usize) -> Self {
        Self { quota, used: 0, entries: HashMap::new(), uses: BTreeMap::new(), version: 0, clock: 0 }
    }

    /// A value with its version. `now` is asked for when it may be too old.
    pub(super) fn get(&mut self, key: &str, now: impl FnOnce() -> u64) -> Option<(Arc<[u8]>, u64)> {
        let value = self.entries.get_mut(key)?;
        if let Some(remembered) = &mut value.remembered {
            if now() >= remembered.until {
                self.delete(key);
                return None;
            }
            if let Some(name) = self.uses.remove(&remembered.used) {
                self.clock += 1;
                remembered.used = self.clock;
                self.uses.insert(self.clock, name);
            }
        }
        Some((value.bytes.clone(), value.version))
    }

    /// Writes a value if its version is still `version`, or if there is none yet for `None`.
    pub(super) fn put(&mut self, key: &str, bytes: &[u8], version: Option<u64>) -> Result<u64, NotWritten> {
        self.write(key, bytes, version, None)
    }

    /// The same for a value that is forgotten `max_age` after `now`, or when room is wanted.
    pub(super) fn remember(
        &mut self,
        key: &str,
        bytes: &[u8],
        version: Option<u64>,
        now: u64,
        max_age: u64,
    ) -> Result<u64, NotWritten> {
        let old = self.entries.get(key).and_then(|value| value.remembered);
        if old.is_some_and(|remembered| now >= remembered.until) {
            self.delete(key);
        }
        self.write(key, bytes, version, Some(now.saturating_add(max_age)))
    }

    pub(super) fn delete(&mut self, key: &str) {
        if let Some(value) = self.entries.remove(key) {
            self.used -= cost(key, value.bytes.len());
            if let Some(remembered) = value.remembered {
                self.uses.remove(&remembered.used);
            }
        }
    }

    fn write(&mut self, key: &str, bytes: &[u8], version: Option<u64>, until: Option<u64>) -> Result<u64, NotWritten> {
        let found = self.entries.get(key);
        if found.map(|value| value.version) != version {
            return Err(NotWritten::Conflict);
        }
        let before = found.map_or(0, |value| cost(key, value.bytes.len()));
        let after = cost(key, bytes.len());
        // What makes room for it must not be itself.
        let own = found.and_then(|value| value.remembered).map(|remembered| remembered.used);
        while self.used - before + after > self.quota {
            let oldest = self.uses.iter().find(|(used, _)| Some(**used) != own).map(|(_, name)| name.clone());
            match oldest {
                Some(oldest) if after <= self.quota => self.delete(&oldest),
                _ => return Err(NotWritten::Full),
            }
        }
        self.delete(key);
        self.version += 1;
        self.clock += 1;
        let (name, used) = (Arc::<str>::from(key), self.clock);
        let remembered = until.map(|until| Remembered { until, used });
        if remembered.is_some() {
            self.uses.insert(used, name.clone());
        }
        self.used += after;
        self.entries.insert(name, Value { bytes: bytes.into(), version: self.version, remembered });
        Ok(self.version)
    }
}

fn cost(key: &str, bytes: usize) -> usize {
    OVERHEAD.saturating_add(key.len()).saturating_add(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &mut Values, key: &str, now: u64) -> Option<String> {
        values.get(key, || now).map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn a_value_is_written_only_over_the_version_that_was_read() {
        let mut values = Values::new(1024);

        let first = values.put("k", b"1", None).expect("absent");
        assert_eq!(values.put("k", b"2", None), Err(NotWritten::Conflict));
        let second = values.put("k", b"2", Some(first)).expect("unchanged");
        assert_eq!(values.put("k", b"3", Some(first)), Err(NotWritten::Conflict));

        assert_eq!(values.get("k", || 0), Some((b"2"[..].into(), second)));
        values.delete("k");
        assert_eq!(values.get("k", || 0), None);
        assert!(values.put("k", b"4", None).expect("absent again") > second, "a version never comes back");
    }

    #[test]
    fn values_have_a_quota_of_bytes_and_deleting_gives_back() {
        let mut values = Values::new(200);

        let version = values.put("k", &[0; 135], None).expect("exactly the quota");
        assert_eq!(values.put("l", b"", None), Err(NotWritten::Full));
        values.put("k", b"small", Some(version)).expect("smaller");
        values.put("l", b"fits now", None).expect("fits");
        values.delete("k");

        assert_eq!(values.used, OVERHEAD + "lfits now".len());
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let mut values = Values::new(3 * (OVERHEAD + 2));
        for key in ["a", "b", "c"] {
            values.remember(key, b"1", None, 0, 100).expect("room");
        }
        assert_eq!(text(&mut values, "a", 1).as_deref(), Some("1"));

        values.remember("d", b"1", None, 1, 100).expect("room is made");

        let left: Vec<_> = ["a", "b", "c", "d"].into_iter().filter(|key| values.get(key, || 1).is_some()).collect();
        assert_eq!(left, ["a", "c", "d"]);
    }

    #[test]
    fn what_was_put_for_good_does_not_make_room() {
        let mut values = Values::new(2 * (OVERHEAD + 2));
        values.put("a", b"1", None).expect("room");
        values.remember("b", b"1", None, 0, 100).expect("room");

        values.put("c", b"1", None).expect("b makes room");

        assert_eq!(values.put("d", b"1", None), Err(NotWritten::Full));
        assert_eq!(values.remember("d", b"1", None, 0, 100), Err(NotWritten::Full));
        assert_eq!(text(&mut values, "b", 0), None);
    }

    #[test]
    fn a_value_too_large_for_all_the_quota_forgets_nothing() {
        let mut values = Values::new(2 * (OVERHEAD + 2));
        values.remember("a", b"1", None, 0, 100).expect("room");

        assert_eq!(values.remember("b", &[0; 200], None, 0, 100), Err(NotWritten::Full));

        assert_eq!(text(&mut values, "a", 0).as_deref(), Some("1"));
    }

    #[test]
    fn a_remembered_value_is_forgotten_in_time_and_can_be_written_anew() {
        let mut values = Values::new(1024);
        let version = values.remember("a", b"1", None, 0, 100).expect("room");

        assert_eq!(text(&mut values, "a", 99).as_deref(), Some("1"));
        assert_eq!(values.remember("a", b"2", Some(version), 100, 100), Err(NotWritten::Conflict), "it is too old");
        values.remember("a", b"3", None, 100, 100).expect("absent");

        assert_eq!(text(&mut values, "a", 150).as_deref(), Some("3"));
        assert_eq!(text(&mut values, "a", 200), None);
        assert_eq!((values.used, values.uses.len()), (0, 0));
    }
}
