//! Both ends of a message, alike for every protocol: a case says what is sent and expected, and never by what.

mod client;
mod http1;
mod notes;
mod origin;
mod receiver;
mod sender;

use std::fmt;
use std::future::Future;

use super::PATIENCE;

pub(crate) use client::{Connection, Entry};
pub(crate) use notes::Notes;
pub(crate) use origin::{Origin, Serving};
pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Http1,
    Http1Tls,
    Http2,
    H2c,
    #[cfg(feature = "http3")]
    Http3,
}

/// How an endpoint is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Http1,
    Http1Tls,
    Http2,
    H2c,
}

impl Front {
    pub(crate) const ALL: &[Self] = &[
        Self::Http1,
        Self::Http1Tls,
        Self::Http2,
        Self::H2c,
        #[cfg(feature = "http3")]
        Self::Http3,
    ];

    /// Whether a connection has many requests at a time.
    pub(crate) fn has_streams(self) -> bool {
        !matches!(self, Self::Http1 | Self::Http1Tls)
    }

    /// Whether it is HTTP/3. The library for that knows no interim responses.
    pub(crate) fn is_http3(self) -> bool {
        !matches!(self, Self::Http1 | Self::Http1Tls | Self::Http2 | Self::H2c)
    }
}

impl Back {
    pub(crate) const ALL: &[Self] = &[Self::Http1, Self::Http1Tls, Self::Http2, Self::H2c];

    pub(crate) fn has_streams(self) -> bool {
        matches!(self, Self::Http2 | Self::H2c)
    }

    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2)
    }
}

/// What is said of a body before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// Its length.
    Length(usize),
    /// Nothing.
    Stream,
}

/// A message that did not come, or go, as a whole.
#[derive(Debug)]
pub(crate) struct Broken(#[expect(dead_code, reason = "it is shown when a test fails")] pub(super) String);

pub(crate) type Result<T> = std::result::Result<T, Broken>;

impl Broken {
    fn by(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Waits for something, though not for ever.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}
