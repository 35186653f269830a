//! Request targets: the four forms, and which host they mean.

use super::Outcome::{Last, Passed, Refused};
use super::{Bench, run};
use crate::harness::Client;

#[test]
fn a_target_in_origin_form_is_passed_on_as_it_is() {
    for target in [
        "/",
        "//",
        "/a/../b",
        "/./a",
        "/%2e%2e/",
        "/%00",
        "/a;b=c",
        "/?",
        "/?a=b&c",
        "/a?b?c",
        "/http://b/",
        "/:80",
        "/@a",
        "/[a]",
        "/a|b",
        "/\"<>^`{}",
        "/a\\b",
    ] {
        let (request, line) = (format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), format!("GET {target} HTTP/1.1"));
        run(&[("9112 3.2.1: origin form", request.as_bytes(), Passed(line.leak(), b""))]);
    }
}

#[test]
fn a_target_is_of_a_known_form_and_has_no_byte_that_must_be_escaped() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    let endless = format!("GET /{}", "a".repeat(9000));
    run(&[
        ("9112 3.2: no slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: a relative path", b"GET ../a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: only a query", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: a backslash", b"GET \\a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: a dot", b"GET . HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.1: a fragment", b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.1: a fragment behind a query", b"GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: a space", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: NUL", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: a control byte", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: a tab", b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: DEL", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: Latin-1", b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: UTF-8", b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("3986 2: an overlong slash", b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare CR", b"GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare LF", b"GET /\na HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.3: an authority without CONNECT", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.4: an asterisk without OPTIONS", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.4: an asterisk with POST", b"POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Refused(400)),
        ("9112 3.2.4: two asterisks", b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.4: an asterisk and a path", b"OPTIONS */a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: too long", long.as_bytes(), Refused(414)),
        ("9112 3: without an end", endless.as_bytes(), Refused(414)),
        ("9112 3.2.4: an asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Passed("OPTIONS * HTTP/1.1", b"")),
    ]);
}

#[test]
fn an_absolute_target_is_http_with_a_good_authority() {
    run(&[
        ("9112 3.2.2: another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: a scheme for files", b"GET file:///etc HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: no scheme", b"GET ://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: no slashes", b"GET http:a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: one slash", b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.2.1: no authority", b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.2.1: nothing", b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.2.4: a user", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 4.2.4: a user with a password", b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: a fragment", b"GET http://a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: a backslash", b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: a bad port", b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: a port too high", b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2.2: an open bracket", b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: no host beside it", b"GET http://a/ HTTP/1.1\r\n\r\n", Refused(400)),
        ("9112 3.2: two hosts beside it", b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3.2: a bad host beside it", b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(400)),
    ]);
}

#[test]
fn an_absolute_target_decides_about_the_host() {
    // RFC 9112 section 3.2.2: the origin gets origin form and a `host` that agrees, whatever the client's said.
    for (target, host, line, told) in [
        ("http://b/c", "a", "GET /c HTTP/1.1", "b"),
        ("http://b:81/c?d", "a", "GET /c?d HTTP/1.1", "b:81"),
        ("HTTP://b", "a", "GET / HTTP/1.1", "b"),
        ("https://b?c", "a", "GET /?c HTTP/1.1", "b"),
        ("http://[::1]:8080/", "a", "GET / HTTP/1.1", "[::1]:8080"),
        ("http://a/", "a", "GET / HTTP/1.1", "a"),
    ] {
        let bench = Bench::new();
        let mut client = Client::to(&bench.proxy);

        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        assert_eq!(client.response().status, 200, "for {target}");
        let request = bench.origin.only_request();
        assert_eq!((request.line(), request.head.all("host")), (line, vec![told]), "for {target}");
    }
    run(&[(
        "9112 3.2.2: in HTTP/1.0, without a host",
        b"GET http://b/c HTTP/1.0\r\n\r\n",
        Last("GET /c HTTP/1.1", b""),
    )]);
}
