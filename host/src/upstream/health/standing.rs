//! Whether an endpoint may have traffic, and why not.

/// An endpoint's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Up,
    /// An operator or the configuration gives it no traffic.
    Down,
    /// An operator or the configuration gives it no new requests.
    Draining,
    /// The active check has not come to a verdict yet.
    Checking,
    /// The active check failed.
    Unhealthy,
    /// Too many failures in live traffic, as nginx counts them.
    Failed,
    /// Left out by what live traffic showed.
    Ejected,
    /// It was left out, and a few live requests decide whether it comes back.
    Probing {
        /// Whether it may have one more.
        ready: bool,
    },
    /// It has as many requests as it may.
    Full,
    /// It is not healthy, and offered all the same because too few are.
    Panic,
}

impl Standing {
    /// Whether it may be picked.
    pub(crate) fn is_ready(self) -> bool {
        matches!(self, Self::Up | Self::Panic | Self::Probing { ready: true })
    }

    /// Whether it may be picked for its own sake, and not only because too few are well.
    pub(crate) fn is_well(self) -> bool {
        self.is_ready() && self != Self::Panic
    }

    /// Whether an operator or the configuration keeps requests away, whatever its health.
    pub(crate) fn is_shut(self) -> bool {
        matches!(self, Self::Down | Self::Draining)
    }

    /// Whether health is what is against it.
    pub(super) fn is_ill(self) -> bool {
        matches!(self, Self::Unhealthy | Self::Failed | Self::Ejected | Self::Probing { .. })
    }
}
