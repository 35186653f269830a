//! Options of sockets that no library of ours sets.
#![expect(unsafe_code, reason = "an option is set by a system call that takes a pointer")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Takes connections whose first bytes come with their SYN, so many at a time (RFC 7413).
///
/// # Errors
/// When the system knows no such thing.
pub(crate) fn accept_fast_open(socket: &impl AsFd, queue: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, c_int::try_from(queue).unwrap_or(c_int::MAX))
}

/// Has the connection that is about to be made wait for its first bytes, which then go with its SYN. Until something is
/// written there is none, once the peer is known to allow it.
///
/// # Errors
/// When the system knows no such thing.
pub(crate) fn connect_fast_open(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
}

/// Has a bind to an address without a port leave the port to the connect, which may then use one that is used already, to
/// another place.
///
/// # Errors
/// When the system knows no such thing.
pub(crate) fn choose_port_late(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set(socket: &impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the pointer is to as many bytes as it is said.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
