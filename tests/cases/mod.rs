//! What the proxy promises, a subject to a file.

mod access_log;
mod admin;
mod balancers_load;
mod bodies;
mod cli;
mod contract;
mod drain;
mod hashing;
mod health;
mod hop_by_hop;
mod languages;
mod messages;
mod plugins;
mod rate_limit;
mod real_nginx;
mod retry;
mod retry_backoff;
mod reuse;
mod rewriters;
mod rewriting;
mod routing;
mod smuggling;
mod substitute;
mod timeouts;
mod upstream_faults;
mod websocket;
