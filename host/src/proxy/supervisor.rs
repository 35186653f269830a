//! Tells the service manager how this process fares (systemd's `sd_notify(3)`, in its few lines).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use tracing::debug;

/// The service manager, or nobody.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` names. An address that cannot be used is as none.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        match Self::at(&name) {
            Ok(supervisor) => supervisor,
            Err(error) => {
                debug!(%error, "NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        Ok(Self(Some(Arc::new((UnixDatagram::unbound()?, address)))))
    }

    /// Everything listens and serves.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// A new configuration is being read; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// Another process is the service from now on.
    pub(super) fn replaced_by(&self, process: u32) {
        self.tell(&format!("MAINPID={process}"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Nothing depends on being heard.
    fn tell(&self, state: &str) {
        if let Some((socket, address)) = self.0.as_deref()
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            debug!(%error, state, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_manager_hears_it_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("staunch-{}", folder.path().display());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();

        Supervisor::at(path.as_os_str()).unwrap().ready();
        Supervisor::at(OsStr::new(&format!("@{abstract_name}"))).unwrap().replaced_by(7);

        assert_eq!([heard(&by_path), heard(&by_name)], ["READY=1", "MAINPID=7"]);
    }

    #[test]
    fn a_manager_that_is_gone_is_no_matter() {
        let folder = tempfile::tempdir().unwrap();

        Supervisor::at(folder.path().join("gone").as_os_str()).unwrap().stopping();
        Supervisor::default().ready();
    }
}
