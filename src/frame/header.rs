//! The frame header: its layout, its two words, and the checks that precede every other use of its
//! fields.
//!
//! Used by the rings, whose record header is the short form and whose commit word is its first 8
//! bytes, and by `encode.rs` and `decode.rs`. Relies on [`crate::error`] only, because `loom-tests`
//! compiles this file, too.
//!
//! Little-endian; on byte streams and in byte rings every frame is padded with zeros to 8 bytes.
//!
//! ```text
//! off size field
//!   0   2  sync      0xB7 0x52
//!   2   1  ver_hlen  high nibble: version, 1; low nibble: header length in 8-byte units (2 short, 4 long, 5..15 + TLVs)
//!   3   1  flags     BEGIN 1, END 2, CONTROL 4, REDELIVERED 8; bits 4-5 must be understood, bits 6-7 may be ignored
//!   4   4  len       payload bytes, at most 2^30
//!   8   2  kind      the application's message type; 0x0000-0x00FF are control kinds
//!  10   2  stream    sender-scoped stream, 0 by default
//!  12   4  seq       per sender and stream, +1 a frame, wraps
//! ---- the short header ends here ----
//!  16   8  stamp     nanoseconds of the clock that HELLO names; 0: none
//!  24   4  body_crc  CRC32C(payload)
//!  28   4  head_crc  CRC32C(bytes 0..28, then the TLVs)
//! ---- the long header ends here; TLVs, if any, follow ----
//! ```

use std::fmt;
use std::ops::BitOr;

use static_assertions::{const_assert, const_assert_eq};

use crate::error::{Error, Result};

/// Bytes of the short header.
pub const SHORT: usize = 16;
/// Bytes of the long header without TLVs.
pub const LONG: usize = 32;
/// Bytes of the longest header: long, with 88 bytes of TLVs.
pub const MAX_HEADER: usize = 15 * 8;
/// The largest payload that a frame may announce: 2^30 bytes. Channels set lower limits.
pub const MAX_LEN: u32 = 1 << 30;
/// The default payload limit of byte streams and files: 16 MiB.
pub const DEFAULT_MAX_PAYLOAD: usize = 16 << 20;

/// The two sync bytes, in memory order.
pub(crate) const SYNC: [u8; 2] = [0xB7, 0x52];
const SYNC_WORD: u64 = u16::from_le_bytes(SYNC) as u64;
const VERSION: u64 = 1;

/// `sync | ver_hlen` of a short header, and the bits of the first word that decide whether it is an
/// acceptable one.
const SHORT_WORD: u64 = SYNC_WORD | word_of_length(SHORT);
const SHORT_MASK: u64 = 0x00FF_FFFF | Flags::MUST_UNDERSTAND.in_word();

/// The TLV that identifies a frame's sender: the 8 bytes of its HELLO's epoch. Receivers may skip
/// it.
pub(crate) const SENDER: u16 = 0x0002;
/// Bytes of a header with that TLV: long, type and length, the epoch, padding to 8.
pub(crate) const IDENTIFIED: usize = LONG + padded(4 + 8);

/// The `ver_hlen` byte of a header of `header_len` bytes.
pub(crate) const fn header_byte(header_len: usize) -> u8 {
    (VERSION << 4) as u8 | (header_len / 8) as u8
}

const fn word_of_length(header_len: usize) -> u64 {
    ((VERSION << 4) | (header_len as u64 / 8)) << 16
}

const_assert_eq!(padded(0), 0);
const_assert_eq!(padded(1), 8);
const_assert_eq!(padded(8), 8);
const_assert_eq!(SHORT_WORD, 0x0012_52B7);
const_assert_eq!(SHORT_MASK, 0x30FF_FFFF);
// Zero means "no frame yet" in a ring, so no header may be zero.
const_assert!(SHORT_WORD != 0);
const_assert_eq!(DEFAULT_MAX_PAYLOAD % 8, 0);

