//! What a plugin's calls cost: time, instructions, bytes copied into its memory, and that memory.
//!
//! Times are of a host like a proxy's, each call on its own; instructions are counted by a second host.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::author::rig::{Broke, End, Rig, member, members, world};
use crate::author::{Subject, people};
use crate::filters::{Filter, Flow};
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Cost, Kind, Member};
use crate::upstream::balancer::{EndpointChange, Pick};
use crate::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome};
use crate::upstream::round_robin::RoundRobin;

const SIZES: [usize; 3] = [3, 100, 1000];
/// Calls that are timed, at most for so long.
const CALLS: usize = 20_000;
const PATIENCE: Duration = Duration::from_millis(500);
/// Calls before that, so that caches are warm.
const WARM: usize = 200;
/// Calls whose instructions are counted.
const COUNTED: u64 = 200;
/// Bytes of a record in a list, as the component model lays it out.
const ENDPOINT: usize = 44;
const CHANGE: usize = 12;

/// A line for each thing that was measured, a column for each size.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// Times of single calls, sorted.
struct Times(Vec<u64>);

/// Measures the subject as a plugin of one kind; `metered` is the same on a host that counts instructions.
///
/// # Errors
/// When a call fails.
pub fn bench(timed: &Subject, metered: &Subject, kind: Kind) -> Result<Table, String> {
    let table = match kind {
        Kind::Balancer => balancer(timed, metered),
        Kind::Retry => retry(timed, metered),
        Kind::Rewriter => rewriter(timed, metered),
    };
    table.map_err(|broke| broke.message)
}

fn balancer(timed: &Subject, metered: &Subject) -> Result<Table, Broke> {
    let mut table = Table::new(timed, Kind::Balancer, SIZES.map(|size| format!("{size} endpoints")).into());
    let weights = |size: usize| -> Vec<u32> { (0..size as u32).map(|id| 1 + id % 3).collect() };
    for size in SIZES {
        let mut rig = Rig::new(timed, &world(1), members(&weights(size)), size)?;
        let mut rng = Rng::with_seed(1);
        let picks = Times::of(&mut rig, |rig| {
            let (picked, took) = rig.time_pick(rng.u64(..), rng.u64(..))?;
            if let Pick::Endpoint(id) = picked {
                rig.enter(id);
                rig.wait(Duration::from_millis(1))?;
                rig.leave(id, End::WELL)?;
            }
            Ok(took)
        })?;
        table.times("pick", &picks);
        let again = members(&weights(size));
        let updates = Times::of(&mut rig, |rig| {
            let members = again.clone();
            let began = Instant::now();
            rig.update(members)?;
            Ok(began.elapsed())
        })?;
        table.row("update, median", updates.at(0.5));
        table.row("update, bytes in", bytes(again.iter().map(endpoint_bytes).sum()));
        table.row("change of one, bytes in", bytes(CHANGE));

        let mut rig = Rig::new(metered, &world(1), members(&weights(size)), size)?;
        let update = rig.cost().instructions;
        rig.change(&[EndpointChange { id: 0, weight: 2, ready: true }])?;
        let change = rig.cost().instructions;
        let (mut instructions, before) = (0, rig.cost().copied);
        for _ in 0..COUNTED {
            rig.time_pick(rng.u64(..), rng.u64(..))?;
            instructions += rig.cost().instructions;
        }
        let Cost { memory, copied, .. } = rig.cost();
        table.row("pick, instructions", (instructions / COUNTED).to_string());
        table.row("pick, bytes in", bytes(((copied - before) / COUNTED) as usize));
        table.row("update, instructions", update.to_string());
        table.row("change of one, instructions", change.to_string());
        table.row("memory", format!("{} KiB", memory >> 10));
        if timed.builtin() == Some("round-robin") {
            table.row("the host's own round robin, median", native(&weights(size)).at(0.5));
        }
    }
    Ok(table)
}

/// The native double of `round-robin`.
fn native(weights: &[u32]) -> Times {
    let endpoints: Vec<_> = (0..).zip(weights).map(|(id, &weight)| member(id, weight).endpoint).collect();
    let mut double = RoundRobin::new(endpoints.len());
    let times = Times::of(&mut double, |double| {
        let began = Instant::now();
        std::hint::black_box(double.pick(&endpoints, |_| true));
        Ok(began.elapsed())
    });
    times.unwrap_or(Times(Vec::new()))
}

fn endpoint_bytes(member: &Member) -> usize {
    let endpoint = &member.endpoint;
    let labels: usize = endpoint.labels.iter().map(|(name, value)| 16 + name.len() + value.len()).sum();
    ENDPOINT + endpoint.address.len() + endpoint.zone.as_ref().map_or(0, String::len) + labels
}

fn retry(timed: &Subject, metered: &Subject) -> Result<Table, Broke> {
    let mut table = Table::new(timed, Kind::Retry, vec![String::new()]);
    let attempt = EndedAttempt {
        outcome: Outcome::Failed(Failure::Reset),
        endpoint: 1,
        attempt: 0,
        method: MethodKind::Safe,
        sent: true,
        elapsed: Duration::from_millis(3),
        remaining: Some(Duration::from_secs(30)),
        budget: 10,
        retry_after: None,
        random: 0x5eed_5eed_5eed_5eed,
    };
    let mut exchange = Exchange::new(Facts::new(None, false));
    people::ask(&mut exchange, 1, &[]);
    let policy = timed.simulate(Kind::Retry, world(1))?.retry(0)?.into_policy();
    let times = Times::of(&mut exchange, |exchange| {
        let began = Instant::now();
        std::hint::black_box(policy.decide(exchange, attempt));
        Ok(began.elapsed())
    })?;
    table.times("decide", &times);

    let counted = world(1);
    let policy = metered.simulate(Kind::Retry, counted.clone())?.retry(0)?.into_policy();
    policy.decide(&mut exchange, attempt);
    let before = counted.cost().copied;
    policy.decide(&mut exchange, attempt);
    table.row("decide, instructions", counted.cost().instructions.to_string());
    table.row("decide, bytes in", bytes((counted.cost().copied - before) as usize));
    table.row("memory", format!("{} KiB", counted.cost().memory >> 10));
    Ok(table)
}

