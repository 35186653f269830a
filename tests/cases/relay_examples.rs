//! The examples for what is not HTTP, run with ports that are free.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::relay_sni::{ask, secret};
use crate::harness::{Authority, Client, Proxy, Upstream};

/// The example with its listeners on free ports and endpoints somewhere else.
fn example(text: &str, listeners: &[&str], endpoints: &[(&str, String)]) -> Proxy {
    let mut text = text.to_owned();
    for address in listeners {
        text = text.replace(&format!("address = \"{address}\"\nprotocol"), "address = \"127.0.0.1:0\"\nprotocol");
    }
    for (written, real) in endpoints {
        assert!(text.contains(written), "{written}");
        text = text.replace(&format!("\"{written}\""), &format!("\"{real}\""));
    }
    // Without it the harness would add one to an upstream that is not there.
    Proxy::with(&format!("{text}\n[[routes]]\nrespond = {{}}\n"))
}

fn saying(name: &'static str) -> Upstream {
    Upstream::raw(move |talk| {
        // A check asks first.
        if name == "redis" && talk.take(6).is_none_or(|asked| asked != b"PING\r\n") {
            return;
        }
        talk.send(if name == "redis" { "+PONG\r\n" } else { name });
        talk.stall();
    })
}

#[test]
fn databases_are_behind_one_address() {
    let (postgresql, redis) = (saying("postgresql"), saying("redis"));
    let proxy = example(
        include_str!("../../examples/tcp.toml"),
        &["127.0.0.1:5432", "127.0.0.1:6379"],
        &[
            ("127.0.0.1:5433", Upstream::refusing().to_string()),
            ("127.0.0.1:5434", postgresql.to_string()),
            ("127.0.0.1:6380", Upstream::refusing().to_string()),
            ("127.0.0.1:6381", redis.to_string()),
        ],
    );
    let mut client = Client::connect(proxy.address_of(1));
    client.send("PING\r\n");

    assert_eq!(client.take(7), b"+PONG\r\n");
    assert_eq!(Client::connect(proxy.address_of(0)).take(10), b"postgresql");
}

#[test]
fn a_question_is_answered_over_udp_and_over_tcp() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(address).expect("the same port");
    std::thread::spawn(move || {
        let mut space = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut space) {
            udp.send_to(&space[..length], client).expect("it is sent");
        }
    });
    let _origin = Upstream::raw_on(tcp, |talk| {
        talk.send("over TCP");
    });
    let proxy = example(
        include_str!("../../examples/udp.toml"),
        &["127.0.0.1:5353"],
        &[("127.0.0.1:5354", address.to_string()), ("127.0.0.1:5355", address.ip().to_string() + ":1")],
    );
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    client.send_to(b"question", proxy.address_of(0)).expect("it is sent");
    let mut space = [0; 512];

    let (length, from): (usize, SocketAddr) = client.recv_from(&mut space).expect("an answer");

    assert_eq!((&space[..length], from), (&b"question"[..], proxy.address_of(0)));
    assert_eq!(Client::connect(proxy.address_of(1)).take(8), b"over TCP");
}

#[test]
fn servers_with_their_own_certificates_share_a_port() {
    let authority = Authority::new();
    let apps = secret(&authority, "A", "shop.apps.example.com");
    let web = secret(&authority, "W", "www.example.com");
    let proxy = example(
        include_str!("../../examples/sni.toml"),
        &["127.0.0.1:8443"],
        &[
            ("127.0.0.1:8444", web.to_string()),
            ("127.0.0.1:8446", apps.to_string()),
            ("127.0.0.1:8447", Upstream::refusing().to_string()),
        ],
    );

    assert_eq!(ask(&authority, &proxy, "shop.apps.example.com").expect("an answer"), "Aping");
    assert_eq!(ask(&authority, &proxy, "www.example.com").expect("an answer"), "Wping");
}
