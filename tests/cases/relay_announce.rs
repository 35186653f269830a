//! Who connected, as a proxy in front says it and as an endpoint is told it: the PROXY protocol.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::relay_tcp::listener;
use crate::harness::{ADMIN, Client, End, Log, Proxy, Upstream, api};

/// Says what its connection begins with, up to a greeting.
fn mirror() -> Upstream {
    Upstream::raw(|talk| {
        let mut heard = Vec::new();
        while let Some(byte) = talk.take(1) {
            heard.extend(&byte);
            if heard.ends_with(b"hello!") {
                talk.send(&heard);
                return;
            }
        }
    })
}

/// What an endpoint hears of a client that sends this.
fn heard(keys: &str, upstream: &str, sent: &[u8]) -> (Vec<u8>, SocketAddr, SocketAddr) {
    let endpoint = mirror();
    let proxy = Proxy::with(&format!("{}{}{upstream}", listener(keys), api([&endpoint])));
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    let (own, to) = (stream.local_addr().expect("bound"), proxy.address());
    let mut client = Client::over_tcp(stream);
    client.send(sent);
    let (heard, end) = client.drain();
    assert_eq!(end, End::Closed);
    (heard, own, to)
}

/// Version 2 over IPv4.
fn v2(source: [u8; 4], source_port: u16, destination: [u8; 4], port: u16) -> Vec<u8> {
    let ports = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &source[..], &destination, &ports].concat()
}

#[test]
fn an_endpoint_is_told_in_text_who_connected() {
    let (heard, own, to) = heard("", "send_proxy_protocol = \"v1\"\n", b"hello!");

    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello!", own.port(), to.port());
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}

#[test]
fn an_endpoint_is_told_in_binary_who_connected() {
    let (heard, own, to) = heard("", "send_proxy_protocol = \"v2\"\n", b"hello!");

    let localhost = [127, 0, 0, 1];
    assert_eq!(heard, [&v2(localhost, own.port(), localhost, to.port())[..], b"hello!"].concat());
}

#[test]
fn who_a_proxy_in_front_says_connected_is_who_connected() {
    let log = Log::new();
    for (version, header) in [
        ("v2", b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec()),
        ("v1", v2([192, 0, 2, 7], 4711, [198, 51, 100, 1], 443)),
    ] {
        let endpoint = mirror();
        let keys = format!("send_proxy_protocol = \"{version}\"\n");
        let listener = listener("proxy_protocol = true");
        let proxy = Proxy::with(&format!("{}{listener}{}{keys}", log.settings(), api([&endpoint])));
        let mut client = Client::to(&proxy);
        // A byte at a time, and not together with what follows.
        for byte in &header {
            client.send([*byte]);
        }
        client.send("hello!");

        let told = match version {
            "v1" => b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(),
            _ => v2([192, 0, 2, 7], 4711, [198, 51, 100, 1], 443),
        };
        assert_eq!(client.drain(), ([&told[..], b"hello!"].concat(), End::Closed));
    }
    assert!(log.lines(2).iter().all(|line| line["client"] == "192.0.2.7"));
}

#[test]
fn a_connection_of_the_proxy_in_front_itself_keeps_its_own_address() {
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let sent = [header, b"hello!"].concat();
        let (heard, own, _) = heard("proxy_protocol = true", "send_proxy_protocol = \"v1\"\n", &sent);

        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.contains(&format!(" 127.0.0.1 {} ", own.port())), "{heard}");
    }
}

#[test]
fn a_header_from_who_may_not_send_one_is_what_the_client_says() {
    let spoofed = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello!";

    for keys in ["", "proxy_protocol = { from = [\"10.0.0.0/8\"] }", "proxy_protocol = { from = [] }"] {
        let (heard, own, _) = heard(keys, "send_proxy_protocol = \"v1\"\n", spoofed);

        let text = String::from_utf8_lossy(&heard);
        let (told, said) = text.split_once("\r\n").expect("a header");
        assert!(told.ends_with(&own.port().to_string()) || told.contains(&format!(" {} ", own.port())), "{told}");
        assert_eq!(said.as_bytes(), spoofed);
    }
}

