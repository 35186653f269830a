//! Datagrams passed on, in sessions made up for them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::harness::{ADMIN, Log, PATIENCE, Proxy, eventually};

/// Answers each datagram, so many times, with its name and what it got. It ends with its test.
struct Origin {
    address: SocketAddr,
    heard: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Origin {
    fn new(name: &'static str, answers: usize) -> Self {
        Self::on("127.0.0.1:0", name, answers)
    }

    fn on(address: &str, name: &'static str, answers: usize) -> Self {
        let socket = UdpSocket::bind(address).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        let address = socket.local_addr().expect("bound");
        let (heard, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, until) = (heard.clone(), over.clone());
        thread::spawn(move || {
            let mut space = [0; 65_536];
            while !until.load(Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut space) else { continue };
                counted.fetch_add(1, Relaxed);
                for _ in 0..answers {
                    // Large ones come back without the name, as there is no room for it.
                    let name = if length > 60_000 { "" } else { name };
                    let _ = socket.send_to(&[name.as_bytes(), &space[..length]].concat(), client);
                }
            }
        });
        Self { address, heard, over }
    }

    fn heard(&self) -> usize {
        self.heard.load(Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

fn text(keys: &str, upstream: &str) -> String {
    format!(
        "{ADMIN}[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\nupstream = \"api\"\n{keys}\n\
         [upstreams.api]\n{upstream}\n"
    )
}

fn to(endpoints: &[SocketAddr], keys: &str, upstream: &str) -> Proxy {
    let quoted: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    Proxy::with(&text(keys, &format!("endpoints = [{}]\n{upstream}", quoted.join(", "))))
}

/// A client of one proxy.
fn client(proxy: &Proxy) -> UdpSocket {
    client_of(proxy.address())
}

fn client_of(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).expect("a port");
    socket.connect(address).expect("an address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

#[track_caller]
fn hear(client: &UdpSocket) -> String {
    let mut space = [0; 65_536];
    let length = client.recv(&mut space).expect("an answer");
    String::from_utf8_lossy(&space[..length]).into_owned()
}

#[track_caller]
fn ask(client: &UdpSocket, question: &str) -> String {
    client.send(question.as_bytes()).expect("it is sent");
    hear(client)
}

const LABELS: &str = r#"{listener="127.0.0.1:0",protocol="udp",upstream="api"}"#;

#[test]
fn a_client_keeps_its_endpoint_and_others_have_others() {
    let (one, other) = (Origin::new("1", 1), Origin::new("2", 1));
    let proxy = to(&[one.address, other.address], "", "");
    let (first, second) = (client(&proxy), client(&proxy));

    let of_first: Vec<_> = (0..3).map(|_| ask(&first, "a")).collect();
    let of_second: Vec<_> = (0..3).map(|_| ask(&second, "b")).collect();

    assert_eq!((&of_first[..], &of_second[..]), (&["1a"; 3].map(String::from)[..], &["2b"; 3].map(String::from)[..]));
    proxy.assert_counted(&format!("staunch_relay_connections_active{LABELS}"), 2.0);
}

#[test]
fn after_as_many_answers_as_were_expected_a_session_ends() {
    let (one, other) = (Origin::new("1", 2), Origin::new("2", 2));
    let log = Log::new();
    let endpoints = format!("endpoints = [\"{}\", \"{}\"]", one.address, other.address);
    let proxy = Proxy::with(&format!("{}{}", log.settings(), text("responses = 2", &endpoints)));
    let client = client(&proxy);

    assert_eq!([ask(&client, "a"), hear(&client)], ["1a", "1a"]);
    log.lines(1);
    assert_eq!([ask(&client, "b"), hear(&client)], ["2b", "2b"]);

    let lines = log.lines(2);
    let expected = [("UDP", 1, 4, one.address), ("UDP", 1, 4, other.address)];
    for (line, (version, received, sent, endpoint)) in lines.iter().zip(expected) {
        assert_eq!((&line["version"], &line["endpoint"]), (&version.into(), &endpoint.to_string().into()));
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&received.into(), &sent.into()));
    }
    proxy.assert_counted(&format!("staunch_relay_connections_active{LABELS}"), 0.0);
}

#[test]
fn where_no_answer_is_expected_each_datagram_is_on_its_own() {
    let (one, other) = (Origin::new("1", 0), Origin::new("2", 0));
    let proxy = to(&[one.address, other.address], "responses = 0", "");
    let client = client(&proxy);

    for count in 1..=4 {
        client.send(b"log").expect("it is sent");
        eventually(|| one.heard() + other.heard() == count);
        proxy.assert_counted(&format!("staunch_relay_connections_active{LABELS}"), 0.0);
    }

    assert_eq!((one.heard(), other.heard()), (2, 2));
}

#[test]
fn silence_ends_a_session() {
    let origin = Origin::new("1", 1);
    let proxy = to(&[origin.address], "idle_timeout = \"100ms\"", "");
    let client = client(&proxy);

    assert_eq!(ask(&client, "a"), "1a");
    proxy.assert_counted(&format!("staunch_relay_connections_active{LABELS}"), 0.0);

    assert_eq!(ask(&client, "b"), "1b");
    proxy.assert_counted(&format!("staunch_relay_connections_total{LABELS}"), 2.0);
}

#[test]
fn an_answer_that_was_expected_and_did_not_come_is_held_against_an_endpoint() {
    let (silent, alive) = (Origin::new("S", 0), Origin::new("A", 1));
    let proxy = to(
        &[silent.address, alive.address],
        "responses = 1\nidle_timeout = \"100ms\"",
        "passive = { max_fails = 1, fail_timeout = \"1h\" }",
    );
    client(&proxy).send(b"a").expect("it is sent");

    proxy.assert_counted(r#"staunch_upstream_passive_failures_total{upstream="api"}"#, 1.0);

    for _ in 0..3 {
        assert_eq!(ask(&client(&proxy), "b"), "Ab");
    }
}

#[test]
fn what_was_sent_to_who_is_not_there_goes_elsewhere() {
    let gone = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let alive = Origin::new("A", 1);
    let proxy = to(&[gone, alive.address], "", "passive = { max_fails = 1, fail_timeout = \"1h\" }");

    assert_eq!(ask(&client(&proxy), "a"), "Aa");

    proxy.assert_counted(r#"staunch_upstream_passive_failures_total{upstream="api"}"#, 1.0);
}

#[test]
fn after_an_answer_what_is_sent_to_who_has_gone_is_not_sent_again_and_the_next_goes_elsewhere() {
    let (gone, alive) = (Origin::new("G", 1), Origin::new("A", 1));
    let keys = "passive = { max_fails = 1, fail_timeout = \"1h\" }";
    let proxy = to(&[gone.address, alive.address], "", keys);
    let client = client(&proxy);
    assert_eq!(ask(&client, "a"), "Ga");
    let address = gone.address;
    drop(gone);
    eventually(|| UdpSocket::bind(address).is_ok());

    client.send(b"lost").expect("it is sent");
    proxy.assert_counted(r#"staunch_upstream_passive_failures_total{upstream="api"}"#, 1.0);

    assert_eq!(ask(&client, "b"), "Ab");
    assert_eq!(alive.heard(), 1);
}

#[test]
fn one_session_more_than_there_may_be_ends_the_one_that_was_idle_for_longest() {
    let origin = Origin::new("1", 1);
    let proxy = to(&[origin.address], "max_sessions = 2", "");
    let clients = [client(&proxy), client(&proxy), client(&proxy)];
    assert_eq!(ask(&clients[0], "a"), "1a");
    assert_eq!(ask(&clients[1], "b"), "1b");
    assert_eq!(ask(&clients[0], "c"), "1c");

    assert_eq!(ask(&clients[2], "d"), "1d");
    proxy.assert_counted(&format!("staunch_relay_connections_active{LABELS}"), 2.0);
    assert_eq!(ask(&clients[0], "e"), "1e");

    // The second had to go, not the first.
    assert_eq!(proxy.metric(&format!("staunch_relay_connections_total{LABELS}")), 3.0);
}

#[test]
fn without_an_endpoint_a_datagram_is_dropped_and_counted() {
    let origin = Origin::new("1", 1);
    let proxy = Proxy::with(&text("", &format!("endpoints = [{{ address = \"{}\", down = true }}]", origin.address)));

    client(&proxy).send(b"a").expect("it is sent");

    proxy.assert_counted(&format!("staunch_relay_datagrams_dropped_total{LABELS}"), 1.0);
    proxy.assert_counted(&format!("staunch_relay_failed_total{LABELS}"), 1.0);
    assert_eq!(origin.heard(), 0);
}

#[test]
fn the_longest_datagram_comes_through_whole_and_so_does_an_empty_one() {
    let origin = Origin::new("", 1);
    let proxy = to(&[origin.address], "", "");
    let client = client(&proxy);
    let longest = "x".repeat(65_507);

    assert!(ask(&client, &longest) == longest);
    assert_eq!(ask(&client, ""), "");
}

#[test]
fn a_reload_keeps_sessions_and_leads_new_ones_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let (old, new) = (Origin::new("O", 1), Origin::new("N", 1));
    let text = |origin: &Origin| text("", &format!("endpoints = [\"{}\"]", origin.address));
    let proxy = Proxy::start(&text(&old), Some(&file)).expect("a configuration");
    let known = client(&proxy);
    assert_eq!(ask(&known, "a"), "Oa");

    proxy.reload(&file, &text(&new));

    assert_eq!(ask(&known, "b"), "Ob");
    assert_eq!(ask(&client(&proxy), "c"), "Nc");
}

#[test]
fn a_drain_ends_sessions_that_wait_for_nothing() {
    let origin = Origin::new("1", 1);
    let proxy = to(&[origin.address], "", "");
    assert_eq!(ask(&client(&proxy), "a"), "1a");

    proxy.drain();

    assert!(proxy.wait());
}

#[test]
fn datagrams_and_connections_have_the_same_port() {
    let origin = Origin::new("1", 1);
    let start = || {
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let listener = |protocol: &str| {
            format!("[[listeners]]\naddress = \"{free}\"\nprotocol = \"{protocol}\"\nupstream = \"api\"\n")
        };
        let (udp, tcp) = (listener("udp"), listener("tcp"));
        Proxy::start(&format!("{udp}{tcp}[upstreams.api]\nendpoints = [\"{}\"]\n", origin.address), None)
    };
    // Somebody else may take the port meanwhile, or have it for TCP.
    let proxy = (0..20).find_map(|_| start().ok()).expect("a port that is free for both");

    assert_eq!(ask(&client(&proxy), "a"), "1a");
    assert!(std::net::TcpStream::connect(proxy.address_of(1)).is_ok());
    assert_eq!(proxy.address_of(0), proxy.address_of(1));
}

#[test]
fn a_port_that_somebody_else_has_is_a_fault() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let text = text("", "endpoints = [\"127.0.0.1:1\"]")
        .replace("address = \"127.0.0.1:0\"\nprotocol", &format!("address = \"{address}\"\nprotocol"));

    let faults = Proxy::start(&text, None).expect_err("it is taken");

    assert!(faults.contains(&format!("cannot listen on {address}")), "{faults}");
}

#[test]
fn both_sides_may_be_ipv6() {
    let origin = Origin::on("[::1]:0", "6", 1);
    let text = text("", &format!("endpoints = [\"{}\"]", origin.address));
    let proxy = Proxy::with(&text.replace("address = \"127.0.0.1:0\"\nprotocol", "address = \"[::1]:0\"\nprotocol"));

    assert_eq!(ask(&client(&proxy), "a"), "6a");
}

#[test]
fn clients_are_spread_over_workers_and_keep_their_own() {
    let origin = Origin::new("1", 1);
    let text = format!("[server]\nworkers = 3\n{}", text("", &format!("endpoints = [\"{}\"]", origin.address)));
    let proxy = Proxy::with(&text);
    let clients: Vec<_> = (0..12).map(|_| client(&proxy)).collect();

    for round in ["a", "b", "c"] {
        for client in &clients {
            assert_eq!(ask(client, round), format!("1{round}"));
        }
    }

    assert_eq!(proxy.metric(&format!("staunch_relay_connections_total{LABELS}")), 12.0);
}
