//! How long a request's body is: `content-length`, `transfer-encoding`, and what tries to say both.

use super::Outcome::{self, Passed, Refused};
use super::run;

/// Runs rows of field lines and a body, each in a POST.
#[track_caller]
fn post(rows: &[(&str, &[u8], &[u8], Outcome)]) {
    let requests: Vec<_> = rows
        .iter()
        .map(|(rule, lines, body, outcome)| {
            (*rule, [b"POST / HTTP/1.1\r\nHost: a\r\n", *lines, b"\r\n", *body].concat(), *outcome)
        })
        .collect();
    run(&requests.iter().map(|(rule, bytes, outcome)| (*rule, &bytes[..], *outcome)).collect::<Vec<_>>());
}

const LINE: &str = "POST / HTTP/1.1";
/// A chunked body that holds nothing.
const LAST: &[u8] = b"0\r\n\r\n";
const HELLO: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";

#[test]
fn a_length_is_one_decimal_number() {
    post(&[
        ("9110 8.6: a length", b"Content-Length: 5\r\n", b"hello", Passed(LINE, b"hello")),
        ("9110 8.6: nothing", b"Content-Length: 0\r\n", b"", Passed(LINE, b"")),
        ("9110 8.6: leading zeros", b"Content-Length: 0005\r\n", b"hello", Passed(LINE, b"hello")),
        ("9110 5.6.3: white space around it", b"Content-Length:  \t5 \t\r\n", b"hello", Passed(LINE, b"hello")),
        ("9110 5.6.3: no white space", b"Content-Length:5\r\n", b"hello", Passed(LINE, b"hello")),
        ("9110 5.1: a name in other letters", b"cOnTeNt-LeNgTh: 5\r\n", b"hello", Passed(LINE, b"hello")),
        ("9110 8.6: absent, so there is no body", b"", b"", Passed(LINE, b"")),
        ("9110 8.6: a plus", b"Content-Length: +5\r\n", b"hello", Refused(400)),
        ("9110 8.6: a minus", b"Content-Length: -5\r\n", b"hello", Refused(400)),
        ("9110 8.6: minus nothing", b"Content-Length: -0\r\n", b"", Refused(400)),
        ("9110 8.6: hexadecimal", b"Content-Length: 0x5\r\n", b"hello", Refused(400)),
        ("9110 8.6: hexadecimal digits", b"Content-Length: a\r\n", b"helloworld", Refused(400)),
        ("9110 8.6: octal", b"Content-Length: 0o5\r\n", b"hello", Refused(400)),
        ("9110 8.6: a fraction", b"Content-Length: 5.0\r\n", b"hello", Refused(400)),
        ("9110 8.6: an exponent", b"Content-Length: 5e0\r\n", b"hello", Refused(400)),
        ("9110 8.6: a group", b"Content-Length: 1_0\r\n", b"helloworld", Refused(400)),
        ("9110 8.6: quotes", b"Content-Length: \"5\"\r\n", b"hello", Refused(400)),
        ("9110 8.6: a word", b"Content-Length: five\r\n", b"hello", Refused(400)),
        ("9110 8.6: empty", b"Content-Length:\r\n", b"hello", Refused(400)),
        ("9110 8.6: a space", b"Content-Length: \r\n", b"hello", Refused(400)),
        ("9110 8.6: a space within", b"Content-Length: 5 0\r\n", b"hello", Refused(400)),
        ("9110 8.6: a tab within", b"Content-Length: 5\t0\r\n", b"hello", Refused(400)),
        ("9110 8.6: a parameter", b"Content-Length: 5;a=b\r\n", b"hello", Refused(400)),
        ("9110 8.6: a comma behind", b"Content-Length: 5,\r\n", b"hello", Refused(400)),
        ("9110 8.6: a comma before", b"Content-Length: ,5\r\n", b"hello", Refused(400)),
        ("9110 8.6: a list", b"Content-Length: 5, 5\r\n", b"hello", Refused(400)),
        ("9110 8.6: a list that differs", b"Content-Length: 5, 6\r\n", b"hello", Refused(400)),
        ("9110 8.6: a list without spaces", b"Content-Length: 5,5\r\n", b"hello", Refused(400)),
        ("9110 5.5: a vertical tab before it", b"Content-Length: \x0b5\r\n", b"hello", Refused(400)),
        ("9110 5.5: a form feed behind it", b"Content-Length: 5\x0c\r\n", b"hello", Refused(400)),
        ("9110 5.5: NUL behind it", b"Content-Length: 5\0\r\n", b"hello", Refused(400)),
        ("9110 8.6: a space beyond ASCII", b"Content-Length: \xa05\r\n", b"hello", Refused(400)),
        ("9110 8.6: digits of another script", b"Content-Length: \xd9\xa5\r\n", b"hello", Refused(400)),
        ("9110 8.6: 2^64", b"Content-Length: 18446744073709551616\r\n", b"", Refused(400)),
        ("9110 8.6: 2^64 and five", b"Content-Length: 18446744073709551621\r\n", b"hello", Refused(400)),
        ("9110 8.6: 2^32 squared and more", b"Content-Length: 99999999999999999999999\r\n", b"", Refused(400)),
    ]);
}

