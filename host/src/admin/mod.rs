//! The operator's window: what runs and how it fares, and the way in for new versions of plugins.
//!
//! Served by the control thread; no request of a client ever waits for it. `/healthz` and `/readyz` answer everybody,
//! because who asks them (an orchestrator, a load balancer) carries no token; everything else asks for the token when
//! one is configured.

mod endpoint;
mod guards;
mod listener;
mod maintenance;
mod page;
mod process;
mod status;
mod turnover;

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::telemetry::exposition::{self, Exposition};

pub use endpoint::EndpointPatch;
pub use guards::{BreakerState, BreakerStatus, ConcurrencyStatus, QueueStatus};
pub use listener::AdminListener;
use listener::Bounded;
pub use maintenance::{ClosedBy, Closing, MaintenanceStatus, RouteClosing};
pub use process::{NotUpgraded, Upgraded, Upgrading};
pub use status::{
    CheckStatus, EndpointState, EndpointStatus, PluginFaults, PluginKind, PluginMetric, PluginMetricValue,
    PluginStatus, UpstreamStatus,
};
pub use turnover::{Change, ChangeKind, NotReplaced, RefusedVersion, Replaced, Replacing, Standing, Trial};

/// How long requests that are being answered may take once a stop was asked for.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What can be seen of the proxy, and done to it. Each method returns at once.
pub trait Window: Send + Sync {
    /// Whether the proxy accepts requests: it has started and does not drain.
    fn ready(&self) -> bool;

    /// Writes everything that is counted, but what [`upstreams`](Self::upstreams) and [`plugins`](Self::plugins) tell.
    fn write_metrics(&self, out: &mut Exposition);

    fn upstreams(&self) -> Vec<UpstreamStatus>;

    /// Changes an endpoint until the process ends, and tells how it stands then; `None` when there is none.
    fn change_endpoint(&self, upstream: &str, address: &str, patch: EndpointPatch) -> Option<EndpointStatus>;

    fn plugins(&self) -> Vec<PluginStatus>;

    /// What is closed for maintenance.
    fn maintenance(&self) -> MaintenanceStatus;

    /// Closes or opens a route, or all of them; with `None` for `on` the configuration decides again. `retry_after`:
    /// seconds that clients are told meanwhile.
    ///
    /// # Errors
    /// What is said of a route that is not there.
    fn close(&self, route: Option<&str>, on: Option<bool>, retry_after: Option<u32>) -> Result<(), String>;

    /// Has another version of a plugin serve. `force`: even one that was taken back.
    fn replace(&self, plugin: &str, file: Vec<u8>, force: bool) -> Replacing<'_>;

    /// Has a new process of the same program take over.
    fn upgrade(&self) -> Upgrading<'_>;

    /// Accepts nothing more, finishes what is in flight and ends.
    fn drain(&self);
}

/// What the admin server answers from.
pub struct AdminState {
    window: Arc<dyn Window>,
    /// The digest of the token, so that comparing tells nothing of the token itself, its length included.
    token: Option<[u8; 32]>,
}

impl AdminState {
    /// `token`: what a request has to bring as `Authorization: Bearer`; `None`: nothing.
    pub fn new(window: Arc<dyn Window>, token: Option<&str>) -> Self {
        Self { window, token: token.map(|token| Sha256::digest(token).into()) }
    }
}

/// Serves the window until `stop`, and then for as long as it takes to finish what is being answered (2 s at most).
///
/// Dropping the future closes the listener; connections end with the runtime.
///
/// # Errors
///
/// Only what `axum` reports; a failing accept is logged and tried again.
pub async fn serve(listener: AdminListener, state: Arc<AdminState>, stop: CancellationToken) -> io::Result<()> {
    let router = router(state);
    let stopped = stop.clone().cancelled_owned();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
        Ok(())
    };
    match listener {
        AdminListener::Tcp(listener) => {
            let serve = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stopped);
            tokio::select! { ended = serve.into_future() => ended, ended = overdue => ended }
        }
        AdminListener::Unix(listener) => {
            let serve = axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stopped);
            tokio::select! { ended = serve.into_future() => ended, ended = overdue => ended }
        }
    }
}

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/", get(dashboard))
        .route(HEALTHZ, get(async || "ok\n"))
        .route(READYZ, get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/drain", post(process::drain))
        .route("/api/upgrade", post(process::upgrade))
        .route("/api/upstreams", get(upstreams))
        .route(ENDPOINT, patch(endpoint::patch).layer(DefaultBodyLimit::max(endpoint::MAX_PATCH)))
        .route("/api/maintenance", get(maintenance::get).put(maintenance::put))
        .route("/api/plugins", get(plugins))
        .route("/api/plugins/{name}", put(turnover::put).layer(DefaultBodyLimit::max(turnover::MAX_FILE)))
        .fallback(async || error(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method"))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// An address may have slashes in it: `unix:/run/api.sock`.
const ENDPOINT: &str = "/api/upstreams/{upstream}/endpoints/{*address}";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    if state.window.ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    let mut out = Exposition::default();
    state.window.write_metrics(&mut out);
    let upstreams = state.window.upstreams();
    status::write_upstreams(&upstreams, &mut out);
    guards::write(&upstreams, &mut out);
    status::write_plugins(&state.window.plugins(), &mut out);
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], out.into_text())
}

async fn upstreams(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    Json(state.window.upstreams())
}

async fn plugins(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    Json(state.window.plugins())
}

async fn dashboard(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    let window = &state.window;
    let headers = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")];
    (headers, Html(page::render(window.ready(), &window.maintenance(), &window.upstreams(), &window.plugins())))
}

/// Turns away who brings no token, and keeps what is answered out of caches.
async fn guard(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), HEALTHZ | READYZ);
    let mut response = match &state.token {
        Some(token) if !is_open && !brings(&request, token) => {
            let mut response =
                error(StatusCode::UNAUTHORIZED, "this asks for `Authorization: Bearer` with the admin token");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        _ => next.run(request).await,
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a web page asks. Without a token anybody on this machine may come, but no page that a browser on it shows.
fn is_from_page(state: &AdminState, headers: &HeaderMap) -> bool {
    state.token.is_none() && headers.contains_key(header::ORIGIN)
}

fn brings(request: &Request, token: &[u8; 32]) -> bool {
    let value = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let Some((scheme, credentials)) = value.and_then(|value| value.split_at_checked("Bearer ".len())) else {
        return false;
    };
    // Digests are compared, which an attacker cannot steer byte by byte.
    scheme.eq_ignore_ascii_case(b"Bearer ") && Sha256::digest(credentials.trim_ascii()).as_slice() == token
}

fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

#[cfg(test)]
mod tests;
