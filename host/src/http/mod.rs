//! Connections become requests, outcomes become responses.

pub(crate) mod connection;
pub(crate) mod error;
mod exchange;
pub mod facts;
pub(crate) mod fallback;
mod forwarded;
pub mod h1;
pub mod head;
pub(crate) mod idle;
pub(crate) mod ledger;
pub(crate) mod maintenance;
mod pages;
mod pump;
pub(crate) mod respond;
pub(crate) mod site;
pub(crate) mod upload;
pub(crate) mod worker;
