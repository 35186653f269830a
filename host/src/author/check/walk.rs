//! Random walks: memberships that come and go, requests that fail and are tried again. The shortest walk that shows
//! a fault is what the author gets to see.

use std::fmt::Write;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::author::people;
use crate::author::rig::{Ask, Broke, End, Rig, member, world};
use crate::author::subject::Subject;
use crate::plugins::{Cause, Member, Simulation};
use crate::upstream::balancer::{EndpointChange, Pick};
use crate::upstream::endpoint::EndpointId;

use super::report::{Property, Report};

/// Walks, and steps of each.
const WALKS: u64 = 48;
const STEPS: usize = 160;
/// Endpoints there may be at a time.
const MOST: usize = 12;
/// How long a shorter walk is looked for.
const PATIENCE: Duration = Duration::from_secs(3);
const MOST_TRIES: usize = 600;

/// What a walk can stumble over.
pub(super) const JUDGED: [Property; 7] = [
    Property::Survival,
    Property::EmptySet,
    Property::Known,
    Property::Readiness,
    Property::Availability,
    Property::Tried,
    Property::Backups,
];

/// A walk: where it begins, and what happens.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    seed: u64,
    start: Vec<Member>,
    steps: Vec<Step>,
}

/// Positions are of the membership at that moment, and wrap.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request that fails at so many endpoints before one answers.
    Request {
        who: u64,
        random: u64,
        failures: usize,
    },
    /// One of the requests in flight is answered.
    Finish {
        at: usize,
        end: End,
    },
    /// The client of one has gone: nobody hears how it ended.
    Abandon {
        at: usize,
    },
    Ready {
        at: usize,
        ready: bool,
    },
    AllReady {
        ready: bool,
    },
    Weight {
        at: usize,
        weight: u32,
    },
    Join {
        priority: u32,
        ready: bool,
        how: Turn,
    },
    Leave {
        at: usize,
        how: Turn,
    },
    /// Requests that another worker has in flight.
    Others {
        at: usize,
        active: u32,
    },
    Wait {
        time: Duration,
    },
}

/// How a membership becomes another.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The same instance is updated.
    Update,
    /// A fresh instance takes over.
    Fresh,
}

/// How a walk ended before its time.
#[derive(Clone, Debug)]
pub(super) struct Stumble {
    pub(super) property: Property,
    pub(super) message: String,
    step: usize,
}

pub(super) fn judge(subject: &Subject, seed: u64, report: &mut Report) {
    let mut picks = 0;
    let mut broken = Vec::new();
    for number in 0..WALKS {
        let walk = Walk::random(seed.wrapping_add(number));
        match walk.run(subject, &world(walk.seed), None) {
            Ok(answers) => picks += answers.len(),
            Err(stumble) if broken.contains(&stumble.property) => {}
            Err(stumble) => {
                broken.push(stumble.property);
                report.broken_by(stumble.property, walk.shortest(subject, stumble));
            }
        }
    }
    for property in JUDGED {
        let seen = if property == Property::Known { format!("{WALKS} walks, {picks} picks") } else { String::new() };
        report.holds(property, seen);
    }
}