#[test]
fn a_length_is_said_once() {
    post(&[
        ("9112 6.3: twice", b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello", Refused(400)),
        ("9112 6.3: two", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello", Refused(400)),
        ("9112 6.3: the other way", b"Content-Length: 6\r\nContent-Length: 5\r\n", b"hello!", Refused(400)),
        ("9112 6.3: other letters", b"Content-Length: 5\r\ncontent-length: 0\r\n", b"hello", Refused(400)),
        ("9112 6.3: fields between", b"Content-Length: 5\r\nX: y\r\nContent-Length: 0\r\n", b"hello", Refused(400)),
        ("9112 6.3: one is empty", b"Content-Length: 5\r\nContent-Length:\r\n", b"hello", Refused(400)),
        ("9112 6.3: one is bad", b"Content-Length: 5\r\nContent-Length: x\r\n", b"hello", Refused(400)),
        ("9112 6.3: three", b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n", b"hello", Refused(400)),
        ("9112 5.1: a space before the colon", b"Content-Length : 5\r\n", b"hello", Refused(400)),
        ("9112 5.1: a tab before the colon", b"Content-Length\t: 5\r\n", b"hello", Refused(400)),
        ("9112 5.2: folded", b"Content-Length:\r\n 5\r\n", b"hello", Refused(400)),
        ("9112 5.2: with a fold behind", b"Content-Length: 5\r\n 0\r\n", b"hello", Refused(400)),
        ("9112 2.2: behind a bare LF", b"X: y\nContent-Length: 5\r\n", b"hello", Refused(400)),
        ("9112 2.2: behind a bare CR", b"X: y\rContent-Length: 5\r\n", b"hello", Refused(400)),
        (
            "9110 7.6.1: named by `connection`, and good",
            b"Connection: content-length\r\nContent-Length: 5\r\n",
            b"hello",
            Passed(LINE, b"hello"),
        ),
        (
            "9110 7.6.1: named by `connection`, and bad",
            b"Connection: content-length\r\nContent-Length: x\r\n",
            b"hello",
            Refused(400),
        ),
    ]);
}

#[test]
fn a_coding_is_chunked_and_nothing_else() {
    post(&[
        ("9112 7.1: chunked", b"Transfer-Encoding: chunked\r\n", HELLO, Passed(LINE, b"hello")),
        ("9112 7: other letters", b"tRaNsFeR-eNcOdInG: ChUnKeD\r\n", HELLO, Passed(LINE, b"hello")),
        ("9110 5.6.3: no white space", b"Transfer-Encoding:chunked\r\n", HELLO, Passed(LINE, b"hello")),
        ("9110 5.6.3: spaces around it", b"Transfer-Encoding:   chunked  \r\n", HELLO, Passed(LINE, b"hello")),
        (
            "9110 7.6.1: named by `connection`",
            b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            HELLO,
            Passed(LINE, b"hello"),
        ),
        ("9112 7: a tab before it", b"Transfer-Encoding:\tchunked\r\n", HELLO, Refused(400)),
        ("9112 7: a tab behind it", b"Transfer-Encoding: chunked\t\r\n", HELLO, Refused(400)),
        ("9110 5.5: a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", HELLO, Refused(400)),
        ("9110 5.5: a form feed", b"Transfer-Encoding: \x0cchunked\r\n", HELLO, Refused(400)),
        ("9110 5.5: NUL", b"Transfer-Encoding: chunked\0\r\n", HELLO, Refused(400)),
        ("9110 5.5: a bare CR", b"Transfer-Encoding: \rchunked\r\n", HELLO, Refused(400)),
        ("9112 7: a space beyond ASCII", b"Transfer-Encoding: chunked\xa0\r\n", HELLO, Refused(400)),
        ("9112 7: a byte order mark", b"Transfer-Encoding: \xef\xbb\xbfchunked\r\n", HELLO, Refused(400)),
        ("9112 7: empty", b"Transfer-Encoding:\r\n", LAST, Refused(400)),
        ("9112 7: a comma", b"Transfer-Encoding: ,\r\n", LAST, Refused(400)),
        ("9112 7: a comma first", b"Transfer-Encoding: ,chunked\r\n", LAST, Refused(400)),
        ("9112 7: a comma last", b"Transfer-Encoding: chunked,\r\n", LAST, Refused(400)),
        ("9112 7: in quotes", b"Transfer-Encoding: \"chunked\"\r\n", LAST, Refused(400)),
        ("9112 7: in single quotes", b"Transfer-Encoding: 'chunked'\r\n", LAST, Refused(400)),
        ("9112 7: a parameter", b"Transfer-Encoding: chunked;a=b\r\n", LAST, Refused(400)),
        ("9112 7: an empty parameter", b"Transfer-Encoding: chunked;\r\n", LAST, Refused(400)),
        ("9112 7: a letter before", b"Transfer-Encoding: xchunked\r\n", LAST, Refused(400)),
        ("9112 7: a letter behind", b"Transfer-Encoding: chunkedx\r\n", LAST, Refused(400)),
        ("9112 7: a letter missing", b"Transfer-Encoding: chunke\r\n", LAST, Refused(400)),
        ("9112 7: a space for a comma", b"Transfer-Encoding: gzip chunked\r\n", LAST, Refused(400)),
        ("9112 7: two words", b"Transfer-Encoding: chunked identity\r\n", LAST, Refused(400)),
        ("9112 5.1: two colons", b"Transfer-Encoding:: chunked\r\n", LAST, Refused(400)),
        ("9112 5.1: a space before the colon", b"Transfer-Encoding : chunked\r\n", LAST, Refused(400)),
        ("9112 5.1: a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", LAST, Refused(400)),
        ("9112 5.2: folded", b"Transfer-Encoding:\r\n chunked\r\n", LAST, Refused(400)),
        ("9112 5.2: folded with a tab", b"Transfer-Encoding:\r\n\tchunked\r\n", LAST, Refused(400)),
        ("9112 5.2: with a fold behind", b"Transfer-Encoding: chunked\r\n , identity\r\n", LAST, Refused(400)),
        ("9112 2.2: behind a bare LF", b"X: y\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 2.2: behind a bare CR", b"X: y\rTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 2.2: before a bare LF", b"Transfer-Encoding: chunked\nX: y\r\n", LAST, Refused(400)),
        ("9112 2.2: as a second line of a name", b"X\r\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9110 5.1: NUL in the name", b"Transfer\0-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 2.2: white space before the line", b" Transfer-Encoding: chunked\r\n", LAST, Refused(400)),
    ]);
}

#[test]
fn a_coding_is_said_once_and_ends_in_chunked() {
    post(&[
        ("9112 7: identity", b"Transfer-Encoding: identity\r\n", b"", Refused(400)),
        ("9112 7: identity first", b"Transfer-Encoding: identity, chunked\r\n", LAST, Refused(400)),
        ("9112 6.3: identity last", b"Transfer-Encoding: chunked, identity\r\n", LAST, Refused(400)),
        ("9112 7.1: chunked twice", b"Transfer-Encoding: chunked, chunked\r\n", LAST, Refused(400)),
        ("9112 7.1: chunked twice, no space", b"Transfer-Encoding: chunked,chunked\r\n", LAST, Refused(400)),
        ("9112 6.3: chunked not last", b"Transfer-Encoding: chunked, gzip\r\n", LAST, Refused(400)),
        ("9112 6.3: chunked in the middle", b"Transfer-Encoding: gzip, chunked, gzip\r\n", LAST, Refused(400)),
        ("9112 6.3: no chunked", b"Transfer-Encoding: gzip\r\n", b"", Refused(400)),
        ("9112 6.3: an unknown one", b"Transfer-Encoding: x\r\n", b"", Refused(400)),
        ("9112 6.1: one that we do not know", b"Transfer-Encoding: gzip, chunked\r\n", LAST, Refused(501)),
        ("9112 6.1: deflate", b"Transfer-Encoding: deflate, chunked\r\n", LAST, Refused(501)),
        ("9112 6.3: two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        (
            "9112 6.3: two lines that differ",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            LAST,
            Refused(400),
        ),
        (
            "9112 6.3: two lines, the other way",
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            LAST,
            Refused(400),
        ),
        ("9112 6.3: two lines, one empty", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", LAST, Refused(400)),
        (
            "9112 6.3: two lines, one unknown",
            b"Transfer-Encoding: cow\r\ntransfer-encoding: chunked\r\n",
            LAST,
            Refused(400),
        ),
    ]);
}

#[test]
fn a_length_and_a_coding_exclude_each_other() {
    post(&[
        ("9112 6.3: both", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 6.3: the other way", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LAST, Refused(400)),
        ("9112 6.3: a length of 0", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", HELLO, Refused(400)),
        ("9112 6.3: a length that fits", b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", HELLO, Refused(400)),
        ("9112 6.3: a bad length", b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 6.3: an empty length", b"Content-Length:\r\nTransfer-Encoding: chunked\r\n", LAST, Refused(400)),
        ("9112 6.3: an unknown coding", b"Content-Length: 5\r\nTransfer-Encoding: x\r\n", b"hello", Refused(400)),
        ("9112 6.3: identity", b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n", b"hello", Refused(400)),
        ("9112 6.3: an empty coding", b"Content-Length: 5\r\nTransfer-Encoding:\r\n", b"hello", Refused(400)),
        ("9112 6.3: a tab", b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n", LAST, Refused(400)),
        (
            "9110 7.6.1: `connection` names the coding",
            b"Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            LAST,
            Refused(400),
        ),
        (
            "9110 7.6.1: `connection` names the length",
            b"Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            LAST,
            Refused(400),
        ),
    ]);
}

#[test]
fn a_body_belongs_to_any_method_and_only_as_much_as_was_said() {
    run(&[
        (
            "9112 6: what looks like a request",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
            Passed(LINE, b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"),
        ),
        (
            "9112 7.1: the same in a chunk",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n19\r\n0\r\n\r\nGET /smuggled HTTP/1\r\n0\r\n\r\n",
            Passed(LINE, b"0\r\n\r\nGET /smuggled HTTP/1"),
        ),
        (
            "9110 9.3.1: GET with a body",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Passed("GET / HTTP/1.1", b"hello"),
        ),
        (
            "9110 9.3.1: GET with chunks",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Passed("GET / HTTP/1.1", b"hello"),
        ),
        (
            "9110 9.3.5: DELETE with a body",
            b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Passed("DELETE / HTTP/1.1", b"hello"),
        ),
        (
            "9110 9.3.7: OPTIONS with a body",
            b"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Passed("OPTIONS / HTTP/1.1", b"hello"),
        ),
        (
            "9110 9.1: a method that nobody knows",
            b"BREW / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Passed("BREW / HTTP/1.1", b"hello"),
        ),
        (
            "9112 2.2: an empty line behind a body",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n",
            Passed(LINE, b"hello"),
        ),
        (
            "9110 5.1: an underscore is no hyphen",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 0\r\n\r\nhello",
            Passed(LINE, b"hello"),
        ),
        (
            "9112 6.1: chunked in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(400),
        ),
        (
            "9112 6.1: chunked and a length in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            Refused(400),
        ),
    ]);
}
