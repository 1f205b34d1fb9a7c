//! One frame in given bytes: all checks that need no other frame.
//!
//! Used by `decode.rs` for byte streams, and by the transports that carry a frame per message.
//! Relies on the header and on `crc32c`.
//!
//! Checks are made in this order for every source: sync → version → header length → reserved flags
//! → `len` against the limit → (long) head_crc, TLVs → enough bytes? → body_crc. Nothing is
//! allocated, waited for or skipped because of a length that has not passed the checks before it.

use super::encode::Frame;
use super::header::{Header, LONG, SENDER, SHORT, padded};
use crate::error::{Error, Result};

/// The result of checking the given bytes.
pub(super) enum Found {
    /// No fault so far; this many bytes are needed to decide.
    Prefix { need: usize },
    /// A frame with a good header and a damaged payload, of this many bytes.
    Damaged { total: usize },
    /// A good frame; its sequence number is not yet checked.
    Whole(Shape),
}

/// The positions of a frame's parts.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) header: Header,
    stamp: u64,
    header_len: usize,
    /// All its bytes, padding included if there is any.
    pub(super) total: usize,
}

impl Shape {
    /// The frame over `bytes`, which must be those that were inspected.
    pub(super) fn view(self, bytes: &[u8]) -> Frame<'_> {
        let payload = &bytes[self.header_len..self.header_len + self.header.len as usize];
        Frame { header: self.header, stamp: self.stamp, payload }
    }
}

/// The size of a frame: padded on a byte stream, exact in a separate message.
#[derive(Clone, Copy)]
pub(super) enum Boundary {
    Stream,
    Message,
}

/// All checks of one frame except the sequence, in the fixed order. `work` counts the bytes
/// examined.
pub(super) fn inspect(bytes: &[u8], max_payload: usize, boundary: Boundary, work: &mut u64) -> Result<Found> {
    let Some(head) = bytes.first_chunk::<SHORT>() else { return Ok(Found::Prefix { need: SHORT }) };
    *work += SHORT as u64;
    let (header, header_len) = Header::from_bytes(head)?;
    let len = header.len as usize;
    if len > max_payload {
        return Err(Error::TooLarge { max: max_payload });
    }
    let Some(head) = bytes.get(..header_len) else { return Ok(Found::Prefix { need: header_len }) };
    let long = header_len >= LONG;
    if long {
        *work += header_len as u64;
        if crc32c::crc32c_append(crc32c::crc32c(&head[..28]), &head[LONG..]) != u32_at(head, 28) {
            return Err(Error::Corrupt { what: "frame header: checksum mismatch" });
        }
        check_tlvs(&head[LONG..])?;
    }
    let total = match boundary {
        Boundary::Stream => header_len + padded(len),
        Boundary::Message => header_len + len,
    };
    let Some(payload) = bytes.get(..total).map(|frame| &frame[header_len..header_len + len]) else {
        return Ok(Found::Prefix { need: total });
    };
    let mut stamp = 0;
    if long {
        *work += len as u64;
        if crc32c::crc32c(payload) != u32_at(head, 24) {
            return Ok(Found::Damaged { total });
        }
        stamp = u64::from(u32_at(head, 16)) | (u64::from(u32_at(head, 20)) << 32);
    }
    Ok(Found::Whole(Shape { header, stamp, header_len, total }))
}

pub(super) const DAMAGED: &str = "frame payload: checksum mismatch";

/// The little-endian number at `at`, which must lie inside `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The sender of this message's frame, if its header identifies it: the epoch of the sender's
/// HELLO, from the TLV `SENDER`.
///
/// For messages that [`Frame::from_message`] accepted; for others the result has no meaning, but
/// there is no panic. [`Frame::head_from`] writes the TLV, and has an example.
#[must_use]
pub fn sender_of(message: &[u8]) -> Option<u64> {
    let (_, header_len) = Header::from_bytes(message.first_chunk()?).ok()?;
    let mut tlvs = message.get(LONG..header_len)?;
    while let Some(&[t0, t1, l0, l1]) = tlvs.first_chunk() {
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        if u16::from_le_bytes([t0, t1]) == SENDER && len == 8 {
            return tlvs.get(4..)?.first_chunk().map(|epoch| u64::from_le_bytes(*epoch));
        }
        tlvs = tlvs.get(padded(4 + len)..)?;
    }
    None
}

/// Checks the extensions of a long header: type (2 bytes), length (2), value, zeros up to 8.
/// Reading a frame requires none of them, so all are skipped, except one whose highest type bit
/// says that it must be understood.
fn check_tlvs(mut tlvs: &[u8]) -> Result<()> {
    while let Some(&[t0, t1, l0, l1]) = tlvs.first_chunk() {
        let (kind, len) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([l0, l1]));
        let Some(rest) = tlvs.get(padded(4 + usize::from(len))..) else {
            return Err(Error::Corrupt { what: "frame header: an extension exceeds the header" });
        };
        if kind & 0x8000 != 0 {
            return Err(Error::Incompatible {
                what: "frame extension that must be understood",
                expected: 0,
                found: kind.into(),
            });
        }
        tlvs = rest;
    }
    Ok(())
}

impl<'a> Frame<'a> {
    /// Decodes the frame of a message (datagram, queue), which is exactly header and payload,
    /// without padding.
    ///
    /// The payload is a view of `message`; nothing is allocated. The caller checks the sequence
    /// with a [`Tracker`](super::Tracker).
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Incompatible`], or [`Error::TooLarge`] if the frame announces
    /// more than `max_payload` bytes.
    ///
    /// ```
    /// use slipring::frame::{Form, Frame, Header};
    /// let sent = Frame::new(Header::new(0x0100, 0)?, b"abc")?;
    /// let message = [&sent.head(Form::Long)?, sent.payload].concat();
    /// assert_eq!(Frame::from_message(&message, 1472)?, sent);
    /// assert!(Frame::from_message(&message[1..], 1472).is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn from_message(message: &'a [u8], max_payload: usize) -> Result<Frame<'a>> {
        match inspect(message, max_payload, Boundary::Message, &mut 0)? {
            Found::Whole(shape) if shape.total == message.len() => Ok(shape.view(message)),
            Found::Whole(_) => Err(Error::Corrupt { what: "message: longer than its frame" }),
            Found::Prefix { .. } => Err(Error::Corrupt { what: "message: shorter than its frame" }),
            Found::Damaged { .. } => Err(Error::Corrupt { what: DAMAGED }),
        }
    }
}