/// `n` rounded up to a multiple of 8: what a payload occupies on a byte stream or in a byte ring.
///
/// ```
/// assert_eq!([0, 1, 8, 9].map(slipring::frame::padded), [0, 8, 8, 16]);
/// ```
#[inline]
#[must_use]
pub const fn padded(n: usize) -> usize {
    (n + 7) & !7
}

/// The kinds of control frames, which carry [`Flags::CONTROL`]. `docs/framing.md` describes their
/// payloads.
pub mod control {
    /// Version, features, limits, clock, epoch: the first frame of a connection.
    pub const HELLO: u16 = 0x0001;
    /// Asks for a [`PONG`] with the same payload.
    pub const PING: u16 = 0x0002;
    /// Answers a [`PING`].
    pub const PONG: u16 = 0x0003;
    /// Everything before a sequence number has arrived.
    pub const ACK: u16 = 0x0004;
    /// A range of sequence numbers is missing: asks for retransmission.
    pub const NACK: u16 = 0x0005;
    /// A range of sequence numbers will not come.
    pub const GAP: u16 = 0x0006;
    /// Allows the peer to send this many more payload bytes.
    pub const CREDIT: u16 = 0x0007;
    /// Another channel has something to receive.
    pub const DOORBELL: u16 = 0x0008;
    /// An orderly end: no frame follows.
    pub const BYE: u16 = 0x0009;
    /// The sender stops because of an error, which the payload describes.
    pub const ERROR: u16 = 0x000A;
    /// The type of the sender's messages, as text: see [`typed`](crate::typed).
    pub const TYPE: u16 = 0x000B;

    /// Whether this version knows the control kind. Unknown ones are counted and skipped.
    ///
    /// ```
    /// use slipring::frame::control;
    /// assert!(control::is_known(control::HELLO) && !control::is_known(0x00FF));
    /// ```
    #[must_use]
    pub const fn is_known(kind: u16) -> bool {
        matches!(kind, HELLO..=TYPE)
    }
}

/// The flag byte of a header.
///
/// ```
/// use slipring::frame::Flags;
/// let first = Flags::BEGIN;
/// assert!(Flags::WHOLE.contains(first) && !first.contains(Flags::WHOLE));
/// assert_eq!(first | Flags::END, Flags::WHOLE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag: a middle fragment.
    pub const NONE: Flags = Flags(0);
    /// The first fragment of a frame.
    pub const BEGIN: Flags = Flags(1);
    /// The last fragment of a frame.
    pub const END: Flags = Flags(2);
    /// First and last at once: a frame that was not split.
    pub const WHOLE: Flags = Flags(1 | 2);
    /// A frame of the protocol itself, not of the application; see [`control`].
    pub const CONTROL: Flags = Flags(4);
    /// Delivered a second time, because the first receiver died before it released the frame.
    pub const REDELIVERED: Flags = Flags(8);
    /// Reserved; a frame with either bit is refused, because a receiver that ignored it would
    /// misinterpret the frame.
    pub const MUST_UNDERSTAND: Flags = Flags(0b0011_0000);
    /// Reserved; passed on, and otherwise ignored.
    pub const MAY_IGNORE: Flags = Flags(0b1100_0000);

    /// The flags of a raw byte, reserved ones included.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Flags {
        Flags(bits)
    }

    /// The raw byte.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags at their place in a header's first word.
    #[inline(always)]
    pub(crate) const fn in_word(self) -> u64 {
        (self.0 as u64) << 24
    }

    /// Whether every flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of `self` that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x})", self.0)
    }
}

/// The short header as a value: the fields that both forms of a frame have.
///
/// ```
/// use slipring::frame::{Flags, Header};
/// let header = Header { stream: 3, ..Header::new(0x0107, 64)? };
/// let same = Header::from_words(header.commit_word(), header.tail_word())?;
/// assert_eq!(same, header);
/// assert_eq!(same.flags, Flags::WHOLE);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// See [`Flags`].
    pub flags: Flags,
    /// Payload bytes, at most [`MAX_LEN`].
    pub len: u32,
    /// The application's message type, `0x0100..=0xFFFF`; or a [`control`] kind, if
    /// [`Flags::CONTROL`] is set.
    pub kind: u16,
    /// The stream, scoped to its sender; 0 by default.
    pub stream: u16,
    /// Counts the application's frames of one stream; wraps. 0 in control frames.
    pub seq: u32,
}

