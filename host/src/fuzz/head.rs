//! The bytes of one message: its head, its framing and its body.

use crate::fuzz::{cuts, reference};
use crate::http::h1::{
    self, BadBody, BodyDecoder, BodyEncoder, BodyKind, ConnectionOption, Encoding, Limits, RequestOptions,
    ResponseOptions,
};
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version};

const LIMITS: Limits = Limits { max_head: 4096, max_fields: 64, max_target: 1024 };
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// A request with its body and what follows it.
pub fn request(input: &[u8]) {
    let mut head = RequestHead::default();
    let read = h1::parse_request(input, &LIMITS, &mut head);
    in_any_pieces(input, &read, |part| h1::parse_request(part, &LIMITS, &mut RequestHead::default()));
    let second = reference::request(input);
    let Ok(Some(length)) = read else {
        if let Some(second) = second.filter(is_plain) {
            panic!("refused: {:?}", second.first.map(<[u8]>::escape_ascii).map(|part| part.to_string()));
        }
        return;
    };
    let second = second.expect("a second reader accepts it");
    assert_eq!((length, head.method().as_bytes()), (second.length, second.first[0]));
    assert_eq!(head.version == Version::Http10, second.first[2] == b"HTTP/1.0");
    if second.first[1].starts_with(b"/") {
        assert_eq!(head.path_and_query().as_bytes(), second.first[1]);
    }
    same_fields(&head.fields, &second, !second.first[1].starts_with(b"/") && second.first[1] != b"*");

    let framing = second.framing(head.version == Version::Http10);
    let Ok(kind) = h1::request_body(&head) else { return };
    assert_eq!(Some(kind), framing);
    let mut written = Vec::new();
    let options = RequestOptions { fallback_host: "fallback", connection: ConnectionOption::Implied };
    h1::encode_request(&mut written, &head, Encoding::for_request(kind), options);
    let mut again = RequestHead::default();
    assert_eq!(h1::parse_request(&written, &WRITTEN, &mut again), Ok(Some(written.len())));
    assert_eq!(reference::request(&written).map(|head| head.length), Some(written.len()));
    assert_eq!((again.method(), again.path_and_query()), (head.method(), head.path_and_query()));
    assert_eq!((again.version, h1::request_body(&again)), (Version::Http11, Ok(kind)));
    assert_eq!(end_to_end(&again.fields), end_to_end(&head.fields));
    body(kind, &input[length..], BodyDecoder::new);
}

/// The same for the response to a GET.
pub fn response(input: &[u8]) {
    let mut head = ResponseHead::default();
    let read = h1::parse_response(input, &LIMITS, &mut head);
    in_any_pieces(input, &read, |part| h1::parse_response(part, &LIMITS, &mut ResponseHead::default()));
    let Ok(Some(length)) = read else { return };
    let second = reference::response(input).expect("a second reader accepts it");
    assert_eq!((length, head.status.to_string().as_bytes()), (second.length, second.first[1]));
    assert_eq!(head.reason(), second.first[2]);
    same_fields(&head.fields, &second, false);

    let Ok(kind) = h1::response_body(&head, "GET") else { return };
    let framing = second.framing(head.version == Version::Http10).expect("framing that a second reader accepts");
    if matches!(head.status, 100..=199 | 204 | 304) {
        assert_eq!(kind, BodyKind::None);
    } else {
        assert_eq!(kind, if framing == BodyKind::None { BodyKind::UntilClose } else { framing });
    }
    let mut written = Vec::new();
    let encoding = Encoding::for_response(&head, kind, Version::Http11);
    let options = ResponseOptions { date: DATE, connection: ConnectionOption::Implied };
    h1::encode_response(&mut written, &head, encoding, options);
    let mut again = ResponseHead::default();
    assert_eq!(h1::parse_response(&written, &WRITTEN, &mut again), Ok(Some(written.len())));
    assert_eq!(reference::response(&written).map(|head| head.length), Some(written.len()));
    let kept = |fields: &Fields| {
        let mut fields = end_to_end(fields);
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case(b"date"));
        fields
    };
    assert_eq!((again.status, kept(&again.fields)), (head.status, kept(&head.fields)));
    body(kind, &input[length..], BodyDecoder::of_response);
}

/// What is written may be longer than what was read: it names a host and a date.
const WRITTEN: Limits = Limits { max_head: 8192, max_fields: 80, max_target: 2048 };

