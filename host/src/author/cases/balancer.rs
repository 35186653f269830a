//! Cases of a balancer.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::author::rig::{Broke, End, Rig};
use crate::author::subject::Subject;
use crate::plugins::{Kind, Member, Simulation};
use crate::upstream::balancer::{EndpointChange, Pick};
use crate::upstream::endpoint::EndpointId;

use super::file::{RequestEntry, Step, members};
use super::{Player, Told, differ, message, misplaced};

/// Slots for memberships to come.
const SLOTS: usize = 1024;

pub(super) struct Play(Rig);

impl Play {
    pub(super) fn new(subject: &Subject, world: &Arc<Simulation>, members: Vec<Member>) -> Result<Self, Broke> {
        let slots = members.len().max(SLOTS);
        Rig::new(subject, world, members, slots).map(Self)
    }

    fn pick(&mut self, step: &Step, random: u64) -> Result<String, String> {
        let tried = step.tried.iter().map(|address| self.slot(address)).collect::<Result<Vec<_>, _>>()?;
        let Self(rig) = self;
        message::request(&mut rig.exchange, step.request.as_ref().unwrap_or(&RequestEntry::default()));
        rig.exchange.tried = tried;
        let picked = rig.pick_here(random).map_err(|broke| broke.message)?;
        Ok(match picked {
            Pick::Endpoint(id) => match rig.members.iter().find(|m| m.endpoint.id == id) {
                Some(member) => member.endpoint.address.to_string(),
                None => format!("slot {id}, which is no endpoint"),
            },
            Pick::Unavailable => "unavailable".to_owned(),
            Pick::Overloaded => "overloaded".to_owned(),
            Pick::Abstain => "nothing".to_owned(),
        })
    }

    fn slot(&self, address: &str) -> Result<EndpointId, String> {
        let found = self.0.members.iter().find(|m| *m.endpoint.address == *address);
        found.map(|m| m.endpoint.id).ok_or_else(|| format!("there is no endpoint `{address}`"))
    }

    fn picks(&mut self, step: &Step, expected: &[String], rng: &mut Rng) -> Told {
        let mut got = Vec::new();
        for _ in expected {
            let random = step.random.unwrap_or_else(|| rng.u64(..));
            got.push(self.pick(step, random)?);
        }
        if got != expected {
            return Err(differ("", expected.join(" "), got.join(" ")));
        }
        if let Some(appends) = &step.appends {
            let got = self.0.exchange.appended.iter();
            let got: Vec<_> = got.map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
            let wanted: Vec<_> = appends.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            if got != wanted {
                return Err(differ("headers added to the response", wanted.join(", "), got.join(", ")));
            }
        }
        Ok(())
    }
}

impl Player for Play {
    fn play(&mut self, step: &Step, rng: &mut Rng) -> Told {
        let told = |broke: Broke| broke.message;
        if let Some(expected) = &step.pick {
            self.picks(step, std::slice::from_ref(expected), rng)
        } else if let Some(expected) = &step.picks {
            self.picks(step, expected, rng)
        } else if let Some(active) = &step.active {
            for (address, active) in active {
                let id = self.slot(address)?;
                self.0.loads.set(0, id, *active, self.0.loads.latency(id));
            }
            Ok(())
        } else if let Some(latency) = &step.latency {
            for (address, latency) in latency {
                let id = self.slot(address)?;
                self.0.loads.set(0, id, self.0.loads.active(id), latency.0);
            }
            Ok(())
        } else if let Some(change) = &step.change {
            let id = self.slot(&change.endpoint)?;
            let now = self.0.members.iter().find(|m| m.endpoint.id == id);
            let (weight, ready) = now.map_or((1, true), |m| (m.endpoint.weight, m.ready));
            let (weight, ready) = (change.weight.unwrap_or(weight), change.ready.unwrap_or(ready));
            self.0.change(&[EndpointChange { id, weight, ready }]).map_err(told)
        } else if let Some(seen) = &step.observe {
            let id = self.slot(&seen.endpoint)?;
            self.0.observe(id, End { latency: seen.latency.0, status: seen.status }, seen.penalty);
            Ok(())
        } else if let Some(wait) = &step.wait {
            self.0.wait(wait.0.max(Duration::from_nanos(1))).map_err(told)
        } else if let Some(entries) = &step.endpoints {
            let before = self.0.members.clone();
            self.0.swap(keep_slots(members(entries), &before)).map_err(told)
        } else {
            Err(misplaced(
                Kind::Balancer,
                "`pick`, `picks`, `active`, `latency`, `change`, `observe`, `wait` and `endpoints`",
            ))
        }
    }
}

/// Endpoints that stay keep their slots; others take free ones.
fn keep_slots(mut members: Vec<Member>, before: &[Member]) -> Vec<Member> {
    let old = |member: &Member| before.iter().find(|b| b.endpoint.address == member.endpoint.address);
    let mut taken: Vec<_> = members.iter().filter_map(old).map(|b| b.endpoint.id).collect();
    for member in &mut members {
        member.endpoint.id = match old(member) {
            Some(before) => before.endpoint.id,
            None => {
                let free = (0..).find(|id| !taken.contains(id)).unwrap_or_default();
                taken.push(free);
                free
            }
        };
    }
    members
}
