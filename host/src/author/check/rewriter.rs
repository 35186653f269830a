//! A rewriter before its judge: shown every kind of message.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::author::people;
use crate::author::rig::{Broke, EPOCH, fault_of, world};
use crate::author::subject::Subject;
use crate::filters::{BodyBroken, BodyFilter, Filter, Flow};
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Cause, Kind, Simulation, Use};

use super::balancer::{Claim, Claims};
use super::cost::Memory;
use super::report::{Property, Report};

const MESSAGES: usize = 1500;

/// What goes wrong over a message.
enum Mishap {
    /// With the message.
    Broke(Broke, String),
    /// A body became something else when it was cut otherwise.
    Pieces(String),
}

impl From<Mishap> for Broke {
    fn from(mishap: Mishap) -> Self {
        match mishap {
            Mishap::Broke(broke, _) => broke,
            Mishap::Pieces(message) => Self { cause: Cause::Answer, message },
        }
    }
}

/// A rewriter in a world of its own.
struct Trial {
    world: Arc<Simulation>,
    used: Use,
    filter: Rc<dyn Filter>,
    exchange: Exchange,
}

pub(super) fn judge(subject: &Subject, seed: u64, claims: &Claims) -> Report {
    let mut report = Report::default();
    let one = world(seed);
    let Some(seen) = show(subject, &one, seed, &mut report) else {
        report.sort();
        return report;
    };
    report.holds(Property::Survival, format!("{MESSAGES} exchanges"));
    report.holds(Property::Validity, "");
    let exports = subject.plugin().exports();
    if exports.request_body_rewriter || exports.response_body_rewriter {
        report.holds(Property::Pieces, "");
    }
    report.holds(Property::Deadline, "");
    if claims.says(Claim::Determinism) == Some(false) {
        report.not_claimed(Property::Determinism, "nobody wants it to be");
    } else {
        determinism(subject, &one, seed, &seen, &mut report);
    }
    if claims.ask_for(&[Property::Memory]) {
        memory(subject, seed, &mut report);
    }
    report.sort();
    report
}

/// Shows it every message, and answers what became of each; `None` when it broke over one.
fn show(subject: &Subject, world: &Arc<Simulation>, seed: u64, report: &mut Report) -> Option<Vec<String>> {
    let mut trial = match Trial::new(subject, world) {
        Ok(trial) => trial,
        Err(broke) => {
            report.broken_by(property_of(&broke), broke.message);
            return None;
        }
    };
    let mut rng = Rng::with_seed(seed);
    let mut seen = Vec::with_capacity(MESSAGES);
    for number in 0..MESSAGES {
        match trial.exchange(&mut rng) {
            Ok(what) => seen.push(what),
            Err(Mishap::Broke(broke, message)) => {
                let text = format!("{}\nover message {} (seed {seed}):\n{message}", broke.message, number + 1);
                report.broken_by(property_of(&broke), text);
                return None;
            }
            Err(Mishap::Pieces(how)) => {
                report.broken_by(Property::Pieces, format!("{how}\n(message {}, seed {seed})", number + 1));
                return None;
            }
        }
        trial.world.advance(Duration::from_millis(rng.u64(0..50)));
    }
    Some(seen)
}

/// The same messages at the same times bring the same changes.
fn determinism(subject: &Subject, one: &Simulation, seed: u64, expected: &[String], report: &mut Report) {
    let again = Arc::new(Simulation::new(one.began(), EPOCH, seed));
    let Some(got) = show(subject, &again, seed, report) else { return };
    match expected.iter().zip(&got).position(|(one, other)| one != other) {
        Some(at) => {
            let message = format!("message {} (seed {seed}) became\n{}\nand then\n{}", at + 1, expected[at], got[at]);
            report.broken_by(Property::Determinism, message);
        }
        None => report.holds(Property::Determinism, ""),
    }
}

fn memory(subject: &Subject, seed: u64, report: &mut Report) {
    let mut memory = Memory::default();
    let Ok(mut trial) = Trial::new(subject, &world(seed)) else { return };
    let mut rng = Rng::with_seed(seed);
    memory.watch(report, seed, |_| trial.exchange(&mut rng).map(|_| trial.world.cost().memory).map_err(Broke::from));
}

impl Trial {
    fn new(subject: &Subject, world: &Arc<Simulation>) -> Result<Self, Broke> {
        let used = subject.simulate(Kind::Rewriter, world.clone())?;
        let filter = used.rewriter(0)?.into_filter();
        Ok(Self { world: world.clone(), used, filter, exchange: Exchange::new(Facts::new(None, false)) })
    }

