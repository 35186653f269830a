//! Who gets how much: fairness, and what weights and readiness do to it.

use std::time::Duration;

use fastrand::Rng;

use crate::author::rig::{Ask, Broke, End, Rig};
use crate::author::subject::Subject;
use crate::upstream::balancer::{EndpointChange, Pick};
use crate::upstream::endpoint::EndpointId;
use crate::upstream::round_robin::RoundRobin;

use super::balancer::{Claim, Claims, Manner, Profile};
use super::report::{Property, Report};
use super::walk::said;

/// What ended an experiment.
#[derive(Debug)]
pub(super) enum Trouble {
    Broke(Broke),
    /// A calm membership was not good enough.
    Refused(Pick),
}

impl From<Broke> for Trouble {
    fn from(broke: Broke) -> Self {
        Self::Broke(broke)
    }
}

/// Sends requests of different clients one after the other, a millisecond each; answers where they went.
pub(super) fn send(rig: &mut Rig, requests: usize, rng: &mut Rng) -> Result<Vec<EndpointId>, Trouble> {
    let mut went = Vec::with_capacity(requests);
    for _ in 0..requests {
        let id = send_one(rig, rng)?;
        went.push(id);
        rig.enter(id);
        rig.wait(Duration::from_millis(1))?;
        rig.leave(id, End::WELL)?;
    }
    Ok(went)
}

pub(super) fn send_one(rig: &mut Rig, rng: &mut Rng) -> Result<EndpointId, Trouble> {
    match rig.pick(Ask { who: rng.u64(1 << 20..), random: rng.u64(..), tried: &[] })? {
        Pick::Endpoint(id) => Ok(id),
        pick => Err(Trouble::Refused(pick)),
    }
}

