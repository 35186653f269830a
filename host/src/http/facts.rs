//! What is known of one exchange while it lives: the one record that routing, filters, balancers and the
//! access log read.
//!
//! # Why a box that is lent?
//!
//! A plugin's store owns what its host functions read. For the length of a call the box moves into the store
//! and then back: one pointer each way, no copy, no reference count and no borrowed pointer in a store.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Demands;
use crate::http::forwarded::Via;
use crate::http::head::{RequestHead, ResponseHead};
use crate::net::peer::Security;
use crate::upstream::endpoint::EndpointId;

/// Notes a plugin may leave on one exchange.
pub const MAX_NOTES: usize = 16;
/// Bytes of all notes of one exchange, names counted.
pub const MAX_NOTE_BYTES: usize = 16 * 1024;

/// The facts of one exchange.
#[derive(Debug)]
pub struct Facts {
    /// The request's head, as filters have changed it so far.
    pub request: RequestHead,
    /// The response's head, once there is one.
    pub response: ResponseHead,
    /// The client's address, as it connected or as a trusted proxy tells; `None` on a unix socket.
    pub client: Option<IpAddr>,
    /// Where the client's connection came from, with its port.
    pub source: Option<SocketAddr>,
    /// Where it went to, as far as an upstream is told.
    pub destination: Option<SocketAddr>,
    /// Whether the client came over TLS, to this proxy or to the trusted one in front that tells so.
    pub secure: bool,
    /// The trusted proxy that passed the request on.
    pub(crate) via: Option<Via>,
    /// Whether the request is a gRPC call, which is answered in gRPC's words.
    pub is_grpc: bool,
    /// How that call ended, as far as it was heard.
    pub grpc_status: Option<u32>,
    /// What its TLS handshake came to, where this proxy made it.
    pub security: Option<Arc<Security>>,
    /// What the listener it came in at wants of it.
    pub demands: Option<Arc<Demands>>,
    /// The name of the route that matched; empty before.
    pub route: Name,
    /// The name of the upstream the request goes to; empty when to none.
    pub upstream: Name,
    /// The address of the endpoint of the latest attempt; empty before.
    pub endpoint: Name,
    /// The balancing key's bytes, when a balancer asked for one that is present.
    pub key: Option<Vec<u8>>,
    /// Where the request has been sent to, in order.
    pub tried: Vec<EndpointId>,
    /// Fields that the latest pick adds to its response.
    pub appended: Vec<(String, Vec<u8>)>,
    /// How long it has waited for its upstream, if it had to.
    pub queued: Option<Duration>,
    /// How long a rewriter wants the request held back.
    pub delay: Option<Duration>,
    /// The name of the upstream that a rewriter chose in place of the route's.
    pub send_to: Option<Arc<str>>,
    /// When the request's head was complete.
    pub started: Instant,
    /// When all of its response was sent, if that is known.
    pub(crate) ended: Option<Instant>,
    /// Whether any of the request may have reached an endpoint.
    pub is_sent: bool,
    /// Why something other than the route's own upstream answers, and what: `upstream`, `respond` or `file`.
    pub fallback: Option<(FellBack, &'static str)>,
    /// Attempts at upstreams before the present one.
    earlier_attempts: usize,
    /// How the latest attempt went: for the access log.
    pub attempt: AttemptFacts,
    id: Option<[u8; 32]>,
    notes: Vec<(String, Vec<u8>)>,
}

/// A name that an exchange learns; empty before. What it was for the exchange before stays in memory: it is often learned
/// again, and then no references are counted.
#[derive(Clone, Debug, Default)]
pub struct Name {
    text: Option<Arc<str>>,
    is_known: bool,
}

impl Name {
    pub fn learn(&mut self, name: &Arc<str>) {
        if !self.text.as_ref().is_some_and(|text| Arc::ptr_eq(text, name)) {
            self.text = Some(name.clone());
        }
        self.is_known = true;
    }

    fn forget(&mut self) {
        self.is_known = false;
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.as_deref().filter(|_| self.is_known).unwrap_or_default()
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self { text: Some(name.into()), is_known: true }
    }
}

/// Why an upstream's word was not the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FellBack {
    /// It gave no response; by the name of the error.
    Failed(&'static str),
    /// An endpoint answered with this status.
    Status(u16),
}

impl fmt::Display for FellBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(error),
            Self::Status(status) => status.fmt(f),
        }
    }
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptFacts {
    /// Whether it went over a kept connection.
    pub reused: Option<bool>,
    /// What it took to connect.
    pub connect_time: Option<Duration>,
    /// From its start to the response's head.
    pub response_time: Option<Duration>,
}

