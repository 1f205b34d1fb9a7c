//! Frames larger than a transport's messages: split by the sender, reassembled by the receiver,
//! within bounds.
//!
//! Used by transports with small messages (message queues, FIFOs with several writers, UDP,
//! signals). Relies on the header and the frame view.
//!
//! A fragment is a frame: `BEGIN` marks the first, `END` the last, and a frame that is both was not
//! split. The fragments of a frame have one kind and one stream, and consecutive sequence numbers.
//! Control frames are never split.

use std::collections::BTreeMap;

use super::encode::Frame;
use super::grow;
use super::header::{Flags, Header, MAX_LEN};
use crate::error::{Error, Result};

/// Splits a payload into fragments of at most `max_fragment` bytes, numbered from `header.seq` on.
///
/// A payload that fits, even an empty one, becomes a single frame. Advance the
/// [`Sequencer`](super::Sequencer) by the iterator's [length](ExactSizeIterator::len). Copies and
/// allocates nothing.
///
/// # Errors
/// [`Error::Invalid`] if `max_fragment` is 0; [`Error::TooLarge`] above 2^30 bytes, or for
/// a control frame that does not fit.
///
/// ```
/// use slipring::frame::{Flags, Header, fragments};
/// let parts: Vec<_> = fragments(Header::new(0x0100, 0)?, b"abcdefgh", 3)?.collect();
/// assert_eq!(parts.iter().map(|(_, p)| *p).collect::<Vec<_>>(), [&b"abc"[..], b"def", b"gh"]);
/// assert_eq!(parts.iter().map(|(h, _)| h.flags).collect::<Vec<_>>(), [Flags::BEGIN, Flags::NONE, Flags::END]);
/// assert_eq!(parts[2].0.seq, 2);
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn fragments(header: Header, payload: &[u8], max_fragment: usize) -> Result<Fragments<'_>> {
    if max_fragment == 0 {
        return Err(Error::Invalid { what: "fragment size: must be at least 1 byte" });
    }
    let limit = if header.is_control() { max_fragment } else { MAX_LEN as usize };
    if payload.len() > limit {
        return Err(Error::TooLarge { max: limit });
    }
    Ok(Fragments { header, rest: Some(payload), max_fragment, first: true })
}

/// The fragments of one frame, in order: header and payload of each. Made by [`fragments`].
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    header: Header,
    rest: Option<&'a [u8]>,
    max_fragment: usize,
    first: bool,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let (payload, rest) = rest.split_at(rest.len().min(self.max_fragment));
        self.rest = (!rest.is_empty()).then_some(rest);
        // A frame that is already a fragment may lack BEGIN or END; then its parts do not get that
        // flag either.
        let begin = if self.first { Flags::NONE } else { Flags::BEGIN };
        let end = if rest.is_empty() { Flags::NONE } else { Flags::END };
        let flags = self.header.flags.without(begin | end);
        let header = Header { flags, len: payload.len() as u32, ..self.header };
        self.first = false;
        self.header.seq = self.header.seq.wrapping_add(1);
        Some((header, payload))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest.map_or(0, |rest| rest.len().div_ceil(self.max_fragment).max(1));
        (left, Some(left))
    }
}

impl ExactSizeIterator for Fragments<'_> {}

/// How many frames may be unfinished at once.
const MAX_PARTIALS: usize = 65_536;
/// The least limit on the bytes of all unfinished frames together; four of the largest frames, if
/// that is more.
const MIN_HELD: usize = 64 << 20;

/// Reassembles fragments into frames: one unfinished frame per stream of each sender.
///
/// Memory is bounded. A frame is limited to `max_payload` bytes; all unfinished frames together to
/// four times that, or 64 MiB if that is more, and to 65,536 streams. Beyond those limits the frame
/// that has waited longest for its next fragment is dropped (its sender is probably dead) and
/// [counted](Reassembler::dropped). Buffers hold at most twice the bytes that have arrived for
/// them. No system calls.
///
/// ```
/// use slipring::frame::{Frame, Header, Reassembler, fragments};
/// let mut reassembler = Reassembler::new(1024);
/// let mut whole = None;
/// for (header, part) in fragments(Header::new(0x0100, 0)?, b"a frame in parts", 5)? {
///     if let Some(frame) = reassembler.push(Frame::new(header, part)?)? {
///         whole = Some(frame.payload.to_vec());
///     }
/// }
/// assert_eq!(whole.as_deref(), Some(&b"a frame in parts"[..]));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Reassembler {
    max_payload: usize,
    /// Unfinished frames, by source and stream.
    partials: BTreeMap<(u64, u16), Partial>,
    /// The unfinished frames by the time of their last fragment, the oldest first.
    touched: BTreeMap<u64, (u64, u16)>,
    /// Payload bytes in `partials`.
    held: usize,
    /// A clock that advances by 1 with each fragment.
    now: u64,
    dropped: u64,
    lost: Lost,
    /// The last reassembled frame; its buffer is reused for the next one.
    done: Vec<u8>,
}

