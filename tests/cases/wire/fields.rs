//! Field lines: their ends, names and values, and the one `host`.

use super::Outcome::{self, Last, Passed, Refused};
use super::run;

const LINE: &str = "GET / HTTP/1.1";
const GOOD: Outcome = Passed(LINE, b"");
const BAD: Outcome = Refused(400);

/// Runs rows of field lines, each in a GET behind its `host`.
#[track_caller]
fn get(rows: &[(&str, &[u8], Outcome)]) {
    whole("GET / HTTP/1.1\r\nHost: a\r\n", rows);
}

/// The same without a `host`.
#[track_caller]
fn bare(rows: &[(&str, &[u8], Outcome)]) {
    whole("GET / HTTP/1.1\r\n", rows);
}

#[track_caller]
fn whole(start: &str, rows: &[(&str, &[u8], Outcome)]) {
    let requests: Vec<_> = rows
        .iter()
        .map(|(rule, lines, outcome)| (*rule, [start.as_bytes(), *lines, b"\r\n"].concat(), *outcome))
        .collect();
    run(&requests.iter().map(|(rule, bytes, outcome)| (*rule, &bytes[..], *outcome)).collect::<Vec<_>>());
}

#[test]
fn a_line_ends_in_crlf_and_is_never_folded() {
    get(&[
        ("9112 5: a field", b"X: y\r\n", GOOD),
        ("9112 2.2: a bare LF behind a field", b"X: y\nZ: z\r\n", BAD),
        ("9112 2.2: a bare LF behind the last field", b"X: y\n", BAD),
        ("9112 2.2: a bare LF for the empty line", b"X: y\r\n\n", BAD),
        ("9112 2.2: bare LFs for the end", b"X: y\n\n", BAD),
        ("9112 2.2: a bare LF in a value", b"X: a\nb\r\n", BAD),
        ("9112 2.2: a bare LF in a name", b"X\nY: z\r\n", BAD),
        ("9112 2.2: a bare LF behind the colon", b"X:\nTransfer-Encoding: chunked\r\n", BAD),
        ("9112 2.2: a bare CR in a value", b"X: a\rb\r\n", BAD),
        ("9112 2.2: a bare CR that hides a field", b"X: a\rContent-Length: 5\r\n", BAD),
        ("9112 2.2: a bare CR behind a value", b"X: a\r\r\n", BAD),
        ("9112 2.2: a bare CR before a name", b"\rX: a\r\n", BAD),
        ("9112 2.2: a bare CR in a name", b"X\rY: a\r\n", BAD),
        ("9112 2.2: a bare CR behind a name", b"X\r: a\r\n", BAD),
        ("9112 2.2: CR CR LF for the empty line", b"\r\r\n", BAD),
        ("9112 2.2: LF CR", b"X: y\n\rZ: z\r\n", BAD),
        ("9112 5.2: a fold", b"X: a\r\n b\r\n", BAD),
        ("9112 5.2: a fold with a tab", b"X: a\r\n\tb\r\n", BAD),
        ("9112 5.2: a fold of nothing", b"X: a\r\n \r\n", BAD),
        ("9112 5.2: a fold that hides a field", b"X: a\r\n Transfer-Encoding: chunked\r\n", BAD),
        ("9112 5.2: a fold of the host", b" b: c\r\n", BAD),
        ("9112 2.2: a tab before the last field", b"X: a\r\n\tY: b\r\n", BAD),
    ]);
}

