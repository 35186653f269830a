//! Who comes without TLS is sent to where there is.

use crate::harness::{Client, Log, Proxy, Upstream, api};

fn proxy(redirect: &str, origin: &Upstream) -> Proxy {
    let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nredirect_https = {redirect}\n");
    Proxy::with(&format!("{listener}{}", api([origin])))
}

#[test]
fn every_request_is_sent_to_the_same_place_over_https() {
    let origin = Upstream::replying("not secure");
    let proxy = proxy("true", &origin);
    let mut client = Client::to(&proxy);

    client.send("GET /a%20b?c=d&e HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://Shop.example/a%20b?c=d&e")));
    assert_eq!(client.post("/order", "body").status, 308, "on the same connection");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn port_and_status_may_be_others() {
    let proxy = proxy("{ port = 8443, status = 301 }", &Upstream::refusing());

    let answer = proxy.get("/x");

    assert_eq!((answer.status, answer.field("location")), (301, Some("https://test:8443/x")));
}

#[test]
fn a_request_that_names_no_host_cannot_be_sent_anywhere() {
    let proxy = proxy("true", &Upstream::refusing());
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.0\r\n\r\n");

    let answer = client.response();
    assert_eq!((answer.status, answer.field("location")), (400, None));
}

#[test]
fn an_authority_finds_its_challenge_where_that_is_wanted() {
    let origin = Upstream::replying("token");
    let proxy = proxy("{ except_acme = true }", &origin);

    assert_eq!(proxy.get("/.well-known/acme-challenge/abc").text(), "token");
    assert_eq!(proxy.get("/.well-known/").status, 308);
}

#[test]
fn a_redirect_is_logged_like_any_answer() {
    let log = Log::new();
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\nredirect_https = true\n";
    let proxy = Proxy::with(&format!("{listener}{}{}", log.settings(), api([&Upstream::refusing()])));

    proxy.get("/x");

    assert_eq!(log.line()["status"], 308);
}
