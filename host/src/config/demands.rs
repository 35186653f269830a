//! What a listener wants done with every request that comes in there, before any route.

use super::fault::Fault;
use super::reader::Reader;
use super::tree::Kind;

/// What a listener wants done with every request that comes in there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    pub redirect_https: Option<RedirectHttps>,
    pub client_headers: ClientHeaders,
    /// What clients that do not speak HTTP/3 are told of it.
    pub alt_svc: Option<String>,
}

/// What becomes of `x-client-cert-…` fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHeaders {
    /// Nothing: they are fields like any other.
    #[default]
    Kept,
    /// A client cannot speak of a certificate that it did not show: there is a listener that sets them.
    Removed,
    /// They tell of the certificate that the client has shown.
    Set,
}

/// How a client that came without TLS is sent to where there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectHttps {
    /// (443)
    pub port: u16,
    /// 301, 302, 307 or 308 (308, which has the client repeat its method and body).
    pub status: u16,
    /// Whether requests for `/.well-known/acme-challenge/` are served as any other (false): by them an authority sees
    /// to whom it issues a certificate (RFC 8555 section 8.3).
    pub except_acme: bool,
}

impl Default for RedirectHttps {
    fn default() -> Self {
        Self { port: 443, status: 308, except_acme: false }
    }
}

impl Demands {
    /// Whether they are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RedirectHttps {
    /// Reads `true`, `false` or a table; absent is `false`.
    pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Option<Self> {
        let value = reader.value(key)?;
        let table = match &value.kind {
            Kind::Boolean(wanted) => return wanted.then(Self::default),
            Kind::Table(table) => table,
            _ => {
                reader.scope.mismatch(value, "true, false or a table");
                return None;
            }
        };
        let mut reader = Reader::new(table, reader.scope);
        let mut redirect = Self::default();
        reader.set_number("port", 1..=65535, &mut redirect.port);
        reader.set_number("status", 301..=308, &mut redirect.status);
        if !matches!(redirect.status, 301 | 302 | 307 | 308) {
            let message = format!("a redirect to the same path has no status {}", redirect.status);
            let fault = Fault::new(reader.place_of("status"), message);
            reader.scope.fault(fault.with_hint("expected one of `301`, `302`, `307`, `308`".to_owned()));
        }
        reader.set("except_acme", &mut redirect.except_acme);
        Some(redirect)
    }
}