/// Payload bytes that were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Other fragments of their frame were missing.
    pub(crate) torn: u64,
    /// There were too many unfinished frames.
    pub(crate) crowded: u64,
}

/// A frame whose END fragment has not arrived.
#[derive(Debug)]
struct Partial {
    /// The header of its first fragment.
    header: Header,
    stamp: u64,
    fragments: u32,
    touched: u64,
    payload: Vec<u8>,
}

impl Partial {
    fn continues_with(&self, header: Header) -> bool {
        header.seq == self.header.seq.wrapping_add(self.fragments) && header.kind == self.header.kind
    }
}

impl Reassembler {
    /// An empty reassembler. `max_payload` is capped at 2^30. Allocates nothing yet.
    #[must_use]
    pub fn new(max_payload: usize) -> Self {
        let max_payload = max_payload.min(MAX_LEN as usize);
        Reassembler {
            max_payload,
            partials: BTreeMap::new(),
            touched: BTreeMap::new(),
            held: 0,
            now: 0,
            dropped: 0,
            lost: Lost::default(),
            done: Vec::new(),
        }
    }

    /// Accepts a frame or fragment. Returns a frame if this one is whole, or is the last fragment
    /// of one.
    ///
    /// The result has the sequence number and stamp of its first fragment. Unsplit frames and
    /// control frames pass through unchanged. A fragment that does not continue its unfinished
    /// frame (one was lost or reordered) is dropped together with that frame, and counted.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the frame grows beyond `max_payload`; it is dropped, and
    /// later frames are not affected.
    pub fn push<'a>(&'a mut self, frame: Frame<'a>) -> Result<Option<Frame<'a>>> {
        self.push_from(0, frame)
    }

    /// As [`Reassembler::push`], for a channel that several senders share: each source has streams
    /// of its own.
    pub(crate) fn push_from<'a>(&'a mut self, source: u64, frame: Frame<'a>) -> Result<Option<Frame<'a>>> {
        let header = frame.header;
        if header.is_control() {
            return Ok(Some(frame));
        }
        let key = (source, header.stream);
        if header.flags.contains(Flags::BEGIN) {
            self.lost.torn += self.give_up(key);
            if header.is_whole() {
                return self.fits(frame.payload.len()).map(|()| Some(frame));
            }
        } else if !self.partials.get(&key).is_some_and(|partial| partial.continues_with(header)) {
            self.lost.torn += self.give_up(key) + frame.payload.len() as u64;
            self.dropped += 1;
            return Ok(None);
        }
        let len = self.partials.get(&key).map_or(0, |partial| partial.payload.len()) + frame.payload.len();
        if let Err(error) = self.fits(len) {
            self.lost.torn += self.give_up(key);
            self.dropped += 1;
            return Err(error);
        }
        let mut partial = self.close(key).unwrap_or_else(|| {
            // If other frames are unfinished, this one gets no more room than it needs, because
            // they may be completed first.
            let mut payload = if self.partials.is_empty() { std::mem::take(&mut self.done) } else { Vec::new() };
            payload.clear();
            Partial { header, stamp: frame.stamp, fragments: 0, touched: 0, payload }
        });
        grow(&mut partial.payload, len, self.max_payload);
        partial.payload.extend_from_slice(frame.payload);
        partial.fragments += 1;
        self.now += 1;
        partial.touched = self.now;
        if header.flags.contains(Flags::END) {
            let header = Header { flags: partial.header.flags | Flags::END, len: len as u32, ..partial.header };
            self.done = partial.payload;
            return Ok(Some(Frame { header, stamp: partial.stamp, payload: &self.done }));
        }
        while self.partials.len() >= MAX_PARTIALS || self.held + len > self.most_held() {
            let Some((_, &stalest)) = self.touched.first_key_value() else { break };
            self.lost.crowded += self.give_up(stalest);
        }
        self.held += len;
        self.touched.insert(self.now, key);
        self.partials.insert(key, partial);
        Ok(None)
    }

