//! A route's ordered changes to a request and its response.

mod edits;

pub use edits::{BadEdit, FieldEdit, TargetEdit, check_response, is_token, rewrite_request, rewrite_response};

use crate::http::facts::Exchange;

/// One ordered step that may change a request on its way in and its response on its way out.
///
/// One lives on each worker for each step of each route. Called on the request path, so no method may wait or
/// block. Requests pass the steps in order, responses in reverse order.
pub trait Filter {
    /// Which of the two methods have anything to do.
    fn sides(&self) -> Sides;

    /// Sees a request once, before an endpoint is picked, and changes `exchange.request` in place.
    fn on_request(&self, exchange: &mut Exchange) -> Flow;

    /// Sees the final response head once and changes `exchange.response` in place.
    fn on_response(&self, exchange: &mut Exchange) -> Flow;

    /// What it has learned, for the one that is about to take its place. Called once, if at all.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub request: bool,
    pub response: bool,
}

/// Where the exchange goes after a filter.
#[derive(Debug, PartialEq)]
pub enum Flow {
    /// To the next step.
    Continue,
    /// The filter answers itself: on a request no endpoint is asked, on a response this replaces it.
    Respond(LocalResponse),
    /// The filter failed, and the operator wants such a request refused (500).
    Deny,
}

/// A response made here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalResponse {
    pub status: u16,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}
