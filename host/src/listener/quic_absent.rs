//! HTTP/3 in a program that was built without it: a configuration that asks for it is refused before it comes to this.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::worker::Worker;
use crate::listener::Door;
use crate::replaceable::Replaceable;

/// There are none.
#[derive(Debug)]
pub(crate) enum Sockets {}

impl Sockets {
    pub(crate) fn open(_: SocketAddr, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(crate) async fn run(
    sockets: Arc<Sockets>,
    _: (usize, usize),
    _: Rc<Replaceable<Door>>,
    _: Rc<Worker>,
    _: TaskTracker,
    _: CancellationToken,
) {
    match *sockets {}
}
