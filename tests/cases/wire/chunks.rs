//! The chunked coding: sizes, extensions, data, the last chunk and trailers.

use super::Outcome::{self, Broken, Passed};
use super::run;

const LINE: &str = "POST / HTTP/1.1";
const HELLO: Outcome = Passed(LINE, b"hello");

/// Runs rows of chunked bodies.
#[track_caller]
fn chunked(rows: &[(&str, &[u8], Outcome)]) {
    let requests: Vec<_> = rows
        .iter()
        .map(|(rule, body, outcome)| {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            (*rule, [head, *body].concat(), *outcome)
        })
        .collect();
    run(&requests.iter().map(|(rule, bytes, outcome)| (*rule, &bytes[..], *outcome)).collect::<Vec<_>>());
}

#[test]
fn a_size_is_one_hexadecimal_number() {
    chunked(&[
        ("9112 7.1: one chunk", b"5\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1: two chunks", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", HELLO),
        ("9112 7.1: none", b"0\r\n\r\n", Passed(LINE, b"")),
        ("9112 7.1: capital letters", b"A\r\nhelloworld\r\n0\r\n\r\n", Passed(LINE, b"helloworld")),
        ("9112 7.1: small letters", b"a\r\nhelloworld\r\n0\r\n\r\n", Passed(LINE, b"helloworld")),
        ("9112 7.1: leading zeros", b"0005\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1: several zeros end it", b"5\r\nhello\r\n000\r\n\r\n", HELLO),
        ("9112 7.1: sixteen digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1: no size", b"\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a word", b"five\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a plus", b"+5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a minus", b"-5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: 0x", b"0x5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: 0X", b"0X5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a fraction", b"5.0\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a comma", b"5,5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: quotes", b"\"5\"\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a space before it", b" 5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a tab before it", b"\t5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a space behind it", b"5 \r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a tab behind it", b"5\t\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a space behind the last", b"5\r\nhello\r\n0 \r\n\r\n", Broken(400)),
        ("9112 7.1: two numbers", b"5 5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: NUL behind it", b"5\0\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a vertical tab", b"5\x0b\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: digits of another script", b"\xd9\xa5\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.3: 2^64 and five", b"10000000000000005\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.3: 2^68 - 1", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", Broken(400)),
    ]);
}

#[test]
fn a_size_ends_with_its_line() {
    chunked(&[
        ("9112 2.2: a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF behind the last size", b"5\r\nhello\r\n0\n\r\n", Broken(400)),
        ("9112 2.2: bare LFs at the end", b"5\r\nhello\r\n0\n\n", Broken(400)),
        ("9112 2.2: a bare LF at the end", b"5\r\nhello\r\n0\r\n\n", Broken(400)),
        ("9112 2.2: a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: LF CR", b"5\n\rhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: data that is too long", b"5\r\nhello!\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: data that is too short", b"5\r\nhell\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: no CRLF behind the data", b"5\r\nhello0\r\n\r\n", Broken(400)),
        ("9112 7.1: a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a bare CR behind the data", b"5\r\nhello\r0\r\n\r\n", Broken(400)),
        ("9112 7.1: any two bytes behind the data", b"5\r\nhelloXX0\r\n\r\n", Broken(400)),
        ("9112 7.1: an empty line between chunks", b"5\r\nhello\r\n\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1: a space behind the data", b"5\r\nhello \r\n0\r\n\r\n", Broken(400)),
    ]);
}

#[test]
fn extensions_are_read_past_but_only_if_they_are_some() {
    chunked(&[
        ("9112 7.1.1: a name", b"5;a\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: a value", b"5;a=b\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: a quoted value", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: an escaped quote", b"5;a=\"b\\\"c\"\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: an empty quoted value", b"5;a=\"\"\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: several", b"5;a;b=c;d=\"e\"\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: white space around all", b"5 ; a = b ;\tc\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: at the last chunk", b"5\r\nhello\r\n0;a=b\r\n\r\n", HELLO),
        ("9110 5.6.4: bytes beyond ASCII in quotes", b"5;a=\"\xe4\"\r\nhello\r\n0\r\n\r\n", HELLO),
        ("9112 7.1.1: no name", b"5;\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: only white space", b"5; \r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: no name before a value", b"5;=b\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: no value", b"5;a=\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: two semicolons", b"5;;a\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: two values", b"5;a=b=c\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: two names", b"5;a b\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: white space at the end", b"5;a \r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: a comma", b"5,a\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: a name that is no token", b"5;a/b\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 7.1.1: a name beyond ASCII", b"5;\xe4\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.4: an open quote", b"5;a=\"b\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.4: a quote within a value", b"5;a=b\"c\"\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.4: more behind the quote", b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.4: a line within quotes", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.4: an escaped CR", b"5;a=\"\\\r\n\"\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF", b"5;a\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF in a value", b"5;a=b\nc\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF at the last chunk", b"5\r\nhello\r\n0;a\n\r\n", Broken(400)),
        ("9110 5.6.2: NUL", b"5;a\0\r\nhello\r\n0\r\n\r\n", Broken(400)),
        ("9110 5.6.2: DEL", b"5;a\x7f\r\nhello\r\n0\r\n\r\n", Broken(400)),
    ]);
}

#[test]
fn extensions_without_end_are_refused() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(70_000));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(200));
    let endless = "5;".to_owned() + &"a".repeat(20_000);

    chunked(&[
        ("9112 7.1.1: one of 70 kB", long.as_bytes(), Broken(400)),
        ("9112 7.1.1: more extension than data", many.as_bytes(), Broken(400)),
        ("9112 7.1.1: one without an end", endless.as_bytes(), Broken(400)),
    ]);
}