#[test]
fn a_name_is_a_token_right_before_its_colon() {
    get(&[
        ("9110 5.6.2: every token character", b"!#$%&'*+-.^_`|~09azAZ: y\r\n", GOOD),
        ("9110 5.1: one character", b"x: y\r\n", GOOD),
        ("9112 5.1: a space before the colon", b"X : y\r\n", BAD),
        ("9112 5.1: a tab before the colon", b"X\t: y\r\n", BAD),
        ("9112 5.1: spaces before the colon", b"X   : y\r\n", BAD),
        ("9112 5.1: no name", b": y\r\n", BAD),
        ("9112 5.1: only a colon", b":\r\n", BAD),
        ("9112 5.1: no colon", b"X\r\n", BAD),
        ("9112 5.1: no colon but a space", b"X y\r\n", BAD),
        ("9112 5.1: an equals sign for a colon", b"X=y\r\n", BAD),
        ("9110 5.1: a name of two words", b"X Y: z\r\n", BAD),
        ("9110 5.1: a name in quotes", b"\"X\": y\r\n", BAD),
        ("9110 5.1: Latin-1", b"X\xe4: y\r\n", BAD),
        ("9110 5.1: UTF-8", b"X\xc3\xa4: y\r\n", BAD),
        ("9110 5.1: a soft hyphen", b"Content\xad-Length: 5\r\n", BAD),
        ("9112 5: another request line", b"GET /b HTTP/1.1\r\n", BAD),
        ("9113 8.3: a pseudo-header", b":path: /b\r\n", BAD),
    ]);
}

#[test]
fn a_name_has_no_delimiter_and_no_control_byte() {
    // RFC 9110 section 5.6.2. CR and LF have rows of their own.
    let bytes: Vec<u8> =
        (0..=0x20).chain([0x7f]).chain(*b"\"(),/;<=>?@[\\]{}").filter(|byte| !b"\r\n".contains(byte)).collect();
    let rows: Vec<_> = bytes
        .iter()
        .flat_map(|byte| {
            let rule = |place| format!("9110 5.6.2: {:?} {place} a name", char::from(*byte));
            [
                (rule("within"), [b"X", &[*byte][..], b"Y: z\r\n"].concat()),
                (rule("behind"), [b"X", &[*byte][..], b": z\r\n"].concat()),
            ]
        })
        .collect();
    assert!(rows.len() > 90);
    get(&rows.iter().map(|(rule, lines)| (rule.as_str(), &lines[..], BAD)).collect::<Vec<_>>());
}

#[test]
fn a_value_is_anything_but_control_bytes() {
    let bytes: Vec<u8> = (0..0x20).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)).collect();
    let rows: Vec<_> = bytes
        .iter()
        .map(|byte| (format!("9110 5.5: {byte:#04x} in a value"), [b"X: a", &[*byte][..], b"b\r\n"].concat()))
        .collect();
    get(&rows.iter().map(|(rule, lines)| (rule.as_str(), &lines[..], BAD)).collect::<Vec<_>>());

    get(&[
        ("9110 5.5: empty", b"X:\r\n", GOOD),
        ("9110 5.5: only white space", b"X: \t \r\n", GOOD),
        ("9110 5.5: white space within", b"X: a \t b\r\n", GOOD),
        ("9110 5.6.3: white space around", b"X: \t a \t\r\n", GOOD),
        ("9110 5.5: Latin-1", b"X: \xe4\xff\x80\r\n", GOOD),
        ("9110 5.5: delimiters", b"X: \"(),/:;<=>?@[\\]{}\r\n", GOOD),
        ("9110 5.5: a colon first", b"X:: a\r\n", GOOD),
        ("9110 5.3: a field twice", b"X: a\r\nx: b\r\n", GOOD),
    ]);
}

