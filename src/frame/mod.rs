//! The frame format: header, encoder, streaming decoder, fragments, HELLO.
//!
//! Rings and all transports carry frames of this format. Programs need this module to read a
//! header's fields, to set them, or to encode and decode frames without a transport, for example in
//! a file. `docs/framing.md` describes the same bytes for peers in other languages.
//!
//! The module makes no system call and has no `unsafe` code, and does not panic on any input.
//!
//! ```
//! use slipring::frame::{Decoder, Event, Form, Frame, Header, OnCorrupt};
//!
//! let mut wire = Vec::new();
//! Frame::new(Header::new(0x0100, 5)?, b"hello")?.encode(Form::Long, &mut wire)?;
//!
//! let mut decoder = Decoder::new(1024, OnCorrupt::Close);
//! let mut received = Vec::new();
//! for mut chunk in wire.chunks(7) {
//!     while let Some(event) = decoder.decode(&mut chunk)? {
//!         if let Event::Frame(frame) = event {
//!             received.extend_from_slice(frame.payload);
//!         }
//!     }
//! }
//! assert_eq!(received, b"hello");
//! # Ok::<(), slipring::Error>(())
//! ```

// Floor 1. Used by the rings (the short header is their record header) and by every transport.
// Relies on `crc32c` and `error.rs`.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod fragment;
pub(crate) mod header;
mod hello;
mod inspect;
mod owned;
mod sequence;
#[cfg(test)]
mod tests;
#[cfg(feature = "zerocopy")]
pub(crate) mod value;

pub(crate) use decode::Step;
pub use decode::{Decoder, Event, OnCorrupt, Stats};
#[cfg(feature = "transports")]
pub(crate) use encode::first_encoded;
pub use encode::{Form, Frame, Head, padding};
pub(crate) use fragment::Lost;
pub use fragment::{Fragments, Reassembler, fragments};
pub use header::{DEFAULT_MAX_PAYLOAD, Flags, Header, LONG, MAX_HEADER, MAX_LEN, SHORT, control, padded};
pub(crate) use header::{IDENTIFIED, SYNC};
pub use hello::{Clock, Hello};
pub use inspect::sender_of;
pub use owned::{OwnedEvent, OwnedFrame};
pub(crate) use sequence::StagedNumbers;
pub use sequence::{Order, Sequencer, Tracker};

/// Makes room for `len` bytes in all. Doubles the size, so that a byte is moved O(1) times, but
/// never beyond `limit`, and only for bytes that have arrived: announcing much and sending little
/// costs little.
fn grow(buffer: &mut Vec<u8>, len: usize, limit: usize) {
    if len > buffer.capacity() {
        let capacity = len.max((buffer.capacity() * 2).min(limit));
        buffer.reserve_exact(capacity - buffer.len());
    }
}
