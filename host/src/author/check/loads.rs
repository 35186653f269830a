//! What holds for balancers that look at loads, or learn how attempts end.

use std::time::Duration;

use fastrand::Rng;

use crate::author::rig::{End, Rig, members, world};
use crate::author::subject::Subject;
use crate::upstream::endpoint::EndpointId;

use super::balancer::{Claim, Claims, Profile};
use super::parts::{Trouble, differs, parts, send_one};
use super::report::{Property, Report};

const ENDPOINTS: usize = 4;
const BUSY: u32 = 64;

/// Requests in flight, as they are now, never attract more.
pub(super) fn loads(
    subject: &Subject,
    seed: u64,
    profile: &Profile,
    claims: &Claims,
    report: &mut Report,
) -> Result<(), Trouble> {
    const REQUESTS: usize = 1200;
    let claimed = claims.says(Claim::Loads);
    if claimed == Some(false) || (claimed.is_none() && !profile.reads_loads) {
        let why = if claimed.is_none() { "it does not look at loads" } else { "nobody wants it to be" };
        report.not_claimed(Property::Loads, why);
        return Ok(());
    }
    let mut rng = Rng::with_seed(seed);
    let calm = parts(&mut Rig::of(subject, seed, &[1; ENDPOINTS])?, REQUESTS, &mut rng)?;
    let mut shunned = 0;
    for busy in 0..ENDPOINTS as EndpointId {
        let load = |rig: &Rig, id: EndpointId| {
            (0..ENDPOINTS as EndpointId).for_each(|other| rig.loads.set(1, other, 0, Duration::ZERO));
            rig.loads.set(1, id, BUSY, Duration::ZERO);
        };
        let of = |parts: &[u64]| parts.get(busy as usize).copied().unwrap_or_default();
        let mut rig = Rig::of(subject, seed, &[1; ENDPOINTS])?;
        load(&rig, busy);
        let early = parts(&mut rig, REQUESTS / 4, &mut rng)?;
        let late = {
            parts(&mut rig, REQUESTS, &mut rng)?;
            parts(&mut rig, REQUESTS, &mut rng)?
        };
        let before = of(&calm).max(REQUESTS as u64 / 100);
        let attracts = of(&late) > before && differs(of(&late), of(&calm), REQUESTS as u64);
        let shuns = of(&early) * 8 <= before;
        if attracts || (shuns && of(&late) * 2 > before) {
            let message = format!(
                "with {BUSY} requests in flight to endpoint {busy} and none to the others, the first {} requests went \
                 {early:?}, {REQUESTS} later ones {late:?}; without them {REQUESTS} go {calm:?} (seed {seed})",
                REQUESTS / 4
            );
            report.broken_by(Property::Loads, message);
            return Ok(());
        }
        shunned += usize::from(shuns && of(&calm) > 0);

        // The same with other loads while it was made and told of its endpoints.
        let used_to = (busy + 1) % ENDPOINTS as EndpointId;
        let mut stale = Rig::of(subject, seed, &[1; ENDPOINTS])?;
        load(&stale, used_to);
        stale.swap(members(&[1; ENDPOINTS]))?;
        parts(&mut stale, 20, &mut rng)?;
        load(&stale, busy);
        let now = parts(&mut stale, REQUESTS / 4, &mut rng)?;
        if now.iter().zip(&early).any(|(&now, &early)| differs(now, early, REQUESTS as u64 / 4)) {
            let message = format!(
                "{BUSY} requests in flight to endpoint {used_to} ended, and as many to {busy} began: {} requests went \
                 {now:?}, where they go {early:?} if those to {busy} were there from the start (seed {seed})",
                REQUESTS / 4
            );
            report.broken_by(Property::Loads, message);
            return Ok(());
        }
    }
    let mut rig = Rig::of(subject, seed, &[4, 1, 1, 1])?;
    (0..ENDPOINTS as EndpointId).for_each(|id| rig.loads.set(1, id, BUSY / 2, Duration::ZERO));
    let heavy = parts(&mut rig, REQUESTS, &mut rng)?;
    let lightest = heavy.iter().skip(1).copied().max().unwrap_or_default();
    if heavy[0] < lightest && differs(heavy[0], lightest, REQUESTS as u64) {
        let message = format!(
            "with {} requests in flight to each endpoint, of the weights 4 1 1 1, {REQUESTS} requests went {heavy:?} \
             (seed {seed})",
            BUSY / 2
        );
        report.broken_by(Property::Loads, message);
        return Ok(());
    }
    match shunned {
        0 if claimed == Some(true) => {
            let message = format!("{BUSY} requests in flight to one endpoint change nothing (seed {seed})");
            report.broken_by(Property::Loads, message);
        }
        0 => report.not_claimed(Property::Loads, format!("{BUSY} requests in flight to one endpoint change nothing")),
        _ => report.holds(Property::Loads, ""),
    }
    Ok(())
}

