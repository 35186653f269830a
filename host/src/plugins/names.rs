//! The upstreams there are, as rewriters may name them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The names of the upstreams. Uses of plugins outlive configurations, so that the names can change under them.
#[derive(Debug, Default)]
pub struct UpstreamNames(ArcSwap<BTreeSet<Arc<str>>>);

impl UpstreamNames {
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self(ArcSwap::from_pointee(names.into_iter().collect()))
    }

    pub fn find(&self, name: &str) -> Option<Arc<str>> {
        self.0.load().get(name).cloned()
    }

    /// Has these be known too, while it is open whether they will be the ones.
    pub(crate) fn add(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut all = BTreeSet::clone(&self.0.load());
        all.extend(names);
        self.0.store(Arc::new(all));
    }

    /// Has these be all there are.
    pub(crate) fn set(&self, names: impl IntoIterator<Item = Arc<str>>) {
        self.0.store(Arc::new(names.into_iter().collect()));
    }
}
