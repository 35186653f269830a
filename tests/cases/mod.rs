//! What the proxy promises, a subject to a file.

mod access_log;
mod admin;
mod bodies;
mod cli;
mod drain;
mod health;
mod hop_by_hop;
mod messages;
mod operation;
mod plugins;
mod real_nginx;
mod retry;
mod reuse;
mod rewriting;
mod routing;
mod smuggling;
mod timeouts;
mod upstream_faults;
mod websocket;
