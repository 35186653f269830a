//! What the proxy promises, a subject to a file.

mod access_log;
mod admin;
mod bodies;
mod cli;
mod contract;
mod drain;
mod health;
mod hop_by_hop;
mod languages;
mod messages;
mod mirrors;
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