#[test]
fn http_is_served_to_whom_the_header_names_and_to_nobody_without_one() {
    let endpoint = Upstream::replying("hello");
    let text = format!(
        "{ADMIN}[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = {{ from = [\"127.0.0.0/8\"] }}\n{}",
        api([&endpoint])
    );
    let proxy = Proxy::with(&text);
    let mut client = Client::to(&proxy);
    client.send("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n");

    assert_eq!(client.get("/").text(), "hello");
    assert_eq!(endpoint.only_request().field("x-forwarded-for"), Some("2001:db8::7"));

    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.drain().0, b"");
    proxy.assert_counted("staunch_listener_proxy_headers_refused_total", 1.0);
    assert_eq!(endpoint.requests(), 1);
}

#[test]
fn a_spoofed_header_before_http_is_a_bad_request() {
    let proxy = Proxy::to([&Upstream::replying("hello")]);
    let mut client = Client::to(&proxy);

    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");

    assert_eq!(client.response().status, 400);
}

#[test]
fn who_says_it_wrong_or_not_in_time_is_not_served() {
    let endpoint = mirror();
    let keys = "proxy_protocol = { timeout = \"200ms\" }";
    let proxy = Proxy::with(&format!("{ADMIN}{}{}", listener(keys), api([&endpoint])));

    for sent in [
        &b"garbage!"[..],
        b"PROXY TCP4 192.0.2.7\r\n!",
        b"PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n!",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c!",
        // Nothing more comes of these.
        b"",
        b"PROXY TCP4 192.0.2.7 198.51",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0",
    ] {
        let mut client = Client::to(&proxy);
        client.send(sent);
        let (said, end) = client.drain();
        assert!(said.is_empty() && end != End::Silent, "{}: {end:?}", sent.escape_ascii());
    }
    assert_eq!(endpoint.connections(), 0);
    proxy.assert_counted("staunch_listener_proxy_headers_refused_total", 7.0);
}

#[test]
fn connections_that_say_who_their_client_is_are_not_shared() {
    let endpoint = Upstream::raw(|talk| {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            let Some(byte) = talk.take(1) else { return };
            header.extend(byte);
        }
        while talk.request().is_some() {
            talk.send(crate::harness::ok(&header));
        }
    });
    let proxy = Proxy::with(&format!("{}send_proxy_protocol = \"v1\"\n", api([&endpoint])));

    for _ in 0..2 {
        let stream = TcpStream::connect(proxy.address()).expect("it listens");
        let port = stream.local_addr().expect("bound").port();
        let said = Client::over_tcp(stream).get("/").text().to_owned();
        assert_eq!(said, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", proxy.address().port()));
    }
    assert_eq!(endpoint.connections(), 2);
}

#[test]
fn limits_of_a_client_count_whom_the_header_names() {
    let endpoint = mirror();
    let listener = listener("proxy_protocol = true");
    let proxy = Proxy::with(&format!("[server]\nmax_connections_per_client = 1\n{listener}{}", api([&endpoint])));
    let of = |client: u8| {
        let mut stream = TcpStream::connect(proxy.address()).expect("it listens");
        write!(stream, "PROXY TCP4 192.0.2.{client} 192.0.2.1 1 2\r\nhello").expect("it is taken");
        stream
    };
    let mut first = of(7);
    crate::harness::eventually(|| endpoint.connections() == 1);

    let refused = Client::over_tcp(of(7)).drain();
    let mut other = of(8);
    other.write_all(b"!").expect("it is taken");
    let mut said = String::new();
    other.read_to_string(&mut said).expect("an answer");

    assert_eq!(refused.0, b"");
    assert_eq!(said, "hello!");
    first.write_all(b"!").expect("it is taken");
    first.read_to_string(&mut said).expect("an answer");
}

#[test]
fn a_check_says_that_it_is_nobodys() {
    let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listening.local_addr().expect("bound");
    let heard = thread::spawn(move || {
        let mut heard = vec![0; 16];
        listening.accept().expect("a check").0.read_exact(&mut heard).expect("a header");
        heard
    });
    let _proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [\"{address}\"]\nsend_proxy_protocol = \"v2\"\n\
         health = {{ type = \"exchange\", send = \"?\", expect = \"!\", interval = \"1h\", initial = \"checking\" }}\n"
    ));

    assert_eq!(heard.join().expect("no panic"), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}
