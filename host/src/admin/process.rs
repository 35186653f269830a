//! The process itself: drained, or replaced by a new one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::{AdminState, error, is_from_page};

/// An upgrade under way.
pub type Upgrading<'a> = Pin<Box<dyn Future<Output = Result<Upgraded, NotUpgraded>> + Send + 'a>>;

/// A new process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    pub pid: u32,
}

/// Why no new process serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUpgraded {
    #[error("this process ends already")]
    Draining,
    #[error("an upgrade is under way already")]
    UnderWay,
    /// It is part of another program.
    #[error("this process does not know how it was started")]
    Unknown,
    #[error("{0}")]
    Failed(String),
}

/// `POST /api/upgrade`.
pub(super) async fn upgrade(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    if is_from_page(&state, &headers) {
        return error(StatusCode::FORBIDDEN, "a web page may not replace the process where no token is configured");
    }
    match state.window.upgrade().await {
        Ok(upgraded) => Json(upgraded).into_response(),
        Err(not) => {
            let status = match &not {
                NotUpgraded::Draining | NotUpgraded::UnderWay => StatusCode::CONFLICT,
                NotUpgraded::Unknown => StatusCode::NOT_IMPLEMENTED,
                NotUpgraded::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            error(status, &not.to_string())
        }
    }
}

/// `POST /api/drain`.
pub(super) async fn drain(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    if is_from_page(&state, &headers) {
        return error(StatusCode::FORBIDDEN, "a web page may not end the process where no token is configured");
    }
    state.window.drain();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
}
