//! Asked to end, the proxy finishes what it has begun, and begins nothing new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{ADMIN, Client, Program, Proxy, Upstream, api, eventually, ok};

/// Answers when it is told to.
fn waiting() -> (Upstream, Arc<AtomicBool>) {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let origin = Upstream::raw(move |talk| {
        while talk.request().is_some() {
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfini");
            talk.wait_for(|| told.load(SeqCst));
            talk.send("shed");
        }
    });
    (origin, go_on)
}

#[test]
fn a_signal_lets_requests_finish_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let (origin, go_on) = waiting();
        let mut program = Program::run(&api([&origin]));
        let mut idle = program.client().expect("it listens");
        let mut busy = program.client().expect("it listens");
        busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = busy.response_head();

        program.signal(signal);

        eventually(|| program.client().is_err());
        idle.assert_closed();
        go_on.store(true, SeqCst);
        assert_eq!(busy.response_body(head).text(), "finished");
        busy.assert_closed();
        assert_eq!(program.ended().code(), Some(0), "after {signal}");
        assert!(!program.folder().join("proxy").exists(), "the socket is gone");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let origin = Upstream::stalling();
    let mut program = Program::run(&api([&origin]));
    let mut busy = program.client().expect("it listens");
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| origin.requests() == 1);

    program.signal("TERM");
    eventually(|| program.client().is_err());
    program.signal("TERM");

    program.ended();
    assert!(busy.try_response().is_err());
}

#[test]
fn what_takes_too_long_is_not_waited_for() {
    let origin = Upstream::stalling();
    let mut program = Program::run(&format!("[server]\ndrain_timeout = \"300ms\"\n{}", api([&origin])));
    let mut busy = program.client().expect("it listens");
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| origin.requests() == 1);

    program.signal("TERM");

    assert_eq!(program.ended().code(), Some(0));
    assert!(busy.try_response().is_err());
}

#[test]
fn a_response_that_begins_while_draining_says_close() {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let origin = Upstream::raw(move |talk| {
        talk.request();
        talk.wait_for(|| told.load(SeqCst));
        talk.send(ok("late"));
        talk.stall();
    });
    let proxy = Proxy::to([&origin]);
    let address = proxy.address();
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| origin.requests() == 1);

    proxy.drain();
    eventually(|| std::net::TcpStream::connect(address).is_err());
    go_on.store(true, SeqCst);

    let response = client.response();
    assert_eq!((response.text(), response.field("connection")), ("late", Some("close")));
    client.assert_closed();
    assert!(proxy.wait());
}

#[test]
fn who_asks_whether_it_is_ready_is_told_that_it_drains() {
    let (origin, go_on) = waiting();
    let proxy = Proxy::with(&format!("{ADMIN}{}", api([&origin])));
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_head();
    assert_eq!(proxy.admin("/readyz", "").status, 200);

    proxy.drain();

    eventually(|| proxy.admin("/readyz", "").status == 503);
    assert_eq!(proxy.admin("/healthz", "").status, 200);
    go_on.store(true, SeqCst);
    assert_eq!(client.response_body(head).text(), "finished");
    assert!(proxy.wait());
}

#[test]
fn a_proxy_that_nobody_uses_ends_at_once() {
    let proxy = Proxy::to([&Upstream::replying("")]);
    let mut client = Client::to(&proxy);
    client.get("/");

    proxy.drain();

    client.assert_closed();
    assert!(proxy.wait());
}

#[test]
fn a_connection_that_just_became_idle_gets_one_more_answer() {
    let server = "[server]\nclient_keepalive_min_timeout = \"10s\"\n";
    let proxy = Proxy::with(&format!("{server}{}", api([&Upstream::replying("hello")])));
    let address = proxy.address();
    let mut client = Client::to(&proxy);
    client.get("/");

    proxy.drain();
    eventually(|| std::net::TcpStream::connect(address).is_err());

    // It may come before the worker drains its connections too.
    eventually(|| {
        let response = client.get("/");
        assert_eq!(response.text(), "hello");
        response.field("connection") == Some("close")
    });
    client.assert_closed();
    assert!(proxy.wait());
}

#[test]
fn no_time_for_idle_connections_closes_them_at_once() {
    let server = "[server]\nclient_keepalive_min_timeout = \"0s\"\n";
    let proxy = Proxy::with(&format!("{server}{}", api([&Upstream::replying("hello")])));
    let mut client = Client::to(&proxy);
    client.get("/");

    proxy.drain();

    client.assert_closed();
    assert!(proxy.wait());
}
