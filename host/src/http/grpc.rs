//! What gRPC expects of whoever answers a call, be it for a server or in its place.
//!
//! A call is an HTTP request whose outcome is not the status of the response but a `grpc-status` behind it, or among its
//! fields when there is no message. Who makes an answer in place of a server says it in those words, with a 200 before
//! it: clients take anything else for a guess (gRPC over HTTP/2, "Responses", and "HTTP to gRPC Status Code Mapping").

use std::fmt::Write;
use std::time::Duration;

use crate::filters::LocalResponse;
use crate::http::error::ExchangeError;
use crate::http::h1;
use crate::http::head::{Fields, Known, RequestHead};
use crate::http::pages;
use crate::http::pump::PumpError;
use crate::http::upload::ClientFault;
use crate::upstream::UpstreamError;
use crate::upstream::retry::Failure;

/// A call's outcome, by its number. There are more than these.
pub(crate) type Code = u32;

const UNKNOWN: Code = 2;
const DEADLINE_EXCEEDED: Code = 4;
const PERMISSION_DENIED: Code = 7;
const RESOURCE_EXHAUSTED: Code = 8;
const UNIMPLEMENTED: Code = 12;
const INTERNAL: Code = 13;
const UNAVAILABLE: Code = 14;
const UNAUTHENTICATED: Code = 16;

/// The longest text of an answer that becomes a message, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Whether a request is a call. gRPC-Web is not: what it expects is another protocol's answer.
pub(crate) fn is_call(request: &RequestHead) -> bool {
    request.has_method("POST") && request.fields.known(Known::ContentType).is_some_and(is_grpc)
}

fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.split_at_checked(TYPE.len()).is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
    })
}

/// How long the client waits, as `grpc-timeout` says; `None` without one or for nonsense, as in Envoy.
pub(crate) fn timeout(request: &RequestHead) -> Option<Duration> {
    let (unit, digits) = request.fields.get(b"grpc-timeout")?.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The outcome that a head or trailers tell of.
pub(crate) fn code(fields: &Fields) -> Option<Code> {
    std::str::from_utf8(fields.get(b"grpc-status")?).ok()?.parse().ok()
}

/// The HTTP status that means the same to passive health checks and breakers (google.rpc.Code). A 5xx is a fault of the
/// server's.
pub(crate) fn as_http(code: Code) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        DEADLINE_EXCEEDED => 504,
        5 => 404,
        6 | 10 => 409,
        PERMISSION_DENIED => 403,
        RESOURCE_EXHAUSTED => 429,
        UNIMPLEMENTED => 501,
        UNAVAILABLE => 503,
        UNAUTHENTICATED => 401,
        _ => 500,
    }
}

/// What an answer of the proxy's own becomes for a call, unless it speaks gRPC already.
pub(crate) fn converted(answer: &LocalResponse) -> Option<LocalResponse> {
    let has = |name: &str| answer.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let speaks_grpc = has("grpc-status").is_some() || has("content-type").is_some_and(|(_, value)| is_grpc(value));
    (!speaks_grpc).then(|| outcome(of_status(answer.status), answer))
}

/// What a failed call is answered with.
pub(crate) fn failure(error: &ExchangeError, answer: &LocalResponse) -> LocalResponse {
    outcome(of_error(error).unwrap_or_else(|| of_status(answer.status)), answer)
}

