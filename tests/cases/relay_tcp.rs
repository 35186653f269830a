//! TCP connections passed on without being understood.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::harness::{ADMIN, Client, End, Log, Proxy, Talk, Upstream, api, eventually, pattern};

/// A listener for TCP with these further keys of its own, to the upstream `api`.
pub(crate) fn listener(keys: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"api\"\n{keys}\n")
}

/// Says its name, and then what it is told.
fn named(name: &'static str) -> Upstream {
    Upstream::raw(move |talk| {
        talk.send(name);
        echo(talk);
    })
}

fn echo(talk: &mut Talk) {
    while let Some(byte) = talk.take(1) {
        talk.send(byte);
    }
}

fn to<const N: usize>(endpoints: [&Upstream; N], keys: &str) -> Proxy {
    Proxy::with(&format!("{ADMIN}{}{}{keys}", listener(""), api(endpoints)))
}

/// Connects, and reads the name of who is there.
#[track_caller]
fn greeted(proxy: &Proxy) -> (Client, String) {
    let mut client = Client::to(proxy);
    let name = String::from_utf8(client.take(1)).expect("a name");
    (client, name)
}

#[test]
fn bytes_pass_both_ways_whoever_speaks_first() {
    let endpoint = named("A");
    let proxy = to([&endpoint], "");
    let (mut client, name) = greeted(&proxy);

    client.send("ping");

    assert_eq!((name.as_str(), &*client.take(4)), ("A", &b"ping"[..]));
}

#[test]
fn a_client_that_has_finished_speaking_still_hears_the_answer() {
    let endpoint = Upstream::raw(|talk| {
        let mut heard = Vec::new();
        while let Some(byte) = talk.take(1) {
            heard.extend(byte);
        }
        talk.send(format!("{} bytes", heard.len()));
    });
    let proxy = to([&endpoint], "");
    let mut client = Client::to(&proxy);

    client.send("question");
    client.finish();

    assert_eq!(client.drain(), (b"8 bytes".to_vec(), End::Closed));
}

#[test]
fn an_endpoint_that_has_finished_speaking_still_hears_its_client() {
    let log = Log::new();
    let endpoint = Upstream::raw(|talk| {
        talk.send("bye");
        talk.finish();
        echo_nothing(talk);
    });
    let proxy = Proxy::with(&format!("{}{}{}", log.settings(), listener(""), api([&endpoint])));
    let mut client = Client::to(&proxy);

    assert_eq!(client.drain(), (b"bye".to_vec(), End::Closed));
    client.send("still here");
    client.finish();

    let line = log.line();
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&10.into(), &3.into()));
    assert_eq!(line["error"], serde_json::Value::Null);
}

fn echo_nothing(talk: &mut Talk) {
    while talk.take(1).is_some() {}
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let endpoint = Upstream::raw(|talk| {
        talk.send("A");
        talk.take(1);
        talk.reset();
    });
    let proxy = to([&endpoint], "");
    let (mut client, _) = greeted(&proxy);

    client.send("x");

    assert_eq!(client.drain().1, End::Reset);
}

#[test]
fn an_endpoint_that_refuses_costs_a_client_nothing() {
    let (dead, alive) = (Upstream::refusing(), named("A"));
    let proxy = to([&dead, &alive], "passive = { max_fails = 1, fail_timeout = \"1h\" }\n");

    for _ in 0..4 {
        assert_eq!(greeted(&proxy).1, "A");
    }
    let attempts = r#"staunch_upstream_attempts_total{upstream="api",outcome="connect"}"#;
    // Once it was ejected, nobody asked it any more.
    proxy.assert_counted(attempts, 1.0);
    assert_eq!(proxy.endpoint(&dead)["state"], "unavailable");
}

#[test]
fn attempts_bound_how_often_a_client_is_tried_elsewhere() {
    let log = Log::new();
    let dead = [Upstream::refusing(), Upstream::refusing(), Upstream::refusing()];
    let keys = "passive = { max_fails = 0 }\nretry = { attempts = 2 }\n";
    let [one, two, three] = &dead;
    let proxy = Proxy::with(&format!("{}{}{}{keys}", log.settings(), listener(""), api([one, two, three])));

    Client::to(&proxy).assert_closed();

    let line = log.line();
    assert_eq!(
        (&line["attempts"], &line["status"], &line["error"]),
        (&2.into(), &0.into(), &"upstream_connect".into())
    );
}

#[test]
fn without_consent_of_the_retry_policy_there_is_one_attempt() {
    let (dead, alive) = (Upstream::refusing(), named("A"));
    let proxy = to([&dead, &alive], "retry = { plugin = \"never\" }\n");

    Client::to(&proxy).assert_closed();

    assert_eq!(alive.connections(), 0);
}

#[test]
fn an_endpoint_has_no_more_connections_than_it_may() {
    let (small, large) = (named("S"), named("L"));
    let text = format!(
        "{}[upstreams.api]\nendpoints = [{{ address = \"{small}\", max_connections = 1 }}, \"{large}\"]\n",
        listener("")
    );
    let proxy = Proxy::with(&text);

    let clients: Vec<_> = (0..5).map(|_| greeted(&proxy)).collect();

    let names: Vec<_> = clients.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names.iter().filter(|name| **name == "S").count(), 1, "{names:?}");
    drop(clients);
    eventually(|| greeted(&proxy).1 == "S");
}

