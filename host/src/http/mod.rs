//! Connections become requests, outcomes become responses.

pub(crate) mod connection;
pub(crate) mod error;
mod exchange;
pub mod facts;
pub(crate) mod fallback;
mod forwarded;
mod front;
pub(crate) mod grpc;
pub mod h1;
pub(crate) mod h2;
#[cfg(feature = "http3")]
pub(crate) mod h3;
pub mod head;
pub(crate) mod heads;
pub(crate) mod idle;
pub(crate) mod ledger;
pub(crate) mod maintenance;
mod pages;
mod pump;
pub(crate) mod respond;
pub(crate) mod send_head;
pub(crate) mod site;
mod streams;
pub(crate) mod upload;
pub(crate) mod worker;