/// What an endpoint does badly for a while.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Fails,
    IsSlow,
    /// Its requests end without anybody hearing of it: their clients go away.
    IsAbandoned,
    /// A fresh instance takes over while requests are in flight, and hears how they end.
    IsInherited,
}

/// An endpoint that did badly is tried again once it does well.
pub(super) fn recovery(subject: &Subject, seed: u64, report: &mut Report) -> Result<(), Trouble> {
    const REQUESTS: usize = 1600;
    for bad in [Bad::Fails, Bad::IsSlow, Bad::IsAbandoned, Bad::IsInherited] {
        let mut rig = Rig::new(subject, &world(seed), members(&[1; ENDPOINTS]), ENDPOINTS)?;
        let calm = parts(&mut rig, REQUESTS, &mut Rng::with_seed(seed))?;
        for victim in 0..ENDPOINTS as EndpointId {
            let of = |parts: &[u64]| parts.get(victim as usize).copied().unwrap_or_default();
            if of(&calm) < REQUESTS as u64 / 50 {
                continue;
            }
            let mut rng = Rng::with_seed(seed);
            let mut rig = Rig::of(subject, seed, &[1; ENDPOINTS])?;
            let mut flying = 0;
            for _ in 0..600 {
                let id = send_one(&mut rig, &mut rng)?;
                rig.enter(id);
                rig.wait(Duration::from_millis(1))?;
                match bad {
                    _ if id != victim => rig.leave(id, End::WELL)?,
                    Bad::Fails => rig.leave(id, End::FAILED)?,
                    Bad::IsSlow => rig.leave(id, End { latency: Duration::from_secs(5), status: 200 })?,
                    Bad::IsAbandoned => rig.loads.leave(0, id),
                    Bad::IsInherited => flying += 1,
                }
            }
            if flying > 0 {
                rig.swap(members(&[1; ENDPOINTS]))?;
            }
            for _ in 0..flying {
                rig.leave(victim, End::WELL)?;
                rig.wait(Duration::from_millis(1))?;
            }
            parts(&mut rig, REQUESTS, &mut rng)?;
            rig.wait(Duration::from_secs(600))?;
            let after = parts(&mut rig, REQUESTS, &mut rng)?;
            if of(&after) == 0 {
                let message = format!(
                    "600 requests went out while endpoint {victim} {}; {REQUESTS} requests and ten minutes after that, \
                     {REQUESTS} more went {after:?}, where {calm:?} was usual (seed {seed}): does it keep a count that \
                     is not given back?",
                    match bad {
                        Bad::Fails => "failed",
                        Bad::IsSlow => "took 5 s for each",
                        Bad::IsAbandoned => "was abandoned by its clients",
                        Bad::IsInherited => "answered only after a fresh instance had taken over",
                    }
                );
                report.broken_by(Property::Recovery, message);
                return Ok(());
            }
        }
    }
    report.holds(Property::Recovery, "");
    Ok(())
}