impl Facts {
    pub fn new(client: Option<IpAddr>, secure: bool) -> Self {
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            client,
            source: None,
            destination: None,
            secure,
            via: None,
            is_grpc: false,
            grpc_status: None,
            security: None,
            demands: None,
            route: Name::default(),
            upstream: Name::default(),
            endpoint: Name::default(),
            key: None,
            tried: Vec::new(),
            appended: Vec::new(),
            queued: None,
            delay: None,
            send_to: None,
            started: Instant::now(),
            ended: None,
            is_sent: false,
            fallback: None,
            earlier_attempts: 0,
            attempt: AttemptFacts::default(),
            id: None,
            notes: Vec::new(),
        }
    }

    /// Forgets one exchange for the next, but for the memory. Who begins that one says when.
    pub fn reset(&mut self, client: Option<IpAddr>, secure: bool) {
        self.request.clear();
        self.response.clear();
        (self.client, self.secure) = (client, secure);
        (self.via, self.is_grpc, self.grpc_status) = (None, false, None);
        (self.source, self.destination, self.security, self.demands) = (None, None, None, None);
        self.key = None;
        self.tried.clear();
        self.appended.clear();
        (self.queued, self.delay, self.send_to) = (None, None, None);
        self.ended = None;
        (self.is_sent, self.fallback, self.earlier_attempts) = (false, None, 0);
        self.attempt = AttemptFacts::default();
        self.id = None;
        self.notes.clear();
        for name in [&mut self.route, &mut self.upstream, &mut self.endpoint] {
            name.forget();
        }
    }

    /// Attempts so far, at all upstreams.
    pub fn attempts(&self) -> usize {
        self.earlier_attempts + self.tried.len()
    }

    /// Gives an upstream up for another: endpoints are numbered by each for itself.
    pub fn leave_upstream(&mut self) {
        self.earlier_attempts += self.tried.len();
        self.tried.clear();
        self.appended.clear();
        self.attempt = AttemptFacts::default();
    }

    /// The exchange's identifier, if anybody asked for it.
    pub fn known_id(&self) -> Option<&str> {
        self.id.as_ref().and_then(|digits| std::str::from_utf8(digits).ok())
    }

    /// The scheme the client used.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The exchange's identifier: 128 random bits in hexadecimal, made at the first call.
    pub fn id(&mut self) -> &str {
        self.id_of(|| fastrand::u128(..))
    }

    /// The same with random bits of the caller's.
    pub fn id_of(&mut self, random: impl FnOnce() -> u128) -> &str {
        let digits = self.id.get_or_insert_with(|| {
            let bits = random();
            std::array::from_fn(|i| b"0123456789abcdef"[(bits >> (124 - 4 * i)) as usize & 15])
        });
        std::str::from_utf8(digits).expect("hexadecimal digits")
    }

    /// A note that was left, or what is known of the client's TLS under that name, see [`Security::note`].
    pub fn note(&self, name: &str) -> Option<&[u8]> {
        let left = self.notes.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..]);
        left.or_else(|| self.security.as_ref()?.note(name).map(str::as_bytes))
    }

    /// Leaves a note, or drops it when [`MAX_NOTES`] or [`MAX_NOTE_BYTES`] would be passed.
    pub fn set_note(&mut self, name: &str, value: &[u8]) {
        self.notes.retain(|(n, _)| n != name);
        let bytes: usize = self.notes.iter().map(|(n, v)| n.len() + v.len()).sum();
        if self.notes.len() < MAX_NOTES && bytes + name.len() + value.len() <= MAX_NOTE_BYTES {
            self.notes.push((name.to_owned(), value.to_vec()));
        }
    }
}

/// The facts of an exchange, lendable to a plugin call.
#[derive(Debug)]
pub struct Exchange(Option<Box<Facts>>);

impl Exchange {
    pub fn new(facts: Facts) -> Self {
        Self(Some(Box::new(facts)))
    }

    /// The exchange of facts that were lent.
    pub fn lent(facts: Box<Facts>) -> Self {
        Self(Some(facts))
    }

    /// Takes the facts out for the length of a call. They must be given back before anyone reads them.
    pub fn lend(&mut self) -> Box<Facts> {
        self.0.take().expect("the facts are lent to one call at a time")
    }

    pub fn give_back(&mut self, facts: Box<Facts>) {
        self.0 = Some(facts);
    }
}

impl Deref for Exchange {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        self.0.as_deref().expect("the facts are lent only within a call")
    }
}

impl DerefMut for Exchange {
    fn deref_mut(&mut self) -> &mut Facts {
        self.0.as_deref_mut().expect("the facts are lent only within a call")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::peer::ClientCertificate;

    #[test]
    fn an_identifier_is_32_hexadecimal_digits_and_stays_the_same() {
        let mut facts = Facts::new(None, false);

        let id = facts.id().to_owned();

        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(facts.id(), id);
    }

    #[test]
    fn what_tls_came_to_is_known_like_a_note() {
        let mut facts = Facts::new(None, true);
        assert_eq!(facts.note("tls-version"), None);
        let client = ClientCertificate { subject: "CN=a".to_owned(), ..ClientCertificate::default() };
        let security = Security { version: "TLSv1.3", client: Some(client), ..Security::default() };

        facts.security = Some(Arc::new(security));

        assert_eq!(facts.note("tls-version"), Some(&b"TLSv1.3"[..]));
        assert_eq!(facts.note("tls-client-subject"), Some(&b"CN=a"[..]));
        assert_eq!((facts.note("tls-server-name"), facts.note("tls-"), facts.note("version")), (None, None, None));
        facts.reset(None, true);
        assert_eq!(facts.note("tls-version"), None, "it was another client's");
    }

    #[test]
    fn a_name_is_forgotten_and_learned_again() {
        let (first, second) = (Arc::from("first"), Arc::from("second"));
        let mut facts = Facts::new(None, false);
        assert_eq!(&*facts.route, "");

        for name in [&first, &first, &second, &first] {
            facts.route.learn(name);
            assert_eq!(*facts.route, **name);
            facts.reset(None, false);
            assert_eq!(&*facts.route, "");
        }
    }

    #[test]
    fn notes_past_the_quota_are_dropped() {
        let mut facts = Facts::new(None, false);

        for i in 0..MAX_NOTES + 1 {
            facts.set_note(&format!("n{i}"), b"x");
        }
        facts.set_note("n0", &[0; MAX_NOTE_BYTES]);

        assert_eq!(facts.note("n15"), Some(&b"x"[..]));
        assert_eq!(facts.note("n16"), None);
        assert_eq!(facts.note("n0"), None);
    }
}
