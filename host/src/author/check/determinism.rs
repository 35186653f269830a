//! The same seed brings the same answers: a walk is taken again in a world with other clocks, and with other chance
//! than picks are told of.

use std::sync::Arc;
use std::time::Duration;

use crate::author::rig::{EPOCH, world};
use crate::author::subject::Subject;
use crate::plugins::Simulation;

use super::balancer::{Claim, Claims};
use super::report::{Property, Report};
use super::walk::{Walk, said};

const WALKS: u64 = 12;

pub(super) fn judge(subject: &Subject, seed: u64, claims: &Claims, report: &mut Report) {
    if claims.says(Claim::Determinism) == Some(false) {
        report.not_claimed(Property::Determinism, "nobody wants it to be");
        return;
    }
    for number in 0..WALKS {
        let walk = Walk::random(seed.wrapping_add(1000 + number));
        let one = world(seed);
        let Ok(expected) = walk.run(subject, &one, None) else { continue };
        for (other, why) in [
            (same(&one, seed), "from one run to another"),
            (later(&one, seed), "with the clock: only differences of `now` mean anything, and no time of day"),
            (other_chance(&one, seed), "with `random.next` during the pick: use the `random` that it is told"),
        ] {
            let Ok(got) = walk.run(subject, &other, None) else { continue };
            let Some(at) = expected.iter().zip(&got).position(|(one, other)| one != other) else { continue };
            let message = format!(
                "pick {} of the walk with seed {} was {}, and then {}; picks differ {why}",
                at + 1,
                seed.wrapping_add(1000 + number),
                said(expected[at]),
                said(got[at])
            );
            report.broken_by(Property::Determinism, message);
            return;
        }
    }
    report.holds(Property::Determinism, "");
}

/// The same world again.
fn same(of: &Simulation, seed: u64) -> Arc<Simulation> {
    Arc::new(Simulation::new(of.began(), EPOCH, seed))
}

/// The same, hours later on both clocks.
fn later(of: &Simulation, seed: u64) -> Arc<Simulation> {
    const LATER: Duration = Duration::new(12_345, 678_901_237);
    Arc::new(Simulation::new(of.began() + LATER, EPOCH + 3 * LATER, seed))
}

/// The same, but for what a pick draws itself.
fn other_chance(of: &Simulation, seed: u64) -> Arc<Simulation> {
    let world = same(of, seed);
    world.reseed(true, !seed ^ 0x5eed);
    world
}
