//! Writes a head in the way that the connection has it: as bytes of HTTP/1, or as a head that stands beside the body.

use std::io;

use crate::http::h1::{self, CONTINUE, ConnectionOption, Encoding, RequestOptions, ResponseOptions};
use crate::http::head::{RequestHead, ResponseHead};
use crate::net::Transport;

/// Begins a response to a client. It leaves with what follows it, or with the next flush.
pub(crate) fn response(client: &mut Transport, head: &ResponseHead, encoding: Encoding, options: ResponseOptions<'_>) {
    match client.stream().accepted() {
        Some(message) => message.respond(head, options.date, encoding.length()),
        None => h1::encode_response(&mut client.output, head, encoding, options),
    }
}

/// Writes an interim response to a client.
pub(crate) fn interim(client: &mut Transport, head: &ResponseHead) {
    match client.stream().accepted() {
        Some(message) => message.inform(head),
        None => {
            // Interim responses carry no date.
            let options = ResponseOptions { date: &[b' '; 29], connection: ConnectionOption::Implied };
            h1::encode_response(&mut client.output, head, Encoding::None, options);
        }
    }
}

/// Tells a client to send its body. Answers whether that has to be flushed.
pub(crate) fn go_on(client: &mut Transport) -> bool {
    match client.stream().accepted() {
        Some(message) => {
            let mut head = ResponseHead::default();
            head.status = 100;
            message.inform(&head);
            false
        }
        None => {
            client.output.extend_from_slice(CONTINUE);
            true
        }
    }
}

/// Takes back a response that was begun and of which nothing has left. `unsent`: how much output there was before it.
pub(crate) fn take_back(client: &mut Transport, unsent: usize) {
    client.output.truncate(unsent);
    if let Some(message) = client.stream().accepted() {
        message.take_back();
    }
}

/// Begins a request to an endpoint.
///
/// # Errors
///
/// When it cannot be said in the endpoint's version.
pub(crate) fn request(
    endpoint: &mut Transport,
    head: &RequestHead,
    encoding: Encoding,
    fallback_host: &str,
    upgrade: Option<&[u8]>,
) -> io::Result<()> {
    match endpoint.stream().opened() {
        Some(message) => message.request(head, fallback_host, encoding.length(), upgrade),
        None => {
            let connection = upgrade.map_or(ConnectionOption::Implied, ConnectionOption::Upgrade);
            let options = RequestOptions { fallback_host, connection };
            h1::encode_request(&mut endpoint.output, head, encoding, options);
            Ok(())
        }
    }
}
