//! Who the client is behind proxies that are trusted, and behind those that are not.

use std::os::unix::net::UnixStream;

use crate::harness::{Client, Log, Proxy, Upstream, api};

const CLAIM: &str = "X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
     X-Forwarded-Host: shop.example\r\nForwarded: for=198.51.100.1\r\nX-Real-IP: 198.51.100.1\r\n";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";
const DISTRUSTING: &str = "trusted_proxies = [\"10.0.0.0/8\"]\n";

#[test]
fn a_trusted_proxys_client_is_the_client_to_the_log_to_templates_and_to_endpoints() {
    let (origin, log) = (Upstream::replying(""), Log::new());
    let routes = "[[routes]]\nupstream = \"api\"\nrewrite = [{ plugin = \"set-headers\", \
                  config = { request = { set = { x-from = \"$scheme://$remote_addr\" } } } }]\n\
                  [[routes]]\npath = \"/moved\"\nredirect = { to = \"$scheme://$host/$remote_addr\" }\n";
    let proxy = Proxy::with(&format!("[server]\n{TRUSTING}{}{}\n{routes}", log.settings(), api([&origin])));
    let mut client = Client::to(&proxy);

    client.ask("GET", "/", CLAIM);
    let moved = client.ask("GET", "/moved", CLAIM);

    let request = origin.only_request();
    assert_eq!(request.head.all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(request.head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.head.all("x-forwarded-host"), ["shop.example"]);
    assert_eq!((request.field("host"), request.field("forwarded")), (Some("test"), None));
    assert_eq!(request.field("x-from"), Some("https://203.0.113.9"));
    assert_eq!(moved.field("location"), Some("https://test/203.0.113.9"));
    let clients: Vec<_> = log.lines(2).iter().map(|line| line["client"].clone()).collect();
    assert_eq!(clients, ["203.0.113.9", "203.0.113.9"]);
}

#[test]
fn what_anybody_else_claims_reaches_nobody() {
    let (origin, log) = (Upstream::replying(""), Log::new());
    let routes =
        "[[routes]]\nupstream = \"api\"\n[[routes]]\nheaders = { x-real-ip = \"198.51.100.1\" }\nrespond = {}\n";
    let proxy = Proxy::with(&format!("[server]\n{DISTRUSTING}{}{}\n{routes}", log.settings(), api([&origin])));

    Client::to(&proxy).ask("GET", "/", CLAIM);

    let request = origin.only_request();
    assert_eq!(request.head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.head.all("x-forwarded-host"), ["test"]);
    assert_eq!((request.field("forwarded"), request.field("x-real-ip")), (None, None));
    assert_eq!(log.line()["client"], "127.0.0.1");
}

#[test]
fn each_request_of_a_connection_has_a_client_of_its_own() {
    let log = Log::new();
    let proxy = Proxy::with(&format!("[server]\n{TRUSTING}{}{}", log.settings(), api([&Upstream::replying("")])));
    let mut client = Client::to(&proxy);

    for lines in ["X-Forwarded-For: 203.0.113.9\r\n", "", "Forwarded: for=\"[2001:db8::1]:80\";proto=https\r\n"] {
        assert_eq!(client.ask("GET", "/", lines).status, 200);
    }

    let clients: Vec<_> = log.lines(3).iter().map(|line| line["client"].clone()).collect();
    assert_eq!(clients, ["203.0.113.9", "127.0.0.1", "2001:db8::1"]);
}

#[test]
fn limits_balancers_and_closed_doors_know_the_client_that_a_trusted_proxy_names() {
    let origins = [(); 4].map(|()| Upstream::replying(""));
    let balanced = format!(
        "[server]\n{TRUSTING}{}balance = {{ plugin = \"hash\", config = {{ key = \"client-address\" }} }}\n",
        api([&origins[0], &origins[1], &origins[2], &origins[3]])
    );
    let proxy = Proxy::with(&balanced);
    for n in 0..40 {
        Client::to(&proxy).ask("GET", "/", &format!("X-Forwarded-For: 203.0.113.{}\r\n", n % 20));
    }
    assert!(origins.iter().filter(|origin| origin.requests() > 0).count() > 1, "one peer, many clients");

    let limited = format!(
        "[server]\n{TRUSTING}{}[[routes]]\nupstream = \"api\"\nrate_limit = {{ rate = \"1r/m\" }}\n",
        api([&origins[0]])
    );
    let proxy = Proxy::with(&limited);
    let ask = |client: &str| Client::to(&proxy).ask("GET", "/", &format!("X-Forwarded-For: {client}\r\n")).status;
    assert_eq!([ask("203.0.113.1"), ask("203.0.113.2"), ask("203.0.113.1, 203.0.113.2")], [200, 200, 429]);

    let closed = format!(
        "[server]\n{TRUSTING}{}[[routes]]\nupstream = \"api\"\nmaintenance = {{ allow = [\"203.0.113.9\"] }}\n",
        api([&origins[0]])
    );
    let proxy = Proxy::with(&closed);
    let ask = |client: &str| Client::to(&proxy).ask("GET", "/", &format!("X-Forwarded-For: {client}\r\n")).status;
    assert_eq!([ask("203.0.113.9"), ask("203.0.113.1"), ask("203.0.113.9, 203.0.113.1")], [200, 503, 503]);
}

#[test]
fn whoever_connects_to_a_unix_socket_is_trusted_only_when_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    for (trusted, chain) in [("unix:", Some("203.0.113.9")), ("127.0.0.1", None)] {
        let origin = Upstream::replying("");
        let _proxy = Proxy::with(&format!(
            "[server]\ntrusted_proxies = [\"{trusted}\"]\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             [[listeners]]\naddress = \"unix:{}\"\n{}",
            socket.display(),
            api([&origin])
        ));
        assert!(UnixStream::connect(&socket).is_ok());

        Client::over(&socket).expect("it listens").ask("GET", "/", CLAIM);

        assert_eq!(origin.only_request().field("x-forwarded-for"), chain, "trusting {trusted}");
    }
}

#[test]
fn an_endpoint_is_told_in_the_words_of_rfc_7239() {
    for (how, x_forwarded_for, forwarded) in [
        ("rfc7239", None, Some("for=127.0.0.1;host=test;proto=http")),
        ("both", Some("127.0.0.1"), Some("for=127.0.0.1;host=test;proto=http")),
        ("x-forwarded", Some("127.0.0.1"), None),
        ("none", None, None),
    ] {
        let origin = Upstream::replying("");
        let proxy = Proxy::with(&format!("[server]\nforwarded = \"{how}\"\n{}", api([&origin])));

        proxy.get("/");

        let request = origin.only_request();
        assert_eq!(
            (request.field("x-forwarded-for"), request.field("forwarded")),
            (x_forwarded_for, forwarded),
            "{how}"
        );
    }
}

#[test]
fn a_request_that_is_too_large_is_logged_with_its_client() {
    let log = Log::new();
    let proxy = Proxy::with(&format!(
        "[server]\nmax_body_size = \"1B\"\n{TRUSTING}{}{}",
        log.settings(),
        api([&Upstream::replying("")])
    ));

    Client::to(&proxy).send("POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 9\r\n\r\n");

    let line = log.line();
    assert_eq!((&line["client"], &line["status"]), (&"203.0.113.9".into(), &413.into()));
}
