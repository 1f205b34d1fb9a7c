//! Addresses of this machine that no other test uses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// A loopback address at which nothing listens. It belongs to this process: its number is in the
/// address, and the port is below those that the kernel assigns.
///
/// Binding to port 0 and closing that socket would not always free the port, because a child that
/// another test is starting has a copy of the socket until its `execve`.
pub fn unused_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    (Ipv4Addr::new(127, 64 | high, middle, low), port).into()
}