/// How many went to each of `endpoints` endpoints.
pub(super) fn count(went: &[EndpointId], endpoints: usize) -> Vec<u64> {
    let mut counts = vec![0; endpoints];
    for &id in went {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
    counts
}

pub(super) fn parts(rig: &mut Rig, requests: usize, rng: &mut Rng) -> Result<Vec<u64>, Trouble> {
    let went = send(rig, requests, rng)?;
    Ok(count(&went, rig.members.len()))
}

/// Whether a part differs from another by more than chance can do.
pub(super) fn differs(part: u64, other: u64, of: u64) -> bool {
    let (a, b, n) = (part as f64 / of as f64, other as f64 / of as f64, of as f64);
    let mean = (a + b) / 2.0;
    (a - b).abs() > 4.5 * (2.0 * mean * (1.0 - mean) / n).sqrt() + 0.02
}

/// Every ready endpoint has its part.
pub(super) fn spread(subject: &Subject, seed: u64, profile: &Profile, report: &mut Report) -> Result<(), Trouble> {
    if profile.reads_requests {
        report.not_claimed(Property::Spread, "it looks at the requests themselves");
        return Ok(());
    }
    let mut several = false;
    let mut missing = None;
    for endpoints in [2, 3, 7] {
        let mut rng = Rng::with_seed(seed);
        let mut rig = Rig::of(subject, seed, &vec![1; endpoints])?;
        let requests = endpoints * 300;
        let mut flying: Vec<EndpointId> = Vec::new();
        let mut counts = vec![0u64; endpoints];
        for _ in 0..requests {
            let id = send_one(&mut rig, &mut rng)?;
            if let Some(count) = counts.get_mut(id as usize) {
                *count += 1;
            }
            rig.enter(id);
            flying.push(id);
            rig.wait(Duration::from_millis(1))?;
            // Two requests are in flight for each endpoint.
            if flying.len() > 2 * endpoints {
                let ended = flying.swap_remove(rng.usize(..flying.len()));
                rig.leave(ended, End::WELL)?;
            }
        }
        several |= counts.iter().filter(|count| **count > 0).count() > 1;
        let fewest = counts.iter().min().copied().unwrap_or_default();
        if fewest * endpoints as u64 * 5 < requests as u64 && missing.is_none() {
            missing = Some(format!("of {requests} requests, {endpoints} equal endpoints got {counts:?} (seed {seed})"));
        }
    }
    match missing {
        Some(missing) if several => report.broken_by(Property::Spread, missing),
        Some(_) => report.not_claimed(Property::Spread, "it stays with one endpoint"),
        None => report.holds(Property::Spread, ""),
    }
    Ok(())
}

/// Parts are as the weights say: pick by pick where picks take turns, in the long run where chance decides.
pub(super) fn fairness(
    subject: &Subject,
    seed: u64,
    profile: &Profile,
    claims: &Claims,
    report: &mut Report,
) -> Result<(), Trouble> {
    let why_not = match profile.manner {
        _ if claims.says(Claim::Fairness) == Some(true) => None,
        _ if claims.says(Claim::Fairness) == Some(false) => Some("nobody wants it to be"),
        _ if profile.keyed => Some("it picks by a key"),
        _ if profile.delegates => Some("another balancer stands behind it"),
        _ if profile.reads_requests => Some("it looks at the requests themselves"),
        _ if profile.reads_loads => Some("it picks by load"),
        _ if profile.learns => Some("it picks by how attempts end"),
        Manner::Stays => Some("it stays with one endpoint"),
        _ => None,
    };
    if let Some(why) = why_not {
        report.not_claimed(Property::Fairness, why);
        return Ok(());
    }
    if profile.keyed {
        return keyed_fairness(subject, seed, report);
    }
    let mut worst: f64 = 0.0;
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[1, 2, 3, 4], &[10, 1], &[3, 3, 1, 1, 1], &[7; 9]] {
        let mut rng = Rng::with_seed(seed);
        let total: u32 = weights.iter().sum();
        let mut rig = Rig::of(subject, seed, weights)?;
        if profile.manner == Manner::Random {
            let requests = 20_000;
            let counts = parts(&mut rig, requests, &mut rng)?;
            let expected = |weight: u32| requests as f64 * f64::from(weight) / f64::from(total);
            let chi: f64 =
                counts.iter().zip(weights).map(|(&n, &w)| (n as f64 - expected(w)).powi(2) / expected(w)).sum();
            // One sequence in a million is farther off, for up to eight degrees of freedom.
            if chi > 43.0 {
                let message = format!(
                    "of {requests} requests, endpoints with the weights {weights:?} got {counts:?} (seed {seed})"
                );
                report.broken_by(Property::Fairness, message);
                return Ok(());
            }
            continue;
        }
        let allowed = smooth_error(&rig, weights).max(1.0) + 1e-6;
        let went = send(&mut rig, total as usize * 3, &mut rng)?;
        let (error, at, id) = error_of(&went, weights);
        worst = worst.max(error);
        if error > allowed {
            let first: Vec<_> = went[..=at].iter().map(ToString::to_string).collect();
            let counts = count(&went[..=at], weights.len());
            let got = counts.get(id).copied().unwrap_or_default();
            let message = format!(
                "with the weights {weights:?}, after {} picks endpoint {id} has had {got}, which is {error:.2} off its \
                 part (seed {seed}): {}",
                at + 1,
                first.join(" ")
            );
            report.broken_by(Property::Fairness, message);
            return Ok(());
        }
    }
    let seen = match profile.manner {
        Manner::Random => "by chance".to_owned(),
        _ => format!("never more than {worst:.2} picks off"),
    };
    report.holds(Property::Fairness, seen);
    Ok(())
}