/// However much of the input has come, it is never understood differently: unfinished until it is whole, and what was
/// refused once stays refused.
fn in_any_pieces<E: std::fmt::Debug>(
    input: &[u8],
    whole: &Result<Option<usize>, E>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, E>,
) {
    for cut in cuts(input.len()) {
        match (parse(&input[..cut]), whole) {
            (Ok(Some(early)), Ok(Some(length))) if early == *length && cut >= *length => {}
            (Ok(None), Ok(Some(length))) if cut < *length => {}
            (Ok(None) | Err(_), Err(_)) | (Ok(None), Ok(None)) => {}
            (part, whole) => panic!("{part:?} of {cut} bytes, and then {whole:?}"),
        }
    }
}

/// Whether a request is so ordinary that it must be accepted.
fn is_plain(head: &reference::Head<'_>) -> bool {
    let hosts = head.all("host");
    let unusual = ["connection", "expect", "transfer-encoding"];
    head.length <= LIMITS.max_head
        && head.first[0] != b"CONNECT"
        && head.first[0].len() <= 32
        && head.first[1].starts_with(b"/")
        && head.first[1].len() <= LIMITS.max_target
        && head.fields.len() <= LIMITS.max_fields
        && matches!(hosts[..], [host] if !host.is_empty() && host.iter().all(u8::is_ascii_alphanumeric))
        && unusual.iter().all(|name| head.all(name).is_empty())
}

/// The fields are those that the second reader sees, without those that are for one connection.
fn same_fields(fields: &Fields, second: &reference::Head<'_>, host_changed: bool) {
    let compared = |name: &[u8]| {
        let known = Known::of(name);
        !(second.is_nominated(name) || host_changed && known == Known::Host)
    };
    let ours: Vec<_> =
        fields.iter().map(|field| (field.name, field.value)).filter(|(name, _)| compared(name)).collect();
    let theirs: Vec<_> = second.fields.iter().copied().filter(|(name, _)| compared(name)).collect();
    assert_eq!(ours, theirs);
}

fn end_to_end(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ours = |known: Known| known.is_hop_by_hop() || matches!(known, Known::Host | Known::Expect | Known::Trailer);
    let passed = fields.iter().filter(|field| !ours(field.known));
    passed.map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// A body read in one piece, in two, byte by byte and by the second reader is one body; and so it is once it has been
/// framed anew.
fn body(kind: BodyKind, input: &[u8], decoder: fn(BodyKind) -> BodyDecoder) {
    let whole = decode(decoder(kind), input, &[]);
    let bytes: Vec<_> = (0..input.len()).collect();
    assert_eq!(decode(decoder(kind), input, &bytes), whole);
    for cut in cuts(input.len()) {
        assert_eq!(decode(decoder(kind), input, &[cut]), whole, "cut at {cut}");
    }
    let Ok((data, used)) = whole else { return };
    assert_eq!(reference::body(kind, input), Some((data.clone(), used)), "a second reader reads another body");

    let encoding = match kind {
        BodyKind::None => Encoding::None,
        BodyKind::Length(length) => Encoding::Length(length),
        BodyKind::Chunked | BodyKind::UntilClose => Encoding::Chunked,
    };
    let kind = if kind == BodyKind::UntilClose { BodyKind::Chunked } else { kind };
    let (mut encoder, mut written) = (BodyEncoder::new(encoding), Vec::new());
    for piece in data.chunks(5) {
        encoder.data(&mut written, piece).expect("the right length");
    }
    encoder.end(&mut written, None).expect("the right length");
    assert_eq!(reference::body(kind, &written), Some((data, written.len())));
}

/// The body and how many bytes it takes, when it comes in pieces that end at `cuts`.
fn decode(mut decoder: BodyDecoder, input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize), BadBody> {
    let (mut body, mut start) = (Vec::new(), 0);
    for end in cuts.iter().copied().chain([input.len()]) {
        while start < end {
            let decoded = decoder.decode(&input[start..end])?;
            assert!(decoded.data.start <= decoded.data.end && decoded.data.end <= decoded.consumed);
            assert!(decoded.consumed > 0 || decoder.is_done(), "no progress");
            if decoded.consumed == 0 {
                break;
            }
            body.extend_from_slice(&input[start..end][decoded.data]);
            start += decoded.consumed;
        }
    }
    decoder.end_of_input()?;
    Ok((body, start))
}
