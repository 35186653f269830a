//! Connections become requests, outcomes become responses.

pub(crate) mod connection;
mod error;
mod exchange;
pub mod facts;
mod forwarded;
pub mod h1;
pub mod head;
mod idle;
pub(crate) mod ledger;
mod pump;
mod respond;
pub(crate) mod site;
mod tunnel;
pub(crate) mod upload;
pub(crate) mod worker;
