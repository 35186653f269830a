//! The operator's window.

use std::path::Path;
use std::{env, fmt, fs};

use super::fault::{BadValue, Fault, Faults};
use super::listener::ListenAddress;
use super::reader::{Reader, Scope};
use super::tree::Document;
use super::unreadable;

/// The operator's window.
#[derive(Clone, PartialEq)]
pub struct Admin {
    pub address: ListenAddress,
    /// Asked for as `Authorization: Bearer`. Required unless the address is loopback or a unix socket.
    pub token: Option<String>,
}

/// Does not show the token, so that it gets into no log.
impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Admin").field("address", &self.address).field("token", &token).finish()
    }
}

impl Admin {
    /// Reads this part alone of a file, whatever is wrong with the rest of it. `None`: it is not there.
    ///
    /// # Errors
    /// When the file cannot be read, or its faults when they are in the way.
    pub fn load(path: &Path) -> Result<Option<Self>, Faults> {
        let fail = |faults| Faults { file: Some(path.to_owned()), faults };
        let text = fs::read_to_string(path).map_err(|error| fail(vec![unreadable(&error)]))?;
        let document = Document::read(&text, &|name| env::var(name).ok());
        let scope = Scope::of(&document.root, path.parent());
        let read = Reader::new(&document.root, &scope).table("admin").map(Self::read);
        match read {
            None if document.faults.is_empty() => Ok(None),
            Some(Some(admin)) => Ok(Some(admin)),
            _ => {
                let noted = scope.noted.take().into_iter().map(|noted| noted.fault);
                Err(fail(document.faults.iter().cloned().chain(noted).collect()))
            }
        }
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Option<Self> {
        let is_token_written = reader.value("token").is_some();
        let token = reader.parse("token", token);
        let address = ListenAddress::read(&mut reader)?;
        let is_private = match &address {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        };
        if !is_private && !is_token_written {
            reader.scope.absence(
                Fault::new(reader.place_of("address"), "an address that others can reach needs a `token`")
                    .with_hint("add `token = \"${STAUNCH_ADMIN_TOKEN}\"`".to_owned()),
            );
        }
        Some(Self { address, token })
    }
}

/// A secret that fits into a header. Its faults do not show it.
fn token(text: &str) -> Result<String, BadValue> {
    if text.is_empty() {
        return Err(BadValue::new("the token is empty"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(BadValue::new("a token has only ASCII letters, digits and punctuation in it"));
    }
    Ok(text.to_owned())
}
