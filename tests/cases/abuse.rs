//! Clients that are slow, many, endless or gone: others are served as before, and memory stays within bounds.
//!
//! The proxy is a process of its own here, so that its memory and its descriptors are its own. Bounds are per client
//! who misbehaves: what one may cost at most.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, Program, Upstream, api, eventually, ok, pattern};

const ACTIVE: &str = "staunch_listener_connections_active";
const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// The most that a request of somebody else may take, nine in ten of a hundred, while the abuse goes on. A proxy that
/// waits for an abuser takes longer by orders.
const PROMPT: Duration = Duration::from_millis(500);

/// Each of these cases wants the machine for itself, as far as this file is concerned.
static TURN: Mutex<()> = Mutex::new(());

/// A proxy before an origin, and what it costs when nobody asks anything.
struct Bench {
    _turn: MutexGuard<'static, ()>,
    program: Program,
    origin: Upstream,
    memory: u64,
    descriptors: usize,
}

impl Bench {
    fn new(settings: &str, origin: Upstream) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The test itself needs thousands of sockets.
        rlimit::increase_nofile_limit(u64::MAX).expect("more descriptors");
        let program = Program::on_tcp(&format!("{settings}\n{}", api([&origin])));
        let bench = Self { _turn: turn, program, origin, memory: 0, descriptors: 0 };
        bench.assert_prompt();
        let (memory, descriptors) = (bench.program.resident_memory(), bench.program.descriptors());
        Self { memory, descriptors, ..bench }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.program.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    fn client(&self) -> Client {
        Client::over_tcp(self.connect())
    }

    /// Somebody else is served, and soon.
    #[track_caller]
    fn assert_prompt(&self) {
        let mut client = self.client();
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(client.get("/other").text(), "other");
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        assert!(times[89] < PROMPT, "{times:?}");
    }

    /// Waits until the connections of clients are so many, that of the scrape not counted.
    #[track_caller]
    fn assert_active(&self, connections: usize) {
        eventually(|| self.program.metric(ACTIVE) as usize == connections);
    }

    /// Memory is at most this much more than it was.
    #[track_caller]
    fn assert_memory(&self, bytes: u64) {
        let grown = self.program.resident_memory().saturating_sub(self.memory);
        assert!(grown <= bytes, "{} KiB more, of which {} KiB are expected", grown >> 10, bytes >> 10);
    }

    /// Nothing of the abuse is left.
    #[track_caller]
    fn assert_recovered(&self) {
        self.assert_active(0);
        let endpoint = format!("{{upstream=\"api\",endpoint=\"{}\"}}", self.origin);
        eventually(|| self.program.metric(&format!("staunch_upstream_endpoint_active_requests{endpoint}")) == 0.0);
        assert_eq!(self.program.metric(&format!("staunch_upstream_endpoint_up{endpoint}")), 1.0);
        // Connections to the origin may stay for reuse.
        eventually(|| self.program.descriptors() <= self.descriptors + 70);
        self.assert_prompt();
    }
}

/// Answers `/other` at once and everything else with this.
fn serving(response: Vec<u8>) -> Upstream {
    Upstream::answering(move |request| if request.target() == "/other" { ok("other") } else { response.clone() })
}

#[test]
fn five_thousand_idle_connections_cost_little() {
    const EACH: u64 = 4 << 10;
    let bench = Bench::new("", serving(ok("hi")));

    // Half of them never say anything, and half have had an answer.
    let idle: Vec<_> = (0..5000)
        .map(|number| {
            let mut stream = bench.connect();
            if number % 2 == 0 {
                stream.write_all(HEAD.as_bytes()).expect("it reads");
            }
            stream
        })
        .collect();
    for mut stream in idle.iter().step_by(2) {
        let mut answer = [0; 256];
        assert!(stream.read(&mut answer).expect("an answer") > 0);
    }

    bench.assert_active(5000);
    bench.assert_memory(5000 * EACH + (4 << 20));
    bench.assert_prompt();
    drop(idle);
    bench.assert_recovered();
}

