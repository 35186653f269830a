//! The balancers behind a balancer: one for each group of endpoints it has made.

use std::sync::Arc;

use crate::http::facts::Exchange;
use crate::plugins::balancer::{Live, Member, Table};
use crate::plugins::error::PluginError;
use crate::plugins::uses::UseCore;
use crate::upstream::balancer::{BadPick, EndpointChange, FeedbackKind, Pick, PickContext, Sample};
use crate::upstream::endpoint::{Endpoint, EndpointId};
use crate::upstream::key;
use crate::upstream::round_robin::RoundRobin;

/// Groups that a balancer may make.
const MOST_GROUPS: usize = 64;

/// The groups of one instance, and what they are made from.
#[derive(Default)]
pub(super) struct Behind {
    /// The membership that the update under way tells of.
    table: Option<Table>,
    groups: Vec<Group>,
    /// The context of the pick under way.
    context: Option<PickContext>,
}

/// Some endpoints with a balancer that knows of these alone.
struct Group {
    live: Live,
    key: Vec<u8>,
    endpoints: Vec<Endpoint>,
    /// Answers when the balancer cannot.
    fallback: RoundRobin,
}

impl Behind {
    /// Says which membership the coming `update` is about.
    pub(super) fn expect(&mut self, table: &Table) {
        self.groups.clear();
        self.table = Some(table.clone());
    }

    /// Takes the context of the coming pick.
    #[inline]
    pub(super) fn begin(&mut self, context: PickContext) {
        if !self.groups.is_empty() {
            self.context = Some(context);
        }
    }

    /// Makes a group of the endpoints that there are; `None` past the quota.
    pub(super) fn group(
        &mut self,
        core: &UseCore,
        worker: usize,
        endpoints: &[EndpointId],
    ) -> Result<Option<u32>, PluginError> {
        let (Some(behind), Some(table)) = (&core.behind, &self.table) else { return Ok(None) };
        if self.groups.len() >= MOST_GROUPS {
            return Ok(None);
        }
        let table = table.part(endpoints);
        let endpoints: Vec<_> = table.members.iter().map(|member: &Member| member.endpoint.clone()).collect();
        let fallback = RoundRobin::new(endpoints.len());
        let live = Live::build(behind.core().clone(), worker, table)?;
        self.groups.push(Group { live, key: Vec::new(), endpoints, fallback });
        Ok(u32::try_from(self.groups.len() - 1).ok())
    }

    /// Has an endpoint of a group picked. What cannot be used is a fault of the balancer behind, and then the host's
    /// own round robin picks.
    pub(super) fn pick(&mut self, group: u32, exchange: &mut Exchange) -> Pick {
        let (Some(group), Some(context)) = (self.groups.get_mut(group as usize), self.context) else {
            return Pick::Unavailable;
        };
        group.pick(exchange, context)
    }

    pub(super) fn change(&mut self, changes: &[EndpointChange]) {
        for group in &mut self.groups {
            group.live.change(changes);
        }
    }

    pub(super) fn observe(&mut self, sample: Sample) {
        for group in self.groups.iter_mut().filter(|group| group.live.knows(sample.endpoint)) {
            group.live.observe(sample);
        }
    }

    pub(super) fn tick(&mut self, now: u64) {
        for group in &mut self.groups {
            group.live.tick(now);
        }
    }

    /// Which outcomes any of them wants to hear of.
    pub(super) fn feedback(&self) -> Option<FeedbackKind> {
        self.groups.iter().filter_map(|group| group.live.needs().feedback).reduce(FeedbackKind::or)
    }

    /// Whether any of them reads the times to a response head.
    pub(super) fn reads_latency(&self) -> bool {
        self.groups.iter().any(|group| group.live.needs().latency)
    }
}

impl Group {
    fn pick(&mut self, exchange: &mut Exchange, context: PickContext) -> Pick {
        // The key that this one asked for, in place of what the one before it asked for.
        let sources = &self.live.needs().key;
        let found = !sources.is_empty() && key::read(sources, exchange, &mut self.key);
        let key = found.then(|| std::mem::take(&mut self.key));
        let context = PickContext { key: key.as_deref().map(key::hash), ..context };
        let outer = std::mem::replace(&mut exchange.key, key);
        let picked = self.live.pick(exchange, context);
        if let Some(used) = std::mem::replace(&mut exchange.key, outer) {
            self.key = used;
        }

        match picked {
            Pick::Endpoint(id) => match self.live.is_ready(id) {
                Some(true) => picked,
                Some(false) => self.reject(id, BadPick::NotReady, exchange),
                None => self.reject(id, BadPick::Unknown, exchange),
            },
            Pick::Abstain => self.fall_back(exchange),
            Pick::Unavailable | Pick::Overloaded => picked,
        }
    }

    fn reject(&mut self, id: EndpointId, why: BadPick, exchange: &Exchange) -> Pick {
        self.live.reject(id, why);
        self.fall_back(exchange)
    }

    fn fall_back(&mut self, exchange: &Exchange) -> Pick {
        let Self { live, endpoints, fallback, .. } = self;
        let is_ready = |id| live.is_ready(id) == Some(true);
        let picked = fallback
            .pick(endpoints, |id| is_ready(id) && !exchange.tried.contains(&id))
            .or_else(|| fallback.pick(endpoints, is_ready));
        picked.map_or(Pick::Unavailable, Pick::Endpoint)
    }
}

/// What a plugin behind another asks for is told once, before any of it serves.
pub(super) fn probe(core: &Arc<UseCore>, worker: usize, table: &Table) -> Result<(), PluginError> {
    match &core.behind {
        Some(behind) => Live::build(behind.core().clone(), worker, table.clone()).map(|_| ()),
        None => Ok(()),
    }
}
