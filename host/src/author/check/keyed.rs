//! What holds for balancers that ask for a key: the same place, and few that move.

use fastrand::Rng;

use crate::author::rig::{Ask, Rig, members};
use crate::author::subject::Subject;
use crate::upstream::balancer::Pick;
use crate::upstream::endpoint::EndpointId;

use super::balancer::{Claim, Claims, Profile};
use super::parts::{Trouble, send};
use super::report::{Property, Report};

/// The same key goes to the same endpoint while nothing changes.
pub(super) fn affinity(
    subject: &Subject,
    seed: u64,
    profile: &Profile,
    claims: &Claims,
    report: &mut Report,
) -> Result<(), Trouble> {
    if let Some(why) = why_not(Claim::Affinity, profile, claims) {
        report.not_claimed(Property::Affinity, why);
        return Ok(());
    }
    let mut rng = Rng::with_seed(seed);
    let mut rig = Rig::of(subject, seed, &[1, 2, 1, 3, 1])?;
    let first = places(&mut rig, 500, &mut rng)?;
    send(&mut rig, 100, &mut rng)?;
    let again = places(&mut rig, 500, &mut rng)?;
    match first.iter().zip(&again).position(|(first, again)| first != again) {
        Some(who) => {
            let message = format!(
                "client {who} went to endpoint {}, and later to {} with nothing changed; so did {} of 500 (seed {seed})",
                first[who],
                again[who],
                first.iter().zip(&again).filter(|(first, again)| first != again).count()
            );
            report.broken_by(Property::Affinity, message);
        }
        None => report.holds(Property::Affinity, ""),
    }
    Ok(())
}

/// At most 1.2/n of the keys move when one of n leaves, on the mean of all that may leave.
pub(super) fn consistency(
    subject: &Subject,
    seed: u64,
    profile: &Profile,
    claims: &Claims,
    report: &mut Report,
) -> Result<(), Trouble> {
    if let Some(why) = why_not(Claim::Consistency, profile, claims) {
        report.not_claimed(Property::Consistency, why);
        return Ok(());
    }
    let plain = claims.says(Claim::Consistency).is_none() && is_plain_hash(subject);
    let mut seen = Vec::new();
    for endpoints in [5, 12] {
        let moved = moved(subject, seed, endpoints)?;
        for (how, moved) in [("leaves the membership", moved.left), ("is no longer ready", moved.down)] {
            let share = moved.iter().sum::<f64>() / moved.len() as f64;
            let most = 1.2 / endpoints as f64;
            if share > most && !plain {
                let message = format!(
                    "when one of {endpoints} endpoints {how}, {:.0} % of the keys move, of which {:.0} % may (the mean \
                     over each that leaves, seed {seed}); a hash that is not meant to be consistent is checked with \
                     `--no-claim consistency`",
                    share * 100.0,
                    most * 100.0
                );
                report.broken_by(Property::Consistency, message);
                return Ok(());
            }
            seen.push(share * endpoints as f64);
        }
    }
    match plain {
        true => report.not_claimed(Property::Consistency, "it is a plain hash, all of which may move"),
        false => {
            let most = seen.iter().copied().fold(0.0, f64::max);
            report.holds(Property::Consistency, format!("{most:.2}/n"));
        }
    }
    Ok(())
}

/// The parts of the keys that move.
struct Moved {
    left: Vec<f64>,
    down: Vec<f64>,
}

fn moved(subject: &Subject, seed: u64, endpoints: usize) -> Result<Moved, Trouble> {
    const KEYS: u64 = 2000;
    let mut rng = Rng::with_seed(seed);
    let mut moved = Moved { left: Vec::new(), down: Vec::new() };
    let share = |before: &[EndpointId], after: &[EndpointId]| {
        before.iter().zip(after).filter(|(before, after)| before != after).count() as f64 / KEYS as f64
    };
    for leaver in 0..endpoints as EndpointId {
        let mut rig = Rig::of(subject, seed, &vec![1; endpoints])?;
        let before = places(&mut rig, KEYS, &mut rng)?;
        rig.set_ready(leaver, false)?;
        moved.down.push(share(&before, &places(&mut rig, KEYS, &mut rng)?));

        let mut rig = Rig::of(subject, seed, &vec![1; endpoints])?;
        let before = places(&mut rig, KEYS, &mut rng)?;
        let mut fewer = members(&vec![1; endpoints]);
        fewer.retain(|m| m.endpoint.id != leaver);
        rig.swap(fewer)?;
        moved.left.push(share(&before, &places(&mut rig, KEYS, &mut rng)?));
    }
    Ok(moved)
}

/// Where the first so many clients go.
fn places(rig: &mut Rig, clients: u64, rng: &mut Rng) -> Result<Vec<EndpointId>, Trouble> {
    let mut place = |who| match rig.pick(Ask { who, random: rng.u64(..), tried: &[] })? {
        Pick::Endpoint(id) => Ok(id),
        pick => Err(Trouble::Refused(pick)),
    };
    (0..clients).map(&mut place).collect()
}

fn why_not(claim: Claim, profile: &Profile, claims: &Claims) -> Option<&'static str> {
    match claims.says(claim) {
        Some(true) => None,
        Some(false) => Some("nobody wants it to be"),
        None if !profile.keyed => Some("it asks for no key"),
        None if profile.delegates => Some("another balancer stands behind it"),
        None => None,
    }
}

/// nginx's `hash` without `consistent`, and its `ip_hash`: their part of the bargain is to be like nginx.
fn is_plain_hash(subject: &Subject) -> bool {
    match subject.builtin() {
        Some("hash") => subject.settings().get("consistent") != Some("true"),
        Some("ip-hash") => true,
        _ => false,
    }
}