impl Header {
    /// The kind of application frames by default: the first that is not reserved.
    pub const DEFAULT_KIND: u16 = 0x0100;

    /// A whole, empty application frame of the default kind: a starting point for other headers.
    pub const PLAIN: Header = Header { flags: Flags::WHOLE, len: 0, kind: Self::DEFAULT_KIND, stream: 0, seq: 0 };

    /// The header of a whole application frame, on stream 0 with sequence number 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is below `0x0100`, the range of control frames;
    /// [`Error::TooLarge`] if `len` exceeds [`MAX_LEN`].
    ///
    /// ```
    /// use slipring::frame::{Header, control};
    /// assert!(Header::new(Header::DEFAULT_KIND, 12).is_ok());
    /// assert!(Header::new(control::PING, 12).is_err());
    /// ```
    pub const fn new(kind: u16, len: usize) -> Result<Header> {
        Self::whole(Flags::WHOLE, kind, len)
    }

    /// The header of a control frame.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is above `0x00FF`; [`Error::TooLarge`] if `len` exceeds
    /// [`MAX_LEN`].
    ///
    /// ```
    /// use slipring::frame::{Header, control};
    /// assert!(Header::control(control::BYE, 0)?.is_control());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub const fn control(kind: u16, len: usize) -> Result<Header> {
        Self::whole(Flags(Flags::WHOLE.0 | Flags::CONTROL.0), kind, len)
    }

    /// This header, if its kind is in the range of its class (control or application). Every sender
    /// checks this, since a header need not come from [`Header::new`].
    #[inline(always)]
    pub(crate) const fn checked(self) -> Result<Header> {
        if (self.kind < Self::DEFAULT_KIND) == self.is_control() { Ok(self) } else { Err(self.reserved_kind()) }
    }

    #[cold]
    const fn reserved_kind(self) -> Error {
        Error::Invalid {
            what: match self.is_control() {
                true => "control kind: must be 0x0000-0x00FF",
                false => "frame kind: 0x0000-0x00FF are reserved; use 0x0100 or above",
            },
        }
    }

    const fn whole(flags: Flags, kind: u16, len: usize) -> Result<Header> {
        if len > MAX_LEN as usize {
            return Err(Error::TooLarge { max: MAX_LEN as usize });
        }
        Header { flags, len: len as u32, kind, stream: 0, seq: 0 }.checked()
    }

    /// Whether this is a control frame, not an application's.
    #[inline]
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.flags.contains(Flags::CONTROL)
    }

    /// Whether the frame is whole, not a fragment.
    #[inline]
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.flags.contains(Flags::WHOLE)
    }

    /// This header as a ring sends it: with the frame's length and number, and without the reserved
    /// flags, which would make every receiver refuse it.
    #[inline(always)]
    pub(crate) const fn sent(self, len: usize, seq: u32) -> Header {
        Header { flags: self.flags.without(Flags::MUST_UNDERSTAND), len: len as u32, seq, ..self }
    }

    /// Bytes 0..8 of the short form as a little-endian number: `sync | ver_hlen | flags | len`.
    /// Never 0.
    #[inline]
    #[must_use]
    pub const fn commit_word(self) -> u64 {
        self.first_word(SHORT)
    }

    /// Bytes 8..16 as a little-endian number: `kind | stream | seq`.
    #[inline]
    #[must_use]
    pub const fn tail_word(self) -> u64 {
        self.kind as u64 | ((self.stream as u64) << 16) | ((self.seq as u64) << 32)
    }

    /// Both words: see [`Header::unpack`].
    #[inline(always)]
    pub(crate) const fn words(self) -> (u64, u64) {
        (self.commit_word(), self.tail_word())
    }

    /// The first word of a header of `header_len` bytes.
    #[inline]
    pub(crate) const fn first_word(self, header_len: usize) -> u64 {
        SYNC_WORD | word_of_length(header_len) | self.flags.in_word() | ((self.len as u64) << 32)
    }

    /// A header from the two words of a *short* header, as they are in a ring. A mask, two
    /// comparisons, and moves.
    ///
    /// Checked in this order: sync, version, header length, reserved flags, `len` ≤ 2^30. The
    /// caller compares `len` with the limit of its channel.
    ///
    /// # Errors
    /// [`Error::Corrupt`], or [`Error::Incompatible`] for another version or a flag that must be
    /// understood.
    ///
    /// ```
    /// use slipring::frame::Header;
    /// assert!(Header::from_words(0, 0).is_err());
    /// ```
    #[inline]
    pub fn from_words(w0: u64, w1: u64) -> Result<Header> {
        if !is_short(w0) || w0 >> 32 > u64::from(MAX_LEN) {
            return Err(refusal(w0).error());
        }
        Ok(Self::unpack(w0, w1))
    }

    /// A header of either form and its length in bytes, 16 or 32..=120, from its first 16 bytes.
    ///
    /// # Errors
    /// As [`Header::from_words`]. This function does not check the checksums of the long
    /// form.
    ///
    /// ```
    /// use slipring::frame::{Header, SHORT};
    /// let bytes = *b"\xB7\x52\x12\x03\x02\0\0\0\0\x01\0\0\x07\0\0\0";
    /// let (header, length) = Header::from_bytes(&bytes)?;
    /// assert_eq!((header.len, header.kind, header.seq, length), (2, 0x0100, 7, SHORT));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn from_bytes(bytes: &[u8; SHORT]) -> Result<(Header, usize)> {
        let [w0, w1] = words(bytes);
        match fault(w0) {
            None => Ok((Self::unpack(w0, w1), header_len(w0))),
            Some(fault) => Err(fault.error()),
        }
    }

    #[inline(always)]
    pub(crate) const fn unpack(w0: u64, w1: u64) -> Header {
        Header {
            flags: Flags((w0 >> 24) as u8),
            len: (w0 >> 32) as u32,
            kind: w1 as u16,
            stream: (w1 >> 16) as u16,
            seq: (w1 >> 32) as u32,
        }
    }
}