    /// How many fragments were dropped because others of their frame were missing, or for lack of
    /// room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of unfinished frames.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether there is no unfinished frame.
    pub(crate) fn is_idle(&self) -> bool {
        self.partials.is_empty()
    }

    /// The payload of the last reassembled frame.
    pub(crate) fn last(&self) -> &[u8] {
        &self.done
    }

    /// Drops the unfinished frames of a source that will not finish them, and returns their number
    /// of bytes.
    pub(crate) fn forget(&mut self, source: u64) -> u64 {
        let mut bytes = 0;
        while let Some((&key, _)) = self.partials.range((source, 0)..=(source, u16::MAX)).next() {
            bytes += self.give_up(key);
        }
        bytes
    }

    /// What was dropped since the last call, except the fragment for which `push` returned an
    /// error.
    pub(crate) fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    fn fits(&self, len: usize) -> Result<()> {
        if len <= self.max_payload { Ok(()) } else { Err(Error::TooLarge { max: self.max_payload }) }
    }

    fn most_held(&self) -> usize {
        MIN_HELD.max(4 * self.max_payload)
    }

    fn close(&mut self, key: (u64, u16)) -> Option<Partial> {
        let partial = self.partials.remove(&key)?;
        self.touched.remove(&partial.touched);
        self.held -= partial.payload.len();
        Some(partial)
    }

    /// Drops one unfinished frame and returns its number of bytes.
    fn give_up(&mut self, key: (u64, u16)) -> u64 {
        let Some(partial) = self.close(key) else { return 0 };
        self.dropped += u64::from(partial.fragments);
        partial.payload.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(flags: Flags, stream: u16, seq: u32, payload: &[u8]) -> Frame<'_> {
        let header = Header { flags, stream, seq, ..Header::new(Header::DEFAULT_KIND, 0).unwrap() };
        Frame::new(header, payload).unwrap()
    }

    #[test]
    fn fragments_of_a_fragment_are_fragments_of_the_frame() {
        let middle = part(Flags::NONE, 0, 5, b"abcd");
        let flags: Vec<_> = fragments(middle.header, middle.payload, 2).unwrap().map(|(h, _)| h.flags).collect();
        assert_eq!(flags, [Flags::NONE; 2]);
    }

