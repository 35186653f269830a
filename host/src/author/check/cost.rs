//! What calls cost: from one endpoint to ten thousand, and after many.

use std::time::Duration;

use fastrand::Rng;

use crate::author::rig::{Ask, Broke, End, Rig, members, world};
use crate::author::subject::Subject;
use crate::plugins::{Cause, thread_cpu_time};
use crate::upstream::balancer::{EndpointChange, Pick};
use crate::upstream::endpoint::EndpointId;

use super::parts::{Trouble, send_one};
use super::report::{Property, Report};

/// The memberships that have to be served in time.
const SIZES: [usize; 5] = [1, 10, 100, 1000, 10_000];
/// Two memberships, the second four times the first, and how much more it may cost: twice what is linear. Smaller ones
/// are for who cannot serve the larger in time.
const GROWTH: [[usize; 2]; 3] = [[2000, 8000], [500, 2000], [125, 500]];
const MOST_GROWTH: f64 = 8.0;
/// What costs fewer instructions than this has no need to grow well.
const CHEAP: u64 = 200_000;

/// Every call ends within its deadline, and four times the endpoints cost at most eight times the instructions.
pub(super) fn judge(subject: &Subject, seed: u64, report: &mut Report) {
    let mut slowest = (Duration::ZERO, 0);
    for size in SIZES {
        match costs(subject, seed, size) {
            Ok(costs) => slowest = slowest.max((costs.slowest_pick, size)),
            Err((during, broke)) => {
                let property = match broke.cause {
                    Cause::Deadline => Property::Deadline,
                    Cause::Memory => Property::Memory,
                    _ => Property::Survival,
                };
                let message = format!("`{during}` with {size} endpoints: {} (seed {seed})", broke.message);
                report.broken_by(property, message);
                break;
            }
        }
    }
    report.holds(Property::Deadline, format!("1 to 10,000 endpoints; the longest pick took {:.0?}", slowest.0));
    growth(subject, seed, report);
}

fn growth(subject: &Subject, seed: u64, report: &mut Report) {
    let served = GROWTH.iter().find_map(|&[few, many]| {
        let costs = [costs(subject, seed, few).ok()?, costs(subject, seed, many).ok()?];
        Some(([few, many], costs))
    });
    let Some((sizes, [few, many])) = served else {
        report.not_claimed(Property::Growth, "a call failed");
        return;
    };
    let mut seen = Vec::new();
    for (call, few, many) in
        [("update", few.update, many.update), ("change", few.change, many.change), ("pick", few.pick, many.pick)]
    {
        let times = many as f64 / few.max(1) as f64;
        seen.push(format!("{call} {times:.1}"));
        if many > CHEAP && times > MOST_GROWTH {
            let message = format!(
                "`{call}` takes {few} instructions with {} endpoints and {many} with {}, {times:.1} times as many",
                sizes[0], sizes[1]
            );
            report.broken_by(Property::Growth, message);
        }
    }
    report.holds(Property::Growth, seen.join(", "));
}

/// What calls cost with a membership of some size.
struct Costs {
    /// Instructions.
    update: u64,
    change: u64,
    /// On the mean.
    pick: u64,
    slowest_pick: Duration,
}

fn costs(subject: &Subject, seed: u64, size: usize) -> Result<Costs, (&'static str, Broke)> {
    const PICKS: u64 = 24;
    let mut rng = Rng::with_seed(seed);
    // A table with so many points for each unit of weight is large enough with ten thousand units.
    let weights: Vec<u32> = (0..size).map(|_| if size <= 100 { rng.u32(1..4) } else { 1 }).collect();
    let mut rig = Rig::new(subject, &world(seed), members(&weights), size).map_err(|broke| ("update", broke))?;
    let update = rig.cost().instructions;
    let change = |rng: &mut Rng| {
        let id = rng.u32(..size as u32);
        // New weights may mean a new table, and a large one is not built in the time of a pick.
        let weight = if size <= 100 { rng.u32(1..4) } else { weights.get(id as usize).copied().unwrap_or(1) };
        EndpointChange { id, weight, ready: size < 20 || rng.bool() }
    };
    let changes: Vec<_> = (0..size.min(20)).map(|_| change(&mut rng)).collect();
    rig.change(&changes).map_err(|broke| ("change", broke))?;
    let change = rig.cost().instructions;
    let (mut pick, mut slowest) = (0, Duration::ZERO);
    for _ in 0..PICKS {
        let mut tried: Vec<EndpointId> = Vec::new();
        for _ in 0..3 {
            let began = thread_cpu_time();
            let ask = Ask { who: rng.u64(..), random: rng.u64(..), tried: &tried };
            let picked = rig.pick(ask).map_err(|broke| ("pick", broke))?;
            slowest = slowest.max(thread_cpu_time() - began);
            pick += rig.cost().instructions;
            let Pick::Endpoint(id) = picked else { break };
            rig.enter(id);
            rig.leave(id, End::FAILED).map_err(|broke| ("observe", broke))?;
            tried.push(id);
        }
    }
    rig.wait(Duration::from_secs(1)).map_err(|broke| ("observe", broke))?;
    Ok(Costs { update, change, pick: pick / PICKS, slowest_pick: slowest })
}

