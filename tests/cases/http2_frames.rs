//! HTTP/2 by its frames (RFC 9113) and its compression of fields (RFC 7541): what is wrong ends a stream or the
//! connection with the error it deserves, and is never passed on.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::{ADMIN, PATIENCE, Proxy, Upstream, api, eventually, ok};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// RFC 9113 section 4.3 wants the second; the library, which reads names and values with it, says the first.
const HPACK: &[u32] = &[PROTOCOL_ERROR, COMPRESSION_ERROR];

/// What must come of bytes that are sent.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// The connection ends, with one of these errors where it says why.
    Ends(&'static [u32]),
    /// The stream 1 is reset with one of these errors, or refused with a status from 400, and the connection goes on; or
    /// the connection ends with such an error (RFC 9113 section 5.4.1 allows that).
    Refused(&'static [u32]),
    /// The stream 1 is answered, and the connection goes on.
    Answered,
    /// Nothing, and the connection goes on.
    Ignored,
}
use Outcome::{Answered, Ends, Ignored, Refused};

#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client that sends frames as they are.
struct Client(TcpStream);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    /// One that has begun in order.
    fn begin(proxy: &Proxy) -> Self {
        let mut client = Self::connect(proxy);
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat());
        client
    }

    /// Sends bytes. That the proxy has closed already shows when it is read from.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next frame; `None` when the connection has ended.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.take(&mut head)?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
        self.take(&mut payload)?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    fn take(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.0.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next frame of a kind; `None` when the connection ends before.
    fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// All frames until the proxy has read all that was sent and answers a ping; and whether it still did.
    fn settle(&mut self) -> (Vec<Frame>, bool) {
        self.send(&frame(PING, 0, 0, b"settled?"));
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            let is_over = frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"settled?";
            frames.push(frame);
            if is_over {
                return (frames, true);
            }
        }
        (frames, false)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields that are compressed by nothing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 section 5.1, with a prefix of seven bits.
fn length(block: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(length as u8 | 128);
        length >>= 7;
    }
    block.push(length as u8);
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")];

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
}

/// A request whose body follows.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&POST))
}

/// A whole request with these fields.
fn asking(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))
}

/// A GET with these further fields.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    asking(&[&GET, fields].concat())
}

/// A whole request whose fields are compressed to these bytes, behind those of a GET.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&block(&GET), bytes].concat())
}

fn run(rows: &[(&str, Vec<u8>, Outcome)]) {
    let origin = Upstream::replying("hello");
    let proxy = Proxy::to([&origin]);
    let mut faults = Vec::new();
    for (row, bytes, outcome) in rows {
        let mut client = Client::begin(&proxy);
        client.send(bytes);
        let fault = judge(&mut client, *outcome);
        faults.extend(fault.map(|fault| format!("RFC {row}: {fault}; expected {outcome:?}")));
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
}

/// What was wrong with what came.
fn judge(client: &mut Client, outcome: Outcome) -> Option<String> {
    let mut early = Vec::new();
    if let Refused(_) = outcome {
        let came = client
            .until(|frame| frame.kind == GOAWAY || matches!(frame.kind, HEADERS | RST_STREAM) && frame.stream == 1);
        let Some(came) = came else { return Some("it only ended".to_owned()) };
        early.push(came);
    }
    if matches!(outcome, Answered) {
        let answer = client.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
        if !answer.as_ref().is_some_and(|frame| frame.kind == HEADERS && frame.stream == 1) {
            return Some(format!("{answer:?}"));
        }
    }
    let (late, goes_on) = client.settle();
    let frames = [early, late].concat();
    let code = |frame: &Frame, at: usize| {
        frame.payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().expect("four bytes")))
    };
    let goodbye = frames.iter().find(|frame| frame.kind == GOAWAY).map(|frame| code(frame, 4));
    let reset = frames.iter().find(|frame| frame.kind == RST_STREAM && frame.stream == 1).map(|frame| code(frame, 0));
    let answer = frames.iter().find(|frame| frame.kind == HEADERS && frame.stream == 1);
    // From 400 on, statuses are written out or have these places in the static table.
    let is_refusal =
        answer.is_some_and(|answer| matches!(answer.payload.first(), Some(0x8c..=0x8e | 0x48 | 0x08 | 0x18)));
    let good = match outcome {
        Ends(codes) => !goes_on && goodbye.is_none_or(|code| codes.contains(&code)),
        Refused(codes) => match (goodbye, reset) {
            (Some(code), _) => codes.contains(&code) && !goes_on,
            (None, Some(code)) => codes.contains(&code) && goes_on,
            (None, None) => is_refusal && goes_on,
        },
        Answered => goes_on && goodbye.is_none(),
        Ignored => goes_on && goodbye.is_none() && reset.is_none(),
    };
    (!good).then(|| format!("goes on: {goes_on}, goodbye {goodbye:?}, reset {reset:?}, answer {answer:?}"))
}

