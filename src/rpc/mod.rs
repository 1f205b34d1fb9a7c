//! Calls: a client sends a request, a server answers it.
//!
//! Requests and replies go over a pair of SPSC rings ([`pair`], for one client), over an MPMC ring
//! with a reply lane for each client ([`Server::open`], [`Client::open`]), or over any duplex
//! transport that loses nothing ([`Client::from_transport`]).
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-rpc-{}", std::process::id()));
//! use slipring::{Options, rpc};
//! use std::time::Duration;
//! let options = Options::mpmc(64, 256).directory(&dir);
//!
//! // One process: up to 16 clients at a time.
//! let mut server = rpc::Server::open("prices", 16, &options)?;
//! let serving = std::thread::spawn(move || -> slipring::Result<()> {
//!     let request = server.recv()?;
//!     let price: &[u8] = if request.payload() == b"EURUSD" { b"1.0842" } else { b"?" };
//!     request.reply(price)
//! });
//!
//! // Another process:
//! let mut client = rpc::Client::open("prices", &options)?;
//! assert_eq!(client.call(b"EURUSD", Duration::from_secs(10))?, b"1.0842");
//! serving.join().unwrap()?;
//! # rpc::Server::remove("prices", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # What a call may return
//! * **The reply**, once, and only its own: each call has a number that no other call of the lane
//!   has. A reply that comes after the call has ended is discarded.
//! * [`Error::PeerDead`] or [`Error::Closed`] as soon
//!   as the server has ended. Every call that was under way gets it, also if another server has
//!   started meanwhile: the request may have been handled or not. The library does not repeat
//!   requests. A call that begins while there is no server waits for one, until its deadline.
//! * [`Error::Timeout`] at its deadline. The request carries the deadline, so
//!   the server skips it if it comes to it later. It also gets a cancellation, as for
//!   [`Client::cancel`].
//! * [`Error::Unanswered`] if the server dropped the request.
//!
//! Payloads are bytes. Encode values with a [codec](crate::typed::Codec), if you like.
//!
//! # How a death is noticed
//! A reply lane has one consumer and one producer, so a client that waits finds the death of its
//! server as any consumer does (`docs/crash-behaviour.md`). A server that starts sends a *welcome*
//! with a random number into each lane: a client that was welcomed by another run knows that its
//! calls have ended, even if it did not wake up in between.
//!
//! A client that dies leaves its lane to the next one. Replies to it are refused or discarded.

#![cfg_attr(not(feature = "zerocopy"), doc = "\n[codec]: crate#features")]
// Floor 5. Used by programs. Relies on `ring/` and `transport/`.
#![forbid(unsafe_code)]

mod client;
mod server;
#[cfg(feature = "async")]
mod tasks;
mod wire;

pub use client::{Call, Client};
pub use server::{Pending, Request, Server};

#[cfg(feature = "async")]
pub use tasks::{AsyncClient, AsyncServer};

use crate::error::{Error, Result};
use crate::ring::spsc;

/// A client and its server in this process, over a pair of anonymous rings. `capacity` as for
/// [`Options::spsc`](crate::Options::spsc).
///
/// # Errors
/// [`Error::Invalid`], [`Error::Io`].
pub fn pair(capacity: usize) -> Result<(Client, Server)> {
    let (requests_tx, requests_rx) = spsc::pair(capacity)?;
    let (replies_tx, replies_rx) = spsc::pair(capacity)?;
    Ok((Client::from_rings(requests_tx, replies_rx)?, Server::from_rings(requests_rx, replies_tx)?))
}

const KIND: Error = Error::Invalid { what: "kind of ring for requests: must be mpmc, or spsc for one client" };

/// The name of a reply lane.
fn lane_name(name: &str, lane: u16) -> String {
    format!("{name}.{lane}")
}
