//! HELLO: the first frame of a connection, which describes its sender.
//!
//! Used by connection-oriented transports, and by the decoder, which takes the first sequence
//! number from it. Relies on [`crate::error`] only.
//!
//! ```text
//! off size field
//!   0   1  version      of the protocol: 1
//!   1   1  clock        of the stamps: 0 none, 1 CLOCK_MONOTONIC, 2 CLOCK_REALTIME, 3 CLOCK_TAI; others: unknown, ignore stamps
//!   2   2  reserved     0
//!   4   4  max_payload  the largest payload its sender accepts
//!   8   8  features     bits 0-31 must be understood (none is defined), bits 32-63 may be ignored
//!  16   8  epoch        a number that its sender has not used before; a new one at every start
//!  24   4  first_seq    seq of the next frame on this HELLO's stream
//!  28   4  reserved     0
//! ```
//! Later versions may append fields, so a longer payload is accepted and the rest of it ignored.

use crate::error::{Error, Result};

/// The clock of a sender's stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// No stamps, or stamps of a clock that this version does not know.
    None,
    /// `CLOCK_MONOTONIC` of the sender's machine, comparable only there.
    Monotonic,
    /// `CLOCK_REALTIME`: UTC, may jump.
    Realtime,
    /// `CLOCK_TAI`: does not jump at leap seconds.
    Tai,
}

/// The payload of a HELLO frame.
///
/// ```
/// use slipring::frame::{Clock, Form, Frame, Header, Hello, control};
/// let hello = Hello { clock: Clock::Monotonic, epoch: 0x5EED, ..Hello::new(1 << 20) };
/// let payload = hello.encode();
/// let frame = Frame::new(Header::control(control::HELLO, payload.len())?, &payload)?;
/// assert_eq!(Hello::decode(frame.payload)?, hello);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Clock of the stamps.
    pub clock: Clock,
    /// The largest payload, in bytes, that the sender of this HELLO accepts.
    pub max_payload: u32,
    /// Feature bits: 0–31 must be understood, 32–63 may be ignored. Version 1 defines none.
    pub features: u64,
    /// Distinguishes this run of the sender from its earlier ones.
    pub epoch: u64,
    /// Sequence number of the next frame on the stream on which the HELLO came.
    pub first_seq: u32,
}

impl Hello {
    /// Bytes of the payload.
    pub const LEN: usize = 32;
    const VERSION: u8 = 1;
    const MUST_UNDERSTAND: u64 = 0xFFFF_FFFF;

    /// No clock, no features, epoch 0, first sequence number 0.
    #[must_use]
    pub const fn new(max_payload: u32) -> Hello {
        Hello { clock: Clock::None, max_payload, features: 0, epoch: 0, first_seq: 0 }
    }

    /// The bytes of the payload.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let clock = match self.clock {
            Clock::None => 0,
            Clock::Monotonic => 1,
            Clock::Realtime => 2,
            Clock::Tai => 3,
        };
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&[Self::VERSION, clock]);
        bytes[4..8].copy_from_slice(&self.max_payload.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.features.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes
    }

    /// Reads a HELLO's payload.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is too short; [`Error::Incompatible`] for another version, or for
    /// an unknown feature that must be understood.
    pub fn decode(payload: &[u8]) -> Result<Hello> {
        let Some(bytes) = payload.first_chunk::<{ Self::LEN }>() else {
            return Err(Error::Corrupt { what: "HELLO: shorter than 32 bytes" });
        };
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        let (version, features) = (bytes[0], u64_at(8));
        if version != Self::VERSION {
            let (expected, found) = (Self::VERSION.into(), version.into());
            return Err(Error::Incompatible { what: "HELLO version", expected, found });
        }
        if features & Self::MUST_UNDERSTAND != 0 {
            let found = features & Self::MUST_UNDERSTAND;
            return Err(Error::Incompatible { what: "HELLO features that must be understood", expected: 0, found });
        }
        let clock = match bytes[1] {
            1 => Clock::Monotonic,
            2 => Clock::Realtime,
            3 => Clock::Tai,
            _ => Clock::None,
        };
        Ok(Hello { clock, max_payload: u32_at(4), features, epoch: u64_at(16), first_seq: u32_at(24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_may_append_fields_but_not_require_features() {
        let hello = Hello { clock: Clock::Tai, features: 1 << 32, epoch: u64::MAX, first_seq: 7, ..Hello::new(99) };
        let mut bytes = hello.encode().to_vec();
        assert!(Hello::decode(&bytes[..31]).is_err());
        bytes.extend_from_slice(b"appended");
        assert_eq!(Hello::decode(&bytes).unwrap(), hello);
        bytes[8] = 1;
        assert!(matches!(Hello::decode(&bytes), Err(Error::Incompatible { found: 1, .. })));
        bytes[0] = 2;
        assert!(matches!(Hello::decode(&bytes), Err(Error::Incompatible { found: 2, .. })));
    }

    #[test]
    fn an_unknown_clock_is_no_clock() {
        let mut bytes = Hello::new(1).encode();
        bytes[1] = 200;
        assert_eq!(Hello::decode(&bytes).unwrap().clock, Clock::None);
    }
}