#[test]
fn heads_that_never_end_cost_little_and_are_cut_off() {
    const EACH: u64 = 24 << 10;
    let bench = Bench::new("[server]\nclient_header_timeout = \"3s\"", serving(ok("hi")));

    let mut slow: Vec<_> = (0..500).map(|_| bench.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ").expect("it reads");
    }
    bench.assert_prompt();
    for stream in &mut slow {
        // It may be cut off already.
        let _ = stream.write_all(b"a");
    }

    bench.assert_memory(500 * EACH + (4 << 20));
    bench.assert_prompt();
    eventually(|| bench.program.metric("staunch_http_timeouts_total{timeout=\"client_header\"}") == 500.0);
    drop(slow);
    bench.assert_recovered();
}

#[test]
fn heads_beyond_their_limit_cost_no_more_than_that() {
    const EACH: u64 = 80 << 10;
    let bench = Bench::new("", serving(ok("hi")));
    let giant = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", "a".repeat(10 << 20));

    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = bench.connect();
            let giant = giant.clone();
            thread::spawn(move || {
                // The proxy reads on for a while, so that its answer arrives, and then no more.
                let _ = stream.write_all(giant.as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                answer.starts_with(b"HTTP/1.1 431 ")
            })
        })
        .collect();
    bench.assert_prompt();
    bench.assert_memory(50 * EACH + (4 << 20));

    let refused = clients.into_iter().map(|client| client.join().expect("no panic")).filter(|refused| *refused).count();
    assert_eq!(refused, 50);
    bench.assert_recovered();
}

#[test]
fn clients_that_read_nothing_hold_no_response_in_memory() {
    const EACH: u64 = 200 << 10;
    let body = Arc::new(pattern(64 << 20));
    let begun = Arc::new(AtomicUsize::new(0));
    let (sent, count) = (body, begun.clone());
    let origin = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            if request.target() == "/other" {
                talk.send(ok("other"));
                continue;
            }
            talk.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", sent.len()));
            count.fetch_add(1, SeqCst);
            talk.send(&sent[..]);
        }
    });
    let bench = Bench::new("", origin);

    let readers: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = bench.connect();
            stream.write_all(HEAD.as_bytes()).expect("it reads");
            stream
        })
        .collect();
    eventually(|| begun.load(SeqCst) == 200);

    bench.assert_prompt();
    bench.assert_memory(200 * EACH + (8 << 20));
    drop(readers);
    bench.assert_recovered();
}

#[test]
fn a_flood_of_pipelined_requests_is_taken_only_as_fast_as_it_is_answered() {
    let bench = Bench::new("", serving(ok("hi")));
    let requests = HEAD.repeat(100_000);

    let mut flood = bench.client();
    let taken = flood.send_until_blocked(requests.as_bytes(), Duration::from_millis(500));
    bench.assert_prompt();
    bench.assert_memory(8 << 20);
    assert!(taken <= requests.len());
    for _ in 0..1000 {
        assert_eq!(flood.response().text(), "hi");
    }
    drop(flood);
    bench.assert_recovered();
}

#[test]
fn floods_of_pipelined_requests_that_are_read_starve_nobody() {
    let bench = Bench::new("", serving(ok("hi")));
    let over = Arc::new(AtomicBool::new(false));

    let floods: Vec<_> = (0..8)
        .map(|_| {
            let (mut out, over) = (bench.connect(), over.clone());
            let mut answers = out.try_clone().expect("a socket");
            thread::spawn(move || {
                let reader = thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
                let requests = HEAD.repeat(1000);
                while !over.load(SeqCst) && out.write_all(requests.as_bytes()).is_ok() {}
                // What is still on its way to either side is of no interest.
                let _ = out.shutdown(Shutdown::Both);
                reader.join().expect("no panic").unwrap_or_default()
            })
        })
        .collect();
    eventually(|| bench.origin.requests() > 1000);
    bench.assert_prompt();
    bench.assert_memory(16 << 20);
    over.store(true, SeqCst);

    let answered = floods.into_iter().map(|flood| flood.join().expect("no panic"));
    assert!(answered.min() > Some(0), "each flood had its share");
    bench.assert_recovered();
}

