//! Request lines: their parts, methods and versions.

use super::Outcome::{Last, Passed, Refused};
use super::run;

#[test]
fn a_request_line_is_three_parts_with_a_space_between() {
    run(&[
        ("9112 3: a request", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", Passed("GET /a HTTP/1.1", b"")),
        (
            "9112 2.2: an empty line before it",
            b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            Passed("GET /a HTTP/1.1", b""),
        ),
        ("9112 3: two spaces behind the method", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: two spaces behind the target", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a space first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a tab first", b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a space last", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a tab last", b"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a tab behind the method", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a tab behind the target", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a vertical tab for a space", b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a form feed for a space", b"GET /\x0cHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a space beyond ASCII", b"GET\xa0/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: four parts", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: two requests in one line", b"GET / HTTP/1.1 GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: only a method", b"GET\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: HTTP/0.9", b"GET /\r\n", Refused(400)),
        ("9112 3: HTTP/0.9 with fields", b"GET /\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare LF", b"GET / HTTP/1.1\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: bare LFs everywhere", b"GET / HTTP/1.1\nHost: a\n\n", Refused(400)),
        ("9112 2.2: a bare CR", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare CR within", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare LF before it", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare CR before it", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a folded request line", b"GET /\r\n HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: white space behind it", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a line of white space behind it", b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a byte order mark", b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: NUL first", b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("8446 5.1: a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Refused(400)),
        ("9113 3.4: almost the preface of HTTP/2", b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505)),
        ("4253 4.2: SSH", b"SSH-2.0-OpenSSH_9.2\r\n", Refused(400)),
        (
            "9112 2.2: many empty lines before it",
            b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
    ]);
}

#[test]
fn a_method_is_a_token_and_never_connect() {
    let long = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(40));
    let endless = "A".repeat(40_000);
    run(&[
        ("9110 9.1: one that nobody knows", b"X / HTTP/1.1\r\nHost: a\r\n\r\n", Passed("X / HTTP/1.1", b"")),
        ("9110 9.1: small letters", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Passed("get / HTTP/1.1", b"")),
        ("9110 9.1: a hyphen", b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Passed("M-SEARCH / HTTP/1.1", b"")),
        (
            "9110 5.6.2: token characters",
            b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n",
            Passed("!#$%&'*+-.^_`|~ / HTTP/1.1", b""),
        ),
        ("9110 9.1: a delimiter", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: brackets", b"GET[] / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: a colon", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: quotes", b"\"GET\" / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: a comma", b"GET,POST / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: a slash", b"GET/ / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: NUL within", b"G\0ET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: NUL behind", b"GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: DEL", b"GE\x7fT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9110 9.1: Latin-1", b"G\xcaT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare LF within", b"GE\nT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 2.2: a bare CR within", b"GE\rT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        ("9112 3: longer than any", long.as_bytes(), Refused(501)),
        ("9112 3: without an end", endless.as_bytes(), Refused(501)),
        ("9110 9.3.6: CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refused(501)),
        ("9110 9.3.6: CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
        ("9110 9.3.6: CONNECT in HTTP/1.0", b"CONNECT a:443 HTTP/1.0\r\n\r\n", Refused(501)),
        (
            "9110 9.3.6: CONNECT with a length",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 5\r\n\r\nhello",
            Refused(501),
        ),
    ]);
}

#[test]
fn a_version_is_one_of_two() {
    let row = |version: &str| format!("GET / {version}\r\nHost: a\r\n\r\n");
    run(&[("9112 2.3: HTTP/1.0", row("HTTP/1.0").as_bytes(), Last("GET / HTTP/1.1", b""))]);
    for (rule, version, status) in [
        ("9112 2.3: an older one", "HTTP/0.9", 505),
        ("9112 2.3: a newer minor one", "HTTP/1.2", 505),
        ("9112 2.3: the newest minor one", "HTTP/1.9", 505),
        ("9112 2.3: HTTP/2", "HTTP/2.0", 505),
        ("9112 2.3: HTTP/3", "HTTP/3.0", 505),
        ("9112 2.3: the newest one", "HTTP/9.9", 505),
        ("9112 2.3: HTTP/0.0", "HTTP/0.0", 505),
        ("9112 2.3: small letters", "http/1.1", 400),
        ("9112 2.3: mixed letters", "Http/1.1", 400),
        ("9112 2.3: two minor digits", "HTTP/1.10", 400),
        ("9112 2.3: two major digits", "HTTP/11.1", 400),
        ("9112 2.3: a leading zero", "HTTP/01.1", 400),
        ("9112 2.3: a leading zero behind the dot", "HTTP/1.01", 400),
        ("9112 2.3: no minor one", "HTTP/1", 400),
        ("9112 2.3: a dot and no minor one", "HTTP/1.", 400),
        ("9112 2.3: no major one", "HTTP/.1", 400),
        ("9112 2.3: no number", "HTTP/", 400),
        ("9112 2.3: no slash", "HTTP1.1", 400),
        ("9112 2.3: only the name", "HTTP", 400),
        ("9112 2.3: a space within", "HTTP/ 1.1", 400),
        ("9112 2.3: a space before the slash", "HTTP /1.1", 400),
        ("9112 2.3: a sign", "HTTP/+1.1", 400),
        ("9112 2.3: a comma", "HTTP/1,1", 400),
        ("9112 2.3: letters", "HTTP/a.b", 400),
        ("9112 2.3: a letter behind", "HTTP/1.1x", 400),
        ("9112 2.3: another protocol", "RTSP/1.0", 400),
        ("9112 2.3: a longer name", "HTTPS/1.1", 400),
        ("9112 2.3: a letter missing", "HTT/1.1", 400),
        ("9112 2.3: NUL behind", "HTTP/1.1\0", 400),
        ("9112 2.3: digits of another script", "HTTP/\u{661}.\u{661}", 400),
    ] {
        run(&[(rule, row(version).as_bytes(), Refused(status))]);
    }
}