    #[test]
    fn sizes_are_exact_and_control_frames_are_never_split() {
        let header = Header::new(Header::DEFAULT_KIND, 0).unwrap();
        for (len, expect) in [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3)] {
            let payload = vec![1; len];
            let parts = fragments(header, &payload, 4).unwrap();
            assert_eq!((parts.len(), parts.count()), (expect, expect));
        }
        assert!(matches!(fragments(header, b"x", 0), Err(Error::Invalid { .. })));
        let bye = Header::control(super::super::control::BYE, 0).unwrap();
        assert!(matches!(fragments(bye, b"12345", 4), Err(Error::TooLarge { max: 4 })));
    }

    #[test]
    fn interleaved_streams_are_kept_apart_and_numbers_wrap() {
        let mut r = Reassembler::new(64);
        assert_eq!(r.push(part(Flags::BEGIN, 1, u32::MAX, b"one-")).unwrap(), None);
        assert_eq!(r.push(part(Flags::BEGIN, 2, 8, b"two-")).unwrap(), None);
        assert_eq!(r.push(part(Flags::END, 1, 0, b"1")).unwrap().unwrap().payload, b"one-1");
        let two = r.push(part(Flags::END, 2, 9, b"2")).unwrap().unwrap();
        assert_eq!((two.payload, two.header.seq, two.header.len, two.header.is_whole()), (&b"two-2"[..], 8, 5, true));
        assert_eq!((r.held, r.partials.len(), r.touched.len(), r.dropped()), (0, 0, 0, 0));
    }

    #[test]
    fn sources_are_kept_apart_and_can_be_forgotten() {
        let mut r = Reassembler::new(64);
        assert_eq!(r.push_from(1, part(Flags::BEGIN, 0, 0, b"one-")).unwrap(), None);
        assert_eq!(r.push_from(2, part(Flags::BEGIN, 0, 0, b"two-")).unwrap(), None);
        assert!(r.push_from(3, part(Flags::WHOLE, 0, 0, b"three")).unwrap().is_some());
        assert!(r.push_from(1, part(Flags::END, 0, 1, b"1")).unwrap().is_some());
        assert_eq!(r.last(), b"one-1");
        assert_eq!((r.forget(2), r.forget(2), r.held), (4, 0, 0));
        assert_eq!(r.push_from(2, part(Flags::END, 0, 1, b"2")).unwrap(), None);
    }

    #[test]
    fn a_lost_fragment_drops_its_frame_only() {
        let mut r = Reassembler::new(64);
        assert_eq!(r.push(part(Flags::BEGIN, 0, 0, b"a")).unwrap(), None);
        assert_eq!(r.push(part(Flags::NONE, 0, 2, b"c")).unwrap(), None); // 1 is missing
        assert_eq!(r.push(part(Flags::END, 0, 3, b"d")).unwrap(), None);
        assert_eq!(r.dropped(), 3);
        assert_eq!(r.push(part(Flags::WHOLE, 0, 4, b"ok")).unwrap().unwrap().payload, b"ok");
    }

    #[test]
    fn a_frame_that_grows_too_large_is_dropped() {
        let mut r = Reassembler::new(4);
        assert_eq!(r.push(part(Flags::BEGIN, 0, 0, b"abc")).unwrap(), None);
        assert!(matches!(r.push(part(Flags::NONE, 0, 1, b"de")), Err(Error::TooLarge { max: 4 })));
        assert_eq!(r.push(part(Flags::END, 0, 2, b"f")).unwrap(), None);
        assert_eq!((r.dropped(), r.held), (3, 0));
        assert!(r.push(part(Flags::WHOLE, 0, 3, b"12345")).is_err());
    }

    #[test]
    fn unfinished_frames_are_bounded_and_the_stalest_is_dropped_first() {
        const LARGE: usize = MIN_HELD / 4;
        let mut r = Reassembler::new(LARGE);
        let payload = vec![0; LARGE - 1];
        for stream in 0..4 {
            assert_eq!(r.push(part(Flags::BEGIN, stream, 0, &payload)).unwrap(), None);
        }
        assert_eq!(r.push(part(Flags::NONE, 0, 1, b"x")).unwrap(), None); // now stream 1 is the stalest
        assert_eq!(r.take_lost(), Lost::default());
        assert_eq!(r.push(part(Flags::BEGIN, 4, 0, &payload)).unwrap(), None);
        assert!(r.held <= MIN_HELD);
        assert_eq!(r.take_lost(), Lost { torn: 0, crowded: LARGE as u64 - 1 });
        assert_eq!(r.push(part(Flags::END, 1, 1, b"rest")).unwrap(), None);
        assert_eq!(r.take_lost(), Lost { torn: 4, crowded: 0 });
        assert_eq!(r.push(part(Flags::END, 0, 2, b"")).unwrap().unwrap().payload.len(), LARGE);

        let mut r = Reassembler::new(10);
        for source in 0..=MAX_PARTIALS as u64 {
            assert_eq!(r.push_from(source, part(Flags::BEGIN, 0, 0, b"1")).unwrap(), None);
        }
        assert_eq!((r.partials.len(), r.touched.len(), r.dropped()), (MAX_PARTIALS, MAX_PARTIALS, 1));
        assert_eq!(r.take_lost(), Lost { torn: 0, crowded: 1 });
    }

    #[test]
    fn the_room_of_a_large_frame_is_not_held_by_many_small_ones() {
        let mut r = Reassembler::new(1 << 20);
        for stream in 0..100 {
            assert_eq!(r.push(part(Flags::BEGIN, 200, 0, &[0; 1 << 19])).unwrap(), None);
            assert!(r.push(part(Flags::END, 200, 1, b"")).unwrap().is_some());
            assert_eq!(r.push(part(Flags::BEGIN, stream, 0, b"small")).unwrap(), None);
        }
        let room: usize = r.partials.values().map(|partial| partial.payload.capacity()).sum();
        assert!(room < 1 << 20, "{room}");
    }
}