/// Many keys agree with the weights: by a third, as tables with so many points for each weight do.
fn keyed_fairness(subject: &Subject, seed: u64, report: &mut Report) -> Result<(), Trouble> {
    const KEYS: usize = 6000;
    for weights in [[1, 1, 1], [5, 1, 1], [1, 2, 3]] {
        let counts = parts(&mut Rig::of(subject, seed, &weights)?, KEYS, &mut Rng::with_seed(seed))?;
        let total = f64::from(weights.iter().sum::<u32>());
        let off = |(&got, &weight): (&u64, &u32)| got as f64 * total / (KEYS as f64 * f64::from(weight)) - 1.0;
        if counts.iter().zip(&weights).map(off).any(|off| off.abs() > 1.0 / 3.0) {
            let message =
                format!("of {KEYS} keys, endpoints with the weights {weights:?} got {counts:?} (seed {seed})");
            report.broken_by(Property::Fairness, message);
            return Ok(());
        }
    }
    report.holds(Property::Fairness, "by key");
    Ok(())
}

/// The farthest that an endpoint's picks are off its part, after which pick, and which endpoint.
fn error_of(went: &[EndpointId], weights: &[u32]) -> (f64, usize, usize) {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let mut counts = vec![0.0f64; weights.len()];
    let mut worst = (0.0, 0, 0);
    for (at, &id) in went.iter().enumerate() {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1.0;
        }
        for (id, (count, &weight)) in counts.iter().zip(weights).enumerate() {
            let error = (count - (at + 1) as f64 * f64::from(weight) / total).abs();
            if error > worst.0 {
                worst = (error, at, id);
            }
        }
    }
    worst
}

/// How far smooth weighted round robin itself is off.
fn smooth_error(rig: &Rig, weights: &[u32]) -> f64 {
    let endpoints: Vec<_> = rig.members.iter().map(|m| m.endpoint.clone()).collect();
    let mut smooth = RoundRobin::new(endpoints.len());
    let total = weights.iter().sum::<u32>() as usize * 3;
    let went: Vec<_> = (0..total).filter_map(|_| smooth.pick(&endpoints, |_| true)).collect();
    error_of(&went, weights).0
}

/// A changed weight does what it would have done from the start, with nothing in flight and with much.
pub(super) fn weights(subject: &Subject, seed: u64, report: &mut Report) -> Result<(), Trouble> {
    const REQUESTS: usize = 2200;
    for (before, after) in [([1, 1, 1, 1], [8, 1, 1, 1]), ([8, 1, 1, 1], [1, 1, 1, 1]), ([1, 1, 1, 1], [1, 3, 1, 6])] {
        for busy in [0, 24] {
            let mut rng = Rng::with_seed(seed);
            let load = |rig: &Rig| (0..4).for_each(|id| rig.loads.set(1, id, busy, Duration::ZERO));
            let mut changed = Rig::of(subject, seed, &before)?;
            load(&changed);
            send(&mut changed, 50, &mut rng)?;
            let changes = (0..).zip(after).map(|(id, weight)| EndpointChange { id, weight, ready: true });
            changed.change(&changes.collect::<Vec<_>>())?;
            send(&mut changed, 50, &mut rng)?;
            let got = parts(&mut changed, REQUESTS, &mut rng)?;

            let mut fresh = Rig::of(subject, seed, &after)?;
            load(&fresh);
            send(&mut fresh, 100, &mut rng)?;
            let wanted = parts(&mut fresh, REQUESTS, &mut rng)?;
            if got.iter().zip(&wanted).any(|(&got, &wanted)| differs(got, wanted, REQUESTS as u64)) {
                let message = format!(
                    "after `change` of the weights {before:?} to {after:?}, {REQUESTS} requests went {got:?}; with \
                     these weights from the start they go {wanted:?} (seed {seed}, {busy} requests in flight to each)"
                );
                report.broken_by(Property::Weights, message);
                return Ok(());
            }
        }
    }
    report.holds(Property::Weights, "");
    Ok(())
}

