//! The configuration: what serves, and the ways to another one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::{AdminState, error, is_from_page, status};
use crate::config::{Fault, Faults};

/// Bytes of a configuration.
pub(super) const MAX_TEXT: usize = 16 * 1024 * 1024;
/// The longest time that a configuration may wait for its confirmation.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A change under way.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = Result<Accepted, NotAccepted>> + Send + 'a>>;

/// A configuration that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    pub generation: u64,
    /// What it waits for.
    pub pending: Option<Awaited>,
}

/// A confirmation that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Awaited {
    pub generation: u64,
    /// What serves again without it.
    pub back_to: u64,
    pub seconds_left: u64,
}

/// Why a configuration does not serve. What served serves on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    #[error(transparent)]
    Faulty(Faults),
    /// There is no such generation.
    #[error("{0}")]
    Unknown(String),
    /// Not now.
    #[error("{0}")]
    Conflict(String),
    /// The proxy failed.
    #[error("{0}")]
    Broken(String),
}

/// What serves and what has served.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// The generation that serves.
    pub serving: u64,
    /// The one whose text is shown.
    #[serde(flatten)]
    pub shown: GenerationStatus,
    pub file: Option<String>,
    /// As it was written, without its secrets.
    pub text: String,
    pub pending: Option<Awaited>,
    pub last_change: Option<ConfigChange>,
    /// Configurations that did not take over.
    pub refused: u64,
    /// Configurations that went back by themselves.
    pub taken_back: u64,
    /// The latest first.
    pub history: Vec<GenerationStatus>,
}

/// One configuration that has served.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationStatus {
    pub generation: u64,
    #[serde(serialize_with = "status::rfc3339")]
    pub since: SystemTime,
    /// `start`, `reload`, `admin`, `rollback` or `taken_back`.
    pub source: &'static str,
    /// The generation that said the same, when it came back.
    pub again: Option<u64>,
    /// Why it came back, when that was not an operator's wish.
    pub why: Option<String>,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    pub bytes: usize,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfigChange {
    pub generation: u64,
    /// `accepted`, `refused`, `taken_back`, or `stays` when it could not be taken back.
    pub outcome: &'static str,
    #[serde(serialize_with = "status::rfc3339")]
    pub at: SystemTime,
    pub why: Option<String>,
}

/// `GET /api/config`, `?generation=N` for an earlier one.
pub(super) async fn show(State(state): State<Arc<AdminState>>, RawQuery(query): RawQuery) -> Response {
    match number(query.as_deref(), "generation") {
        Ok(generation) => match state.window.config(generation) {
            Ok(status) => Json(status).into_response(),
            Err(not) => refusal(&not),
        },
        Err(response) => *response,
    }
}

/// `POST /api/config` with TOML as the body; `?confirm=60s` has it go back unless it is confirmed.
pub(super) async fn apply(
    State(state): State<Arc<AdminState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(forbidden) = forbidden(&state, &headers) {
        return forbidden;
    }
    let confirm = match query.as_deref() {
        None | Some("") => None,
        Some(query) => match query.strip_prefix("confirm=").map(humantime::parse_duration) {
            Some(Ok(time)) if !time.is_zero() && time <= LONGEST => Some(time),
            Some(_) => return error(StatusCode::BAD_REQUEST, "`confirm` is a duration such as `60s`, a day at most"),
            None => return error(StatusCode::BAD_REQUEST, "the query may be `confirm=60s` and nothing else"),
        },
    };
    let Ok(text) = String::from_utf8(body.into()) else {
        return error(StatusCode::BAD_REQUEST, "the body is the configuration, and that is UTF-8 text");
    };
    answer(state.window.apply(text, confirm).await)
}

/// `POST /api/config/confirm`.
pub(super) async fn confirm(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    forbidden(&state, &headers).unwrap_or_else(|| answer(state.window.confirm()))
}

/// `POST /api/config/rollback`, `?to=N` for a generation that is not the one before.
pub(super) async fn roll_back(
    State(state): State<Arc<AdminState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(forbidden) = forbidden(&state, &headers) {
        return forbidden;
    }
    match number(query.as_deref(), "to") {
        Ok(to) => answer(state.window.roll_back(to).await),
        Err(response) => *response,
    }
}

/// `POST /api/config/reload`.
pub(super) async fn reload(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    match forbidden(&state, &headers) {
        Some(forbidden) => forbidden,
        None => answer(state.window.reload().await),
    }
}

fn forbidden(state: &AdminState, headers: &HeaderMap) -> Option<Response> {
    is_from_page(state, headers).then(|| {
        error(StatusCode::FORBIDDEN, "a web page may not change the configuration where no token is configured")
    })
}

/// A query that is nothing, or one number.
fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, Box<Response>> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let value = query.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    match value.and_then(|value| value.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            let what = format!("the query may be `{name}=N` with the number of a generation, and nothing else");
            Err(Box::new(error(StatusCode::BAD_REQUEST, &what)))
        }
    }
}

fn answer(accepted: Result<Accepted, NotAccepted>) -> Response {
    match accepted {
        Ok(accepted) => Json(accepted).into_response(),
        Err(not) => refusal(&not),
    }
}

fn refusal(not: &NotAccepted) -> Response {
    match not {
        NotAccepted::Faulty(faults) => faulty(faults),
        NotAccepted::Unknown(what) => error(StatusCode::NOT_FOUND, what),
        NotAccepted::Conflict(what) => error(StatusCode::CONFLICT, what),
        NotAccepted::Broken(what) => error(StatusCode::INTERNAL_SERVER_ERROR, what),
    }
}

/// All that is wrong, each with its place in what was sent.
fn faulty(faults: &Faults) -> Response {
    let count = faults.faults.len();
    let plural = if count == 1 { "fault" } else { "faults" };
    let fault = |fault: &Fault| {
        let Fault { place, message, hint } = fault;
        json!({ "line": place.line, "column": place.column, "message": message, "hint": hint })
    };
    let body = json!({
        "error": format!("nothing was changed: the configuration has {count} {plural}"),
        "faults": faults.faults.iter().map(fault).collect::<Vec<_>>(),
    });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}
