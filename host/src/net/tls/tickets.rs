//! The keys of session tickets (RFC 8446 section 4.6.1, RFC 5077): who comes back goes on where it was.
//!
//! # Why one for the whole process?
//!
//! A client that comes back meets another worker, a listener that was built anew, or another one. All of them read the
//! tickets of each other, as long as they want the same of clients: a ticket carries what a client has shown, and must not
//! get it in where more is asked for. Keys are drawn at random, replaced every six hours and kept nowhere.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::crypto::ring::Ticketer;
use rustls::server::ProducesTickets;

use crate::net::tls::BadTls;

/// What decides whom a ticket may let in: a digest of all that is wanted of clients.
pub(super) type Scope = [u8; 32];

/// Common to all configurations of a process.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<Scope, Weak<dyn ProducesTickets>>>);

impl Tickets {
    /// What makes and reads the tickets of all listeners that want the same of their clients.
    pub(super) fn of(&self, scope: Scope) -> Result<Arc<dyn ProducesTickets>, BadTls> {
        let mut known = self.0.lock();
        known.retain(|_, ticketer| ticketer.strong_count() > 0);
        if let Some(ticketer) = known.get(&scope).and_then(Weak::upgrade) {
            return Ok(ticketer);
        }
        let ticketer = Ticketer::new().map_err(|error| BadTls::Unfit(format!("no keys for tickets: {error}")))?;
        known.insert(scope, Arc::downgrade(&ticketer));
        Ok(ticketer)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_the_same_of_clients_reads_the_same_tickets_and_nobody_else_does() {
        let tickets = Tickets::default();
        let (one, same, other) =
            (tickets.of([1; 32]).unwrap(), tickets.of([1; 32]).unwrap(), tickets.of([2; 32]).unwrap());

        let ticket = one.encrypt(b"session").unwrap();

        assert_eq!(same.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn keys_that_nobody_uses_any_more_are_gone() {
        let tickets = Tickets::default();
        let ticket = tickets.of([1; 32]).unwrap().encrypt(b"session").unwrap();

        assert_eq!(tickets.of([1; 32]).unwrap().decrypt(&ticket), None);
        assert_eq!(tickets.0.lock().len(), 1);
    }
}
