//! Connections of HTTP/3: how they begin, move, rest and end.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Buf;
use h3::error::Code;
use h3_quinn::quinn;

use super::http3::Front;
use super::tls_front::tls;
use crate::harness::{ADMIN, Authority, Caller, Http3, Proxy, Service, Upstream, answer, api, eventually, ok};

#[test]
fn a_client_may_change_its_address_whichever_worker_it_has() {
    let front = Front::with("", "workers = 4", &api([&Upstream::answering(|request| ok(&request.body))]));
    let clients: Vec<_> = (0..8).map(|_| front.connect()).collect();

    for round in 0..5 {
        for client in &clients {
            let text = format!("{round} from {}", client.local_address());

            assert_eq!(client.ask("POST", "/", &[], text.as_bytes()).text(), text);
            client.move_to("127.0.0.1");
        }
    }

    assert_eq!(front.proxy.metric("staunch_listener_connections_accepted_total"), 8.0, "they are the same connections");
}

#[test]
fn endpoints_are_told_the_address_that_a_client_has_now() {
    let front = Front::to(&Upstream::answering(|request| ok(request.field("x-forwarded-for").unwrap_or_default())));
    let client = front.connect();

    assert_eq!(client.get("/").text(), "127.0.0.1");
    client.move_to("127.0.0.2");

    eventually(|| client.get("/").text() == "127.0.0.2");
}

#[test]
fn who_speaks_another_protocol_is_refused() {
    let front = Front::to(&Upstream::replying(""));
    let other = Caller::to("localhost", &front.authority).offering(&["hq-interop"]);

    let refused = Http3::try_connect(&other, front.proxy.address()).err().expect("a refusal");

    assert!(refused.contains("peer doesn't support any known protocol"), "{refused}");
    front.proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"failed\"}", 1.0);
}

#[test]
fn a_connection_without_requests_is_closed_in_order() {
    let front = Front::with(
        "",
        "client_keepalive_timeout = \"300ms\"\nclient_keepalive_min_timeout = \"0s\"",
        &api([&Upstream::replying("hi")]),
    );
    let mut client = front.connect();
    assert_eq!(client.get("/").text(), "hi");

    let end = client.end();

    assert!(end.is_h3_no_error(), "{end:?}");
    front.proxy.assert_counted("staunch_http_timeouts_total{timeout=\"client_keepalive\"}", 1.0);
    front.proxy.assert_counted("staunch_listener_connections_active", 0.0);
}

#[test]
fn a_request_that_takes_longer_than_an_idle_connection_may_is_answered() {
    let origin = Upstream::raw(|talk| {
        while talk.request().is_some() {
            talk.pause(Duration::from_millis(900));
            talk.send(ok("late"));
        }
    });
    let front = Front::with("", "client_keepalive_timeout = \"300ms\"", &api([&origin]));

    assert_eq!(front.connect().get("/").text(), "late");
}

#[test]
fn draining_finishes_what_has_begun_and_begins_nothing_new() {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let origin = Upstream::raw(move |talk| {
        while talk.request().is_some() {
            talk.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nfini");
            talk.wait_for(|| told.load(SeqCst));
            talk.send("shed");
        }
    });
    let routes = "[[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/now\"\nrespond = { status = 204 }\n";
    let front = Front::with("", "client_keepalive_min_timeout = \"0s\"", &format!("{}{routes}", api([&origin])));
    let mut client = front.connect();
    let mut idle = front.connect();
    let begun = client.begin("GET", "/", &[]);
    let mut stream = client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.finish().await.expect("an end");
        stream
    });
    eventually(|| origin.requests() == 1);

    front.proxy.drain();

    let address = front.proxy.address();
    assert!(idle.end().is_h3_no_error());
    // What is on its way already when it hears of that is served.
    eventually(|| client.try_ask("GET", "/now", &[], b"").is_err());
    assert!(Http3::try_connect(&front.caller, address).is_err());
    go_on.store(true, SeqCst);
    assert_eq!(client.wait(answer(&mut stream)).expect("an answer").text(), "finished");
    drop(stream);
    assert!(client.end().is_h3_no_error());
    assert!(front.proxy.wait());
}

#[test]
fn certificates_that_change_on_disk_are_shown_to_who_connects_then() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    let written = tls(&[&identity], "");
    let proxy = Proxy::with(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n{written}{ADMIN}{}",
        api([&Upstream::replying("hi")])
    ));
    let caller = Caller::to("localhost", &authority).offering(&["h3"]);
    let shown = || {
        let client = Http3::connect(&caller, proxy.address());
        let shown = client.quic.peer_identity().expect("certificates");
        shown.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().expect("certificates")[0].clone()
    };
    let before = Http3::connect(&caller, proxy.address());
    assert_eq!(shown(), identity.der());

    let next = authority.issue_for(&["other", "localhost"], |_| ());
    let next_der = next.der();
    next.replace(&identity);

    eventually(|| shown() == next_der);
    assert_eq!(before.get("/").text(), "hi", "who is there stays");
}

