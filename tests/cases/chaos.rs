//! Origins are killed, stopped, garbled and restarted at random under load.
//!
//! Every response is checked against the request it answers, byte by byte. One origin is always left alone for long
//! enough that the proxy can know it: so no idempotent request may fail. A response whose origin was hurt in its middle
//! may break off, but never look whole; no POST may be worked on twice; nothing may be mixed up or lost.
//!
//! `STAUNCH_CHAOS_SEED` repeats the choices of a run, `STAUNCH_CHAOS_SECONDS` sets its length (20).

use std::collections::HashMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Proxy, Request, Response, Talk, Upstream, eventually, ok};

const ORIGINS: usize = 5;
const CLIENTS: usize = 8;
/// Bodies up to this size leave an origin in one piece with their head: they come whole or not at all.
const SMALL: usize = 8 << 10;
/// How long an origin that is left alone has been well before.
const TRUSTED: Duration = Duration::from_secs(3);

/// What an origin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Well,
    /// Answers with what is not HTTP.
    Garbage,
    /// Closes instead of an answer.
    Close,
    /// Resets instead of an answer.
    Reset,
    /// Never answers.
    Stall,
    /// Sends half of a body.
    Truncate,
    /// Sends chunks that are none.
    BadChunk,
    /// Says more than it was asked.
    Chatter,
}

impl Mode {
    const ILL: [Self; 7] =
        [Self::Garbage, Self::Close, Self::Reset, Self::Stall, Self::Truncate, Self::BadChunk, Self::Chatter];

    fn of(number: u8) -> Self {
        Self::ILL.into_iter().find(|mode| *mode as u8 == number).unwrap_or(Self::Well)
    }
}

/// The body that belongs to an id.
fn body(id: u64, size: usize) -> Vec<u8> {
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Not a test but an origin: what [`Origin::start`] runs. It ends with its standard input.
#[test]
#[ignore = "an origin, run by the test of this file"]
fn origin() {
    let (Ok(address), Ok(folder)) = (env::var("STAUNCH_CHAOS_ORIGIN"), env::var("STAUNCH_CHAOS_FOLDER")) else {
        return;
    };
    let address: SocketAddr = address.parse().expect("an address");
    let socket = sharing(address);
    socket.listen(1024).expect("a listener");
    let mode = Arc::new(AtomicU8::new(Mode::Well as u8));
    let (told, name) = (mode.clone(), address.port().to_string());
    let work = OpenOptions::new().create(true).append(true).open(Path::new(&folder).join(&name)).expect("a file");
    let work = Mutex::new(work);
    let _upstream = Upstream::raw_on(TcpListener::from(socket), move |talk| {
        while let Some(request) = talk.request() {
            talk.forget();
            if request.line().starts_with("POST ") || request.line().starts_with("PUT ") {
                let line = format!("{} {}\n", request.line(), request.body == body(id(&request), request.body.len()));
                work.lock().expect("no panic").write_all(line.as_bytes()).expect("a file");
            }
            if !reply(talk, &request, &name, Mode::of(told.load(SeqCst))) {
                return;
            }
        }
    });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        mode.store(line.parse().unwrap_or_default(), SeqCst);
    }
}