#[test]
fn trailers_are_fields_like_any_others() {
    let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let long = format!("0\r\nx: {}\r\n\r\n", "y".repeat(20_000));

    chunked(&[
        ("9112 7.1.2: one", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", HELLO),
        ("9112 7.1.2: two", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n", HELLO),
        ("9110 6.5.1: a length", b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", HELLO),
        ("9110 6.5.1: a coding", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", HELLO),
        ("9110 6.5.1: a host", b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n", HELLO),
        ("9110 6.5.1: an authorization", b"5\r\nhello\r\n0\r\nAuthorization: Basic eDp5\r\n\r\n", HELLO),
        ("9110 6.5.1: a connection option", b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n", HELLO),
        ("9112 5.1: a space before the colon", b"5\r\nhello\r\n0\r\nx : y\r\n\r\n", Broken(400)),
        ("9112 5.1: no colon", b"5\r\nhello\r\n0\r\nx\r\n\r\n", Broken(400)),
        ("9112 5.1: no name", b"5\r\nhello\r\n0\r\n: y\r\n\r\n", Broken(400)),
        ("9112 5.2: a fold", b"5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n", Broken(400)),
        ("9112 5.2: a fold first", b"5\r\nhello\r\n0\r\n x: y\r\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF", b"5\r\nhello\r\n0\r\nx: y\n\r\n", Broken(400)),
        ("9112 2.2: a bare LF that ends them", b"5\r\nhello\r\n0\r\nx: y\r\n\n", Broken(400)),
        ("9112 2.2: a bare CR", b"5\r\nhello\r\n0\r\nx: y\rz\r\n\r\n", Broken(400)),
        ("9110 5.5: NUL", b"5\r\nhello\r\n0\r\nx: y\0\r\n\r\n", Broken(400)),
        ("9112 7.1: a request for trailers", b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Broken(400)),
        ("9112 7.1.2: no end", b"5\r\nhello\r\n0\r\n", Broken(400)),
        ("9112 7.1.2: too many", many.as_bytes(), Broken(400)),
        ("9112 7.1.2: too long", long.as_bytes(), Broken(400)),
    ]);
}