/// An endpoint that comes back has its part again, and is not flooded.
pub(super) fn comeback(subject: &Subject, seed: u64, report: &mut Report) -> Result<(), Trouble> {
    const REQUESTS: usize = 1200;
    let endpoints: u32 = 4;
    for away in 0..=endpoints {
        let mut rng = Rng::with_seed(seed);
        let mut rig = Rig::of(subject, seed, &[1; 4])?;
        let calm = parts(&mut rig, REQUESTS, &mut rng)?;
        // The last time, all of them are away.
        let gone: Vec<_> = (0..endpoints).filter(|&id| id == away || away == endpoints).collect();
        // Some requests are in flight when it goes, and end while it is away.
        let flying = (0..80)
            .map(|_| {
                let id = send_one(&mut rig, &mut rng)?;
                rig.enter(id);
                Ok(id)
            })
            .collect::<Result<Vec<_>, Trouble>>()?;
        for &id in &gone {
            rig.set_ready(id, false)?;
        }
        for id in flying {
            rig.leave(id, End::WELL)?;
        }
        if away < endpoints {
            send(&mut rig, REQUESTS, &mut rng)?;
        } else {
            let asked = rig.pick(Ask { who: 1, random: rng.u64(..), tried: &[] });
            if asked.is_err() {
                report.not_claimed(Property::Return, "see empty-set");
                return Ok(());
            }
        }
        for &id in &gone {
            rig.set_ready(id, true)?;
        }
        let soon = parts(&mut rig, REQUESTS / 4, &mut rng)?;
        let later = parts(&mut rig, REQUESTS, &mut rng)?;
        for &id in &gone {
            let of = |parts: &[u64]| parts.get(id as usize).copied().unwrap_or_default();
            let told = |how: &str, parts: &[u64]| {
                format!(
                    "of 4 equal endpoints, {} not ready for {REQUESTS} requests, then ready again: {how} requests went \
                     {parts:?}, before it was {calm:?} of {REQUESTS} (seed {seed})",
                    if away < endpoints { format!("endpoint {id} was") } else { "all were".to_owned() },
                )
            };
            if of(&calm) >= REQUESTS as u64 / 50 && of(&later) * 10 < of(&calm) {
                let message = told(&format!("{REQUESTS} later"), &later);
                report.broken_by(Property::Return, message);
                return Ok(());
            }
            let fair = (of(&calm) as f64 / REQUESTS as f64 * 3.0).max(0.75);
            if of(&soon) as f64 > fair * (REQUESTS / 4) as f64 {
                let message = told(&format!("the next {}", REQUESTS / 4), &soon);
                report.broken_by(Property::Return, message);
                return Ok(());
            }
        }
    }
    report.holds(Property::Return, "");
    Ok(())
}

impl Trouble {
    /// Notes what ended the experiment with a property.
    pub(super) fn note(self, judged: Property, report: &mut Report) {
        let (property, message) = match self {
            Self::Broke(broke) => {
                let property = match broke.cause {
                    crate::plugins::Cause::Deadline => Property::Deadline,
                    crate::plugins::Cause::Memory => Property::Memory,
                    _ => Property::Survival,
                };
                (property, broke.message)
            }
            Self::Refused(pick) => {
                let message = format!("it answered `{}` while every endpoint was ready and idle", said(pick));
                (Property::Availability, message)
            }
        };
        report.broken_by(property, format!("{message} (while `{}` was judged)", judged.name()));
        if property != judged {
            report.not_claimed(judged, format!("see {}", property.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_burst_is_more_than_that_of_smooth_turns() {
        assert!(error_of(&[0, 0, 1, 0, 2, 0, 0], &[5, 1, 1]).0 < 1.0);
        let (error, at, id) = error_of(&[0, 0, 0, 0, 0, 1, 2], &[5, 1, 1]);
        assert!(error > 1.4 && (at, id) == (4, 0));
    }

    #[test]
    fn chance_is_told_from_a_difference() {
        assert!(!differs(520, 480, 2000));
        assert!(differs(1000, 500, 2000));
    }
}
