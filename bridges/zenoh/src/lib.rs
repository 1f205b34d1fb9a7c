//! Frames of `slipring` between machines, over [Zenoh](https://zenoh.io).
//!
//! [`Sender`] and [`Receiver`] are a [`FrameSender`](slipring::transport::FrameSender) and a
//! [`FrameReceiver`](slipring::transport::FrameReceiver) whose transport is a key of Zenoh. The
//! program `slipring-zenoh` relays between them and every endpoint of slipring. `README.md` says
//! how, and what is guaranteed.
//!
//! ```no_run
//! use slipring::frame::{Event, Header};
//! use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt};
//! use slipring_zenoh::{Link, Policy, Receiver, Sender};
//!
//! let mut there = Link::default();
//! there.listen.push("tcp/127.0.0.1:7447".to_owned());
//! let mut here = Link::default();
//! here.connect.push("tcp/127.0.0.1:7447".to_owned());
//! let (there, here) = (there.open()?, here.open()?);
//!
//! let mut rx = Receiver::open(&there, "site1/ticks", Policy::Block)?;
//! let mut tx = Sender::open(&here, "site1/ticks", Policy::Block)?;
//! tx.send(Header::PLAIN, b"EURUSD 1.0842")?;
//! tx.flush(slipring::Deadline::never())?;
//! assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"EURUSD 1.0842"));
//! # Ok::<(), slipring::Error>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod inbox;
mod link;
mod queue;
mod receiver;
mod sender;
mod wire;

pub use link::{Link, RUNTIME};
pub use receiver::{Receiver, Senders, Taker, senders_of};
pub use sender::Sender;

use slipring::transport::{Capabilities, DeliveryOrder, tcp};

/// What happens to frames that the other side does not take in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They hold up the sender.
    #[default]
    Block,
    /// They are dropped. The receiver is told exactly how many.
    Drop,
}

/// The guarantees of a key of Zenoh as a transport of frames.
pub const CAPABILITIES: Capabilities = {
    let mut capabilities = tcp::CAPABILITIES;
    capabilities.scheme = "zenoh";
    capabilities.order = DeliveryOrder::PerSender;
    // What a lost connection had under way is lost, and told.
    capabilities.lossless = false;
    capabilities.boundaries = true;
    capabilities.survives_restart = true;
    capabilities.duplex = false;
    capabilities
};

/// Beside a key, the name of what this bridge adds. Wildcards do not match a chunk that begins with
/// `@`, so subscribers of other programs do not see it.
const OWN: &str = "@slipring";

/// An error of Zenoh.
fn failed(error: impl std::fmt::Display) -> slipring::Error {
    slipring::Error::Io { op: "Zenoh", source: std::io::Error::other(reason(&error.to_string())) }
}

/// The text of an error of Zenoh without the places in its sources, and without the form in which
/// it shows errors of JSON.
#[doc(hidden)] // for the program
pub fn reason(text: &str) -> String {
    const PLACE: &str = " at /";
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(PLACE) {
        let from = at + PLACE.len();
        let end = rest[from..].find([' ', ']', '\n', '"']).map_or(rest.len(), |len| from + len);
        let is_place = rest[from..end].contains(".rs:");
        plain.push_str(&rest[..if is_place { at } else { end }]);
        rest = &rest[end..];
    }
    plain.push_str(rest);
    match plain.split_once("Message { msg: \"").and_then(|(_, message)| message.rsplit_once("\", location: ")) {
        Some((message, _)) => message.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\"),
        None => plain.trim_end().to_owned(),
    }
}