#[test]
fn what_comes_first_is_the_preface_and_settings() {
    let origin = Upstream::replying("hello");
    let proxy = Proxy::to([&origin]);

    // In whatever pieces.
    let mut client = Client::connect(&proxy);
    for byte in [PREFACE, &frame(SETTINGS, 0, 0, b""), &get(1)].concat() {
        client.send(&[byte]);
    }
    assert!(client.until(|frame| frame.kind == HEADERS).is_some());

    // RFC 9113 section 3.4: anything but settings behind it is an error.
    let mut client = Client::connect(&proxy);
    client.send(&[PREFACE, &frame(PING, 0, 0, b"12345678")].concat());
    client.0.shutdown(Shutdown::Write).expect("open");
    while client.next().is_some() {}
}

#[test]
fn frames_have_the_sizes_they_must_have() {
    run(&[
        ("9113 4.1: a frame of unknown kind", frame(99, 0xff, 0, b"whatever"), Ignored),
        ("9113 4.1: unknown flags", frame(HEADERS, 0xc0 | END_STREAM | END_HEADERS, 1, &block(&GET)), Answered),
        ("9113 4.1: a reserved bit", frame(HEADERS, END_STREAM | END_HEADERS, 0x8000_0001, &block(&GET)), Answered),
        ("9113 4.2: DATA of 16384 bytes", [post(1), frame(DATA, END_STREAM, 1, &[0; 16384])].concat(), Answered),
        (
            "9113 4.2: DATA longer than was agreed",
            [post(1), frame(DATA, END_STREAM, 1, &[0; 16385])].concat(),
            Refused(&[FRAME_SIZE_ERROR]),
        ),
        (
            "9113 4.2: HEADERS longer than was agreed",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0; 16385]),
            Ends(&[FRAME_SIZE_ERROR]),
        ),
        ("9113 6.3: PRIORITY of 4 bytes", frame(PRIORITY, 0, 1, &[0; 4]), Refused(&[FRAME_SIZE_ERROR])),
        (
            "9113 6.4: RST_STREAM of 3 bytes",
            [post(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Ends(&[FRAME_SIZE_ERROR]),
        ),
        ("9113 6.5: SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Ends(&[FRAME_SIZE_ERROR])),
        ("9113 6.5: an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), Ends(&[FRAME_SIZE_ERROR])),
        ("9113 6.7: PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Ends(&[FRAME_SIZE_ERROR])),
        ("9113 6.9: WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Ends(&[FRAME_SIZE_ERROR])),
    ]);
}

#[test]
fn frames_belong_to_streams_or_to_the_connection() {
    run(&[
        ("9113 6.1: DATA of no stream", frame(DATA, END_STREAM, 0, b"x"), Ends(&[PROTOCOL_ERROR])),
        (
            "9113 6.2: HEADERS of no stream",
            frame(HEADERS, END_STREAM | END_HEADERS, 0, &block(&GET)),
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("9113 6.3: PRIORITY of no stream", frame(PRIORITY, 0, 0, &[0; 5]), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.4: RST_STREAM of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.4: RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.5: SETTINGS of a stream", frame(SETTINGS, 0, 1, b""), Ends(&[PROTOCOL_ERROR])),
        (
            "9113 6.6: PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("9113 6.7: PING of a stream", frame(PING, 0, 1, &[0; 8]), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.8: GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.10: CONTINUATION of no stream", frame(CONTINUATION, END_HEADERS, 0, b""), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.10: CONTINUATION behind nothing", frame(CONTINUATION, END_HEADERS, 1, b""), Ends(&[PROTOCOL_ERROR])),
        ("9113 5.1.1: a stream of an even number", get(2), Ends(&[PROTOCOL_ERROR])),
        ("9113 5.1.1: a stream of a lower number", [get(5), get(3)].concat(), Ends(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        ("9113 5.1: DATA of an idle stream", frame(DATA, END_STREAM, 1, b"x"), Ends(&[PROTOCOL_ERROR])),
        (
            "9113 5.1: WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("9113 5.1: PRIORITY of an idle stream", frame(PRIORITY, 0, 1, &[0; 5]), Ignored),
        (
            "9113 5.1: DATA behind the end",
            [get(1), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Refused(&[STREAM_CLOSED]),
        ),
        ("9113 5.1: HEADERS behind the end", [get(1), get(1)].concat(), Refused(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        (
            "9113 5.1: WINDOW_UPDATE behind the end",
            [get(1), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])].concat(),
            Answered,
        ),
        (
            "9113 5.3.1: a stream that depends on itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]),
            Refused(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn padding_and_pieces_are_put_together() {
    let whole = block(&GET);
    let (one, other) = whole.split_at(10);
    let pieces = |last: u8| [frame(HEADERS, END_STREAM, 1, one), frame(CONTINUATION, last, 1, other)].concat();
    run(&[
        ("9113 6.10: a head in two pieces", pieces(END_HEADERS), Answered),
        (
            "9113 6.10: a head in many pieces",
            [
                frame(HEADERS, END_STREAM, 1, b""),
                whole.iter().flat_map(|byte| frame(CONTINUATION, 0, 1, &[*byte])).take(10 * 4).collect(),
                frame(CONTINUATION, END_HEADERS, 1, &whole[4..]),
            ]
            .concat(),
            Answered,
        ),
        (
            "9113 6.10: another frame between the pieces",
            [frame(HEADERS, END_STREAM, 1, one), frame(PING, 0, 0, &[0; 8])].concat(),
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "9113 6.10: a piece of another stream",
            [frame(HEADERS, END_STREAM, 1, one), frame(CONTINUATION, END_HEADERS, 3, other)].concat(),
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "9113 6.10: a piece behind the last",
            [pieces(END_HEADERS), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "9113 6.2: a padded head",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[3], &whole[..], &[0; 3]].concat()),
            Answered,
        ),
        (
            "9113 6.2: a head with a priority",
            frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &[&[0, 0, 0, 3, 7], &whole[..]].concat()),
            Answered,
        ),
        (
            "9113 6.2: more padding than there is",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[255], &whole[..]].concat()),
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("9113 6.1: padded DATA", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x02x\0\0")].concat(), Answered),
        (
            "9113 6.1: DATA with more padding than there is",
            [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x04x\0\0")].concat(),
            Ends(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn settings_have_values_in_their_ranges() {
    let setting =
        |name: u16, value: u32| frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat());
    run(&[
        ("9113 6.5.2: an unknown setting", [setting(0x7777, 1), get(1)].concat(), Answered),
        ("9113 6.5.2: ENABLE_PUSH of 2", setting(2, 2), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.5.2: INITIAL_WINDOW_SIZE beyond its bound", setting(4, 0x8000_0000), Ends(&[FLOW_CONTROL_ERROR])),
        ("9113 6.5.2: MAX_FRAME_SIZE below its bound", setting(5, 16383), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.5.2: MAX_FRAME_SIZE beyond its bound", setting(5, 1 << 24), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.5.2: the same twice, the last counts", [setting(4, 1), setting(4, 65535), get(1)].concat(), Answered),
    ]);
}

#[test]
fn windows_do_not_overflow_and_hold_what_is_sent() {
    let update = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    run(&[
        ("9113 6.9: no growth of the connection's", update(0, 0), Ends(&[PROTOCOL_ERROR])),
        ("9113 6.9: no growth of a stream's", [post(1), update(1, 0)].concat(), Refused(&[PROTOCOL_ERROR])),
        (
            "9113 6.9.1: the connection's beyond its bound",
            [update(0, 0x7fff_ffff), update(0, 0x7fff_ffff)].concat(),
            Ends(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "9113 6.9.1: a stream's beyond its bound",
            [post(1), update(1, 0x7fff_ffff), update(1, 0x7fff_ffff)].concat(),
            Refused(&[FLOW_CONTROL_ERROR]),
        ),
    ]);

    // Nothing more comes than the client has room for, and the rest when it has.
    let origin = Upstream::replying("hello");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::begin(&proxy);
    client.send(&[frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), get(1)].concat());
    let data = client.until(|frame| frame.kind == DATA).expect("data");
    assert_eq!(data.payload, b"h");
    client.send(&update(1, 2));
    assert_eq!(client.until(|frame| frame.kind == DATA).expect("data").payload, b"el");
    // A window that shrinks below nothing takes as much longer (section 6.9.2).
    client.send(&[frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), update(1, 1), update(1, 2)].concat());
    assert_eq!(client.until(|frame| frame.kind == DATA && !frame.payload.is_empty()).expect("data").payload, b"lo");
}

#[test]
fn a_request_is_well_formed_or_refused() {
    let trailers = |fields: &[(&str, &str)]| {
        [post(1), frame(DATA, 0, 1, b"x"), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))].concat()
    };
    let lengthy = |said: &str, body: &[u8]| {
        let head = block(&[&POST[..], &[("content-length", said)]].concat());
        [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, body)].concat()
    };
    run(&[
        ("9113 8.3: a request", with(&[("x-a", "1")]), Answered),
        ("9113 8.2: a name in upper case", with(&[("X-A", "1")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a name with a space", with(&[("x a", "1")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a name with a colon", with(&[("x:a", "1")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: an empty name", with(&[("", "1")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a line feed in a value", with(&[("x-a", "1\nx-b: 2")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a carriage return in a value", with(&[("x-a", "1\r")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a null byte in a value", with(&[("x-a", "1\0")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a space before a value", with(&[("x-a", " 1")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.1: a tab behind a value", with(&[("x-a", "1\t")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: connection", with(&[("connection", "keep-alive")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: proxy-connection", with(&[("proxy-connection", "keep-alive")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: keep-alive", with(&[("keep-alive", "timeout=5")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: transfer-encoding", with(&[("transfer-encoding", "chunked")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: upgrade", with(&[("upgrade", "h2c")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.2.2: te: trailers", with(&[("te", "trailers")]), Answered),
        ("9113 8.2.2: te of anything else", with(&[("te", "trailers, deflate")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3: a pseudo-field nobody knows", with(&[(":test", "ok")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3: a response's pseudo-field", with(&[(":status", "200")]), Refused(&[PROTOCOL_ERROR])),
        (
            "9113 8.3: a pseudo-field behind a field",
            asking(&[GET[0], GET[1], ("x-a", "1"), GET[2], GET[3]]),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("9113 8.3.1: no method", asking(&GET[1..]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: no scheme", asking(&[GET[0], GET[2], GET[3]]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: no path", asking(&[GET[0], GET[1], GET[3]]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: an empty path", asking(&[GET[0], GET[1], (":path", ""), GET[3]]), Refused(&[PROTOCOL_ERROR])),
        (
            "9113 8.3.1: a path that does not begin as one",
            asking(&[GET[0], GET[1], (":path", "x"), GET[3]]),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("9113 8.3.1: two methods", with(&[(":method", "GET")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: two schemes", with(&[(":scheme", "http")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: two paths", with(&[(":path", "/")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: two authorities", with(&[(":authority", "test")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: a host that says the same", with(&[("host", "test")]), Answered),
        ("9113 8.3.1: a host that says something else", with(&[("host", "other")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.3.1: a host alone", asking(&[GET[0], GET[1], GET[2], ("host", "test")]), Answered),
        ("9113 8.3.1: nobody is asked", asking(&[GET[0], GET[1], GET[2]]), Refused(&[PROTOCOL_ERROR])),
        (
            "9113 8.3.1: a user in the authority",
            asking(&[GET[0], GET[1], GET[2], (":authority", "a@test")]),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("9113 8.5: CONNECT", asking(&[(":method", "CONNECT"), (":authority", "test:80")]), Refused(&[PROTOCOL_ERROR])),
        ("8441 4: a protocol without CONNECT", with(&[(":protocol", "websocket")]), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.1: trailers", trailers(&[("x-a", "1")]), Answered),
        ("9113 8.1: trailers with a pseudo-field", trailers(&[(":path", "/")]), Refused(&[PROTOCOL_ERROR])),
        (
            "9113 8.1: a second head that does not end the stream",
            [post(1), frame(HEADERS, END_HEADERS, 1, &block(&[("x-a", "1")]))].concat(),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("9113 8.1.1: as much as was said", lengthy("1", b"x"), Answered),
        ("9113 8.1.1: less than was said", lengthy("2", b"x"), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.1.1: more than was said", lengthy("1", b"xy"), Refused(&[PROTOCOL_ERROR])),
        ("9113 8.1.1: nothing of what was said", with(&[("content-length", "1")]), Refused(&[PROTOCOL_ERROR])),
        (
            "9110 8.6: two lengths",
            with(&[("content-length", "0"), ("content-length", "1")]),
            Refused(&[PROTOCOL_ERROR]),
        ),
        ("9110 8.6: no number", with(&[("content-length", "+0")]), Refused(&[PROTOCOL_ERROR])),
    ]);
}

#[test]
fn what_cannot_be_decompressed_ends_the_connection() {
    run(&[
        ("7541 6.1: an index", compressed(&[0x80 | 16]), Answered),
        ("7541 2.3.3: the index 0", compressed(&[0x80]), Ends(HPACK)),
        ("7541 2.3.3: an index beyond the table", compressed(&[0x80 | 126]), Ends(HPACK)),
        ("7541 2.3.3: a name beyond the table", compressed(&[0x7e, 1, b'x']), Ends(HPACK)),
        (
            "7541 4.2: a table that grows beyond its bound",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&[0x3f, 0xe1, 0xff, 0x03], &block(&GET)[..]].concat()),
            Ends(HPACK),
        ),
        ("7541 4.2: a table that changes behind fields", compressed(&[0x20]), Ends(HPACK)),
        (
            "7541 5.1: an integer that never ends",
            compressed(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Ends(HPACK),
        ),
        ("7541 5.2: padding of a whole byte", compressed(&[0, 1, b'x', 0x82, 0x07, 0xff]), Ends(HPACK)),
        ("7541 5.2: padding of zeros", compressed(&[0, 1, b'x', 0x81, 0x00]), Ends(HPACK)),
        (
            "7541 5.2: the end of strings within one",
            compressed(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Ends(HPACK),
        ),
        ("7541 5.2: a text that is cut off", compressed(&[0, 1, b'x', 5, b'a']), Ends(HPACK)),
    ]);
}

#[test]
fn no_more_requests_are_taken_at_a_time_than_was_agreed() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Upstream::answering(move |_| {
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        ok("hello")
    });
    let proxy = Proxy::with(&format!("[server]\nhttp2 = {{ max_concurrent_streams = 2 }}\n{}", api([&origin])));
    let mut client = Client::begin(&proxy);
    let settings = client.until(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0).expect("settings");
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    client.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0);
    client.send(&[frame(SETTINGS, ACK, 0, b""), get(1), get(3), get(5)].concat());

    let refused = client.until(|frame| frame.kind == RST_STREAM).expect("a reset");

    assert_eq!((refused.stream, refused.payload), (5, REFUSED_STREAM.to_be_bytes().to_vec()));
    for _ in 0..2 {
        release.send(()).expect("the origin");
    }
    assert!(client.until(|frame| frame.kind == HEADERS).is_some());
}

#[test]
fn a_client_that_floods_is_told_to_calm_down() {
    let origin = Upstream::replying("hello");
    let proxy = Proxy::with(&format!("{ADMIN}{}", api([&origin])));
    let reset = |number: u32| [get(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8])].concat();
    let many = |one: &[u8]| one.repeat(20_000);

    for (kind, bytes) in [
        ("pings", many(&frame(PING, 0, 0, b"12345678"))),
        ("settings", many(&frame(SETTINGS, 0, 0, &[]))),
        ("priorities", many(&frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]))),
        ("unknown frames", many(&frame(77, 0, 0, b"x"))),
        ("empty data", [post(1), many(&frame(DATA, 0, 1, b""))].concat()),
        ("resets", (0..20_000).flat_map(reset).collect()),
        ("pieces of a head", [frame(HEADERS, 0, 1, b""), many(&frame(CONTINUATION, 0, 1, b""))].concat()),
    ] {
        let mut client = Client::begin(&proxy);
        let mut writer = client.0.try_clone().expect("a socket");
        writer.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket");
        // The proxy may stop reading before all is sent.
        let sending = std::thread::spawn(move || drop(writer.write_all(&bytes)));

        let mut goodbye = None;
        while let Some(frame) = client.next() {
            if frame.kind == GOAWAY {
                goodbye = Some(u32::from_be_bytes(frame.payload[4..8].try_into().expect("four bytes")));
            }
        }
        sending.join().expect("it sends");
        // Without one the connection was reset before it could be read.
        assert!(goodbye.is_none_or(|code| [ENHANCE_YOUR_CALM, PROTOCOL_ERROR].contains(&code)), "{kind}: {goodbye:?}");
    }
    assert!(proxy.metric("staunch_http2_floods_total") >= 4.0);
    eventually(|| proxy.metric("staunch_http_connections_active") <= 1.0);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let origin = Upstream::replying("hello");
    let proxy = Proxy::with(&format!("[server]\nmax_header_size = \"4KiB\"\nmax_headers = 20\n{}", api([&origin])));
    let long = "x".repeat(5000);
    let fields: Vec<_> = (0..30).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();

    for request in [with(&[("x-a", &long)]), with(&fields)] {
        let mut client = Client::begin(&proxy);
        client.send(&request);
        let fault = judge(&mut client, Refused(&[PROTOCOL_ERROR, ENHANCE_YOUR_CALM]));
        assert_eq!(fault, None);
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let origin = Upstream::replying("hello".repeat(10_000));
    let proxy = Proxy::with(&format!("[server]\nclient_send_timeout = \"300ms\"\n{ADMIN}{}", api([&origin])));
    let mut client = Client::begin(&proxy);
    client.send(&[frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), get(1)].concat());

    let reset = client.until(|frame| frame.kind == RST_STREAM).expect("a reset");

    assert_eq!(reset.stream, 1);
    proxy.assert_counted("staunch_http_timeouts_total{timeout=\"client_send\"}", 1.0);
}

#[test]
fn a_connection_without_requests_is_told_goodbye() {
    let origin = Upstream::replying("hello");
    let text = format!("[server]\nclient_keepalive_timeout = \"300ms\"\n{ADMIN}{}", api([&origin]));
    let proxy = Proxy::with(&text);
    let mut client = Client::begin(&proxy);
    client.send(&get(1));

    let goodbye = client.until(|frame| frame.kind == GOAWAY).expect("a goodbye");

    assert_eq!(goodbye.payload[4..8], [0; 4]);
    proxy.assert_counted("staunch_http_timeouts_total{timeout=\"client_keepalive\"}", 1.0);
}
