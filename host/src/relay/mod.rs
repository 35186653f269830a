//! What is passed on without being understood: TCP connections byte for byte, and datagrams one by one.

mod client_hello;
pub(crate) mod tcp;
pub(crate) mod udp;
