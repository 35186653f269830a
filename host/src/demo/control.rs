//! Stops and starts the origins of the demo.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::sync::watch;

/// An origin's name and whether it is to run.
pub(super) type Switches = Arc<[(&'static str, watch::Sender<bool>)]>;

/// What the control server answers.
pub(super) fn router(switches: Switches) -> Router {
    let set = |is_to_run| {
        async move |State(switches): State<Switches>, Path(name): Path<String>| {
            let Some((_, switch)) = switches.iter().find(|(other, _)| *other == name) else {
                return (StatusCode::NOT_FOUND, format!("there is no origin `{name}`\n"));
            };
            switch.send_replace(is_to_run);
            (StatusCode::OK, list(&switches))
        }
    };
    Router::new()
        .route("/demo/", get(async |State(switches): State<Switches>| list(&switches)))
        .route("/demo/stop/{name}", post(set(false)))
        .route("/demo/start/{name}", post(set(true)))
        .with_state(switches)
}

fn list(switches: &Switches) -> String {
    let mut text = String::new();
    for (name, switch) in switches.iter() {
        let state = if *switch.borrow() { "running" } else { "stopped" };
        writeln!(text, "{name} {state}").expect("a string takes all that is written");
    }
    text
}