#[test]
fn a_client_waits_in_the_queue_for_a_connection() {
    let endpoint = named("A");
    let proxy = to([&endpoint], "max_requests = 1\nmax_pending = 1\n");
    let (first, _) = greeted(&proxy);
    let mut second = Client::to(&proxy);
    // It has said all it has to say, and waits.
    second.send("late");
    second.finish();
    eventually(|| proxy.metric(r#"staunch_upstream_requests_pending{upstream="api"}"#) == 1.0);

    Client::to(&proxy).assert_closed();
    drop(first);

    assert_eq!(second.drain(), (b"Alate".to_vec(), End::Closed));
}

#[test]
fn least_connections_counts_connections() {
    let (one, other) = (named("1"), named("2"));
    let proxy = to([&one, &other], "balance = \"least-connections\"\n");
    let (first, taken) = greeted(&proxy);
    let (second, free) = greeted(&proxy);
    assert_ne!(taken, free);

    drop(second);
    eventually(|| one.open_connections() + other.open_connections() == 1);
    let named: Vec<_> = (0..3)
        .map(|_| {
            let (client, name) = greeted(&proxy);
            drop(client);
            eventually(|| one.open_connections() + other.open_connections() == 1);
            name
        })
        .collect();

    assert_eq!(named, [free.as_str(); 3]);
    drop(first);
}

#[test]
fn every_balancer_can_do_without_a_request() {
    for balancer in [
        "\"round-robin\"",
        "\"random\"",
        "\"least-connections\"",
        "\"random-two\"",
        "\"least-time\"",
        "\"peak-ewma\"",
        "\"first\"",
        "\"ip-hash\"",
        "{ plugin = \"maglev\", config = { key = \"client-address\" } }",
        "{ plugin = \"rendezvous\", config = { key = \"path\" } }",
        "{ plugin = \"hash\", config = { key = \"header:x-user\" } }",
    ] {
        let (one, other) = (named("1"), named("2"));
        let proxy = to([&one, &other], &format!("balance = {balancer}\n"));

        for _ in 0..4 {
            assert!(["1", "2"].contains(&greeted(&proxy).1.as_str()), "with {balancer}");
        }
        assert_eq!(
            proxy.metric(r#"staunch_relay_failed_total{listener="127.0.0.1:0",protocol="tcp",upstream="api"}"#),
            0.0
        );
    }
}

#[test]
fn a_client_is_hashed_by_its_address() {
    let (one, two, three) = (named("1"), named("2"), named("3"));
    let proxy = to([&one, &two, &three], "balance = { plugin = \"hash\", config = { key = \"client-address\" } }\n");
    let from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, last], 0)).into()).expect("an address of this machine");
        socket.connect(&proxy.address().into()).expect("it listens");
        let mut name = [0];
        TcpStream::from(socket).read_exact(&mut name).expect("a name");
        name[0]
    };

    let first: Vec<_> = (1..20).map(from).collect();
    let second: Vec<_> = (1..20).map(from).collect();

    assert_eq!(first, second);
    assert!(first.iter().any(|name| *name != first[0]), "{first:?}");
}

