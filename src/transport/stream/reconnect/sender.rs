//! What a sender repeats over the next socket: the next sequence numbers, and the frames that the
//! last socket did not take completely.
//!
//! Used by the sender, which keeps its frames for that: its buffer then begins at the beginning of
//! a frame, of the long or the short form.

use std::collections::{HashMap, HashSet};

use crate::frame::{Header, Sequencer, control, padded};

/// The beginning of the next socket's bytes.
#[derive(Debug)]
pub(in crate::transport::stream) struct Resumption {
    /// The next sequence number of every stream.
    pub(in crate::transport::stream) firsts: HashMap<u16, u32>,
    /// The frames that are sent again, encoded.
    pub(in crate::transport::stream) repeated: Vec<u8>,
}

impl Resumption {
    /// `out` are the sender's frames, of which the last socket took the first `taken` bytes.
    pub(in crate::transport::stream) fn new(out: &[u8], taken: usize, sequencer: &Sequencer) -> Self {
        let mut firsts: HashMap<u16, u32> = sequencer.streams().collect();
        let mut repeated = Vec::new();
        let mut seen = HashSet::new();
        for (header, frame) in frames(&out[taken_whole(out, taken)..]) {
            // The HELLO was for the last socket, and a PONG answered the peer there.
            if header.is_control() && matches!(header.kind, control::HELLO | control::PONG) {
                continue;
            }
            repeated.extend_from_slice(frame);
            if !header.is_control() && seen.insert(header.stream) {
                firsts.insert(header.stream, header.seq);
            }
        }
        Resumption { firsts, repeated }
    }
}

/// How many of the first `taken` bytes are whole frames.
pub(in crate::transport::stream) fn taken_whole(out: &[u8], taken: usize) -> usize {
    let ends = frames(out).scan(0, |end, (_, frame)| {
        *end += frame.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= taken).last().unwrap_or(0)
}

/// The frames in `bytes`, which are our own, one after the other.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let (header, head) = Header::from_bytes(bytes.first_chunk()?).ok()?;
        let (frame, rest) = bytes.split_at_checked(head + padded(header.len as usize))?;
        bytes = rest;
        Some((header, frame))
    })
}
