//! Connections become requests, outcomes become responses.

pub mod facts;
pub mod h1;
pub mod head;