fn id(request: &Request) -> u64 {
    request.target().split('/').nth(1).and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// Answers `/ID/SIZE` and `/ID/SIZE/chunked` with the body of that id. Answers whether the connection goes on.
fn reply(talk: &mut Talk, request: &Request, name: &str, mode: Mode) -> bool {
    let mut parts = request.target().split('/').skip(1);
    let id = parts.next().unwrap_or_default();
    let size = parts.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let body = body(id.parse().unwrap_or_default(), size);
    let head = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\nx-origin: {name}\r\n");
    let with_length = [format!("{head}content-length: {size}\r\n\r\n").as_bytes(), &body].concat();
    let chunked = [format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes(), &chunks(&body)].concat();
    match mode {
        Mode::Well if parts.next() == Some("chunked") => talk.send(chunked),
        Mode::Well => talk.send(with_length),
        Mode::Garbage => talk.send("\x16\x03\x01 not what you are looking for\r\n\r\n"),
        Mode::Close => false,
        Mode::Reset => {
            talk.reset();
            false
        }
        Mode::Stall => {
            talk.stall();
            false
        }
        Mode::Truncate => {
            talk.send(&with_length[..with_length.len() - size.div_ceil(2)]);
            false
        }
        Mode::BadChunk => {
            talk.send(format!("{head}transfer-encoding: chunked\r\n\r\nno size\r\n"));
            false
        }
        Mode::Chatter => talk.send([&with_length[..], &ok("nobody asked")].concat()),
    }
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    [body.chunks(3000).map(chunk).collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
}

/// A socket that holds a port together with others.
fn sharing(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("a socket");
    socket.bind(&address.into()).expect("a port");
    socket
}

/// An origin of its own process, as whoever torments it sees it.
struct Origin {
    /// Keeps the port while no process has it.
    _port: Socket,
    address: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
    /// What is done to it, and when that ends.
    ill: Option<(Torment, Instant)>,
    well_since: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Torment {
    Killed,
    Stopped,
    Told(Mode),
}

impl Origin {
    fn new(folder: &Path) -> Self {
        let port = sharing(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = port.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        let (folder, well_since) = (folder.to_owned(), Instant::now());
        let mut origin = Self { _port: port, address, folder, child: None, ill: None, well_since };
        origin.start();
        origin
    }

    fn start(&mut self) {
        let mut command = Command::new(env::current_exe().expect("this binary"));
        command.args(["--exact", "--ignored", "--nocapture", "cases::chaos::origin"]);
        command.env("STAUNCH_CHAOS_ORIGIN", self.address.to_string()).env("STAUNCH_CHAOS_FOLDER", &self.folder);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("an origin"));
    }

    fn torment(&mut self, torment: Torment, until: Instant) {
        match torment {
            Torment::Killed => self.kill(),
            Torment::Stopped => self.signal("STOP"),
            Torment::Told(mode) => self.tell(mode),
        }
        self.ill = Some((torment, until));
    }

    fn heal(&mut self) {
        match self.ill.take() {
            Some((Torment::Killed, _)) => self.start(),
            Some((Torment::Stopped, _)) => self.signal("CONT"),
            Some((Torment::Told(_), _)) => self.tell(Mode::Well),
            None => {}
        }
        self.well_since = Instant::now();
    }

    fn tell(&mut self, mode: Mode) {
        let child = self.child.as_mut().expect("it runs");
        writeln!(child.stdin.as_mut().expect("a pipe"), "{}", mode as u8).expect("it listens");
    }

    fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.as_ref().expect("it runs").id());
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Tally {
    /// By method and outcome.
    counts: Mutex<HashMap<(&'static str, String), usize>>,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
    requests: AtomicUsize,
    /// Ids of what was worked on, as far as clients were told.
    done: Mutex<Vec<u64>>,
}

impl Tally {
    fn wrong(&self, what: String) {
        self.wrong.lock().expect("no panic").push(what);
    }
}

/// One request after the other, each checked.
fn ask(address: SocketAddr, mut random: fastrand::Rng, ids: &AtomicU64, over: &AtomicBool, tally: &Tally) {
    let mut client = Client::connect(address);
    while !over.load(SeqCst) {
        let id = ids.fetch_add(1, SeqCst);
        let method = ["GET", "GET", "GET", "PUT", "POST"][random.usize(..5)];
        let size = if random.u8(..10) == 0 { random.usize(..200_000) } else { random.usize(..SMALL) };
        let form = if random.bool() { "/chunked" } else { "" };
        let sent = if method == "GET" { Vec::new() } else { body(id, random.usize(..SMALL)) };
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", sent.len()) };
        let head = format!("{method} /{id}/{size}{form} HTTP/1.1\r\nHost: a\r\n{length}\r\n");
        client.send([head.as_bytes(), &sent].concat());

        let answer = client.try_response();
        tally.requests.fetch_add(1, SeqCst);
        let (outcome, goes_on) = match &answer {
            Ok(response) => {
                if response.status == 200 {
                    check(response, id, size, tally);
                    if method != "GET" {
                        tally.done.lock().expect("no panic").push(id);
                    }
                } else if method != "POST" {
                    tally.wrong(format!(
                        "{method} {id} of {size} bytes: {} {}",
                        response.status,
                        response.text().trim()
                    ));
                }
                (response.status.to_string(), response.field("connection") != Some("close"))
            }
            Err(broken) => {
                match &broken.part {
                    Some(part) => {
                        let whole = body(id, size);
                        let is_part = part.field("x-id") == Some(&id.to_string()) && whole.starts_with(&part.body);
                        if !is_part || part.body.len() == size && size > 0 && form.is_empty() {
                            tally.wrong(format!("{method} {id}: broken off, and not a part: {:?}", part.head));
                        }
                    }
                    None => tally.wrong(format!("{method} {id} of {size} bytes: no answer, {:?}", broken.end)),
                }
                ("broken off".to_owned(), false)
            }
        };
        *tally.counts.lock().expect("no panic").entry((method, outcome)).or_default() += 1;
        if !goes_on {
            client = Client::connect(address);
        }
    }
}

fn check(response: &Response, id: u64, size: usize, tally: &Tally) {
    if response.field("x-id") != Some(&id.to_string()) || response.body != body(id, size) {
        tally.wrong(format!(
            "{id}: mixed up with {:?}, {} of {size} bytes",
            response.field("x-id"),
            response.body.len()
        ));
    }
}

#[test]
fn origins_come_and_go_and_no_idempotent_request_fails() {
    let seconds = env::var("STAUNCH_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let seed = env::var("STAUNCH_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("STAUNCH_CHAOS_SEED={seed} STAUNCH_CHAOS_SECONDS={seconds}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut origins: Vec<_> = (0..ORIGINS).map(|_| Origin::new(folder.path())).collect();
    let listed: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    // What who never wants to see a failure sets: attempts for every endpoint, and a budget that allows them.
    let proxy = Proxy::with(&format!(
        "[server]\nworkers = 2\n[upstreams.api]\nendpoints = [{}]\nconnect_timeout = \"2s\"\nread_timeout = \"2s\"\n\
         passive = {{ max_fails = 1, fail_timeout = \"2s\" }}\n\
         health = {{ type = \"http\", path = \"/0/0\", interval = \"300ms\", timeout = \"2s\", fall = 2 }}\n\
         retry = {{ config = {{ on = [\"error\", \"timeout\", \"invalid_header\"] }}, attempts = 10, timeout = \"30s\", \
         budget = {{ percent = 100, min = 1000 }} }}\n",
        listed.join(", ")
    ));
    eventually(|| proxy.get("/0/0").status == 200);

    let (tally, over, ids) = (Tally::default(), AtomicBool::new(false), AtomicU64::new(1));
    let mut torments = HashMap::<String, usize>::new();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, over, ids, address) = (&tally, &over, &ids, proxy.address());
            let random = fastrand::Rng::with_seed(seed ^ (number as u64 + 1) << 32);
            scope.spawn(move || ask(address, random, ids, over, tally));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut spared = 0;
        while Instant::now() < end && tally.wrong.lock().expect("no panic").is_empty() {
            thread::park_timeout(Duration::from_millis(random.u64(20..150)));
            let now = Instant::now();
            for origin in &mut origins {
                if origin.ill.is_some_and(|(_, until)| until <= now) {
                    origin.heal();
                }
            }
            // Another one may be left alone once it has been well for as long as the proxy needs to know.
            let next = random.usize(..ORIGINS);
            if origins[next].ill.is_none() && now - origins[next].well_since > TRUSTED {
                spared = next;
            }
            let victim = random.usize(..ORIGINS);
            let stopped = origins.iter().filter(|origin| matches!(origin.ill, Some((Torment::Stopped, _)))).count();
            if victim == spared || origins[victim].ill.is_some() {
                continue;
            }
            let torment = match random.u8(..4) {
                0 => Torment::Killed,
                // A request waits for each of them in turn.
                1 if stopped < 2 => Torment::Stopped,
                _ => Torment::Told(Mode::ILL[random.usize(..Mode::ILL.len())]),
            };
            *torments.entry(format!("{torment:?}")).or_default() += 1;
            origins[victim].torment(torment, now + Duration::from_millis(random.u64(50..2500)));
        }
        origins.iter_mut().for_each(Origin::heal);
        over.store(true, SeqCst);
    });

    let counts = tally.counts.into_inner().expect("no panic");
    println!("{} requests: {counts:?}\n{torments:?}", tally.requests.load(SeqCst));
    let wrong = tally.wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "seed {seed}: {} wrong, first {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    drop(origins);
    account(folder.path(), &tally.done.into_inner().expect("no panic"));
}

/// Checks what the origins have worked on: every body as it was sent, no POST twice, and nothing that was answered lost.
#[track_caller]
fn account(folder: &Path, done: &[u64]) {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let worked: String = files.map(|file| fs::read_to_string(file).expect("a file")).collect();
    let mut times = HashMap::<&str, usize>::new();
    let mut ids = HashMap::<u64, bool>::new();
    for line in worked.lines() {
        let (request, is_whole) = line.rsplit_once(' ').expect("a line");
        assert_eq!(is_whole, "true", "{request} came with another body");
        *times.entry(request).or_default() += 1;
        let id = request.split('/').nth(1).and_then(|id| id.parse().ok());
        ids.insert(id.expect("an id"), true);
    }
    let twice: Vec<_> = times.iter().filter(|(request, times)| request.starts_with("POST ") && **times > 1).collect();
    assert!(twice.is_empty(), "worked on twice: {twice:?}");
    let lost: Vec<_> = done.iter().filter(|id| !ids.contains_key(id)).collect();
    assert!(lost.is_empty(), "answered and never worked on: {lost:?}");
}