#[test]
fn silence_ends_a_connection() {
    let log = Log::new();
    let endpoint = named("A");
    let listener = listener("idle_timeout = \"100ms\"");
    let proxy = Proxy::with(&format!("{ADMIN}{}{listener}{}", log.settings(), api([&endpoint])));
    let (mut client, _) = greeted(&proxy);

    client.assert_closed();

    assert_eq!(log.line()["error"], "idle_timeout");
    proxy.assert_counted(r#"staunch_http_timeouts_total{timeout="tunnel"}"#, 1.0);
    eventually(|| endpoint.open_connections() == 0);
}

#[test]
fn much_passes_both_ways_at_once() {
    const SIZE: usize = 64 << 20;
    let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listening.local_addr().expect("bound");
    let endpoint = thread::spawn(move || both_ways(listening.accept().expect("a connection").0, SIZE));
    let proxy = Proxy::with(&format!("{ADMIN}{}[upstreams.api]\nendpoints = [\"{address}\"]\n", listener("")));

    let received = both_ways(TcpStream::connect(proxy.address()).expect("it listens"), SIZE);

    let sent = pattern(SIZE);
    assert!(received == sent, "other bytes");
    assert!(endpoint.join().expect("no panic") == sent, "other bytes");
    let labels = r#"{listener="127.0.0.1:0",protocol="tcp",upstream="api"}"#;
    proxy.assert_counted(&format!("staunch_relay_received_bytes_total{labels}"), SIZE as f64);
    proxy.assert_counted(&format!("staunch_relay_sent_bytes_total{labels}"), SIZE as f64);
    proxy.assert_counted(&format!("staunch_relay_connections_active{labels}"), 0.0);
}

/// Sends so many bytes and reads all that come.
fn both_ways(stream: TcpStream, size: usize) -> Vec<u8> {
    let mut sending = stream.try_clone().expect("a socket");
    let sender = thread::spawn(move || {
        sending.write_all(&pattern(size)).expect("it is taken");
        sending.shutdown(Shutdown::Write).expect("a socket");
    });
    let mut received = Vec::new();
    (&stream).read_to_end(&mut received).expect("it comes");
    sender.join().expect("no panic");
    received
}

#[test]
fn a_drain_waits_for_connections_as_long_as_it_may() {
    let endpoint = named("A");
    let proxy = to([&endpoint], "");
    let (mut client, _) = greeted(&proxy);

    proxy.drain();
    eventually(|| TcpStream::connect(proxy.address()).is_err());
    client.send("on");

    assert_eq!(client.take(2), b"on");
    drop(client);
    assert!(proxy.wait());
}

#[test]
fn a_drain_ends_connections_that_outlast_it() {
    let endpoint = named("A");
    let proxy = Proxy::with(&format!("[server]\ndrain_timeout = \"100ms\"\n{}{}", listener(""), api([&endpoint])));
    let (mut client, _) = greeted(&proxy);

    proxy.drain();

    assert_ne!(client.drain().1, End::Silent);
    assert!(proxy.wait());
}

#[test]
fn a_reload_leaves_connections_alone_and_leads_new_ones_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let (old, new) = (named("O"), named("N"));
    let text = |endpoint: &Upstream| format!("{}{}", listener(""), api([endpoint]));
    let proxy = Proxy::start(&text(&old), Some(&file)).expect("a configuration");
    let (mut client, _) = greeted(&proxy);

    proxy.reload(&file, &text(&new));
    client.send("on");

    assert_eq!(client.take(2), b"on");
    assert_eq!(greeted(&proxy).1, "N");
}

#[test]
fn both_sides_may_be_unix_sockets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let listening = UnixListener::bind(path("endpoint")).expect("a socket");
    thread::spawn(move || {
        let (mut stream, _) = listening.accept().expect("a connection");
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).expect("four bytes");
        stream.write_all(&heard).expect("it is taken");
    });
    let text = "[[listeners]]\naddress = \"unix:proxy\"\nprotocol = \"tcp\"\nupstream = \"api\"\n\
         [upstreams.api]\nendpoints = [\"unix:endpoint\"]\n";
    let _proxy = Proxy::start(text, Some(&path("staunch.toml"))).expect("a configuration");
    let mut client = Client::over(&path("proxy")).expect("it listens");

    client.send("ping");

    assert_eq!(client.drain(), (b"ping".to_vec(), End::Closed));
}

#[test]
fn both_sides_may_be_ipv6() {
    let listening = TcpListener::bind("[::1]:0").expect("a port");
    let address = listening.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, peer) = listening.accept().expect("a connection");
        write!(stream, "{}", peer.ip()).expect("it is taken");
    });
    let text = format!(
        "[[listeners]]\naddress = \"[::1]:0\"\nprotocol = \"tcp\"\nupstream = \"api\"\n[upstreams.api]\nendpoints = [\"{address}\"]\n"
    );
    let proxy = Proxy::with(&text);

    assert_eq!(Client::to(&proxy).drain(), (b"::1".to_vec(), End::Closed));
}

#[test]
fn an_active_check_keeps_clients_from_who_is_ill() {
    let ill = Upstream::raw(|talk| {
        talk.take(4);
        talk.send("NO\r\n");
    });
    let well = Upstream::raw(|talk| {
        if talk.take(4).is_some_and(|asked| asked == b"ask\n") {
            talk.send("YES\n");
        }
    });
    let health = "health = { type = \"exchange\", send = \"ask\\n\", expect = \"YES\", interval = \"50ms\", initial = \"checking\" }\n";
    let proxy = to([&ill, &well], health);
    eventually(|| proxy.endpoint(&ill)["state"] == "unhealthy" && proxy.endpoint(&well)["state"] == "up");

    for _ in 0..3 {
        let mut client = Client::to(&proxy);
        client.send("ask\n");
        assert_eq!(client.take(4), b"YES\n");
    }
}

#[test]
fn a_connection_has_a_line_in_the_access_log() {
    let log = Log::new();
    let endpoint = named("A");
    let proxy = Proxy::with(&format!("{}{}{}", log.settings(), listener(""), api([&endpoint])));
    let (mut client, _) = greeted(&proxy);
    client.send("ping");
    client.take(4);
    client.finish();
    client.assert_closed();

    let mut line = log.line();

    let object = line.as_object_mut().expect("an object");
    for measured in ["time", "duration", "connect_time"] {
        assert!(object.remove(measured).is_some(), "{measured}");
    }
    let expected = serde_json::json!({
        "client": "127.0.0.1", "version": "TCP", "listener": "127.0.0.1:0", "status": 200, "bytes_sent": 5,
        "bytes_received": 4, "upstream": "api", "endpoint": endpoint.to_string(), "attempts": 1,
    });
    assert_eq!(line, expected);
}
