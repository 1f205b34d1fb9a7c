//! Cells: the 8 bytes that one queued signal carries, and how they form a frame. `docs/framing.md`
//! has the same table.
//!
//! Used by `sender.rs` and `receiver.rs`. Pure.
//!
//! ```text
//! bits  63-62 61-60 59-48            47-45 44-32    31-0
//!       00    00    channel          lane  0        value          DOORBELL: one cell is one frame
//!       01    00    B E nnn lll iiii                bytes 0-5      CHUNK: a piece of a frame
//!                   59 BEGIN, 58 END, 57-55 bytes used, 54-52 lane, 51-48 index modulo 16; byte k in bits 8k to 8k+7
//! ```
//! The *lane* distinguishes the senders of one process.

use crate::error::{Error, Result};

/// Frame bytes that a cell carries.
pub(super) const CHUNK: usize = 6;
/// Senders that one process may have for one signal of one receiver.
pub(super) const LANES: u8 = 8;

/// A decoded cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Doorbell { lane: u8, bell: Bell },
    Chunk { lane: u8, begin: bool, end: bool, index: u8, len: u8, bytes: [u8; CHUNK] },
}

impl Cell {
    pub(super) fn encode(self) -> u64 {
        match self {
            Cell::Doorbell { lane, bell } => {
                u64::from(bell.channel) << 48 | u64::from(lane) << 45 | u64::from(bell.value)
            }
            Cell::Chunk { lane, begin, end, index, len, bytes } => {
                let [b0, b1, b2, b3, b4, b5] = bytes;
                1 << 62
                    | u64::from(begin) << 59
                    | u64::from(end) << 58
                    | u64::from(len) << 55
                    | u64::from(lane) << 52
                    | u64::from(index) << 48
                    | u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0])
            }
        }
    }

    /// `None` for a cell that no sender of this version creates.
    pub(super) fn decode(cell: u64) -> Option<Cell> {
        let bits = |at: u32, count: u32| ((cell >> at) & ((1 << count) - 1)) as u16;
        match bits(60, 4) {
            0b0000 if bits(32, 13) == 0 => {
                let bell = Bell { channel: bits(48, 12), value: cell as u32 };
                Some(Cell::Doorbell { lane: bits(45, 3) as u8, bell })
            }
            0b0100 if (1..=CHUNK as u16).contains(&bits(55, 3)) => {
                let [b0, b1, b2, b3, b4, b5, ..] = cell.to_le_bytes();
                Some(Cell::Chunk {
                    lane: bits(52, 3) as u8,
                    begin: bits(59, 1) == 1,
                    end: bits(58, 1) == 1,
                    index: bits(48, 4) as u8,
                    len: bits(55, 3) as u8,
                    bytes: [b0, b1, b2, b3, b4, b5],
                })
            }
            _ => None,
        }
    }
}

/// The payload of a DOORBELL control frame: something happened to `channel`, whose value is now
/// `value`.
///
/// ```
/// use slipring::transport::signal::Bell;
/// let bell = Bell::new(7, 1234)?;
/// assert_eq!(Bell::from_payload(&bell.payload()), Some(bell));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bell {
    channel: u16,
    value: u32,
}

impl Bell {
    /// The channel of a signal that a [`Notifier`](super::Notifier) has received; the value is its
    /// number.
    pub const SIGNALLED: u16 = 0xFFE;
    /// The channel of a process whose end a [`Notifier`](super::Notifier) reports; the value is its
    /// pid.
    pub const ENDED: u16 = 0xFFF;

    /// A bell for `channel`, up to 4,095 ([`Notifier`](super::Notifier) uses the last two). The
    /// channel defines the meaning of the value.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another channel.
    pub const fn new(channel: u16, value: u32) -> Result<Bell> {
        if channel > 0xFFF {
            return Err(Error::Invalid { what: "channel of a doorbell: 0 to 4095" });
        }
        Ok(Bell { channel, value })
    }

    /// The channel.
    #[must_use]
    pub const fn channel(self) -> u16 {
        self.channel
    }

    /// The value of the channel.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.value
    }

    /// The payload of the DOORBELL frame: channel (2 bytes), 0 (2), value (4).
    #[must_use]
    pub fn payload(self) -> [u8; 8] {
        (u64::from(self.value) << 32 | u64::from(self.channel)).to_le_bytes()
    }

    /// Decodes the payload of a DOORBELL frame; `None` if it has another form.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Bell> {
        let word = u64::from_le_bytes(payload.try_into().ok()?);
        (word as u32 <= 0xFFF).then_some(Bell { channel: word as u16, value: (word >> 32) as u32 })
    }
}

/// The cells of a message, from a given byte on.
pub(super) fn chunk(message: &[u8], at: usize, lane: u8) -> Cell {
    let rest = &message[at..];
    let len = rest.len().min(CHUNK);
    let mut bytes = [0; CHUNK];
    bytes[..len].copy_from_slice(&rest[..len]);
    let (begin, end) = (at == 0, len == rest.len());
    Cell::Chunk { lane, begin, end, index: (at / CHUNK % 16) as u8, len: len as u8, bytes }
}

