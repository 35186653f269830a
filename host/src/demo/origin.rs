//! A small server that tells who it is and what it was sent.

use std::fmt::Write;
use std::future::ready;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

/// What an origin answers.
pub(super) fn router(name: &'static str) -> Router {
    let sign = move |mut response: Response| {
        response.headers_mut().insert("x-origin", HeaderValue::from_static(name));
        ready(response)
    };
    Router::new()
        .route("/name", any(async |State(name): State<&'static str>| format!("{name}\n")))
        .route("/slow", any(slow))
        .route("/status/{status}", any(status))
        .route("/big", any(big))
        .fallback(echo)
        .layer(axum::middleware::map_response(sign))
        .with_state(name)
}

async fn echo(State(name): State<&'static str>, request: Request) -> String {
    let mut text = format!("origin {name}\n\n{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (field, value) in request.headers() {
        writeln!(text, "{field}: {}", value.as_bytes().escape_ascii()).expect("a string takes all that is written");
    }
    text
}

/// The longest a client may have an answer delayed.
const MAX_DELAY: u64 = 60_000;

async fn slow(State(name): State<&'static str>, uri: Uri) -> String {
    let milliseconds = number(&uri, "ms").unwrap_or(1000).min(MAX_DELAY);
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("{name} after {milliseconds} ms\n")
}

async fn status(State(name): State<&'static str>, Path(status): Path<String>) -> Response {
    // 1xx are no answers.
    match status.parse().ok().filter(|status| (200..600).contains(status)).map(StatusCode::from_u16) {
        Some(Ok(status)) => (status, format!("{name} answers {status}\n")).into_response(),
        _ => (StatusCode::BAD_REQUEST, "a status is a number from 200 to 599\n").into_response(),
    }
}

/// The longest body, in bytes.
const MAX_SIZE: u64 = 64 * 1024 * 1024;

async fn big(uri: Uri) -> Vec<u8> {
    let size = number(&uri, "size").unwrap_or(1024 * 1024).min(MAX_SIZE);
    vec![b'x'; size as usize]
}

fn number(uri: &Uri, name: &str) -> Option<u64> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}