#[test]
fn there_is_exactly_one_good_host() {
    bare(&[
        ("9112 3.2: one", b"Host: a\r\n", GOOD),
        ("9112 3.2: with a port", b"Host: a:8080\r\n", GOOD),
        ("9110 4.2.1: with an empty port", b"Host: a:\r\n", GOOD),
        ("9112 3.2: an IPv4 address", b"Host: 192.0.2.1\r\n", GOOD),
        ("9112 3.2: an IPv6 address", b"Host: [2001:db8::1]:80\r\n", GOOD),
        ("9112 3.2: other letters", b"hOST: A.Example\r\n", GOOD),
        ("9112 3.2: last", b"X: y\r\nHost: a\r\n", GOOD),
        ("9110 7.6.1: named by `connection`", b"Connection: host\r\nHost: a\r\n", GOOD),
        ("9112 3.2: none", b"X: y\r\n", BAD),
        ("9112 3.2: no field at all", b"", BAD),
        ("9112 3.2: two", b"Host: a\r\nHost: b\r\n", BAD),
        ("9112 3.2: one twice", b"Host: a\r\nhost: a\r\n", BAD),
        ("9112 3.2: one empty", b"Host: a\r\nHost:\r\n", BAD),
        ("9112 3.2: empty", b"Host:\r\n", BAD),
        ("9112 3.2: white space", b"Host: \t\r\n", BAD),
        ("9112 5.1: a space before the colon", b"Host : a\r\n", BAD),
        ("9112 5.2: folded", b"Host:\r\n a\r\n", BAD),
        ("9112 5.2: with a fold", b"Host: a\r\n b\r\n", BAD),
        ("9112 3.2: a list", b"Host: a, b\r\n", BAD),
        ("9112 3.2: joined", b"Host: a,b\r\n", BAD),
        ("9112 3.2: two words", b"Host: a b\r\n", BAD),
        ("9112 3.2: a tab within", b"Host: a\tb\r\n", BAD),
        ("9110 4.2.4: a user", b"Host: u@a\r\n", BAD),
        ("9112 3.2: a path", b"Host: a/b\r\n", BAD),
        ("9112 3.2: a query", b"Host: a?b\r\n", BAD),
        ("9112 3.2: a fragment", b"Host: a#b\r\n", BAD),
        ("9112 3.2: a scheme", b"Host: http://a\r\n", BAD),
        ("9112 3.2: a backslash", b"Host: a\\b\r\n", BAD),
        ("9112 3.2: only a port", b"Host: :80\r\n", BAD),
        ("9112 3.2: a port that is none", b"Host: a:b\r\n", BAD),
        ("9112 3.2: a negative port", b"Host: a:-1\r\n", BAD),
        ("9112 3.2: a port too high", b"Host: a:65536\r\n", BAD),
        ("9112 3.2: two ports", b"Host: a:80:80\r\n", BAD),
        ("9112 3.2: IPv6 without brackets", b"Host: ::1\r\n", BAD),
        ("9112 3.2: an open bracket", b"Host: [::1\r\n", BAD),
        ("9112 3.2: brackets around nothing", b"Host: []\r\n", BAD),
        ("9112 3.2: a zone", b"Host: [fe80::1%25eth0]\r\n", BAD),
        ("9112 3.2: UTF-8", b"Host: b\xc3\xbccher.example\r\n", BAD),
        ("9112 3.2: NUL", b"Host: a\0b\r\n", BAD),
        ("9112 3.2: angle brackets", b"Host: <a>\r\n", BAD),
        ("9112 3.2: a percent sign alone", b"Host: a%\r\n", BAD),
    ]);
    whole(
        "GET / HTTP/1.0\r\n",
        &[
            ("9112 3.2: HTTP/1.0 may leave it out", b"X: y\r\n", Last(LINE, b"")),
            ("9112 3.2: HTTP/1.0 with two", b"Host: a\r\nHost: b\r\n", BAD),
            ("9112 3.2: HTTP/1.0 with a bad one", b"Host: a b\r\n", BAD),
        ],
    );
}

#[test]
fn a_head_has_its_bounds() {
    let long_value = format!("X: {}\r\n", "a".repeat(40_000));
    let long_name = format!("{}: x\r\n", "a".repeat(40_000));
    let many = "X: a\r\n".repeat(200);
    let just_right = "X: a\r\n".repeat(127);
    let endless = "X: ".to_owned() + &"a".repeat(40_000);
    let padded = format!("X:{}\r\n", " ".repeat(40_000));

    get(&[
        ("6585 5: a long value", long_value.as_bytes(), Refused(431)),
        ("6585 5: a long name", long_name.as_bytes(), Refused(431)),
        ("6585 5: many fields", many.as_bytes(), Refused(431)),
        ("6585 5: a field without an end", endless.as_bytes(), Refused(431)),
        ("6585 5: white space without an end", padded.as_bytes(), Refused(431)),
        ("6585 5: as many fields as there may be", just_right.as_bytes(), GOOD),
    ]);
}