    /// One request and its response; answers what became of them.
    fn exchange(&mut self, rng: &mut Rng) -> Result<String, Mishap> {
        let sides = self.filter.sides();
        let exchange = &mut self.exchange;
        request(exchange, rng);
        let mut what = String::new();
        if sides.request {
            let message = request_text(exchange);
            let flow = self.filter.on_request(exchange);
            if let Some(broke) = fault(&self.used, &flow) {
                return Err(Mishap::Broke(broke, message));
            }
            let _ = write!(what, "{}{flow:?} {:?}", request_text(exchange), exchange.delay);
            if flow != Flow::Continue {
                return Ok(what);
            }
        }
        if sides.request_body {
            let filter = self.filter.clone();
            let begin = |exchange: &mut Exchange| filter.on_request_body(exchange);
            what += &self.body(rng, "request", begin)?;
        }
        let exchange = &mut self.exchange;
        response(exchange, rng);
        if sides.response {
            let message = response_text(exchange);
            let flow = self.filter.on_response(exchange);
            if let Some(broke) = fault(&self.used, &flow) {
                return Err(Mishap::Broke(broke, message));
            }
            let _ = write!(what, "{}{flow:?}", response_text(exchange));
        }
        if sides.response_body {
            let filter = self.filter.clone();
            let begin = |exchange: &mut Exchange| filter.on_response_body(exchange);
            what += &self.body(rng, "response", begin)?;
        }
        Ok(what)
    }

