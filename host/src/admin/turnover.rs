//! Plugins' versions: how one is replaced from outside, and what has become of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{AdminState, error, is_from_page, status};

/// Bytes of a plugin's file.
pub(super) const MAX_FILE: usize = 128 * 1024 * 1024;

/// A swap under way.
pub type Replacing<'a> = Pin<Box<dyn Future<Output = Result<Replaced, NotReplaced>> + Send + 'a>>;

/// What serves after a swap.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replaced {
    pub plugin: String,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// From 1; each version that takes over has the next number.
    pub generation: u64,
    /// Whether another version serves than before.
    pub changed: bool,
    /// Where the plugin is used.
    pub uses: Vec<String>,
}

/// Why a version does not serve.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotReplaced {
    /// There is nothing of this name to replace.
    #[error("{0}")]
    Unknown(String),
    /// It was taken back before.
    #[error("{0}")]
    Refused(String),
    /// It cannot be loaded, configured or told the membership.
    #[error("{0}")]
    Unfit(String),
    /// The proxy failed.
    #[error("{0}")]
    Broken(String),
}

/// How the versions of a plugin stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// While the version that serves is judged.
    pub probation: Option<Trial>,
    pub last_change: Option<Change>,
    /// Versions that were taken back, the latest last.
    pub refused: Vec<RefusedVersion>,
    #[serde(skip)]
    pub counts: Vec<(ChangeKind, u64)>,
}

/// A probation under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    pub seconds_left: u64,
    /// The digest of the version that comes back if this one does worse.
    pub previous: String,
}

/// What became of a version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    #[serde(rename = "outcome")]
    pub kind: ChangeKind,
    #[serde(serialize_with = "status::rfc3339")]
    pub at: SystemTime,
    pub digest: String,
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It took over.
    Replaced,
    /// It could not take over.
    Failed,
    /// It had taken over, and the version before it serves again.
    TakenBack,
}

impl ChangeKind {
    pub const ALL: [Self; 3] = [Self::Replaced, Self::Failed, Self::TakenBack];

    /// As JSON and metrics tell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Failed => "failed",
            Self::TakenBack => "taken_back",
        }
    }
}

/// A version that was taken back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusedVersion {
    pub digest: String,
    pub why: String,
}

impl RefusedVersion {
    /// Whether it is the version with this digest, in hexadecimal.
    pub fn is(&self, digest: &str) -> bool {
        self.digest.strip_prefix("sha256:") == Some(digest)
    }
}

/// `PUT /api/plugins/NAME` with the file as the body.
pub(super) async fn put(
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if is_from_page(&state, &headers) {
        return error(StatusCode::FORBIDDEN, "a web page may not replace plugins where no token is configured");
    }
    let force = match query.as_deref() {
        None | Some("" | "force=false") => false,
        Some("force=true") => true,
        Some(_) => return error(StatusCode::BAD_REQUEST, "the query may be `force=true` and nothing else"),
    };
    if body.is_empty() {
        return error(StatusCode::BAD_REQUEST, "the body is the plugin's file, and it is empty");
    }
    match state.window.replace(&name, body.into(), force).await {
        Ok(replaced) => Json(replaced).into_response(),
        Err(not) => {
            let status = match &not {
                NotReplaced::Unknown(_) => StatusCode::NOT_FOUND,
                NotReplaced::Refused(_) => StatusCode::CONFLICT,
                NotReplaced::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
                NotReplaced::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            error(status, &not.to_string())
        }
    }
}
