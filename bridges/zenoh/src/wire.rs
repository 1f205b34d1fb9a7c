//! The bytes of a sample: a HELLO, and behind it frames as on a byte stream (`docs/framing.md`).
//!
//! Used by `sender.rs` and `inbox.rs`. Relies on `slipring::frame`.
//!
//! ```text
//! off size
//!   0  16  header of the HELLO, on the stream of the sample's first frame
//!  16  32  HELLO: epoch of the sender, sequence number of the first frame, feature bits
//!  48   8  position: the number of application frames that the sender sent before this sample
//!  56   8  source: where frames and numbers come from (a ring's generation), 0 if unknown
//!  64      frames, each padded to 8 bytes
//! ```
//! The position makes gaps exact: a receiver knows how many frames a lost sample had, of whatever
//! streams. The source lets a receiver continue behind a sender that was restarted: frames of one
//! source have one numbering.

use slipring::frame::{Clock, DEFAULT_MAX_PAYLOAD, Frame, Header, Hello, LONG, SHORT, control, padded};
use slipring::{Error, Result};

/// Bytes before the frames of a sample.
pub(crate) const OPENING: usize = SHORT + HELLO;
const HELLO: usize = Hello::LEN + 16;

/// A feature of the HELLO, which may be ignored: the frames were sent before, and are repeated for
/// a receiver that has come since. They count in no position.
const REPEATS: u64 = 1 << 33;

/// What a sample says before its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) epoch: u64,
    pub(crate) position: u64,
    pub(crate) source: u64,
    /// The stream and the number of the first application frame.
    pub(crate) stream: u16,
    pub(crate) first_seq: u32,
    pub(crate) repeats: bool,
}

impl Opening {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let features = if self.repeats { REPEATS } else { 0 };
        let hello = Hello {
            clock: Clock::None,
            features,
            epoch: self.epoch,
            first_seq: self.first_seq,
            ..Hello::new(DEFAULT_MAX_PAYLOAD as u32)
        };
        let header = Header { stream: self.stream, ..Header::control(control::HELLO, HELLO)? };
        out.extend_from_slice(&header.commit_word().to_le_bytes());
        out.extend_from_slice(&header.tail_word().to_le_bytes());
        out.extend_from_slice(&hello.encode());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.source.to_le_bytes());
        Ok(())
    }

    /// Reads the beginning of a sample.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Incompatible`], for a sample that no sender of this version
    /// has sent.
    pub(crate) fn decode(sample: &[u8]) -> Result<Self> {
        let Some(head) = sample.first_chunk::<OPENING>() else { return Err(NO_OPENING) };
        let (header, len) = Header::from_bytes(head.first_chunk().ok_or(NO_OPENING)?)?;
        let is_hello = header.is_control() && header.kind == control::HELLO;
        if !is_hello || len != SHORT || header.len as usize != HELLO {
            return Err(NO_OPENING);
        }
        let hello = Hello::decode(&head[SHORT..])?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        Ok(Opening {
            epoch: hello.epoch,
            position: word(SHORT + Hello::LEN),
            source: word(SHORT + Hello::LEN + 8),
            stream: header.stream,
            first_seq: hello.first_seq,
            repeats: hello.features & REPEATS != 0,
        })
    }
}

const NO_OPENING: Error = Error::Corrupt { what: "sample: does not begin with a HELLO of this bridge" };

/// One frame in a sample.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) stamp: u64,
    /// In the form that byte rings have.
    pub(crate) is_short: bool,
    /// The beginning of the payload, and the beginning of the next frame.
    pub(crate) payload: usize,
    pub(crate) end: usize,
}

impl Found {
    pub(crate) fn view<'a>(&self, sample: &'a [u8]) -> Frame<'a> {
        let payload = &sample[self.payload..self.payload + self.header.len as usize];
        Frame { header: self.header, stamp: self.stamp, payload }
    }
}

/// The frame at `at`, which is not the end of the sample.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Incompatible`].
#[inline]
pub(crate) fn frame_at(sample: &[u8], at: usize) -> Result<Found> {
    const CUT: Error = Error::Corrupt { what: "sample: ends inside a frame" };
    let rest = &sample[at..];
    // No error is made before there is one: it would have to be dropped for every frame.
    let Some(head) = rest.first_chunk() else { return Err(CUT) };
    let (header, header_len) = Header::from_bytes(head)?;
    let len = header_len + header.len as usize;
    let payload = at + header_len;
    let end = payload + padded(header.len as usize);
    if end > sample.len() {
        return Err(CUT);
    }
    let stamp = match header_len >= LONG {
        true => Frame::from_message(&rest[..len], DEFAULT_MAX_PAYLOAD)?.stamp,
        false => 0,
    };
    Ok(Found { header, stamp, is_short: header_len == SHORT, payload, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let opening = Opening { epoch: 7, position: 1 << 40, source: 99, stream: 3, first_seq: 5, repeats: true };
        let mut bytes = Vec::new();
        opening.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), OPENING);
        assert_eq!(Opening::decode(&bytes).unwrap(), opening);
        for cut in 0..OPENING {
            assert!(Opening::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_sample_is_a_byte_stream_of_the_framing() {
        use slipring::frame::{Decoder, Event, Form, OnCorrupt};
        let mut bytes = Vec::new();
        Opening { epoch: 7, position: 0, source: 0, stream: 0, first_seq: 5, repeats: false }
            .encode(&mut bytes)
            .unwrap();
        Frame::new(Header { seq: 5, ..Header::PLAIN }, b"tick").unwrap().encode(Form::Long, &mut bytes).unwrap();
        let mut decoder = Decoder::new(1024, OnCorrupt::Close);
        let mut input = &bytes[..];
        assert!(
            matches!(decoder.decode(&mut input), Ok(Some(Event::Frame(frame))) if frame.header.kind == control::HELLO)
        );
        assert!(matches!(decoder.decode(&mut input), Ok(Some(Event::Frame(frame))) if frame.payload == b"tick"));
    }
}