/// The message that the chunks of one sender have formed so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    next: Option<u8>,
}

/// The result of adding a chunk to an [`Assembly`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// The message is not complete.
    Part,
    /// The message is complete, in [`Assembly::bytes`].
    Whole,
    /// This many bytes are lost: the chunk does not continue them, or they are more than `limit`.
    Lost(usize),
}

impl Assembly {
    /// Adds a chunk.
    pub(super) fn take(&mut self, begin: bool, end: bool, index: u8, piece: &[u8], limit: usize) -> Made {
        let before = if self.next.is_some() { self.bytes.len() } else { 0 };
        let continues = if begin { index == 0 && before == 0 } else { self.next == Some(index) };
        if begin || !continues {
            self.bytes.clear();
            self.next = None;
        }
        if begin && index == 0 || continues {
            self.bytes.extend_from_slice(piece);
            self.next = Some((index + 1) % 16);
        }
        if self.bytes.len() > limit {
            self.next = None;
            return Made::Lost(self.bytes.len());
        }
        match (continues, end) {
            (false, _) => Made::Lost(before + if begin { 0 } else { piece.len() }),
            (true, false) => Made::Part,
            (true, true) => {
                self.next = None;
                Made::Whole
            }
        }
    }

    /// The message, after [`Made::Whole`].
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the incomplete message.
    pub(super) fn unfinished(&self) -> usize {
        if self.next.is_some() { self.bytes.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_match_the_documentation() {
        let bell = Bell::new(0xABC, 0x1234_5678).unwrap();
        let doorbell = Cell::Doorbell { lane: 5, bell };
        assert_eq!(doorbell.encode(), 0x0ABC_A000_1234_5678);
        let piece = chunk(b"hello", 0, 3);
        assert_eq!(piece.encode(), 0x4EB0_006F_6C6C_6568);
        for cell in [doorbell, piece, chunk(&[9; 100], 96, 7)] {
            assert_eq!(Cell::decode(cell.encode()), Some(cell));
        }
        for wrong in [0x0000_0001_0000_0000, 0x1000_0000_0000_0000, 0x4800_0000_0000_0000, 0x4B80_0000_0000_0000, !0] {
            assert_eq!(Cell::decode(wrong), None, "{wrong:#x}");
        }
        assert!(Bell::new(0x1000, 0).is_err());
        assert_eq!(Bell::from_payload(&[0xFF, 0xFF, 0, 0, 1, 0, 0, 0]), None);
        assert_eq!(Bell::from_payload(b""), None);
    }

    fn feed(assembly: &mut Assembly, message: &[u8], at: usize) -> Made {
        match chunk(message, at, 0) {
            Cell::Chunk { begin, end, index, len, bytes, .. } => {
                assembly.take(begin, end, index, &bytes[..usize::from(len)], 300)
            }
            Cell::Doorbell { .. } => unreachable!(),
        }
    }

    #[test]
    fn messages_of_every_length_are_put_together() {
        let mut assembly = Assembly::default();
        for len in 1..=300 {
            let message: Vec<u8> = (0..len).map(|i| i as u8).collect();
            for at in (0..len).step_by(CHUNK) {
                let expected = if at + CHUNK >= len { Made::Whole } else { Made::Part };
                assert_eq!(feed(&mut assembly, &message, at), expected);
            }
            assert_eq!((assembly.bytes(), assembly.unfinished()), (&message[..], 0));
        }
    }

    #[test]
    fn an_incomplete_or_too_long_message_is_lost_and_the_next_is_not() {
        let (mut assembly, message) = (Assembly::default(), [1; 40]);
        assert_eq!(feed(&mut assembly, &message, 6), Made::Lost(6)); // no beginning
        assert_eq!(feed(&mut assembly, &message, 0), Made::Part);
        assert_eq!(feed(&mut assembly, &message, 12), Made::Lost(12)); // one is missing
        assert_eq!(feed(&mut assembly, &message, 18), Made::Lost(6));
        assert_eq!(feed(&mut assembly, &message, 0), Made::Part);
        assert_eq!(assembly.unfinished(), 6);
        assert_eq!(feed(&mut assembly, b"anew, anew", 0), Made::Lost(6)); // the beginning of another message, which is kept
        assert_eq!(feed(&mut assembly, b"anew, anew", 6), Made::Whole);
        assert_eq!(assembly.bytes(), b"anew, anew");

        let large = [2; 306];
        let lost = (0..306).step_by(CHUNK).map(|at| feed(&mut assembly, &large, at)).last();
        assert_eq!(lost, Some(Made::Lost(306)));
        assert_eq!(feed(&mut assembly, b"small", 0), Made::Whole);
    }
}
