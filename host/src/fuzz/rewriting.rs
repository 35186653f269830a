//! What a rewriter hands back: changes of a head, a response of its own, the pieces of a body.

use crate::filters::{
    BodyBroken, BodyChain, BodyFilter, FieldEdit, LocalResponse, TargetEdit, check_response, rewrite_request,
    rewrite_response,
};
use crate::fuzz::reference;
use crate::http::h1::{
    self, BodyEncoder, BodyKind, ConnectionOption, Encoding, Limits, RequestOptions, ResponseOptions,
};
use crate::http::head::{RequestHead, ResponseHead};

const LIMITS: Limits = Limits { max_head: 1 << 20, max_fields: 4096, max_target: 1 << 20 };
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const REQUEST: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: 5\r\nX-A: 2\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nX-A: 2\r\n\r\n";

/// Changes are refused as a whole, with nothing changed, or leave one message that is framed as it was.
pub fn rewriting(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() % 4 {
        0 => request(&mut input),
        1 => response(&mut input),
        2 => own(&mut input),
        _ => bodies(&mut input),
    }
}

/// Bytes that are taken for values.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to a byte of 0xff, which text does not have.
    fn bytes(&mut self) -> Vec<u8> {
        let end = self.0.iter().position(|byte| *byte == 0xff).unwrap_or(self.0.len());
        let (bytes, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        bytes.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn status(&mut self) -> u16 {
        u16::from_be_bytes([self.byte() & 3, self.byte()])
    }

    fn fields(&mut self) -> Vec<FieldEdit> {
        let mut edits = Vec::new();
        while !self.0.is_empty() {
            edits.push(match self.byte() % 3 {
                0 => FieldEdit::Set(self.text(), self.bytes()),
                1 => FieldEdit::Append(self.text(), self.bytes()),
                _ => FieldEdit::Remove(self.text()),
            });
        }
        edits
    }
}

fn request(input: &mut Input<'_>) {
    let mut head = RequestHead::default();
    h1::parse_request(REQUEST, &LIMITS, &mut head).expect("a good request");
    let before = written_request(&head);
    let target: Vec<_> = (0..input.byte() % 4)
        .map(|_| match input.byte() % 3 {
            0 => TargetEdit::PathAndQuery(input.text()),
            1 => TargetEdit::Authority(input.text()),
            _ => TargetEdit::Method(input.text()),
        })
        .collect();

    if rewrite_request(&mut head, &target, &input.fields()).is_err() {
        assert_eq!(written_request(&head), before, "refused, and yet changed");
        return;
    }

    let written = written_request(&head);
    let second = reference::request(&written).expect("a request");
    assert_eq!((second.length, second.framing(false)), (written.len(), Some(BodyKind::Length(5))));
    assert_eq!(second.first[0], head.method().as_bytes());
    assert_eq!(second.all("host"), [head.authority().as_bytes()], "one host, the one it is sent to");
    let mut again = RequestHead::default();
    assert_eq!(h1::parse_request(&written, &LIMITS, &mut again), Ok(Some(written.len())));
    assert_eq!((again.method(), again.path_and_query()), (head.method(), head.path_and_query()));
    assert_eq!(h1::request_body(&again), Ok(BodyKind::Length(5)));
}

fn written_request(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    let options = RequestOptions { fallback_host: "fallback", connection: ConnectionOption::Implied };
    h1::encode_request(&mut out, head, Encoding::Length(5), options);
    out
}

fn response(input: &mut Input<'_>) {
    let mut head = ResponseHead::default();
    h1::parse_response(RESPONSE, &LIMITS, &mut head).expect("a good response");
    let before = written_response(&head, Encoding::Chunked);
    let status = (input.byte() % 2 == 1).then(|| input.status());

    if rewrite_response(&mut head, status, &input.fields()).is_err() {
        assert_eq!(written_response(&head, Encoding::Chunked), before, "refused, and yet changed");
        return;
    }

    let written = written_response(&head, Encoding::Chunked);
    let second = reference::response(&written).expect("a response");
    assert_eq!((second.length, second.framing(false)), (written.len(), Some(BodyKind::Chunked)));
    let mut again = ResponseHead::default();
    assert_eq!(h1::parse_response(&written, &LIMITS, &mut again), Ok(Some(written.len())));
    assert_eq!(h1::response_body(&again, "GET"), Ok(BodyKind::Chunked), "still a body");
}

fn written_response(head: &ResponseHead, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    let options = ResponseOptions { date: DATE, connection: ConnectionOption::Implied };
    h1::encode_response(&mut out, head, encoding, options);
    out
}

fn own(input: &mut Input<'_>) {
    let status = input.status();
    let fields: Vec<_> = (0..input.byte() % 8).map(|_| (input.text(), input.bytes())).collect();
    let answer = LocalResponse { status, fields, body: input.bytes().into() };
    if check_response(&answer).is_err() {
        return;
    }

    let mut head = ResponseHead::default();
    head.status = answer.status;
    for (name, value) in &answer.fields {
        head.fields.append(name.as_bytes(), value);
    }
    let is_bodiless = matches!(answer.status, 204 | 304);
    let length = answer.body.len() as u64;
    let written = written_response(&head, if is_bodiless { Encoding::None } else { Encoding::Length(length) });
    let second = reference::response(&written).expect("a response");
    let framing = if is_bodiless { BodyKind::None } else { BodyKind::Length(length) };
    assert_eq!((second.length, second.framing(false)), (written.len(), Some(framing)));
}

/// Makes of each piece what was written down for it.
struct Scripted {
    pieces: std::vec::IntoIter<Vec<u8>>,
    fails: bool,
}

impl BodyFilter for Scripted {
    fn rewrite(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), BodyBroken> {
        if last && self.fails {
            return Err(BodyBroken);
        }
        out.extend(self.pieces.next().unwrap_or_else(|| piece.to_vec()));
        Ok(())
    }
}

/// Whatever pieces become, their framing is right, or they break off.
fn bodies(input: &mut Input<'_>) {
    let fails = input.byte().is_multiple_of(4);
    let mut script = || (0..input.byte() % 5).map(|_| input.bytes()).collect::<Vec<_>>().into_iter();
    let (first, second) = (script(), script());
    let mut chain = BodyChain::default();
    chain.push(Box::new(Scripted { pieces: first, fails }));
    chain.push(Box::new(Scripted { pieces: second, fails: false }));
    let (mut encoder, mut written, mut body) = (BodyEncoder::new(Encoding::Chunked), Vec::new(), Vec::new());
    while !input.0.is_empty() {
        let rewritten = chain.rewrite(&input.bytes()).expect("only the end fails").to_vec();
        encoder.data(&mut written, &rewritten).expect("any length");
        body.extend_from_slice(&rewritten);
    }
    match chain.end() {
        Ok(rest) => {
            body.extend_from_slice(rest);
            encoder.data(&mut written, rest).expect("any length");
            encoder.end(&mut written, None).expect("any length");
            assert_eq!(reference::body(BodyKind::Chunked, &written), Some((body, written.len())));
        }
        Err(BodyBroken) => assert_eq!(reference::body(BodyKind::Chunked, &written), None, "it looks whole"),
    }
}