/// Memory stops growing.
pub(super) fn memory(subject: &Subject, seed: u64, report: &mut Report) -> Result<(), Trouble> {
    let mut rng = Rng::with_seed(seed);
    let mut rig = Rig::of(subject, seed, &[1, 2, 3])?;
    let mut refused = None;
    Memory::default().watch(report, seed, |number| {
        let id = match send_one(&mut rig, &mut rng) {
            Ok(id) => id,
            Err(Trouble::Broke(broke)) => return Err(broke),
            Err(Trouble::Refused(pick)) => {
                refused = Some(pick);
                return Ok(0);
            }
        };
        rig.enter(id);
        rig.wait(Duration::from_micros(500))?;
        rig.leave(id, End { status: if number % 9 == 0 { 0 } else { 200 }, ..End::WELL })?;
        Ok(rig.cost().memory)
    });
    refused.map_or(Ok(()), |pick| Err(Trouble::Refused(pick)))
}

/// Watches the memory of an instance over many calls.
#[derive(Debug, Default)]
pub(super) struct Memory {
    seen: Vec<usize>,
}

impl Memory {
    /// Calls after which it is looked at. A table that fills up has stopped to grow by then; what leaks has not.
    const LOOKS: [u64; 4] = [10_000, 20_000, 40_000, 80_000];
    /// Less is no growth: a page or two come and go.
    const LEAST: usize = 256 << 10;
    /// A plugin that begins with more than this brings a collector, whose first collection may be late.
    const SMALL: usize = 3 << 19;
    const LEAST_COLLECTED: usize = 8 << 20;
    /// How many times as many calls such a one gets.
    const MORE: u64 = 4;
    /// CPU time.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// `call` answers the bytes that the instance has after one more call.
    pub(super) fn watch(&mut self, report: &mut Report, seed: u64, mut call: impl FnMut(u64) -> Result<usize, Broke>) {
        let began = thread_cpu_time();
        let (mut number, mut bytes, mut first) = (0, 0, None);
        for look in Self::LOOKS {
            while number < if first > Some(Self::SMALL) { look * Self::MORE } else { look }
                && (number % 512 > 0 || thread_cpu_time() - began < Self::PATIENCE)
            {
                match call(number) {
                    Ok(now) => {
                        bytes = now;
                        first.get_or_insert(now);
                    }
                    Err(broke) => {
                        let property = match broke.cause {
                            Cause::Memory => Property::Memory,
                            Cause::Deadline => Property::Deadline,
                            _ => Property::Survival,
                        };
                        let message = format!("{} (after {number} calls, seed {seed})", broke.message);
                        report.broken_by(property, message);
                        return;
                    }
                }
                number += 1;
            }
            self.seen.push(bytes);
        }
        let grew: Vec<_> = self.seen.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        let least = if first > Some(Self::SMALL) { Self::LEAST_COLLECTED } else { Self::LEAST };
        // The first window may still fill what was there at the start.
        if grew.iter().skip(1).all(|grew| *grew > 0) && grew.iter().sum::<usize>() >= least {
            let kib: Vec<_> = self.seen.iter().map(|bytes| (bytes >> 10).to_string()).collect();
            let message = format!(
                "of {number} calls, after an eighth, a quarter, a half and all it had {} KiB (seed {seed})",
                kib.join(", ")
            );
            report.broken_by(Property::Memory, message);
        } else {
            report.holds(Property::Memory, format!("{} KiB after {number} calls", bytes >> 10));
        }
    }
}
