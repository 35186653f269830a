//! Routes that are closed: which, and how that is switched from outside.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::{AdminState, error, is_from_page, status};

/// What is closed for maintenance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MaintenanceStatus {
    /// All routes at once.
    #[serde(flatten)]
    pub server: Closing,
    /// By their names.
    pub routes: Vec<RouteClosing>,
}

/// How a route's switch stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteClosing {
    pub route: String,
    #[serde(flatten)]
    pub closing: Closing,
}

/// How a switch stands, and why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Closing {
    pub on: bool,
    pub by: ClosedBy,
    /// When it was opened or closed; absent: it has been open from the start.
    #[serde(serialize_with = "status::optional_rfc3339")]
    pub since: Option<SystemTime>,
    /// Seconds that clients are told in place of what is configured.
    pub retry_after: Option<u32>,
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    Configuration,
    /// A request to the admin server.
    Admin,
}

/// What `PUT /api/maintenance` asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `null` leaves it to the configuration again.
    #[serde(deserialize_with = "Option::deserialize")]
    on: Option<bool>,
    /// Absent: all routes.
    route: Option<String>,
    /// Seconds, or a duration such as "5m".
    #[serde(default, deserialize_with = "seconds")]
    retry_after: Option<u32>,
}

/// The longest `retry_after`, in seconds: a duration in a configuration is no longer.
const LONGEST: u32 = 30 * 24 * 3600;

/// `GET /api/maintenance`.
pub(super) async fn get(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    Json(state.window.maintenance())
}

/// `PUT /api/maintenance` with what is wanted as the body.
pub(super) async fn put(State(state): State<Arc<AdminState>>, headers: HeaderMap, body: Bytes) -> Response {
    if is_from_page(&state, &headers) {
        return error(StatusCode::FORBIDDEN, "a web page may not close routes where no token is configured");
    }
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            let what =
                format!("the body is like {{\"on\": true, \"route\": \"NAME\", \"retry_after\": \"5m\"}}: {wrong}");
            return error(StatusCode::BAD_REQUEST, &what);
        }
    };
    match state.window.close(wanted.route.as_deref(), wanted.on, wanted.retry_after) {
        Ok(()) => Json(state.window.maintenance()).into_response(),
        Err(unknown) => error(StatusCode::NOT_FOUND, &unknown),
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    use serde::de::Error;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(u64),
        Duration(String),
    }
    let seconds = match Option::<Written>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Written::Seconds(seconds)) => seconds,
        Some(Written::Duration(text)) => {
            humantime::parse_duration(&text).as_ref().map(Duration::as_secs).map_err(Error::custom)?
        }
    };
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= LONGEST);
    seconds.map(Some).ok_or_else(|| Error::custom("`retry_after` is at most 30 days"))
}
