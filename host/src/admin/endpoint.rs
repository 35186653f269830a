//! An operator's word on an endpoint: no traffic, no new requests, another weight.

use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};

use super::{AdminState, error, is_from_page};

/// Bytes of a change.
pub(super) const MAX_PATCH: usize = 16 * 1024;
/// Letters of a reason.
const MAX_REASON: usize = 200;

/// What is to change of an endpoint. `None`: nothing; `Some(None)` (`null`): back to what is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointPatch {
    #[serde(deserialize_with = "present")]
    pub down: Option<Option<bool>>,
    #[serde(deserialize_with = "present")]
    pub drain: Option<Option<bool>>,
    /// 1 to 65535.
    #[serde(deserialize_with = "present")]
    pub weight: Option<Option<u32>>,
    /// For whoever wonders later.
    pub reason: Option<String>,
}

/// `PATCH /api/upstreams/NAME/endpoints/ADDRESS`.
pub(super) async fn patch(
    State(state): State<Arc<AdminState>>,
    Path((upstream, address)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if is_from_page(&state, &headers) {
        return error(StatusCode::FORBIDDEN, "a web page may not change endpoints where no token is configured");
    }
    let patch = match read(&body) {
        Ok(patch) => patch,
        Err(message) => return error(StatusCode::BAD_REQUEST, &message),
    };
    match state.window.change_endpoint(&upstream, &address, patch) {
        Some(status) => Json(status).into_response(),
        None => error(StatusCode::NOT_FOUND, &format!("there is no endpoint `{address}` in an upstream `{upstream}`")),
    }
}

fn read(body: &[u8]) -> Result<EndpointPatch, String> {
    let unreadable = |error: &dyn Display| format!("the body is not a change such as {{\"drain\": true}}: {error}");
    // A list would be read too, as the values of the keys in their order.
    if body.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return Err(unreadable(&"it is no object"));
    }
    let patch: EndpointPatch = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    if (&patch.down, &patch.drain, &patch.weight) == (&None, &None, &None) {
        return Err("the body changes nothing: it says neither `down`, `drain` nor `weight`".to_owned());
    }
    match patch.weight.flatten() {
        Some(0) => return Err("a weight is at least 1; `{\"down\": true}` gives an endpoint no traffic".to_owned()),
        Some(65536..) => return Err("a weight is at most 65535".to_owned()),
        _ => {}
    }
    if patch.reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON) {
        return Err(format!("a reason has at most {MAX_REASON} letters"));
    }
    Ok(patch)
}

/// Tells `null` from what is not there.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_is_told_from_what_is_absent() {
        let patch = read(br#"{"drain": true, "weight": null, "reason": "new disks"}"#);

        let reason = Some("new disks".to_owned());
        assert_eq!(patch, Ok(EndpointPatch { down: None, drain: Some(Some(true)), weight: Some(None), reason }));
    }

    #[test]
    fn a_bad_change_is_refused_with_words_that_help() {
        for (body, words) in [
            ("", "the body is not a change such as {\"drain\": true}"),
            ("[true]", "it is no object"),
            (r#"{"drian": true}"#, "unknown field `drian`, expected one of `down`, `drain`, `weight`, `reason`"),
            (r#"{"drain": "yes"}"#, "expected a boolean"),
            (r#"{"weight": 1.5}"#, "expected u32"),
            (r#"{"weight": -1}"#, "expected u32"),
            (r#"{"weight": 0}"#, "at least 1"),
            (r#"{"weight": 65536}"#, "at most 65535"),
            (r#"{"reason": "why"}"#, "changes nothing"),
            ("{}", "changes nothing"),
        ] {
            let refused = read(body.as_bytes()).expect_err(body);
            assert!(refused.contains(words), "{refused} for {body}");
        }
        let long = format!(r#"{{"drain": true, "reason": "{}"}}"#, "é".repeat(201));
        assert_eq!(read(long.as_bytes()).expect_err("too long"), "a reason has at most 200 letters");
    }
}
