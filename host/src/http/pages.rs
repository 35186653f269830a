//! Which page stands in the body of an answer that tells of a failure.

use crate::config::{ErrorPage, ErrorPages};
use crate::filters::LocalResponse;
use crate::http::facts::Exchange;

/// A route's pages, and behind them the server's.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'s> {
    pub(crate) own: Option<&'s ErrorPages>,
    pub(crate) server: &'s ErrorPages,
}

impl<'s> Pages<'s> {
    /// The page in place of what the proxy says with this status.
    pub(crate) fn of(self, status: u16) -> Option<&'s ErrorPage> {
        self.own.and_then(|own| own.of(status)).or_else(|| self.server.of(status))
    }

    /// The page in place of what an endpoint says with this status.
    pub(crate) fn intercepting(self, status: u16) -> Option<&'s ErrorPage> {
        let of = |pages: &'s ErrorPages| pages.of(status).filter(|_| pages.intercept);
        self.own.and_then(of).or_else(|| of(self.server))
    }
}

/// What is left of an endpoint's response when its body is replaced: what its status requires (RFC 9110 sections
/// 15.5.2, 15.5.6 and 10.2.3).
pub(crate) fn stripped(exchange: &Exchange) -> LocalResponse {
    let response = &exchange.response;
    let kept = |field: &crate::http::head::Field<'_>| KEPT.iter().any(|name| field.name.eq_ignore_ascii_case(name));
    let fields = response.fields.iter().filter(kept);
    let fields = fields.map(|field| (String::from_utf8_lossy(field.name).into_owned(), field.value.to_vec()));
    LocalResponse { status: response.status, fields: fields.collect(), ..LocalResponse::default() }
}

const KEPT: [&[u8]; 3] = [b"www-authenticate", b"allow", b"retry-after"];

/// Whether a field tells of a body, and so nothing of the page in its place.
pub(crate) fn describes_body(name: &str) -> bool {
    let names = [
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
    ];
    names.iter().any(|described| name.eq_ignore_ascii_case(described))
}
