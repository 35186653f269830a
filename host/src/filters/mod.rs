//! A route's ordered changes to a request and its response.

mod body;
mod edits;

pub use body::{BodyBroken, BodyChain, BodyFilter};
pub use edits::{BadEdit, FieldEdit, TargetEdit, check_response, is_token, rewrite_request, rewrite_response};

use bytes::Bytes;

use crate::http::facts::Exchange;

/// One ordered step that may change a request on its way in and its response on its way out.
///
/// One lives on each worker for each step of each route. Called on the request path, so no method may wait or
/// block. Requests pass the steps in order, responses in reverse order.
pub trait Filter {
    /// Which of the methods have anything to do.
    fn sides(&self) -> Sides;

    /// Sees a request once, before an endpoint is picked, and changes `exchange.request` in place.
    fn on_request(&self, exchange: &mut Exchange) -> Flow;

    /// Sees the final response head once and changes `exchange.response` in place.
    fn on_response(&self, exchange: &mut Exchange) -> Flow;

    /// Looks at a request that has a body, after [`Self::on_request`]; `None` lets the body pass as it is.
    ///
    /// # Errors
    /// When the filter failed, and the operator wants such a request refused (500).
    fn on_request_body(&self, exchange: &mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken>;

    /// Looks at a response that has a body, or would have one but for HEAD.
    ///
    /// # Errors
    /// As above.
    fn on_response_body(&self, exchange: &mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken>;

    /// What it has learned, for the one that is about to take its place. Called once, if at all.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    pub request: bool,
    pub response: bool,
    pub request_body: bool,
    pub response_body: bool,
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
    pub body: Bytes,
}
