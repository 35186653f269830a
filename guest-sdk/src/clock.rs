//! The host's clocks.

use std::ops::Add;
use std::time::Duration;

use crate::host;

/// A point on the host's monotonic clock. Only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// A point so many nanoseconds after an arbitrary beginning, the same for every plugin of a proxy.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since that beginning: what to keep in a [`crate::shared::Cell`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero when that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Stays at the end of time rather than pass it.
    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(nanos(length)))
    }
}

/// Reads the monotonic clock. `now` in a context is cheaper.
pub fn monotonic() -> Instant {
    Instant(host::clock::monotonic())
}

/// The time since the Unix epoch.
pub fn wall() -> Duration {
    Duration::from_nanos(host::clock::wall())
}

/// As the contract writes lengths of time.
pub(crate) fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
