//! `ring:`: the rings in shared memory as a transport: their guarantees, and the traits for their
//! handles.
//!
//! Used by endpoints, and by programs that work with any transport. Relies on `ring/`. A ring has
//! no HELLO and no BYE: its participants' records show which are attached, which left and which
//! died.
//!
//! A program that uses rings only should use their handles: batches, grants and views cost less
//! than the traits.

// The two ends are a file each. What copies its frames instead of holding them (a board, a lossy
// subscriber, a stranger's ring) is a source of frames in a file of its own.

mod board;
mod gap;
mod lossy;
mod receiver;
mod sender;
mod stranger;
#[cfg(all(test, not(miri)))]
mod tests;

pub use receiver::Receiver;
pub use sender::Sender;

use super::{Capabilities, DeliveryOrder};
use crate::error::Error;
#[cfg(doc)]
use crate::frame::Event;
use crate::segment::Kind;

/// The guarantees of a byte ring (`kind=spsc`).
pub const SPSC: Capabilities = Capabilities {
    scheme: "ring",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: (1 << 20) - 24,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

/// The guarantees of a slot ring (`kind=mpmc`).
pub const MPMC: Capabilities =
    Capabilities { scheme: "ring?kind=mpmc", order: DeliveryOrder::PerSender, max_payload: 256, ..SPSC };

/// The guarantees of a ring with a lane for each sender (`kind=mpsc`).
pub const MPSC: Capabilities =
    Capabilities { scheme: "ring?kind=mpsc", order: DeliveryOrder::PerSender, max_payload: (1 << 16) - 24, ..SPSC };

/// The guarantees of a board of latest values (`kind=latest`): each frame is the newest value of
/// the cell whose number is its stream. Frames that were replaced before they were received are
/// reported as [`Event::Gap`]; nothing else is lost.
pub const LATEST: Capabilities = Capabilities {
    scheme: "ring?kind=latest",
    order: DeliveryOrder::PerStream,
    lossless: false,
    max_payload: 304,
    ..SPSC
};

/// The guarantees of a broadcast ring (`kind=broadcast`), for every receiver that is reliable.
pub const BROADCAST: Capabilities = Capabilities { scheme: "ring?kind=broadcast", ..SPSC };

/// The guarantees of a broadcast ring for a lossy receiver, which is told what it missed.
pub const LOSSY: Capabilities =
    Capabilities { scheme: "ring?kind=broadcast&subscribe=lossy", lossless: false, ..BROADCAST };

/// The guarantees of a byte ring whose sender is a stranger: its participant record cannot be
/// trusted.
pub const UNTRUSTED: Capabilities =
    Capabilities { scheme: "ring (untrusted)", survives_restart: false, reports_death: false, ..SPSC };

pub(crate) const NO_FRAMES: Error = Error::Unsupported {
    what: "frames over a ring of kind stream, which carries bytes, not frames: use kind=spsc, or stream::Producer and Consumer",
};

fn no_ring(kind: Kind) -> Error {
    Error::Incompatible { what: "kind of ring: not a ring", expected: Kind::Spsc as u64, found: kind as u64 }
}