#[test]
fn a_body_without_end_is_cut_off_at_its_limit() {
    let bench = Bench::new("[server]\nmax_body_size = \"1MiB\"", serving(ok("hi")));
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(65_536));

    for _ in 0..20 {
        let mut stream = bench.connect();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").expect("it reads");
        for _ in 0..64 {
            if stream.write_all(chunk.as_bytes()).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut client = Client::over_tcp(stream);
        assert_eq!(client.response().status, 413);
    }

    bench.assert_memory(8 << 20);
    assert!(bench.origin.received().iter().all(|request| request.is_whole == (request.target() == "/other")));
    bench.assert_recovered();
}

#[test]
fn bodies_without_end_pass_through_and_gather_nowhere() {
    // Without a limit the origin decides. This one reads it all and never answers.
    let origin = Upstream::raw(|talk| {
        while let Some(request) = talk.head() {
            if request.target() != "/other" {
                return talk.stall();
            }
            talk.send(ok("other"));
        }
    });
    let bench = Bench::new("", origin);
    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));

    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (mut stream, over, sent) = (bench.connect(), over.clone(), sent.clone());
            thread::spawn(move || {
                let chunk = format!("10000\r\n{}\r\n", "a".repeat(65_536));
                let _ = stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                while !over.load(SeqCst) && stream.write_all(chunk.as_bytes()).is_ok() {
                    sent.fetch_add(65_536, SeqCst);
                }
            })
        })
        .collect();
    eventually(|| sent.load(SeqCst) > 64 << 20);
    bench.assert_memory(8 << 20);
    bench.assert_prompt();

    over.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    bench.assert_recovered();
}

#[test]
fn a_body_of_the_smallest_chunks_arrives_whole() {
    let origin = Upstream::answering(|request| match request.target() {
        "/other" => ok("other"),
        _ => ok(request.body.len().to_string()),
    });
    let bench = Bench::new("", origin);
    let mut client = bench.client();

    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("1\r\na\r\n".repeat(50_000));
    client.send("1;a\r\na\r\n".repeat(1000));
    client.send("0\r\n\r\n");

    assert_eq!(client.response().text(), "51000");
    bench.assert_memory(8 << 20);
    bench.assert_prompt();
}

#[test]
fn a_thousand_resets_leave_nothing_behind() {
    let bench = Bench::new("", serving(ok("x".repeat(100_000))));
    let parts = [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];

    for _ in 0..125 {
        for part in parts {
            let mut client = bench.client();
            client.send(part);
            client.reset();
        }
    }

    bench.assert_recovered();
    bench.assert_memory(16 << 20);
    eventually(|| bench.origin.open_connections() <= 70);
    let begun = bench.program.metric("staunch_listener_connections_accepted_total");
    assert!(begun >= 1000.0, "{begun} connections");
}

#[test]
fn a_body_that_drips_is_cut_off_where_a_rate_is_asked_for() {
    // Each byte comes long before the time between two reads is up.
    let bench = Bench::new("[server]\nclient_body_timeout = \"1s\"\nclient_min_rate = \"10KiB\"", serving(ok("hi")));
    let slow = || {
        let mut client = bench.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        client
    };
    let mut clients = [slow(), slow(), slow()];

    eventually(|| {
        clients.iter_mut().for_each(|client| client.send("a"));
        bench.program.metric("staunch_http_timeouts_total{timeout=\"client_body\"}") == 3.0
    });

    for client in &mut clients {
        assert_eq!(client.response().status, 408);
    }
    assert!(bench.origin.received().iter().all(|request| request.is_whole == (request.target() == "/other")));
    drop(clients);
    bench.assert_recovered();
}

#[test]
fn a_client_that_takes_a_response_in_drips_is_given_up_where_a_rate_is_asked_for() {
    let settings = "[server]\nclient_send_timeout = \"1s\"\nclient_min_rate = \"16MiB\"";
    let bench = Bench::new(settings, serving(ok(pattern(64 << 20))));
    let mut slow = bench.connect();
    slow.write_all(HEAD.as_bytes()).expect("it reads");

    let mut taken = 0;
    eventually(|| {
        let mut some = [0; 4096];
        // It may be given up already.
        taken += slow.read(&mut some).unwrap_or(0);
        bench.program.metric("staunch_http_timeouts_total{timeout=\"client_send\"}") == 1.0
    });

    assert!(taken < 64 << 20);
    drop(slow);
    bench.assert_recovered();
}