fn rewriter(timed: &Subject, metered: &Subject) -> Result<Table, Broke> {
    let mut table = Table::new(timed, Kind::Rewriter, vec![String::new()]);
    let filter = timed.simulate(Kind::Rewriter, world(1))?.rewriter(0)?.into_filter();
    let counted = world(1);
    let counting = metered.simulate(Kind::Rewriter, counted.clone())?.rewriter(0)?.into_filter();
    type Call = fn(&Rc<dyn Filter>, &mut Exchange) -> Flow;
    let sides: [(&str, bool, Call); 2] = [
        ("on-request", filter.sides().request, |filter, exchange| filter.on_request(exchange)),
        ("on-response", filter.sides().response, |filter, exchange| filter.on_response(exchange)),
    ];
    for (name, _, call) in sides.into_iter().filter(|(_, looks, _)| *looks) {
        let mut exchange = Exchange::new(Facts::new(None, false));
        let times = Times::of(&mut exchange, |exchange| {
            message(exchange);
            let began = Instant::now();
            std::hint::black_box(call(&filter, exchange));
            Ok(began.elapsed())
        })?;
        table.times(name, &times);
        message(&mut exchange);
        call(&counting, &mut exchange);
        let before = counted.cost().copied;
        message(&mut exchange);
        call(&counting, &mut exchange);
        table.row(&format!("{name}, instructions"), counted.cost().instructions.to_string());
        table.row(&format!("{name}, bytes read"), bytes((counted.cost().copied - before) as usize));
    }
    table.row("memory", format!("{} KiB", counted.cost().memory >> 10));
    Ok(table)
}

/// A request and its response as a browser and a server make them.
fn message(exchange: &mut Exchange) {
    people::ask(exchange, 1, &[]);
    let request = &mut exchange.request;
    request.set_path_and_query("/api/v1/items/42?page=2&sort=name");
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.test/items?page=1"),
        ("cookie", "session=8f2c1d0a9b7e; theme=dark"),
        ("x-forwarded-for", "192.0.2.1"),
    ] {
        request.fields.append(name.as_bytes(), value.as_bytes());
    }
    request.mark_received();
    exchange.endpoint = "10.0.0.1:80".into();
    let response = &mut exchange.response;
    response.clear();
    response.status = 200;
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", "1432"),
        ("cache-control", "private, max-age=0"),
        ("set-cookie", "session=8f2c1d0a9b7e; Path=/; HttpOnly"),
        ("server", "origin/1.0"),
        ("etag", "\"33a64df5\""),
    ] {
        response.fields.append(name.as_bytes(), value.as_bytes());
    }
}

impl Times {
    /// Calls again and again; what `call` answers is what took the time.
    fn of<T>(on: &mut T, mut call: impl FnMut(&mut T) -> Result<Duration, Broke>) -> Result<Self, Broke> {
        let began = Instant::now();
        for _ in 0..WARM {
            if began.elapsed() < PATIENCE {
                call(on)?;
            }
        }
        let clock = (0..1000).map(|_| Instant::now().elapsed()).min().unwrap_or_default();
        let mut times = Vec::with_capacity(CALLS);
        let began = Instant::now();
        while times.len() < CALLS && (began.elapsed() < PATIENCE || times.len() < 20) {
            let took = call(on)?.saturating_sub(clock);
            times.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    /// The time that so much of the calls do not pass.
    fn at(&self, part: f64) -> String {
        let at = ((self.0.len() as f64 * part) as usize).min(self.0.len().saturating_sub(1));
        let nanos = self.0.get(at).copied().unwrap_or_default();
        match nanos {
            0..10_000 => format!("{nanos} ns"),
            10_000..10_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
            _ => format!("{:.1} ms", nanos as f64 / 1e6),
        }
    }
}

fn bytes(count: usize) -> String {
    count.to_string()
}

impl Table {
    fn new(subject: &Subject, kind: Kind, columns: Vec<String>) -> Self {
        let plugin = subject.plugin();
        Self { title: format!("{}: a {kind}, {} bytes", plugin.name(), plugin.size()), columns, rows: Vec::new() }
    }

    fn times(&mut self, call: &str, times: &Times) {
        self.row(&format!("{call}, median"), times.at(0.5));
        self.row(&format!("{call}, p99"), times.at(0.99));
    }

    /// Adds a cell to the row of this name.
    fn row(&mut self, name: &str, cell: String) {
        match self.rows.iter_mut().find(|(known, _)| known == name) {
            Some((_, cells)) => cells.push(cell),
            None => self.rows.push((name.to_owned(), vec![cell])),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        write!(f, "{}", self.title)?;
        if self.columns.len() > 1 {
            write!(f, "\n{:width$}", "")?;
            self.columns.iter().try_for_each(|column| write!(f, "  {column:>15}"))?;
        }
        for (name, cells) in &self.rows {
            write!(f, "\n{name:width$}")?;
            cells.iter().try_for_each(|cell| write!(f, "  {cell:>15}"))?;
        }
        Ok(())
    }
}