#[inline]
fn words(bytes: &[u8; SHORT]) -> [u64; 2] {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    [word(0), word(8)]
}

const fn header_len(w0: u64) -> usize {
    ((w0 >> 16) & 0xF) as usize * 8
}

/// Why a first word is refused. Small enough for the rings' hot paths; converted to an [`Error`]
/// when it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSync,
    Version(u8),
    HeaderLength,
    Flags(u8),
    Length,
    /// A long header where only short ones are allowed.
    Long,
}

impl Refusal {
    /// The error for the user. (There is no `From`, because an implementation for the public type
    /// would make `?` ambiguous in programs that use it.)
    #[cold]
    pub(crate) fn error(self) -> Error {
        match self {
            Refusal::NoSync => Error::Corrupt { what: "frame header: no sync bytes" },
            Refusal::Version(found) => {
                Error::Incompatible { what: "frame version", expected: VERSION, found: found.into() }
            }
            Refusal::HeaderLength => Error::Corrupt { what: "frame header: invalid header length" },
            Refusal::Flags(found) => {
                Error::Incompatible { what: "frame flags that must be understood", expected: 0, found: found.into() }
            }
            Refusal::Length => Error::Corrupt { what: "frame header: length above 2^30" },
            Refusal::Long => Error::Corrupt { what: "frame header: a long header where only short ones are allowed" },
        }
    }
}