impl Walk {
    pub(super) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weights: &[u32] = match rng.u32(..8) {
            0..4 => &[1],
            4..7 => &[1, 1, 2, 3, 5, 10],
            _ => &[1, 10, 30],
        };
        let zones = rng.bool();
        let start = (0..rng.u32(0..6)).map(|id| {
            let mut member = member(id, weights[rng.usize(..weights.len())]);
            member.endpoint.address = address(&mut rng, id);
            member.endpoint.labels = if rng.bool() { Vec::new() } else { vec![("tier".to_owned(), String::new())] };
            member.endpoint.priority = u32::from(rng.u32(..5) == 0);
            member.endpoint.zone = zones.then(|| ["a", "b"][rng.usize(..2)].to_owned());
            member.ready = rng.u32(..5) != 0;
            member
        });
        let start = start.collect();
        let steps = (0..STEPS).map(|_| Step::random(&mut rng, weights)).collect();
        Self { seed, start, steps }
    }

    /// Takes the walk, and answers what was picked on it. `trace` gets each step in words.
    pub(super) fn run(
        &self,
        subject: &Subject,
        world: &std::sync::Arc<Simulation>,
        mut trace: Option<&mut Vec<String>>,
    ) -> Result<Vec<Pick>, Stumble> {
        let fell = |step, members: &[Member], broke: Broke| {
            let property = property_of(&broke, members);
            Stumble { property, message: broke.message, step }
        };
        let mut rig = Rig::new(subject, world, self.start.clone(), MOST + 1).map_err(|b| fell(0, &self.start, b))?;
        let mut walker = Walker { flying: Vec::new(), joined: self.start.len() as u32, answers: Vec::new() };
        for (at, step) in self.steps.iter().enumerate() {
            let mut words = String::new();
            let taken = walker.take(&mut rig, *step, &mut words);
            if let Some(trace) = trace.as_deref_mut().filter(|_| !words.is_empty()) {
                trace.push(words);
            }
            taken.map_err(|misstep| match misstep {
                Misstep::Broke(broke) => fell(at, &rig.members, broke),
                Misstep::Wrong(property, message) => Stumble { property, message, step: at },
            })?;
            rig.wait(Duration::from_millis(1)).map_err(|broke| fell(at, &rig.members, broke))?;
        }
        Ok(walker.answers)
    }

    /// The shortest walk found that stumbles over the same property, in words.
    fn shortest(&self, subject: &Subject, stumble: Stumble) -> String {
        let began = Instant::now();
        let mut tries = 0;
        let mut try_out = |walk: &Self| {
            tries += 1;
            let patient = tries < MOST_TRIES && began.elapsed() < PATIENCE;
            let stumbled = if patient { walk.run(subject, &world(walk.seed), None).err() } else { None };
            stumbled.filter(|other| other.property == stumble.property)
        };
        let mut best = self.clone();
        let mut stumbled = stumble.clone();
        best.steps.truncate(stumbled.step + 1);
        loop {
            let before = (best.steps.len(), best.start.len());
            let mut length = best.steps.len().div_ceil(2);
            while length > 0 {
                let mut from = 0;
                while from < best.steps.len() {
                    let mut shorter = best.clone();
                    shorter.steps.drain(from..(from + length).min(shorter.steps.len()));
                    match try_out(&shorter) {
                        Some(other) => {
                            shorter.steps.truncate(other.step + 1);
                            (best, stumbled) = (shorter, other);
                        }
                        None => from += length,
                    }
                }
                length /= 2;
            }
            while let Some(fewer) = best.without_last_endpoint() {
                let Some(other) = try_out(&fewer) else { break };
                (best, stumbled) = (fewer, other);
            }
            if (best.steps.len(), best.start.len()) == before {
                break;
            }
        }
        let mut trace = Vec::new();
        // To be told, it is taken once more.
        let _ = best.run(subject, &world(best.seed), Some(&mut trace));
        let mut text = format!("{}\nseed {}, from {}:", stumbled.message, self.seed, told(&best.start));
        for (at, words) in trace.iter().enumerate() {
            let _ = write!(text, "\n{:>3}. {words}", at + 1);
        }
        text
    }

    fn without_last_endpoint(&self) -> Option<Self> {
        let mut fewer = self.clone();
        fewer.start.pop()?;
        Some(fewer)
    }
}

impl Step {
    fn random(rng: &mut Rng, weights: &[u32]) -> Self {
        let at = rng.usize(..64);
        let turn = |rng: &mut Rng| if rng.bool() { Turn::Update } else { Turn::Fresh };
        match rng.u32(..100) {
            0..50 => {
                let failures = if rng.u32(..3) == 0 { rng.usize(1..5) } else { 0 };
                let who = if rng.u32(..8) == 0 { people::odd(rng.u64(..)) } else { rng.u64(..40) };
                let random = [rng.u64(..), rng.u64(..), rng.u64(..), 0, u64::MAX][rng.usize(..5)];
                Self::Request { who, random, failures }
            }
            50..64 => {
                let latency = Duration::from_micros(rng.u64(100..200_000));
                Self::Finish { at, end: End { latency, status: if rng.u32(..6) == 0 { 0 } else { 200 } } }
            }
            64..67 => Self::Abandon { at },
            67..80 => Self::Ready { at, ready: rng.bool() },
            80..83 => Self::AllReady { ready: rng.u32(..3) != 0 },
            83..87 => Self::Weight { at, weight: weights[rng.usize(..weights.len())] },
            87..91 => Self::Join { priority: u32::from(rng.u32(..5) == 0), ready: rng.u32(..4) != 0, how: turn(rng) },
            91..94 => Self::Leave { at, how: turn(rng) },
            94..97 => Self::Others { at, active: rng.u32(..30) },
            _ => Self::Wait { time: Duration::from_millis(rng.u64(1..20_000)) },
        }
    }
}

pub(super) enum Misstep {
    Broke(Broke),
    Wrong(Property, String),
}

