//! The one door for responses that the proxy makes itself: refusals, failures and what a filter or a route answers.

use crate::filters::LocalResponse;
use crate::http::error::ExchangeError;
use crate::http::exchange::Client;
use crate::http::facts::Exchange;
use crate::http::h1::{self, ConnectionOption, Encoding, ResponseOptions};
use crate::http::head::Version;
use crate::http::upload::{ClientFault, Upload};

/// The answer to a failed exchange: a line of plain text with the status and its phrase.
pub(crate) fn failure(error: &ExchangeError) -> Option<LocalResponse> {
    let status = error.status()?;
    let body = format!("{status} {}\n", h1::reason_phrase(status)).into_bytes();
    let mut fields = vec![("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    if let Some(wait) = error.retry_after() {
        // Whole seconds (RFC 9110 section 10.2.3), and not earlier.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        fields.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
    }
    Some(LocalResponse { status, fields, body })
}

/// Sends a response of the proxy's own. `keep` is whether the client's connection may serve further requests.
pub(crate) async fn send(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &Upload,
    answer: LocalResponse,
    keep: bool,
) -> Result<(), ClientFault> {
    exchange.response.clear();
    exchange.response.status = answer.status;
    for (name, value) in &answer.fields {
        exchange.response.fields.append(name.as_bytes(), value);
    }
    client.transport.latest = None;
    let length = answer.body.len() as u64;
    let is_head = exchange.request.method() == "HEAD";
    let encoding = match answer.status {
        204 => Encoding::None,
        304 => Encoding::None,
        _ if is_head => Encoding::Described(length),
        _ => Encoding::Length(length),
    };
    let keep = keep && upload.is_received();
    let connection = match (keep, exchange.request.version) {
        (false, _) => ConnectionOption::Close,
        (true, Version::Http10) => ConnectionOption::KeepAlive,
        (true, _) => ConnectionOption::Implied,
    };
    let options = ResponseOptions { date: &client.worker.date(), connection };
    h1::encode_response(&mut client.transport.output, &exchange.response, encoding, options);
    if matches!(encoding, Encoding::Length(_)) {
        client.transport.output.extend_from_slice(&answer.body);
    }
    client.transport.flush().await.map_err(|error| ClientFault::of(&error))
}