#[test]
fn a_client_shows_its_certificate() {
    let authority = Authority::new();
    let (identity, shown) = (authority.issue("localhost"), authority.issue("client.example"));
    let more = format!(", client_ca = {}, client_headers = true", crate::harness::quoted(&authority.ca()));
    let origin = Upstream::answering(|request| ok(request.field("x-client-cert-fingerprint").unwrap_or("none")));
    let proxy = Proxy::with(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n{}{}",
        tls(&[&identity], &more),
        api([&origin])
    ));
    let known = Caller::with("localhost", &authority, rustls::ALL_VERSIONS, Some(&shown)).offering(&["h3"]);

    let fingerprint = Http3::connect(&known, proxy.address()).get("/");

    assert_eq!(fingerprint.text().len(), 64, "{}", fingerprint.text());
    let unknown = Caller::to("localhost", &authority).offering(&["h3"]);
    let refused = Http3::try_connect(&unknown, proxy.address());
    // In TLS 1.3 a client hears of it only once it thinks it is connected.
    assert!(refused.is_err() || refused.is_ok_and(|client| client.try_ask("GET", "/", &[], b"").is_err()));
}

#[test]
fn one_client_has_so_many_connections_and_no_more() {
    let front = Front::with("", "max_connections_per_client = 2", &api([&Upstream::replying("hi")]));
    let held = [front.connect(), front.connect()];

    let refused = Http3::try_connect(&front.caller, front.proxy.address()).err().expect("a refusal");

    assert!(refused.contains("refused"), "{refused}");
    assert_eq!(held[1].get("/").text(), "hi");
    drop(held);
    eventually(|| Http3::try_connect(&front.caller, front.proxy.address()).is_ok());
}

#[test]
fn a_reload_begins_and_ends_it() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let text = |http3: &str| {
        let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{http3}\n{}", tls(&[&identity], ""));
        let server = "[server]\nworkers = 2\nclient_keepalive_min_timeout = \"0s\"\n";
        format!("{server}{listener}{}", api([&origin_kept()]))
    };
    let caller = Caller::to("localhost", &authority).offering(&["h3"]);
    let proxy = Proxy::start(&text(""), Some(&file)).expect("it starts");
    assert_eq!(
        caller.clone().offering(&["http/1.1"]).connect(proxy.address()).expect("TLS").get("/").field("alt-svc"),
        None
    );

    for _ in 0..3 {
        proxy.reload(&file, &text("http3 = true"));
        // Where the last connection of before has not quite ended, new ones are turned away.
        let mut clients = [(); 4].map(|()| connected(&caller, &proxy));
        for client in &clients {
            assert_eq!(client.get("/").text(), "hi");
        }
        proxy.reload(&file, &text("http3 = false"));
        for client in &mut clients {
            assert!(client.end().is_h3_no_error());
        }
    }
    eventually(|| UdpSocket::bind(proxy.address()).is_ok());
}

/// A connection, once there can be one.
fn connected(caller: &Caller, proxy: &Proxy) -> Http3 {
    let mut client = None;
    eventually(|| {
        client = Http3::try_connect(caller, proxy.address()).ok();
        client.is_some()
    });
    client.expect("a connection")
}

thread_local! {
    static ORIGIN: Upstream = Upstream::replying("hi");
}

/// The same each time, so that a reload changes nothing else.
fn origin_kept() -> Upstream {
    ORIGIN.with(Clone::clone)
}

#[test]
fn who_takes_nearly_all_requests_back_is_sent_away() {
    let front = Front::to(&Upstream::stalling());
    let mut client = front.connect();

    for _ in 0..400 {
        let begun = client.begin("GET", "/", &[]);
        let begun = client.spawn(async move {
            let mut stream = begun.await?;
            stream.finish().await?;
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            Ok::<_, h3::error::StreamError>(())
        });
        if client.wait(begun).expect("no panic").is_err() {
            break;
        }
    }

    client.end();
    let reason = client.quic.close_reason();
    let Some(quinn::ConnectionError::ApplicationClosed(close)) = &reason else { panic!("{reason:?}") };
    assert_eq!(close.error_code.into_inner(), Code::H3_EXCESSIVE_LOAD.value());
    front.proxy.assert_counted("staunch_http3_floods_total", 1.0);
}

