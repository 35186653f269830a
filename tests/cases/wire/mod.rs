//! Raw bytes from clients and from origins, judged by what the other side received.
//!
//! Every row names the section it stands on ("9112 6.3" is RFC 9112 section 6.3), the bytes, and what must come of them.
//! Each is sent twice, in one piece and byte by byte, with another request right behind it: a request that is refused
//! takes what follows with it and the origin hears nothing of either; one that is passed on ends exactly where it ends,
//! so that the next is the next.

mod chunks;
mod connections;
mod fields;
mod framing;
mod judge;
mod lines;
mod responses;
mod targets;

use crate::harness::{Client, Proxy, Request, Response, Upstream, eventually, ok};

/// Follows every case on its connection.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next.example\r\n\r\n";

/// What must come of a client's bytes.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// This status and the end of the connection. The origin hears nothing.
    Refused(u16),
    /// The same for a fault within a body: its head may have been passed on, but no whole request.
    Broken(u16),
    /// The origin gets one request with this line and this body, and then the next one.
    Passed(&'static str, &'static [u8]),
    /// The origin gets this one only: the connection ends with it.
    Last(&'static str, &'static [u8]),
}

/// One case.
type Row<'a> = (&'a str, &'a [u8], Outcome);

/// How a client sends its bytes.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    One,
    Bytes,
}

/// An origin that answers each whole request with its line and the length of its body, behind a proxy.
struct Bench {
    origin: Upstream,
    proxy: Proxy,
}

/// Runs every row. All that fail are told at once.
#[track_caller]
fn run(rows: &[Row<'_>]) {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (rule, bytes, outcome) in rows {
        for pieces in [Pieces::One, Pieces::Bytes] {
            if let Err(why) = bench.judge(bytes, *outcome, pieces) {
                wrong.push(format!("RFC {rule}\n  {} ({pieces:?})\n  {why}", bytes.escape_ascii()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

impl Bench {
    fn new() -> Self {
        let origin = Upstream::answering(|request| ok(told(request.line(), request.body.len())));
        let proxy = Proxy::to([&origin]);
        Self { origin, proxy }
    }

    fn judge(&self, bytes: &[u8], outcome: Outcome, pieces: Pieces) -> Result<(), String> {
        let before = self.origin.requests();
        let mut client = Client::to(&self.proxy);
        match pieces {
            Pieces::One => client.send([bytes, NEXT].concat()),
            Pieces::Bytes => [bytes, NEXT].concat().iter().for_each(|byte| client.send([*byte])),
        }
        let answer = answer(&mut client)?;
        match outcome {
            Outcome::Refused(status) | Outcome::Broken(status) => {
                expect("the status", answer.status, status)?;
                ends(&mut client, &answer)?;
                if matches!(outcome, Outcome::Broken(_)) {
                    // The connection it was on cannot be used again, and ends with it.
                    eventually(|| self.received(before).len() <= 1);
                    eventually(|| self.origin.open_connections() <= 1);
                }
                let received = self.received(before);
                let allowed = usize::from(matches!(outcome, Outcome::Broken(_)));
                if received.len() > allowed || received.iter().any(|request| request.is_whole) {
                    return Err(format!("the origin got {received:?}"));
                }
                Ok(())
            }
            Outcome::Passed(line, body) => {
                expect("the answer", (answer.status, answer.text()), (200, &*told(line, body.len())))?;
                let next = self::answer(&mut client)?;
                expect("the next answer", next.text(), &told("GET /next HTTP/1.1", 0))?;
                let received = self.received(before);
                expect("the number of requests", received.len(), 2)?;
                judge::sound(&received[0], line, body)?;
                judge::sound(&received[1], "GET /next HTTP/1.1", b"")
            }
            Outcome::Last(line, body) => {
                expect("the answer", (answer.status, answer.text()), (200, &*told(line, body.len())))?;
                ends(&mut client, &answer)?;
                let received = self.received(before);
                expect("the number of requests", received.len(), 1)?;
                judge::sound(&received[0], line, body)
            }
        }
    }

    /// What the origin got after its first `before` requests.
    fn received(&self, before: usize) -> Vec<Request> {
        self.origin.received().split_off(before)
    }
}

/// What the origin answers with.
fn told(line: &str, length: usize) -> String {
    format!("{line} {length}")
}

/// The next final response.
fn answer(client: &mut Client) -> Result<Response, String> {
    loop {
        let response = client.try_response().map_err(|broken| format!("no answer: {broken:?}"))?;
        if response.status >= 200 {
            return Ok(response);
        }
    }
}

/// Whether nothing follows an answer, and the answer said so.
fn ends(client: &mut Client, answer: &Response) -> Result<(), String> {
    expect("`connection`", answer.field("connection"), Some("close"))?;
    client.finish();
    let (rest, end) = client.drain();
    expect("what follows", (rest.escape_ascii().to_string().as_str(), end), ("", crate::harness::End::Closed))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}
