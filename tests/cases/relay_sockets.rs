//! Options of sockets, as the system sees them.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::relay_tcp::listener;
use crate::harness::{Client, Proxy, Upstream, api, eventually};

/// What the kernel tells of the sockets that listen on a port.
fn listening(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let address = format!(":{port:04X} ");
    table.lines().filter(|line| line.contains(&address) && line.contains(" 0A ")).map(str::to_owned).collect()
}

#[test]
fn each_worker_has_a_socket_unless_they_share_one() {
    for (keys, sockets) in [("", 3), ("reuse_port = true", 3), ("reuse_port = false", 1)] {
        let endpoint = Upstream::raw(|talk| {
            talk.send("hello");
        });
        let proxy = Proxy::with(&format!("[server]\nworkers = 3\n{}{}", listener(keys), api([&endpoint])));

        assert_eq!(listening(proxy.address().port()).len(), sockets, "{keys}");
        for _ in 0..6 {
            assert_eq!(Client::to(&proxy).take(5), b"hello");
        }
    }
}

#[test]
fn connections_come_from_the_address_that_is_bound() {
    let came: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let noted = came.clone();
    std::thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            noted.lock().expect("no panic").push(stream.peer_addr().expect("connected").ip());
        }
    });
    let options = "bind = \"127.0.0.99\"\ntcp_keepalive = true\ntcp_fastopen = true\n";
    let proxy = Proxy::with(&format!("{}[upstreams.api]\nendpoints = [\"{address}\"]\n{options}", listener("")));

    Client::to(&proxy).assert_closed();

    assert_eq!(*came.lock().expect("no panic"), [IpAddr::from([127, 0, 0, 99])]);
}

#[test]
fn http_goes_on_over_connections_with_every_option() {
    let endpoint = Upstream::replying("hello");
    let keys = "backlog = 16\ntcp_fastopen = 8\ntcp_keepalive = { idle = \"10s\", interval = \"2s\", count = 3 }";
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n{keys}\n{}bind = \"127.0.0.1\"\ntcp_fastopen = true\ntcp_keepalive = true\n",
        api([&endpoint])
    );
    let proxy = Proxy::with(&text);
    let mut client = Client::to(&proxy);

    assert_eq!([client.get("/").text(), client.get("/").text()], ["hello", "hello"]);
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn an_endpoint_of_another_family_than_the_address_that_is_bound_is_not_reached() {
    let endpoint = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = endpoint.local_addr().expect("bound");
    let text = format!("{}[upstreams.api]\nendpoints = [\"{address}\"]\nbind = \"::1\"\n", listener(""));

    Client::to(&Proxy::with(&text)).assert_closed();
}

#[test]
fn an_address_for_both_families_takes_both_and_tells_them_apart() {
    let endpoint = Upstream::raw(|talk| {
        let mut header = Vec::new();
        while !header.ends_with(b"\n") {
            let Some(byte) = talk.take(1) else { return };
            header.extend(byte);
        }
        talk.send(header);
    });
    let text = |keys: &str| {
        let listener = listener(keys).replace("127.0.0.1:0", "[::]:0");
        format!("{listener}{}send_proxy_protocol = \"v1\"\n", api([&endpoint]))
    };
    let said = |port: u16, ip: &str| {
        let address = SocketAddr::new(ip.parse().expect("an address"), port);
        let mut said = String::new();
        TcpStream::connect(address).and_then(|mut stream| stream.read_to_string(&mut said)).map(|_| said)
    };

    let proxy = Proxy::with(&text("ipv6_only = false"));
    let port = proxy.address().port();
    assert!(said(port, "127.0.0.1").expect("it listens").starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "));
    assert!(said(port, "::1").expect("it listens").starts_with("PROXY TCP6 ::1 ::1 "));

    let proxy = Proxy::with(&text(""));
    assert!(said(proxy.address().port(), "127.0.0.1").is_err());
}

#[test]
fn a_reload_sets_options_of_sockets_that_are_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let endpoint = Upstream::raw(|talk| talk.stall());
    let text = |keys: &str| format!("{}{}", listener(keys), api([&endpoint]));
    let proxy = Proxy::start(&text("backlog = 100"), Some(&file)).expect("a configuration");
    let before = listening(proxy.address().port());

    proxy.reload(&file, &text("backlog = 7\ntcp_keepalive = true"));

    let port = proxy.address().port();
    assert_eq!(listening(port).len(), before.len());
    // The kernel tells of a connection whether a timer of its keep-alive runs: 02.
    let client = TcpStream::connect(proxy.address()).expect("it listens");
    let own = client.local_addr().expect("bound").port();
    eventually(|| {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let (from, to) = (format!(":{port:04X} "), format!(":{own:04X} "));
        let line = table.lines().find(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (one, other) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            format!("{one} ").ends_with(&from) && format!("{other} ").ends_with(&to)
        });
        line.is_some_and(|line| line.split_whitespace().nth(5).is_some_and(|timer| timer.starts_with("02:")))
    });
}
