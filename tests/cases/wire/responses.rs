//! Bytes from origins: a response that two readers could understand differently is a 502 or breaks off, and nothing of
//! it is ever taken for the answer to another request.

use super::{answer, expect};
use crate::harness::{Client, End, Proxy, Upstream, api, ok};

/// What must come of an origin's bytes.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The client gets a response with this status and this body.
    Whole(u16, &'static [u8]),
    /// A 502, and nothing of what the origin said.
    Bad,
    /// A 502, or a response that is plainly broken off after a part of this body.
    Cut(&'static [u8]),
}

use Answer::{Bad, Cut, Whole};

type Row = (&'static str, &'static str, &'static [u8], Answer);

/// Has an origin answer with each row's bytes in turn, and then asks for something else, on the same connection where
/// that is still open. The origin leaves its connection open (`closes`: ends it) behind the bytes.
#[track_caller]
fn run(closes: bool, rows: &'static [Row]) {
    let origin = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            let number = request.target().trim_start_matches('/').parse::<usize>();
            let row = number.ok().and_then(|number| rows.get(number));
            talk.send(row.map_or_else(|| ok("next"), |row| row.2.to_vec()));
            if row.is_some() && closes {
                return;
            }
        }
    });
    let settings = "read_timeout = \"1s\"\npassive = { max_fails = 0 }\n[upstreams.api.retry]\nattempts = 1\n";
    let proxy = Proxy::with(&format!("{}{settings}", api([&origin])));
    let mut wrong = Vec::new();
    for (number, (rule, method, bytes, outcome)) in rows.iter().enumerate() {
        for follows in [false, true] {
            // The same with the next request sent behind it already.
            if let Err(why) = judge(&proxy, method, number, *outcome, follows) {
                wrong.push(format!("RFC {rule}\n  {method} {}\n  {why}", bytes.escape_ascii()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn judge(proxy: &Proxy, method: &str, number: usize, outcome: Answer, follows: bool) -> Result<(), String> {
    let mut client = Client::to(proxy);
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n\r\n{}", if follows { next } else { "" }));
    let response = loop {
        match client.try_response_to(method) {
            Ok(response) if response.status < 200 => {}
            Ok(response) => break Some(response),
            Err(broken) => {
                let Cut(part) = outcome else { return Err(format!("{broken:?}")) };
                if broken.end == End::Silent {
                    return Err("the client waits in vain".to_owned());
                }
                let got = broken.part.map(|response| response.body).unwrap_or_default();
                if !part.starts_with(&got) {
                    return Err(format!("the client got {}", got.escape_ascii()));
                }
                break None;
            }
        }
    };
    match (&response, outcome) {
        (Some(response), Whole(status, body)) => {
            expect("the response", (response.status, &response.body[..]), (status, body))?;
        }
        (Some(response), Bad | Cut(_)) => {
            expect("the response", (response.status, response.text()), (502, "502 Bad Gateway\n"))?;
            expect("a field of the bad head", response.field("x-bad"), None)?;
        }
        (None, _) => {
            let (rest, _) = client.drain();
            if rest.windows(4).any(|window| window == b"next" || window == b"evil") {
                return Err(format!("behind the part came {}", rest.escape_ascii()));
            }
        }
    }
    if response.is_none_or(|response| response.field("connection") == Some("close")) {
        client = Client::to(proxy);
        client.send(next);
    } else if !follows {
        client.send(next);
    }
    let after = answer(&mut client)?;
    expect("the next answer", (after.status, after.text()), (200, "next"))
}

#[test]
fn heads_that_are_none_are_a_502() {
    run(
        false,
        &[
            ("9112 4: an empty line first", "GET", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 4: another protocol", "GET", b"SSH-2.0-OpenSSH_9.2\r\n", Bad),
            ("9112 4: HTTP/0.9", "GET", b"<html>hello</html>", Bad),
            ("9112 4: a request", "GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad),
            ("9112 2.3: HTTP/2", "GET", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.3: HTTP/1.2", "GET", b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.3: small letters", "GET", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.3: two digits", "GET", b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 4: two spaces", "GET", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 4: a tab", "GET", b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 15: two digits", "GET", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 15: four digits", "GET", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 15: below 100", "GET", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 15: letters", "GET", b"HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 15: a sign", "GET", b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 5.5: NUL in the phrase", "GET", b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.2: a bare CR in the phrase", "GET", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.2: a bare LF", "GET", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 2.2: bare LFs everywhere", "GET", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", Bad),
            ("9112 2.2: a bare LF at the end", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n\r\n\r\n", Bad),
            (
                "9112 2.2: a bare CR in a value",
                "GET",
                b"HTTP/1.1 200 OK\r\nX-Bad: a\rb\r\nContent-Length: 0\r\n\r\n",
                Bad,
            ),
            (
                "9112 5.1: a space before the colon",
                "GET",
                b"HTTP/1.1 200 OK\r\nX-Bad : a\r\nContent-Length: 0\r\n\r\n",
                Bad,
            ),
            ("9112 5.1: no colon", "GET", b"HTTP/1.1 200 OK\r\nX-Bad\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 5.1: no name", "GET", b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9112 5.2: a fold", "GET", b"HTTP/1.1 200 OK\r\nX-Bad: a\r\n b\r\nContent-Length: 0\r\n\r\n", Bad),
            (
                "9112 2.2: white space behind the status line",
                "GET",
                b"HTTP/1.1 200 OK\r\n X-Bad: a\r\nContent-Length: 0\r\n\r\n",
                Bad,
            ),
            ("9110 5.5: NUL", "GET", b"HTTP/1.1 200 OK\r\nX-Bad: a\0b\r\nContent-Length: 0\r\n\r\n", Bad),
            ("9110 5.5: a control byte", "GET", b"HTTP/1.1 200 OK\r\nX-Bad: a\x01b\r\nContent-Length: 0\r\n\r\n", Bad),
            (
                "9110 5.1: a name that is no token",
                "GET",
                b"HTTP/1.1 200 OK\r\nX(Bad): a\r\nContent-Length: 0\r\n\r\n",
                Bad,
            ),
            (
                "9110 15.2.2: an upgrade that nobody wants",
                "GET",
                b"HTTP/1.1 101 Hi\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                Bad,
            ),
        ],
    );
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_a_502() {
    run(
        false,
        &[
            (
                "9112 6.3: both",
                "GET",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 6.3: the other way",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 6.3: two lengths",
                "GET",
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                Bad,
            ),
            (
                "9112 6.3: a length twice",
                "GET",
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
                Bad,
            ),
            ("9110 8.6: a list", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab", Bad),
            ("9110 8.6: a plus", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", Bad),
            ("9110 8.6: a minus", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab", Bad),
            ("9110 8.6: hexadecimal", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nab", Bad),
            ("9110 8.6: empty", "GET", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nab", Bad),
            (
                "9110 8.6: 2^64 and two",
                "GET",
                b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nab",
                Bad,
            ),
            ("9112 6.1: gzip", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Bad),
            (
                "9112 6.1: gzip, chunked",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 6.3: chunked not last",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 7.1: chunked twice",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 6.3: two lines",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            ("9112 7: almost chunked", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Bad),
            ("9112 7: a tab", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", Bad),
            (
                "9112 5.1: a space before the colon",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
            (
                "9112 6.1: chunked in HTTP/1.0",
                "GET",
                b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Bad,
            ),
        ],
    );
}

#[test]
fn a_body_that_is_not_what_it_says_breaks_off() {
    run(
        true,
        &[
            ("9112 8: a short body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Cut(b"hello")),
            ("9112 8: no body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Cut(b"")),
            (
                "9112 8: chunks cut in a size",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5",
                Cut(b""),
            ),
            (
                "9112 8: chunks cut in data",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                Cut(b"hel"),
            ),
            (
                "9112 8: no last chunk",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                Cut(b"hello"),
            ),
            (
                "9112 8: no end",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
                Cut(b"hello"),
            ),
            ("9112 7.1: no size", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello", Cut(b"")),
            (
                "9112 7.1: a bad size",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
                Cut(b"hello"),
            ),
            (
                "9112 7.1: a size with a sign",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
                Cut(b""),
            ),
            (
                "9112 7.1: a size with 0x",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
                Cut(b""),
            ),
            (
                "9112 7.1: a size beyond 64 bits",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
                Cut(b""),
            ),
            (
                "9112 2.2: a bare LF behind a size",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
                Cut(b""),
            ),
            (
                "9112 7.1: data too long",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
                Cut(b"hello"),
            ),
            (
                "9112 7.1: data too short",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell\r\n0\r\n\r\n",
                Cut(b"hell\r"),
            ),
            (
                "9112 2.2: a bare LF in an extension",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n",
                Cut(b""),
            ),
            (
                "9112 7.1.2: a bad trailer",
                "GET",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx y\r\n\r\n",
                Cut(b"hello"),
            ),
        ],
    );
}

#[test]
fn what_stands_behind_a_response_belongs_to_nobody() {
    run(
        false,
        &[
            ("9112 6.3: behind a length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(200, b"hi")),
            ("9112 6.3: a byte behind a length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!", Whole(200, b"hi")),
            ("9112 7.1: behind chunks", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(200, b"hi")),
            ("9112 6.3: a body for HEAD", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(200, b"")),
            ("9112 6.3: chunks for HEAD", "HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Whole(200, b"")),
            ("9112 6.3: a body with 204", "GET", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(204, b"")),
            ("9112 6.3: a length with 204", "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", Whole(204, b"")),
            ("9112 6.1: chunks with 204", "GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Whole(204, b"")),
            ("9112 6.3: a body with 304", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", Whole(304, b"")),
            ("9112 6.3: chunks with 304", "GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Whole(304, b"")),
            ("9110 15.2: behind interim ones", "GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Whole(200, b"hi")),
            ("9110 15.2: an interim one behind it", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 103 Early Hints\r\n\r\n", Whole(200, b"hi")),
        ],
    );
}

#[test]
fn responses_that_are_unusual_but_right_are_passed_on() {
    run(
        false,
        &[
            ("9112 4: no phrase", "GET", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi", Whole(200, b"hi")),
            ("9112 4: not even its space", "GET", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", Whole(200, b"hi")),
            ("9112 4: a phrase in Latin-1", "GET", b"HTTP/1.1 200 Sch\xf6n\r\nContent-Length: 2\r\n\r\nhi", Whole(200, b"hi")),
            ("9110 15: a status that nobody knows", "GET", b"HTTP/1.1 599 X\r\nContent-Length: 2\r\n\r\nhi", Whole(599, b"hi")),
            ("9112 7.1.1: extensions", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nhi\r\n0;c\r\n\r\n", Whole(200, b"hi")),
            ("9112 7.1: a size that is padded", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2   \r\nhi\r\n0  \r\n\r\n", Whole(200, b"hi")),
            ("9112 7.1.2: trailers", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 4\r\n\r\n", Whole(200, b"hi")),
            ("9112 9.3: HTTP/1.0 that lasts", "GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", Whole(200, b"hi")),
            ("9110 9.3.2: a length for HEAD", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Whole(200, b"")),
            ("9110 15.4.5: 304 with a length", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", Whole(304, b"")),
        ],
    );
    run(
        true,
        &[
            ("9112 6.3: until the end", "GET", b"HTTP/1.1 200 OK\r\n\r\nhi", Whole(200, b"hi")),
            ("9112 6.3: nothing until the end", "GET", b"HTTP/1.1 200 OK\r\n\r\n", Whole(200, b"")),
            ("9112 6.3: HTTP/1.0 until the end", "GET", b"HTTP/1.0 200 OK\r\n\r\nhi", Whole(200, b"hi")),
            (
                "9112 6.3: what looks like another",
                "GET",
                b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                Whole(200, b"HTTP/1.1 200 OK\r\n\r\n"),
            ),
            (
                "9112 9.6: close with a length",
                "GET",
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
                Whole(200, b"hi"),
            ),
        ],
    );
}