/// An answer without a message. Its text, or else its status, is told to the client.
fn outcome(code: Code, answer: &LocalResponse) -> LocalResponse {
    let said = std::str::from_utf8(&answer.body).ok().map(str::trim);
    let said = said.filter(|said| !said.is_empty() && said.len() <= MAX_MESSAGE);
    let message = said.unwrap_or_else(|| h1::reason_phrase(answer.status));
    let kept = answer.fields.iter().filter(|(name, _)| !pages::describes_body(name)).cloned();
    let own = [
        ("content-type", b"application/grpc".to_vec()),
        ("grpc-status", code.to_string().into_bytes()),
        ("grpc-message", encoded(message).into_bytes()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    LocalResponse { status: 200, fields: kept.chain(own).collect(), ..LocalResponse::default() }
}

/// What a failure means to a client. Where nothing is to be added to its HTTP status, that decides.
fn of_error(error: &ExchangeError) -> Option<Code> {
    Some(match error {
        ExchangeError::Deadline | ExchangeError::Upstream(UpstreamError::Deadline) => DEADLINE_EXCEEDED,
        // The server may have done the work by now, which UNAVAILABLE would deny.
        ExchangeError::Upstream(UpstreamError::Failed { failure: Failure::ResponseTimeout, .. }) => DEADLINE_EXCEEDED,
        ExchangeError::FilterFailed
        | ExchangeError::Upstream(UpstreamError::Rewriter(_))
        | ExchangeError::Download(PumpError::Rewriter(_)) => INTERNAL,
        ExchangeError::Client(ClientFault::BodyTimeout)
        | ExchangeError::Upstream(UpstreamError::Client(ClientFault::BodyTimeout)) => DEADLINE_EXCEEDED,
        _ => return None,
    })
}

/// What a status means where there was no call (gRPC's `http-grpc-status-mapping`); too much of anything is said by name.
fn of_status(status: u16) -> Code {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        413 | 431 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A `Status-Message`: what is not printable ASCII, and `%`, in percent signs and hexadecimal digits.
fn encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Refusal;

    fn request(method: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut request = RequestHead::default();
        request.set_method(method);
        for (name, value) in fields {
            request.fields.append(name.as_bytes(), value.as_bytes());
        }
        request
    }

    fn field<'a>(answer: &'a LocalResponse, name: &str) -> Option<&'a str> {
        let value = answer.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.map(|value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_call_is_a_post_of_grpcs_type() {
        for (method, content_type, expected) in [
            ("POST", "application/grpc", true),
            ("POST", "Application/gRPC+proto", true),
            ("POST", "application/grpc;x=y", true),
            ("POST", "application/grpc-web", false),
            ("POST", "application/grpc-web+proto", false),
            ("POST", "application/grpcx", false),
            ("POST", "application/grp", false),
            ("POST", "text/application/grpc", false),
            ("GET", "application/grpc", false),
        ] {
            assert_eq!(
                is_call(&request(method, &[("Content-Type", content_type)])),
                expected,
                "{method} {content_type}"
            );
        }
        assert!(!is_call(&request("POST", &[])));
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("8n", Some(Duration::from_nanos(8))),
            ("0S", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("1", None),
            ("", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
        ] {
            assert_eq!(timeout(&request("POST", &[("grpc-timeout", value)])), expected, "for {value:?}");
        }
    }

    #[test]
    fn an_answer_without_grpc_becomes_an_outcome() {
        let answer = |status, body: &str| LocalResponse {
            status,
            fields: vec![("content-type".to_owned(), b"text/html".to_vec()), ("retry-after".to_owned(), b"5".to_vec())],
            body: body.to_owned().into(),
        };
        for (status, body, code, message) in [
            (400, "", "13", "Bad Request"),
            (401, "", "16", "Unauthorized"),
            (403, "", "7", "Forbidden"),
            (404, "", "12", "Not Found"),
            (413, "", "8", "Content Too Large"),
            (429, "", "14", "Too Many Requests"),
            (502, "", "14", "Bad Gateway"),
            (503, "closed: 100% \u{e9}\n", "14", "closed: 100%25 %C3%A9"),
            (504, "a\nb", "14", "a%0Ab"),
            (200, "hello", "2", "hello"),
            (500, "", "2", "Internal Server Error"),
        ] {
            let outcome = converted(&answer(status, body)).expect("it is no gRPC");

            assert_eq!((outcome.status, &outcome.body[..]), (200, &b""[..]), "for {status}");
            assert_eq!(field(&outcome, "grpc-status"), Some(code), "for {status}");
            assert_eq!(field(&outcome, "grpc-message"), Some(message), "for {status}");
            assert_eq!(field(&outcome, "content-type"), Some("application/grpc"));
            assert_eq!(field(&outcome, "retry-after"), Some("5"));
            assert_eq!(outcome.fields.len(), 4);
        }
        let long = converted(&answer(503, &"x".repeat(MAX_MESSAGE + 1))).expect("it is no gRPC");
        assert_eq!(field(&long, "grpc-message"), Some("Service Unavailable"));
    }

    #[test]
    fn an_answer_in_grpcs_words_stays_as_it_is() {
        for (name, value) in [("grpc-status", "0"), ("Content-Type", "application/grpc+proto")] {
            let fields = vec![(name.to_owned(), value.as_bytes().to_vec())];
            assert!(converted(&LocalResponse { status: 200, fields, ..LocalResponse::default() }).is_none());
        }
    }

    #[test]
    fn a_failure_is_told_apart_where_its_status_would_not_do() {
        let failed = |failure| {
            let cause = std::io::ErrorKind::Other.into();
            ExchangeError::Upstream(UpstreamError::Failed { endpoint: "a".into(), failure, cause })
        };
        for (error, code) in [
            (ExchangeError::Deadline, 4),
            (ExchangeError::Upstream(UpstreamError::Deadline), 4),
            (failed(Failure::ResponseTimeout), 4),
            (failed(Failure::ConnectTimeout), 14),
            (failed(Failure::SendTimeout), 14),
            (failed(Failure::Connect), 14),
            (failed(Failure::Tls), 14),
            (failed(Failure::Reset), 14),
            (failed(Failure::Protocol), 14),
            (failed(Failure::Overload), 14),
            (ExchangeError::Upstream(UpstreamError::NoEndpoint("a".into())), 14),
            (ExchangeError::Upstream(UpstreamError::Overloaded("a".into())), 14),
            (ExchangeError::Upstream(UpstreamError::Refused { upstream: "a".into(), refusal: Refusal::QueueFull }), 14),
            (ExchangeError::MemoryLimit, 14),
            (ExchangeError::ConcurrencyLimit(429), 14),
            (ExchangeError::NoRoute, 12),
            (ExchangeError::FilterFailed, 13),
            (ExchangeError::Client(ClientFault::TooLarge), 8),
            (ExchangeError::Client(ClientFault::BodyTimeout), 4),
        ] {
            let answer = LocalResponse { status: error.status().expect("an answer"), ..LocalResponse::default() };
            assert_eq!(field(&failure(&error, &answer), "grpc-status"), Some(&*code.to_string()), "for {error}");
        }
    }

    #[test]
    fn a_fault_of_the_server_is_a_5xx_and_no_other() {
        let faults: Vec<Code> = (0..=17).filter(|code| as_http(*code) >= 500).collect();

        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, and what nobody knows.
        assert_eq!(faults, [2, 4, 12, 13, 14, 15, 17]);
    }
}
