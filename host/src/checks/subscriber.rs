//! Who wants to know of an endpoint: its place in an upstream.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::upstream::Shared;
use crate::upstream::endpoint::EndpointId;

/// What a check tells of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has no traffic until it is known to be well.
    Awaited,
    Up,
    Down,
}

/// An endpoint of an upstream.
pub(super) struct Subscriber {
    pub(super) upstream: Arc<str>,
    /// Its address.
    pub(super) endpoint: Arc<str>,
    pub(super) interest: Box<dyn Interest>,
}

/// What becomes of the news.
pub(super) trait Interest: Send {
    /// Whether it would make no difference: the endpoint has no traffic however well it is.
    fn is_shut(&self) -> bool;

    /// Hears what is known, also when that is not new.
    fn tell(&self, news: News);

    /// Hears that a check has passed, after what that made known. Passive health may have something to take back.
    fn passed(&self);
}

impl Subscriber {
    pub(super) fn new(shared: &Arc<Shared>, id: EndpointId) -> Self {
        Self {
            upstream: shared.name.clone(),
            endpoint: shared.endpoints[id as usize].address.clone(),
            interest: Box::new(Place { shared: shared.clone(), id }),
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.endpoint, self.upstream)
    }
}

struct Place {
    shared: Arc<Shared>,
    id: EndpointId,
}

impl Interest for Place {
    fn is_shut(&self) -> bool {
        self.shared.health.is_down(self.id)
    }

    fn tell(&self, news: News) {
        let Some(state) = self.shared.health.state(self.id) else { return };
        match news {
            News::Awaited => state.await_check(),
            News::Up => state.checked(true),
            News::Down => state.checked(false),
        }
    }

    fn passed(&self) {
        if self.shared.health.check_passed(self.id, Instant::now()) {
            let (upstream, endpoint) = (&self.shared.name, &self.shared.endpoints[self.id as usize].address);
            tracing::info!(%upstream, %endpoint, "its check passes, which ends its ejection");
        }
    }
}
