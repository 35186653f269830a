//! staunch, a reverse proxy and load balancer whose decisions are WebAssembly plugins.
//!
//! A request flows down `listener` → `http` → `router` → `filters` → `upstream`. Beside them stand `config` (what the
//! operator wrote), `telemetry` (logs and metrics), `plugins` (components behind the seams of `upstream` and
//! `filters`), `checks` (which ask endpoints whether they are well), `admission` (what the process takes on at all) and
//! `admin` (the operator's window). `proxy` knows everybody: it builds the parts from a configuration, runs a worker
//! per core and drains them. `author` stands outside: it judges, tries and measures plugins with no proxy around them.
//! `relay` stands beside `http`: what a listener passes on to an upstream without understanding it.
//! `net` is below all: sockets with their buffers and deadlines; `replaceable` is a place whose content is swapped
//! while requests are under way. Arrows point down, with one exception:
//! [`http::head`], [`http::facts`] and [`http::h1`] are leaves that every module may use, and so are the two ways of a
//! body, `http::upload` and `http::pump`, and how the versions of HTTP write heads, `http::send_head` and `http::h2`.
//!
//! One exchange serves all versions: a stream of HTTP/2 or HTTP/3 is a transport like a socket, whose bytes are those of a
//! body, see `net/message.rs`.
//!
//! A request's whole life is one function: `serve` in `http/exchange.rs`.

pub mod admin;
mod admission;
pub mod author;
mod checks;
pub mod config;
pub mod filters;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
mod listener;
pub mod net;
pub mod plugins;
pub mod proxy;
mod relay;
mod replaceable;
pub mod router;
pub mod telemetry;
pub mod upstream;