#[test]
fn a_frame_is_gathered_only_so_far() {
    let front = Front::to(&Upstream::replying("hi"));
    let client = front.connect();
    let quic = client.quic.clone();

    // A frame of a type that has no meaning, and of a megabyte (RFC 9114 section 7.2.8).
    let stopped = client.wait(async move {
        let (mut sending, _receiving) = quic.open_bi().await.expect("a stream");
        sending.write_all(&[0x21, 0x80, 0x10, 0, 0]).await.expect("room");
        let filling = async {
            for _ in 0..1024 {
                sending.write_all(&[0; 1024]).await?;
            }
            Ok::<_, quinn::WriteError>(())
        };
        filling.await.expect_err("it is stopped")
    });

    let quinn::WriteError::Stopped(code) = stopped else { panic!("{stopped:?}") };
    assert_eq!(code.into_inner(), Code::H3_EXCESSIVE_LOAD.value());
    assert_eq!(client.get("/").text(), "hi", "the connection goes on");
}

#[test]
fn what_is_no_packet_is_ignored() {
    let front = Front::to(&Upstream::replying("hi"));
    let noise = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for length in [0, 1, 2, 5, 6, 7, 20, 1200] {
        for first in [0x00, 0x40, 0xc0, 0xff] {
            let mut datagram = vec![first; length];
            datagram.iter_mut().skip(1).for_each(|byte| *byte = 0x5a);
            noise.send_to(&datagram, front.proxy.address()).expect("sent");
        }
    }

    assert_eq!(front.connect().get("/").text(), "hi");
}

#[test]
fn it_is_refused_where_it_cannot_be() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    for (listener, fault) in [
        ("address = \"127.0.0.1:0\"\nhttp3 = true\n".to_owned(), "needs `tls`"),
        (format!("address = \"unix:/tmp/never\"\nhttp3 = true\n{}", tls(&[&identity], "")), "needs a port"),
        (
            format!("address = \"127.0.0.1:0\"\nhttp3 = true\n{}", tls(&[&identity], ", max_version = \"1.2\"")),
            "TLS 1.3",
        ),
        (format!("address = \"127.0.0.1:0\"\nalt_svc = true\n{}", tls(&[&identity], "")), "without `http3`"),
        (
            format!("address = \"127.0.0.1:0\"\nhttp3 = true\nalt_svc = \"a\\nb\"\n{}", tls(&[&identity], "")),
            "cannot be sent",
        ),
    ] {
        let text = format!("[[listeners]]\n{listener}{}", api([&Upstream::refusing()]));

        let refused = Proxy::start(&text, None).expect_err("a fault");

        assert!(refused.contains(fault), "{refused}");
    }
}

#[test]
fn a_port_that_somebody_has_is_a_fault_and_not_shared() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    // Of TCP the port may be somebody else's as well.
    eventually(|| {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        let listener = format!("[[listeners]]\naddress = \"{address}\"\nhttp3 = true\n{}", tls(&[&identity], ""));
        let refused = Proxy::start(&format!("{listener}{}", api([&Upstream::refusing()])), None).expect_err("a fault");
        refused.contains(&format!("cannot serve HTTP/3 on {address}"))
    });
}

#[test]
fn a_new_process_takes_over_once_the_old_one_has_ended_its_connections() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    let origin = Upstream::raw(|talk| {
        while let Some(request) = talk.request() {
            let is_slow = request.target() == "/slow";
            talk.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwh");
            if is_slow {
                talk.pause(Duration::from_secs(1));
            }
            talk.send("at");
        }
    });
    let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n{}", tls(&[&identity], ""));
    let mut service = Service::start(&format!("[server]\nworkers = 3\n{listener}{ADMIN}{}", api([&origin])));
    let address = service.listener();
    let caller = Caller::to("localhost", &authority).offering(&["h3"]);
    for _ in 0..2 {
        let client = Http3::connect(&caller, address);
        let begun = client.begin("GET", "/slow", &[]);
        let mut stream = client.wait(async move {
            let mut stream = begun.await.expect("a stream");
            stream.finish().await.expect("an end");
            stream.recv_response().await.expect("a response");
            stream
        });

        let old = service.process;
        service.signal("USR2");
        service.replaced();

        let rest = client.wait(async move {
            let mut rest = Vec::new();
            while let Some(mut data) = stream.recv_data().await.expect("data") {
                rest.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            rest
        });
        assert_eq!(rest, b"what", "what has begun is finished");
        drop(client);
        service.ended(old);
        // The sockets of the new one stand in the order of its workers: who moves finds its own.
        let clients: Vec<_> = (0..9).map(|_| Http3::connect(&caller, address)).collect();
        for client in &clients {
            for _ in 0..3 {
                client.move_to("127.0.0.1");
                assert_eq!(client.get("/").text(), "what");
            }
        }
    }
}
