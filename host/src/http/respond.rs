//! The one door for responses that the proxy makes itself: refusals, failures and what a filter or a route answers.

use std::future::poll_fn;
use std::task::ready;

use crate::config::{self, ErrorPage};
use crate::filters::LocalResponse;
use crate::http::error::ExchangeError;
use crate::http::exchange::Client;
use crate::http::facts::Exchange;
use crate::http::grpc;
use crate::http::h1::{self, ConnectionOption, Encoding, ResponseOptions};
use crate::http::head::Version;
use crate::http::pump::COPIED;
use crate::http::upload::ClientFault;
use crate::http::{front, pages, send_head};

/// The answer to a failed exchange. One without a body gets the error page for its status, or the status in words.
pub(crate) fn failure(error: &ExchangeError) -> Option<LocalResponse> {
    if let ExchangeError::Maintenance(answer) = error {
        return Some((**answer).clone());
    }
    let mut answer = LocalResponse { status: error.status()?, ..LocalResponse::default() };
    if let Some(wait) = error.retry_after() {
        // Whole seconds (RFC 9110 section 10.2.3), and not earlier.
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        answer.fields.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
    }
    Some(answer)
}

/// Gives an answer a line of plain text with its status and the phrase for it.
pub(crate) fn say(answer: &mut LocalResponse) {
    answer.fields.retain(|(name, _)| name != "content-type");
    answer.body = format!("{} {}\n", answer.status, h1::reason_phrase(answer.status)).into();
    answer.fields.push(("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()));
}

/// An answer that stands in the configuration.
pub(crate) fn configured(answer: &config::Answer) -> LocalResponse {
    LocalResponse {
        status: answer.status,
        fields: answer.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect(),
        body: answer.body.0.clone(),
    }
}

/// Sends a response of the proxy's own, and answers how long its body was. `page` takes the place of the body, `keep`
/// is whether the client's connection serves further requests. To a gRPC call it is said in gRPC's words, and there is
/// no page.
pub(crate) async fn send(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    answer: &LocalResponse,
    page: Option<&ErrorPage>,
    keep: bool,
) -> Result<u64, ClientFault> {
    let converted = if exchange.is_grpc { grpc::converted(answer) } else { None };
    let answer = converted.as_ref().unwrap_or(answer);
    let page = page.filter(|_| !exchange.is_grpc);
    let response = &mut exchange.response;
    response.clear();
    response.status = page.and_then(|page| page.status).unwrap_or(answer.status);
    for (name, value) in &answer.fields {
        if page.is_none() || !pages::describes_body(name) {
            response.fields.append(name.as_bytes(), value);
        }
    }
    if let Some(page) = page {
        response.fields.append(b"content-type", page.content_type.as_bytes());
    }
    if exchange.is_grpc {
        exchange.grpc_status = grpc::code(&exchange.response.fields);
    }
    front::announce(exchange);
    client.transport.latest = None;
    let mut body = page.map_or(&answer.body[..], |page| &page.body.0);
    let length = body.len() as u64;
    let is_head = exchange.request.has_method("HEAD");
    let encoding = match exchange.response.status {
        204 | 304 => Encoding::None,
        _ if is_head => Encoding::Described(length),
        _ => Encoding::Length(length),
    };
    let connection = match (keep, exchange.request.version) {
        (false, _) => ConnectionOption::Close,
        (true, Version::Http10) => ConnectionOption::KeepAlive,
        (true, _) => ConnectionOption::Implied,
    };
    let options = ResponseOptions { date: &client.worker.date(), connection };
    send_head::response(client.transport, &exchange.response, encoding, options);
    if !matches!(encoding, Encoding::Length(_)) {
        body = &[];
    }
    let sent = body.len() as u64;
    if body.len() <= COPIED {
        client.transport.output.extend_from_slice(std::mem::take(&mut body));
    }
    let mut ended = false;
    poll_fn(|cx| {
        while !body.is_empty() {
            let written = ready!(client.transport.poll_send(cx, body))?;
            body = &body[written..];
        }
        if !std::mem::replace(&mut ended, true)
            && let Some(message) = client.transport.stream().message()
        {
            message.end(None);
        }
        client.transport.poll_flush(cx)
    })
    .await
    .map_err(|error| ClientFault::of_sending(&error))?;
    Ok(sent)
}