impl From<Broke> for Misstep {
    fn from(broke: Broke) -> Self {
        Self::Broke(broke)
    }
}

struct Walker {
    flying: Vec<EndpointId>,
    /// How many endpoints there have ever been: each has an address of its own.
    joined: u32,
    answers: Vec<Pick>,
}

impl Walker {
    fn take(&mut self, rig: &mut Rig, step: Step, words: &mut String) -> Result<(), Misstep> {
        match step {
            Step::Request { who, random, failures } => return self.request(rig, who, random, failures, words),
            Step::Finish { at, end } if !self.flying.is_empty() => {
                let id = self.flying.swap_remove(at % self.flying.len());
                *words = match end.status {
                    0 => format!("a request in flight to {id} fails"),
                    _ => format!("a request in flight to {id} is answered after {:?}", end.latency),
                };
                rig.leave(id, end)?;
            }
            Step::Abandon { at } if !self.flying.is_empty() => {
                let id = self.flying.swap_remove(at % self.flying.len());
                *words = format!("the client of a request in flight to {id} goes away");
                rig.loads.leave(0, id);
            }
            Step::Ready { at, ready } => {
                let Some(id) = position(&rig.members, at) else { return Ok(()) };
                *words = format!("endpoint {id} {}", if ready { "becomes ready" } else { "is no longer ready" });
                rig.set_ready(id, ready)?;
            }
            Step::AllReady { ready } => {
                *words =
                    if ready { "every endpoint becomes ready" } else { "no endpoint is ready any more" }.to_owned();
                let all = rig.members.iter().map(|m| m.endpoint.clone());
                let changes: Vec<_> = all.map(|e| EndpointChange { id: e.id, weight: e.weight, ready }).collect();
                rig.change(&changes)?;
            }
            Step::Weight { at, weight } => {
                let Some(id) = position(&rig.members, at) else { return Ok(()) };
                let ready = rig.members.iter().any(|m| m.endpoint.id == id && m.ready);
                *words = format!("the weight of endpoint {id} becomes {weight}");
                rig.change(&[EndpointChange { id, weight, ready }])?;
            }
            Step::Join { priority, ready, how } => self.join(rig, priority, ready, how, words)?,
            Step::Leave { at, how } => {
                let Some(id) = position(&rig.members, at) else { return Ok(()) };
                *words = format!("endpoint {id} leaves{}", how.said());
                let members = rig.members.iter().filter(|m| m.endpoint.id != id).cloned().collect();
                self.turn(rig, members, how)?;
            }
            Step::Others { at, active } => {
                let Some(id) = position(&rig.members, at) else { return Ok(()) };
                *words = format!("other workers have {active} requests in flight to endpoint {id}");
                rig.loads.set(1, id, active, Duration::ZERO);
            }
            Step::Wait { time } => {
                *words = format!("{time:?} pass");
                rig.wait(time)?;
            }
            Step::Finish { .. } | Step::Abandon { .. } => {}
        }
        Ok(())
    }

    fn request(
        &mut self,
        rig: &mut Rig,
        who: u64,
        random: u64,
        failures: usize,
        words: &mut String,
    ) -> Result<(), Misstep> {
        let mut tried = Vec::new();
        for attempt in 0..=failures {
            let _ = match attempt {
                0 => write!(words, "{} asks", people::said(who)),
                _ => write!(words, ", that fails, it asks again"),
            };
            let ask = Ask { who, random: random.rotate_left(7 * attempt as u32), tried: &tried };
            let pick = rig.pick(ask)?;
            let _ = write!(words, ": {}", said(pick));
            self.answers.push(pick);
            judge_pick(&rig.members, &tried, pick)?;
            let Pick::Endpoint(id) = pick else { return Ok(()) };
            rig.enter(id);
            if attempt < failures {
                rig.leave(id, End::FAILED)?;
                tried.push(id);
            } else {
                self.flying.push(id);
            }
        }
        Ok(())
    }

    fn join(&mut self, rig: &mut Rig, priority: u32, ready: bool, how: Turn, words: &mut String) -> Result<(), Broke> {
        if rig.members.len() >= MOST {
            return Ok(());
        }
        let free = (0..).find(|id| rig.members.iter().all(|m| m.endpoint.id != *id)).unwrap_or_default();
        let mut new = member(free, 1);
        new.endpoint.address = member(1000 + self.joined, 1).endpoint.address;
        (new.endpoint.priority, new.ready) = (priority, ready);
        self.joined += 1;
        *words = format!(
            "endpoint {free} joins{}{}{}",
            if priority > 0 { " as a backup" } else { "" },
            if ready { "" } else { ", not ready" },
            how.said()
        );
        let mut members = rig.members.clone();
        members.push(new);
        members.sort_by_key(|m| m.endpoint.id);
        self.turn(rig, members, how)
    }

