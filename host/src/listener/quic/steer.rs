//! Leads packets of QUIC to the worker that has their connection, wherever they come from.
//!
//! Each worker has a socket of its own on one address, and the kernel chooses among them by a hash over the addresses of
//! both sides. A client whose address changes (RFC 9000 section 9) would come to another worker, which knows nothing of
//! it. So the kernel is given a small program that chooses by the connection identifier, whose first two bytes say which
//! worker made it up ([`ids`](super::ids)). The first packets of a client carry one that it has drawn at random, which
//! is as good a hash as any other.

use std::io;
use std::net::UdpSocket;

/// Has the kernel do so among the sockets that are bound to the address of this one, in the order in which they were.
///
/// # Errors
/// When the system cannot; it goes on by its hash then.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no library that is used here has this option of sockets")]
pub(super) fn by_connection(socket: &UdpSocket, sockets: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let mut program = program(sockets);
    let described =
        libc::sock_fprog { len: program.len().try_into().expect("a few instructions"), filter: program.as_mut_ptr() };
    let size = size_of_val(&described).try_into().expect("a few bytes");
    // SAFETY: `described` is what this option takes, of the size that is said, and with the program it points to lives
    // longer than the call, which copies both.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const described).cast(),
            size,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn by_connection(_: &UdpSocket, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Classic BPF, which is given what a datagram holds (RFC 8999 section 5): of a packet with a long header the identifier
/// stands behind its version and length, of one with a short header at once.
#[cfg(target_os = "linux")]
fn program(sockets: u32) -> [libc::sock_filter; 7] {
    use libc::{BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JA, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET};

    /// What `RET` takes as its value.
    const BPF_A: u32 = 0x10;
    const LONG: u32 = 0x80;

    let step = |code: u32, k| libc::sock_filter { code: code.try_into().expect("16 bits"), jt: 0, jf: 0, k };
    [
        step(BPF_LD | BPF_B | BPF_ABS, 0),
        libc::sock_filter { jt: 0, jf: 2, ..step(BPF_JMP | BPF_JSET | BPF_K, LONG) },
        step(BPF_LD | BPF_H | BPF_ABS, 6),
        step(BPF_JMP | BPF_JA, 1),
        step(BPF_LD | BPF_H | BPF_ABS, 1),
        step(BPF_ALU | BPF_MOD | BPF_K, sockets),
        step(BPF_RET | BPF_A, 0),
    ]
}