    /// The body of the message at hand: in one piece, in several, and one that breaks off. What it became.
    fn body(
        &mut self,
        rng: &mut Rng,
        side: &str,
        begin: impl Fn(&mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken>,
    ) -> Result<String, Mishap> {
        let body = body(rng);
        let shown = || format!("a {side} body of {} bytes: {}", body.len(), cut(&body));
        let broke = |used: &Use| {
            let none = || Broke { cause: Cause::Answer, message: "it gave no answer".to_owned() };
            Mishap::Broke(fault_of(used).unwrap_or_else(none), shown())
        };
        let mut through = |pieces: &[usize]| -> Result<Option<Vec<u8>>, Mishap> {
            let started = begin(&mut self.exchange).map_err(|_| broke(&self.used))?;
            let Some(mut filter) = started else { return Ok(None) };
            let (mut out, mut from) = (Vec::new(), 0);
            for &to in pieces {
                filter.rewrite(&body[from..to], false, &mut out).map_err(|_| broke(&self.used))?;
                from = to;
            }
            filter.rewrite(&body[from..], true, &mut out).map_err(|_| broke(&self.used))?;
            Ok(Some(out))
        };
        let whole = through(&[])?;
        let mut cuts: Vec<usize> = (0..rng.usize(1..5)).map(|_| rng.usize(..=body.len())).collect();
        cuts.sort_unstable();
        let mut pieces = vec![cuts];
        if body.len() <= 200 {
            // A byte at a time.
            pieces.push((1..=body.len()).collect());
        }
        for cuts in pieces {
            let other = through(&cuts)?;
            if other != whole {
                let of = |out: &Option<Vec<u8>>| out.as_ref().map_or_else(|| "itself".to_owned(), |out| cut(out));
                let message =
                    format!("{}\nin one piece it becomes  {}\ncut at {cuts:?} {}", shown(), of(&whole), of(&other));
                return Err(Mishap::Pieces(message));
            }
        }
        // The client goes away: what was begun is abandoned.
        if let Some(mut filter) = begin(&mut self.exchange).map_err(|_| broke(&self.used))? {
            let _ = filter.rewrite(&body[..body.len() / 2], false, &mut Vec::new());
            drop(filter);
        }
        match fault_of(&self.used) {
            Some(broke) => Err(Mishap::Broke(broke, shown())),
            None => Ok(whole.map_or_else(String::new, |out| format!("{} bytes: {}", out.len(), cut(&out)))),
        }
    }
}

/// The fault there was, if a flow may be one: one that is skipped looks like none.
fn fault(used: &Use, flow: &Flow) -> Option<Broke> {
    match flow {
        Flow::Respond(_) => None,
        Flow::Continue | Flow::Deny => fault_of(used),
    }
}

const TARGETS: [&str; 14] = [
    "/",
    "/?",
    "/a",
    "/api",
    "/api/",
    "/api/v1/users/42?x=1&y=2",
    "//double//slash",
    "/a/../b/./c",
    "/%00%ff%2e%2E%2f",
    "/caf%C3%A9?q=%F0%9F%98%80",
    "/a=b&c;d,e:f@g!$'()*+~",
    "/q?a=1&a=2&&=&b",
    "/index.html?redirect=http://other.test/",
    "/q?%",
];
const NAMES: [&str; 16] = [
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "origin",
    "access-control-request-method",
    "range",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
    "x-tenant",
    "x-a",
    "set-cookie",
];
const VALUES: [&[u8]; 12] = [
    b"",
    b"a",
    b"text/html; charset=utf-8",
    b"Basic dXNlcjpwYXNz",
    b"Basic !!!",
    b"a=1; b=2; c",
    b"https://other.test",
    b"10.0.0.1, 192.0.2.1",
    b"\xff\xfe\x80 not UTF-8",
    b"\"quoted, \\\" text\"",
    b"  ",
    b"99999999999999999999",
];

/// Makes a request of all that a client may send.
fn request(exchange: &mut Exchange, rng: &mut Rng) {
    people::ask(exchange, rng.u64(..30), &[]);
    if rng.u32(..6) == 0 {
        let client = rng.bool().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        exchange.reset(client, rng.bool());
    }
    let request = &mut exchange.request;
    request.set_method(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X-ODD"][rng.usize(..8)]);
    let long = format!("/{}", "long".repeat(1500));
    request.set_path_and_query(if rng.u32(..30) == 0 { &long } else { TARGETS[rng.usize(..TARGETS.len())] });
    let authority = ["a.test", "A.TEST:8080", "[::1]:80", "192.0.2.1", "xn--caf-dma.test"][rng.usize(..5)];
    request.set_authority(authority);
    request.fields.set(b"host", authority.as_bytes());
    fields(&mut request.fields, rng);
    request.mark_received();
    (exchange.route, exchange.upstream) = ("check".into(), if rng.bool() { "check" } else { "" }.into());
}

/// Makes a response of all that an endpoint may answer.
fn response(exchange: &mut Exchange, rng: &mut Rng) {
    exchange.endpoint = "10.0.0.1:80".into();
    let response = &mut exchange.response;
    response.clear();
    response.status = [200, 200, 201, 204, 206, 301, 304, 404, 429, 500, 503, 599][rng.usize(..12)];
    response.set_reason(b"Whatever");
    fields(&mut response.fields, rng);
}

fn fields(fields: &mut crate::http::head::Fields, rng: &mut Rng) {
    let many = match rng.u32(..20) {
        0 => 100,
        1..6 => 0,
        _ => rng.usize(..8),
    };
    let long = vec![b'x'; 12_000];
    for _ in 0..many {
        let value = if rng.u32(..200) == 0 { &long } else { VALUES[rng.usize(..VALUES.len())] };
        fields.append(NAMES[rng.usize(..NAMES.len())].as_bytes(), value);
    }
}

/// A body: text, markup, or no text at all.
fn body(rng: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 12] =
        ["a", "ab", "aba", "foo", "http://origin.test/", "<b>", "</b>", "é", "\n", " ", "0123456789", "secret"];
    let words = [0, 1, 5, 30, 30, 30, 300, 20_000][rng.usize(..8)];
    let mut body = Vec::new();
    for _ in 0..words {
        match rng.u32(..12) {
            0 => body.push(rng.u8(..)),
            _ => body.extend_from_slice(WORDS[rng.usize(..WORDS.len())].as_bytes()),
        }
    }
    body
}

fn cut(bytes: &[u8]) -> String {
    let more = if bytes.len() > 120 { "…" } else { "" };
    format!("{}{more}", bytes[..bytes.len().min(120)].escape_ascii())
}

fn request_text(exchange: &Exchange) -> String {
    let request = &exchange.request;
    let line = format!("{} {} ({})\n", request.method(), request.path_and_query(), request.authority());
    line + &fields_text(&request.fields)
}

fn response_text(exchange: &Exchange) -> String {
    format!("{}\n{}", exchange.response.status, fields_text(&exchange.response.fields))
}

/// A line for each field, long ones cut.
fn fields_text(fields: &crate::http::head::Fields) -> String {
    fields.iter().fold(String::new(), |mut text, field| {
        let cut = &field.value[..field.value.len().min(100)];
        let _ = writeln!(text, "{}: {}", field.name.escape_ascii(), cut.escape_ascii());
        text
    })
}

fn property_of(broke: &Broke) -> Property {
    match broke.cause {
        Cause::Deadline => Property::Deadline,
        Cause::Memory => Property::Memory,
        Cause::Answer => Property::Validity,
        _ => Property::Survival,
    }
}
