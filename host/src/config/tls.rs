//! TLS towards endpoints.

use std::path::PathBuf;

use super::fault::{BadValue, Fault};
use super::reader::{Read, Reader, Scope};
use super::tree::{Kind, Value};
use super::value;

/// TLS of which the proxy is the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// A PEM file with the certificates that are trusted; absent: the system's.
    pub ca: Option<PathBuf>,
    /// The name asked for and looked for in the certificate; absent: the endpoint's host.
    pub server_name: Option<String>,
    /// A PEM file with the certificate the proxy shows, its own first. With `key` or not at all.
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of `cert`.
    pub key: Option<PathBuf>,
    /// Whether the endpoint's certificate must be trusted and bear the name (true).
    pub verify: bool,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self { ca: None, server_name: None, cert: None, key: None, verify: true }
    }
}

impl ClientTls {
    /// Reads `true`, `false` or a table; absent is `false`.
    pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Option<Self> {
        let value = reader.value(key)?;
        match &value.kind {
            Kind::Boolean(wanted) => wanted.then(Self::default),
            Kind::Table(table) => Some(Self::read_table(Reader::new(table, reader.scope))),
            _ => {
                reader.scope.mismatch(value, "true, false or a table");
                None
            }
        }
    }

    fn read_table(mut reader: Reader<'_>) -> Self {
        let mut tls = Self::default();
        let mut file = |key| reader.optional::<File>(key).map(|file| file.0);
        (tls.ca, tls.cert, tls.key) = (file("ca"), file("cert"), file("key"));
        tls.server_name = reader.parse("server_name", server_name);
        reader.set("verify", &mut tls.verify);
        let mut absent = |key: &'static str, other: &str| {
            if reader.value(key).is_none() {
                let fault = Fault::new(reader.place(), format!("missing key `{key}`"));
                reader.scope.absence(fault.with_hint(format!("`{other}` needs it")));
            }
        };
        match (&tls.cert, &tls.key) {
            (Some(_), None) => absent("key", "cert"),
            (None, Some(_)) => absent("cert", "key"),
            _ => {}
        }
        if !tls.verify && tls.ca.is_some() {
            let fault = Fault::new(reader.place_of("ca"), "nothing is verified, so that `ca` has no meaning");
            reader.scope.fault(fault);
        }
        if !tls.verify {
            let fault =
                Fault::new(reader.place_of("verify"), "endpoints may be anybody: their certificates are not verified");
            reader.scope.warn(fault.with_hint("name the certificates to trust as `ca` instead".to_owned()));
        }
        tls
    }
}

/// The path of a file.
pub(super) struct File(pub(super) PathBuf);

impl Read for File {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        let text = scope.text(value)?;
        if text.is_empty() {
            scope.fault(Fault::new(value.place, "the path is empty"));
            return None;
        }
        Some(Self(scope.resolve(PathBuf::from(text))))
    }
}

/// A name or an address, which stands without brackets here.
fn server_name(text: &str) -> Result<String, BadValue> {
    if text.parse::<std::net::IpAddr>().is_ok() { Ok(text.to_owned()) } else { value::host_name(text) }
}
