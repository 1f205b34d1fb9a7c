//! The peer's HELLO, read by the sending side where the receiving side reads nothing.
//!
//! Used by both ends of a TCP connection. Relies on the socket alone.
//!
//! If an end closes a TCP socket, or its process ends, while bytes that arrived are unread, the
//! kernel resets the connection, and what the other machine has not acknowledged is lost. A program
//! that only sends never reads, and its peer says HELLO. So the sender reads that HELLO, and nothing
//! else, and keeps it for the receiver. Once the receiver reads a socket, the sender no longer does.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::frame::{Header, Hello, control, padded};
use crate::os::bytes::ByteFd;

/// The largest HELLO that is read early, in bytes; ours has 64.
const LARGEST: usize = 256;

/// What was read early: an entry for each socket of the connection that is still open.
#[derive(Debug, Default)]
pub(super) struct EarlyHello(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    socket: Weak<ByteFd>,
    /// Nothing more is read early from this socket.
    done: bool,
    /// A HELLO, as a frame.
    bytes: Vec<u8>,
}

impl EarlyHello {
    /// For the sender: reads the HELLO if it has arrived, comes first, and the receiver reads
    /// nothing. Does not wait. One system call until then, two for the HELLO, none afterwards.
    pub(super) fn read(&self, socket: &Arc<ByteFd>) -> Option<Hello> {
        self.with(socket, |entry| {
            if entry.done {
                return None;
            }
            let mut bytes = [0; LARGEST];
            let there = match recv(socket.as_fd(), &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Ok((_, there)) if there > 0 => &bytes[..there],
                _ => &[],
            };
            match hello(there) {
                Begins::With(len, hello) => {
                    entry.done = true;
                    let (_, read) = recv(socket.as_fd(), &mut bytes[..len], RecvFlags::DONTWAIT).ok()?;
                    entry.bytes.extend_from_slice(&bytes[..read]);
                    Some(hello)
                }
                Begins::Perhaps => None,
                Begins::Otherwise => {
                    entry.done = true;
                    None
                }
            }
        })
    }

    /// For the receiver, before it reads a socket for the first time: what was read from it.
    pub(super) fn claim(&self, socket: &Arc<ByteFd>) -> Vec<u8> {
        self.with(socket, |entry| {
            entry.done = true;
            std::mem::take(&mut entry.bytes)
        })
    }

    /// Both ends read while they hold the lock, so the order of the bytes stays.
    fn with<T>(&self, socket: &Arc<ByteFd>, action: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.socket.strong_count() > 0);
        let known = entries.iter().position(|entry| std::ptr::eq(entry.socket.as_ptr(), Arc::as_ptr(socket)));
        let at = known.unwrap_or_else(|| {
            entries.push(Entry { socket: Arc::downgrade(socket), done: false, bytes: Vec::new() });
            entries.len() - 1
        });
        action(&mut entries[at])
    }
}

/// What the first bytes of a socket are.
enum Begins {
    /// A HELLO of so many bytes.
    With(usize, Hello),
    /// Perhaps the beginning of one.
    Perhaps,
    Otherwise,
}

fn hello(bytes: &[u8]) -> Begins {
    // A long header has its checksum in the part behind the short one; the receiver checks it.
    let Some(head) = bytes.first_chunk() else {
        return if bytes.is_empty() { Begins::Otherwise } else { Begins::Perhaps };
    };
    let Ok((header, head_len)) = Header::from_bytes(head) else { return Begins::Otherwise };
    let payload = head_len..head_len + header.len as usize;
    let end = head_len + padded(header.len as usize);
    if !header.is_control() || header.kind != control::HELLO || end > LARGEST {
        return Begins::Otherwise;
    }
    match bytes.get(payload).filter(|_| bytes.len() >= end) {
        Some(payload) => Hello::decode(payload).map_or(Begins::Otherwise, |hello| Begins::With(end, hello)),
        None => Begins::Perhaps,
    }
}