/// Why a first word is refused, in the order that `docs/framing.md` fixes; `None` if it is a header
/// of either form.
fn fault(w0: u64) -> Option<Refusal> {
    let version = (w0 >> 20) & 0xF;
    Some(if w0 & 0xFFFF != SYNC_WORD {
        Refusal::NoSync
    } else if version != VERSION {
        Refusal::Version(version as u8)
    } else if header_len(w0) != SHORT && header_len(w0) < LONG {
        Refusal::HeaderLength
    } else if (w0 >> 24) & u64::from(Flags::MUST_UNDERSTAND.0) != 0 {
        Refusal::Flags((w0 >> 28) as u8 & 3)
    } else if w0 >> 32 > u64::from(MAX_LEN) {
        Refusal::Length
    } else {
        return None;
    })
}

/// Whether a first word is that of a short header without an unknown must-understand flag.
#[inline(always)]
pub(crate) const fn is_short(w0: u64) -> bool {
    w0 & SHORT_MASK == SHORT_WORD
}

/// What is wrong with a first word that does not begin a short header.
#[cold]
pub(crate) fn refusal(w0: u64) -> Refusal {
    fault(w0).unwrap_or(Refusal::Long)
}

#[cfg(all(test, not(slipring_loom)))]
mod tests {
    use super::*;

    const EXAMPLE: Header = Header { flags: Flags::WHOLE, len: 5, kind: 0x0102, stream: 0x0304, seq: 0x0506_0708 };

    #[test]
    fn words_are_the_bytes() {
        assert_eq!(EXAMPLE.commit_word().to_le_bytes(), [0xB7, 0x52, 0x12, 0x03, 5, 0, 0, 0]);
        assert_eq!(EXAMPLE.tail_word().to_le_bytes(), [0x02, 0x01, 0x04, 0x03, 0x08, 0x07, 0x06, 0x05]);
    }

    #[test]
    fn extreme_values_survive() {
        for header in [
            Header { flags: Flags::NONE, len: 0, kind: 0, stream: 0, seq: 0 },
            Header { flags: Flags(0xCF), len: MAX_LEN, kind: u16::MAX, stream: u16::MAX, seq: u32::MAX },
        ] {
            assert_eq!(Header::from_words(header.commit_word(), header.tail_word()).unwrap(), header);
            assert_ne!(header.commit_word(), 0);
        }
    }

    #[test]
    fn checks_come_in_the_fixed_order() {
        let refuse = |w0: u64| Header::from_words(w0, 0).unwrap_err().to_string();
        // Every field is wrong at first, then they are corrected one by one. Each message names the
        // first field that is still wrong.
        let mut w0 = !0x000C_0000; // header length 3 units
        for (wrong, mask, healed) in [
            ("sync", 0xFFFF, 0x52B7),
            ("version", 0xF0_0000, 0x10_0000),
            ("header length", 0xF_0000, 0x2_0000),
            ("must be understood", 0x3000_0000, 0),
            ("2^30", 0xFFFF_FFFF << 32, u64::from(MAX_LEN) << 32),
        ] {
            assert!(refuse(w0).contains(wrong), "{}", refuse(w0));
            w0 = (w0 & !mask) | healed;
        }
        assert!(Header::from_words(w0, 0).is_ok());
        w0 = w0 & !0xF_0000 | 0x4_0000;
        assert!(refuse(w0).contains("long header"));
    }

    #[test]
    fn only_valid_header_lengths_pass() {
        for units in 0..16u8 {
            let mut bytes = [0; SHORT];
            bytes[..3].copy_from_slice(&[SYNC[0], SYNC[1], 0x10 | units]);
            let accepted = Header::from_bytes(&bytes).map(|(_, length)| length).ok();
            assert_eq!(accepted, (units == 2 || units >= 4).then_some(usize::from(units) * 8));
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        assert!(matches!(Header::new(0x00FF, 0), Err(Error::Invalid { .. })));
        assert!(matches!(Header::control(0x0100, 0), Err(Error::Invalid { .. })));
        assert!(matches!(Header::new(0x0100, MAX_LEN as usize + 1), Err(Error::TooLarge { .. })));
        assert!(Header::control(control::ERROR, 0).unwrap().is_whole());
    }
}
