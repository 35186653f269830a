//! Messages as cases write them, and how they differ from what became of them.

use std::collections::BTreeMap;

use crate::http::facts::Exchange;
use crate::http::head::Fields;

use super::differ;
use super::file::{MessageExpected, RequestEntry, ResponseEntry, Values};

/// Makes `exchange` this request.
pub(super) fn request(exchange: &mut Exchange, entry: &RequestEntry) {
    exchange.reset(entry.client.or(Some([192, 0, 2, 1].into())), entry.secure);
    let request = &mut exchange.request;
    request.set_method(entry.method.as_deref().unwrap_or("GET"));
    request.set_path_and_query(entry.target.as_deref().unwrap_or("/"));
    let authority = entry.authority.as_deref().unwrap_or("test.example");
    request.set_authority(authority);
    request.fields.set(b"host", authority.as_bytes());
    append(&mut request.fields, &entry.headers);
    request.mark_received();
    (exchange.route, exchange.upstream) = (entry.route.as_str().into(), entry.upstream.as_str().into());
}

/// Puts this response into `exchange`.
pub(super) fn response(exchange: &mut Exchange, entry: &ResponseEntry) {
    exchange.endpoint = entry.endpoint.as_str().into();
    let response = &mut exchange.response;
    response.clear();
    response.status = entry.status;
    append(&mut response.fields, &entry.headers);
}

fn append(fields: &mut Fields, headers: &BTreeMap<String, Values>) {
    for (name, values) in headers {
        for value in values.list() {
            fields.append(name.as_bytes(), value.as_bytes());
        }
    }
}

pub(super) fn check_request(exchange: &Exchange, expected: &MessageExpected) -> Result<(), String> {
    let request = &exchange.request;
    for (what, expected, got) in [
        ("the method", &expected.method, request.method()),
        ("the target", &expected.target, request.path_and_query()),
        ("the authority", &expected.authority, request.authority()),
    ] {
        if let Some(expected) = expected.as_deref().filter(|expected| *expected != got) {
            return Err(differ(what, expected, got));
        }
    }
    check_headers(&request.fields, &expected.headers)
}

pub(super) fn check_response(exchange: &Exchange, expected: &MessageExpected) -> Result<(), String> {
    let response = &exchange.response;
    if let Some(status) = expected.status.filter(|status| *status != response.status) {
        return Err(differ("the status", status, response.status));
    }
    check_headers(&response.fields, &expected.headers)
}

pub(super) fn check_headers(fields: &Fields, expected: &BTreeMap<String, Values>) -> Result<(), String> {
    let got = |name: &str| {
        let values = fields.get_all(name.as_bytes()).map(|value| value.escape_ascii().to_string());
        values.collect::<Vec<_>>()
    };
    expected.iter().try_for_each(|(name, values)| check_values(name, values, &got(name)))
}

pub(super) fn check_values(name: &str, expected: &Values, got: &[String]) -> Result<(), String> {
    let what = format!("the header `{name}`");
    let shown = |values: &[String]| match values {
        [] => "none".to_owned(),
        some => some.join(" | "),
    };
    match expected {
        Values::Present(true) if got.is_empty() => Err(differ(&what, "any value", "none")),
        Values::Present(true) => Ok(()),
        expected if expected.list() == got => Ok(()),
        expected => Err(differ(&what, shown(&expected.list()), shown(got))),
    }
}