    fn turn(&mut self, rig: &mut Rig, members: Vec<Member>, how: Turn) -> Result<(), Broke> {
        // Whoever was in flight to a slot that is free now is not counted there any more.
        self.flying.retain(|id| {
            let stays = members.iter().any(|m| m.endpoint.id == *id);
            if !stays {
                rig.loads.leave(0, *id);
            }
            stays
        });
        match how {
            Turn::Update => rig.update(members),
            Turn::Fresh => rig.swap(members),
        }
    }
}

/// Whether a pick is one that a proxy can use.
pub(super) fn judge_pick(members: &[Member], tried: &[EndpointId], pick: Pick) -> Result<(), Misstep> {
    let untried = |m: &&Member| m.ready && !tried.contains(&m.endpoint.id);
    let other = members.iter().find(untried).map(|m| m.endpoint.id);
    let wrong = |property, message| Err(Misstep::Wrong(property, message));
    let id = match (pick, other) {
        (Pick::Unavailable, Some(other)) => {
            let message = format!("it answered `unavailable` while endpoint {other} was ready");
            return wrong(Property::Availability, message);
        }
        (Pick::Endpoint(id), _) => id,
        _ => return Ok(()),
    };
    let Some(member) = members.iter().find(|m| m.endpoint.id == id) else {
        let property = if members.is_empty() { Property::EmptySet } else { Property::Known };
        return wrong(property, format!("it picked {id}, which is no endpoint"));
    };
    if !member.ready {
        let ready = members.iter().any(|m| m.ready);
        let property = if ready { Property::Readiness } else { Property::EmptySet };
        return wrong(property, format!("it picked endpoint {id}, which was not ready"));
    }
    if let Some(other) = other.filter(|_| tried.contains(&id)) {
        let message = format!("it picked endpoint {id}, where the request had been, while {other} was ready");
        return wrong(Property::Tried, message);
    }
    let mut first = members.iter().filter(|m| m.endpoint.priority == 0).peekable();
    if member.endpoint.priority > 0 && first.peek().is_some() && first.all(|m| untried(&m)) {
        return wrong(Property::Backups, format!("it picked endpoint {id}, a backup"));
    }
    Ok(())
}

/// What a fault is a fault against.
fn property_of(broke: &Broke, members: &[Member]) -> Property {
    match broke.cause {
        Cause::Deadline => Property::Deadline,
        Cause::Memory => Property::Memory,
        _ if !members.iter().any(|m| m.ready) => Property::EmptySet,
        _ => Property::Survival,
    }
}

/// An address of any kind that a configuration may have.
fn address(rng: &mut Rng, id: EndpointId) -> std::sync::Arc<str> {
    match rng.u32(..8) {
        0 => format!("unix:/run/{id}.sock").into(),
        1 => format!("host-{id}.test:8080").into(),
        2 => format!("[2001:db8::{id:x}]:80").into(),
        _ => member(id, 1).endpoint.address,
    }
}

fn position(members: &[Member], at: usize) -> Option<EndpointId> {
    members.get(at.checked_rem(members.len())?).map(|m| m.endpoint.id)
}

impl Turn {
    fn said(self) -> &'static str {
        match self {
            Self::Update => " (`update` of the same instance)",
            Self::Fresh => " (a fresh instance takes over)",
        }
    }
}

pub(super) fn said(pick: Pick) -> String {
    match pick {
        Pick::Endpoint(id) => format!("endpoint {id}"),
        Pick::Unavailable => "unavailable".to_owned(),
        Pick::Overloaded => "overloaded".to_owned(),
        Pick::Abstain => "nothing".to_owned(),
    }
}

/// A membership in words.
pub(super) fn told(members: &[Member]) -> String {
    if members.is_empty() {
        return "no endpoint".to_owned();
    }
    let one = |m: &Member| {
        let mut text = m.endpoint.id.to_string();
        if m.endpoint.weight != 1 {
            let _ = write!(text, " (weight {})", m.endpoint.weight);
        }
        if m.endpoint.priority > 0 {
            text += " (backup)";
        }
        if !m.ready {
            text += " (not ready)";
        }
        text
    };
    let count = members.len();
    let each: Vec<_> = members.iter().map(one).collect();
    format!("{} {}", if count == 1 { "endpoint" } else { "endpoints" }, each.join(", "))
}
