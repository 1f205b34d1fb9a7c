//! Who sends on a key, what has come from each, and what is missing.
//!
//! Used by `receiver.rs` and `queue.rs`. Relies on `wire.rs`; knows nothing of Zenoh, so that each of its cases is
//! tested without a network.
//!
//! # Gaps
//! * Within one epoch the position of a sample says how many frames were sent before it. What was
//!   neither received nor reported is missing: one [`Event::Gap`], on the stream of the next frame.
//! * A sender of the same source continues the numbers of the one before, which has been restarted.
//!   The first frame of each stream is compared with the number that was expected. A number behind
//!   that, without the mark of a redelivery, is the beginning of a new numbering.
//! * The first sample of a sender of an unknown source says where it begins: nothing is missing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use slipring::frame::{Event, Flags, Header, control};
use slipring::transport::Released;
use slipring::{Error, Result};

use crate::wire::{Found, OPENING, Opening, frame_at};

/// Senders that have ended and are remembered, so that one that continues is recognised.
const REMEMBERED: usize = 64;
/// Senders at a time, and announced ones. What more of them send is not received, and told.
const MOST: usize = 1024;

/// A received sample.
pub(crate) enum Bytes {
    /// In one piece, as Zenoh has received it.
    Whole(zenoh::bytes::ZBytes),
    Copied(Vec<u8>),
}

impl Bytes {
    pub(crate) fn new(bytes: zenoh::bytes::ZBytes) -> Self {
        match bytes.to_bytes() {
            Cow::Owned(copy) => Bytes::Copied(copy),
            Cow::Borrowed(_) => Bytes::Whole(bytes),
        }
    }

    fn get(&self) -> &[u8] {
        match self {
            Bytes::Copied(bytes) => bytes,
            Bytes::Whole(bytes) => match bytes.to_bytes() {
                Cow::Borrowed(bytes) => bytes,
                Cow::Owned(_) => &[], // it was in one piece when it came
            },
        }
    }
}

/// The numbers that follow, per stream.
#[derive(Clone, Debug, Default)]
struct Numbers {
    zero: Option<u32>,
    others: HashMap<u16, u32>,
}

impl Numbers {
    fn get(&self, stream: u16) -> Option<u32> {
        if stream == 0 { self.zero } else { self.others.get(&stream).copied() }
    }

    fn set(&mut self, stream: u16, next: u32) {
        if stream == 0 {
            self.zero = Some(next);
        } else {
            self.others.insert(stream, next);
        }
    }

    fn remove(&mut self, stream: u16) {
        if stream == 0 {
            self.zero = None;
        } else {
            self.others.remove(&stream);
        }
    }
}

/// One sender, from its start to its end.
#[derive(Debug)]
struct Talker {
    epoch: u64,
    source: u64,
    /// The position that the next sample should have; `None` before the first one.
    position: Option<u64>,
    next: Numbers,
    /// What an earlier sender of the same source would have sent next, of the streams that have not
    /// come again yet.
    resumed: Numbers,
    state: State,
    /// Zenoh has announced it, and will say when it is lost.
    is_announced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Zenoh has lost it, at this time. It may come back.
    Lost(Instant),
    Ended,
}

/// The sample that is being passed on.
struct Current {
    bytes: Bytes,
    at: usize,
    talker: usize,
    opening: Opening,
    /// Frames that are missing before the next one.
    missing: u64,
    /// Frames at the beginning that came before.
    repeated: u64,
    run: Run,
}

/// Frames of a sample, one after the other, before which there is nothing to tell.
#[derive(Default)]
struct Run {
    /// Where the last of them ends, in the sample.
    end: usize,
    frames: u64,
    payload: u64,
    /// The number that follows, whenever the stream changes.
    next: Vec<(u16, u32)>,
}

impl Run {
    /// Adds a frame that begins at the end, if it is one of those.
    #[inline]
    fn goes_on(&mut self, found: &Found, one: &Talker) -> bool {
        let Header { stream, seq, len, .. } = found.header;
        if !found.is_short || found.header.is_control() {
            return false;
        }
        match self.next.last_mut() {
            Some((last, next)) if *last == stream => *next = seq.wrapping_add(1),
            _ if one.resumed.get(stream).is_some() => return false,
            _ => self.next.push((stream, seq.wrapping_add(1))),
        }
        self.end = found.end;
        self.frames += 1;
        self.payload += u64::from(len);
        true
    }
}

/// The current event.
#[derive(Clone, Copy)]
enum Step {
    Frame { found: Found, duplicate_of: Option<u32> },
    Gap { stream: u16, expected: u32, found: u32 },
    Skipped { bytes: u64, what: &'static str },
}

/// Turns samples and liveliness into events.
#[derive(Default)]
pub(crate) struct Inbox {
    talkers: Vec<Talker>,
    current: Option<Current>,
    step: Option<Step>,
    /// A sender has died since the last end.
    died: bool,
    /// A sender has ended since the last end.
    ended: bool,
    /// Tokens that came before the first sample of their sender.
    announced: Vec<u64>,
}

impl Inbox {
    /// Accepts a sample. The one before it has been passed on.
    pub(crate) fn accept(&mut self, bytes: Bytes) {
        let opening = match Opening::decode(bytes.get()) {
            Ok(opening) => opening,
            Err(error) => {
                let bytes = bytes.get().len() as u64;
                self.step = Some(Step::Skipped { bytes, what: what(&error) });
                return;
            }
        };
        let Some(talker) = self.talker(&opening) else {
            let bytes = bytes.get().len() as u64;
            self.step = Some(Step::Skipped { bytes, what: "sample: of one sender too many, more than 1024" });
            return;
        };
        let one = &mut self.talkers[talker];
        let (mut missing, mut repeated) = (0, 0);
        match one.position {
            _ if opening.repeats => {}
            None => one.position = Some(opening.position),
            Some(expected) => {
                missing = opening.position.saturating_sub(expected);
                repeated = expected.saturating_sub(opening.position);
                one.position = Some(expected.max(opening.position));
            }
        }
        if let State::Lost(_) = one.state {
            one.state = State::Open; // it is back, whatever Zenoh says
        }
        self.current = Some(Current { bytes, at: OPENING, talker, opening, missing, repeated, run: Run::default() });
    }

    /// The sender of a sample, remembered or new. `None` if there are too many.
    fn talker(&mut self, opening: &Opening) -> Option<usize> {
        if let Some(at) = self.talkers.iter().position(|one| one.epoch == opening.epoch) {
            return Some(at);
        }
        let is_announced = self.announced.contains(&opening.epoch);
        if self.open() >= MOST {
            // One that is announced takes the place of one that is not, which has no end either.
            let other = self.talkers.iter().position(|one| one.state != State::Ended && !one.is_announced);
            self.talkers.remove(other.filter(|_| is_announced)?);
        }
        let mut resumed = Numbers::default();
        let before = self.talkers.iter().rposition(|one| one.source == opening.source);
        if let Some(before) = before.filter(|_| opening.source != 0) {
            let before = &mut self.talkers[before];
            resumed = before.resumed.clone();
            if let Some(zero) = before.next.zero {
                resumed.zero = Some(zero);
            }
            resumed.others.extend(&before.next.others);
            before.state = State::Ended; // it goes on as the new one
        }
        if self.talkers.len() >= REMEMBERED
            && let Some(oldest) = self.talkers.iter().position(|one| one.state == State::Ended)
        {
            self.talkers.remove(oldest);
        }
        let (epoch, source) = (opening.epoch, opening.source);
        self.announced.retain(|one| *one != epoch);
        let next = Numbers::default();
        self.talkers.push(Talker { epoch, source, position: None, next, resumed, state: State::Open, is_announced });
        Some(self.talkers.len() - 1)
    }

    /// Zenoh says that a sender has come, or is lost.
    pub(crate) fn token(&mut self, epoch: u64, is_alive: bool, now: Instant) {
        match self.talkers.iter_mut().find(|one| one.epoch == epoch) {
            None => {
                self.announced.retain(|one| *one != epoch);
                if is_alive {
                    if self.announced.len() >= MOST {
                        self.announced.remove(0);
                    }
                    self.announced.push(epoch);
                }
            }
            Some(one) => {
                one.is_announced |= is_alive;
                match (one.state, is_alive) {
                    (State::Lost(_), true) => one.state = State::Open,
                    (State::Open, false) => one.state = State::Lost(now),
                    _ => {}
                }
            }
        }
    }

    /// Ends the senders that have been lost for `patience`.
    pub(crate) fn forget_the_lost(&mut self, now: Instant, patience: Duration) {
        for one in &mut self.talkers {
            if matches!(one.state, State::Lost(since) if now.saturating_duration_since(since) >= patience) {
                one.state = State::Ended;
                (self.died, self.ended) = (true, true);
            }
        }
    }

    /// When [`Inbox::forget_the_lost`] has something to do next.
    pub(crate) fn next_forgetting(&self, patience: Duration) -> Option<Instant> {
        let since = |one: &Talker| match one.state {
            State::Lost(since) => Some(since + patience),
            _ => None,
        };
        self.talkers.iter().filter_map(since).min()
    }

    /// How many senders are open.
    pub(crate) fn open(&self) -> usize {
        self.talkers.iter().filter(|one| one.state != State::Ended).count()
    }

    /// The end, once, when the last sender has ended and all of its frames have been passed on.
    pub(crate) fn end(&mut self) -> Option<Error> {
        if self.current.is_some() || self.step.is_some() || !self.ended || self.open() > 0 {
            return None;
        }
        self.ended = false;
        Some(if std::mem::take(&mut self.died) { Error::PeerDead } else { Error::Closed })
    }

    /// Whether everything that was accepted has been passed on.
    pub(crate) fn is_idle(&mut self) -> bool {
        if self.current.as_ref().is_some_and(|current| current.at == current.bytes.get().len()) {
            (self.current, self.step) = (None, None);
        }
        self.current.is_none() && self.step.is_none() && !(self.ended && self.open() == 0)
    }

    /// The frames of the sample that come next, encoded, up to the first one before which there is
    /// something to tell, and that is not of the short form.
    pub(crate) fn run(&mut self) -> &[u8] {
        if self.current.is_some() {
            self.step = None;
        }
        let Some(current) = &mut self.current else { return &[] };
        let Current { at, ref opening, missing, repeated, .. } = *current;
        let bytes = current.bytes.get();
        let one = &self.talkers[current.talker];
        let mut run = Run { end: at, ..Run::default() };
        if !opening.repeats && missing == 0 && repeated == 0 {
            while run.end < bytes.len() {
                match frame_at(bytes, run.end) {
                    Ok(found) if run.goes_on(&found, one) => {}
                    _ => break, // the next event says what it is
                }
            }
        }
        current.run = run;
        let end = current.run.end;
        &current.bytes.get()[at..end]
    }

    /// The first `len` bytes of [`Inbox::run`], whole frames, have been passed on. Returns also the
    /// number that follows, whenever the stream changes.
    pub(crate) fn release_run(&mut self, len: usize) -> (Released, Vec<(u16, u32)>) {
        let Some(current) = &mut self.current else { return Default::default() };
        let one = &mut self.talkers[current.talker];
        let end = current.at + len;
        if end < current.run.end {
            let bytes = current.bytes.get();
            let mut run = Run { end: current.at, ..Run::default() };
            while run.end < end && frame_at(bytes, run.end).is_ok_and(|found| run.goes_on(&found, one)) {}
            current.run = run;
        }
        let run = std::mem::take(&mut current.run);
        current.at = run.end;
        one.position = one.position.map(|position| position + run.frames);
        for (stream, number) in &run.next {
            one.next.set(*stream, *number);
        }
        (Released { frames: run.frames, payload: run.payload }, run.next)
    }

    /// Makes the next event the current one; false if more samples are needed.
    pub(crate) fn advance(&mut self) -> bool {
        if matches!(self.step, Some(Step::Skipped { .. })) && self.current.is_none() {
            return true; // an unreadable sample, not passed on yet
        }
        self.step = None;
        while let Some(current) = &mut self.current {
            let bytes = current.bytes.get();
            let found = match bytes.len() > current.at {
                true => frame_at(bytes, current.at),
                false => {
                    self.current = None;
                    return false;
                }
            };
            let one = &mut self.talkers[current.talker];
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    let skipped = (bytes.len() - current.at) as u64;
                    self.step = Some(Step::Skipped { bytes: skipped, what: what(&error) });
                    current.at = bytes.len();
                    return true;
                }
            };
            let header = found.header;
            if header.is_control() {
                if header.kind == control::BYE && current.missing > 0 {
                    let Opening { stream, first_seq, .. } = current.opening;
                    self.step = Some(gap(stream, first_seq, std::mem::take(&mut current.missing)));
                    one.position = Some(current.opening.position);
                    return true;
                }
                current.at = found.end;
                match header.kind {
                    control::BYE => {
                        one.state = State::Ended;
                        self.ended = true;
                    }
                    control::HELLO => {}
                    _ => {
                        self.step = Some(Step::Frame { found, duplicate_of: None });
                        return true;
                    }
                }
                continue;
            }
            match check(current, one, header) {
                Check::Known => current.at = found.end,
                Check::Gap(step) => {
                    self.step = Some(step);
                    return true;
                }
                Check::Deliver { duplicate_of } => {
                    current.at = found.end;
                    self.step = Some(Step::Frame { found, duplicate_of });
                    return true;
                }
            }
        }
        false
    }

    /// The current event, after [`Inbox::advance`].
    pub(crate) fn event(&mut self) -> Result<Event<'_>> {
        match self.step {
            Some(Step::Frame { found, duplicate_of }) => {
                let current = self.current.as_ref().ok_or(Error::Empty)?;
                let frame = found.view(current.bytes.get());
                Ok(match duplicate_of {
                    Some(expected) => Event::Duplicate { frame, expected },
                    None => Event::Frame(frame),
                })
            }
            Some(Step::Gap { stream, expected, found }) => Ok(Event::Gap { stream, expected, found }),
            Some(Step::Skipped { bytes, what }) => {
                if self.current.is_none() {
                    self.step = None;
                }
                Ok(Event::Skipped { bytes, what })
            }
            None => Err(Error::Empty),
        }
    }
}

/// What the number of an application frame means.
enum Check {
    Deliver {
        duplicate_of: Option<u32>,
    },
    /// Frames are missing before this one.
    Gap(Step),
    /// A repeated value, which is not newer than the one that came already.
    Known,
}

fn check(current: &mut Current, one: &mut Talker, header: Header) -> Check {
    let Header { stream, seq, .. } = header;
    let new = Check::Deliver { duplicate_of: None };
    if current.opening.repeats {
        if one.next.get(stream).is_some() {
            return Check::Known;
        }
        one.next.set(stream, seq.wrapping_add(1));
        return new;
    }
    if current.repeated > 0 {
        current.repeated -= 1;
        return Check::Deliver { duplicate_of: Some(one.next.get(stream).unwrap_or(seq.wrapping_add(1))) };
    }
    if current.missing > 0 {
        return Check::Gap(gap(stream, seq, std::mem::take(&mut current.missing)));
    }
    if let Some(expected) = one.resumed.get(stream) {
        let ahead = seq.wrapping_sub(expected);
        let is_behind = ahead >= 1 << 31;
        if is_behind && header.flags.contains(Flags::REDELIVERED) {
            // It was held by the sender that died, and is marked.
        } else {
            one.resumed.remove(stream);
            if is_behind {
                one.resumed = Numbers::default(); // a new numbering, of all streams
            }
            let missing = if is_behind { seq } else { ahead };
            if missing > 0 {
                return Check::Gap(gap(stream, seq, missing.into()));
            }
        }
    }
    one.position = one.position.map(|position| position + 1);
    one.next.set(stream, seq.wrapping_add(1));
    new
}

fn gap(stream: u16, found: u32, missing: u64) -> Step {
    let missing = u32::try_from(missing).unwrap_or(u32::MAX).min((1 << 31) - 1);
    Step::Gap { stream, expected: found.wrapping_sub(missing), found }
}

fn what(error: &Error) -> &'static str {
    match error {
        Error::Corrupt { what } | Error::Incompatible { what, .. } => what,
        _ => "no frame",
    }
}

#[cfg(test)]
mod tests {
    use slipring::frame::{Form, Frame};

    use super::*;

    /// A sample of one sender, with frames of a stream and numbers.
    fn sample(epoch: u64, source: u64, position: u64, frames: &[(u16, u32, Flags)], bye: bool) -> Bytes {
        let (stream, first_seq) = frames.first().map_or((0, 0), |(stream, seq, _)| (*stream, *seq));
        let mut bytes = Vec::new();
        Opening { epoch, position, source, stream, first_seq, repeats: false }.encode(&mut bytes).unwrap();
        for (stream, seq, flags) in frames {
            let header = Header { stream: *stream, seq: *seq, flags: *flags, ..Header::PLAIN };
            Frame::new(header, b"tick").unwrap().encode(Form::Short, &mut bytes).unwrap();
        }
        if bye {
            let header = Header::control(control::BYE, 0).unwrap();
            Frame::new(header, &[]).unwrap().encode(Form::Short, &mut bytes).unwrap();
        }
        Bytes::Copied(bytes)
    }

    /// What comes of a sample: numbers of frames, gaps as (expected, found), duplicates.
    #[derive(Debug, PartialEq, Eq)]
    enum Saw {
        Frame(u32),
        Gap(u32, u32),
        Duplicate(u32),
        Skipped(u64),
    }

    fn all(inbox: &mut Inbox, bytes: Bytes) -> Vec<Saw> {
        inbox.accept(bytes);
        let mut seen = Vec::new();
        while inbox.advance() {
            seen.push(match inbox.event().unwrap() {
                Event::Frame(frame) => Saw::Frame(frame.header.seq),
                Event::Gap { expected, found, .. } => Saw::Gap(expected, found),
                Event::Duplicate { frame, .. } => Saw::Duplicate(frame.header.seq),
                Event::Skipped { bytes, .. } => Saw::Skipped(bytes),
            });
        }
        seen
    }

    const NEW: Flags = Flags::WHOLE;

    fn again() -> Flags {
        Flags::WHOLE | Flags::REDELIVERED
    }

    #[test]
    fn a_lost_sample_is_a_gap_of_its_frames_whatever_their_streams() {
        let mut inbox = Inbox::default();
        assert_eq!(all(&mut inbox, sample(1, 0, 70, &[(0, 7, NEW)], false)), [Saw::Frame(7)]);
        let seen = all(&mut inbox, sample(1, 0, 75, &[(0, 9, NEW), (2, 0, NEW)], false));
        assert_eq!(seen, [Saw::Gap(5, 9), Saw::Frame(9), Saw::Frame(0)]);
        // The same sample again, and one whose numbers have wrapped.
        let seen = all(&mut inbox, sample(1, 0, 75, &[(0, 9, NEW), (2, 0, NEW)], false));
        assert_eq!(seen, [Saw::Duplicate(9), Saw::Duplicate(0)]);
        let seen = all(&mut inbox, sample(1, 0, 79, &[(0, 1, NEW)], false));
        assert_eq!(seen, [Saw::Gap(u32::MAX, 1), Saw::Frame(1)]);
    }

    #[test]
    fn what_was_lost_before_a_bye_is_told_before_the_end() {
        let mut inbox = Inbox::default();
        all(&mut inbox, sample(1, 0, 0, &[(0, 0, NEW)], false));
        assert!(inbox.end().is_none());
        assert_eq!(all(&mut inbox, sample(1, 0, 4, &[], true)).len(), 1);
        assert!(matches!(inbox.end(), Some(Error::Closed)));
        assert!(inbox.end().is_none());
    }

    #[test]
    fn a_sender_of_the_same_source_continues_the_one_before() {
        let mut inbox = Inbox::default();
        all(&mut inbox, sample(1, 5, 0, &[(0, 0, NEW), (3, 0, NEW)], false));
        // Frame 0 was held by the sender that died, frames 1 and 2 of stream 0 are lost.
        let seen = all(&mut inbox, sample(2, 5, 0, &[(0, 0, again()), (0, 3, NEW), (3, 1, NEW)], false));
        assert_eq!(seen, [Saw::Frame(0), Saw::Gap(1, 3), Saw::Frame(3), Saw::Frame(1)]);
        assert_eq!(inbox.open(), 1);
        // A new numbering, whose first frame is lost.
        let seen = all(&mut inbox, sample(3, 5, 0, &[(0, 1, NEW)], false));
        assert_eq!(seen, [Saw::Gap(0, 1), Saw::Frame(1)]);
        // Another source.
        assert_eq!(all(&mut inbox, sample(4, 6, 0, &[(0, 50, NEW)], false)), [Saw::Frame(50)]);
        assert_eq!(inbox.open(), 2);
    }

    #[test]
    fn a_lost_sender_dies_when_it_does_not_come_back() {
        let (mut inbox, now, patience) = (Inbox::default(), Instant::now(), Duration::from_secs(5));
        all(&mut inbox, sample(1, 0, 0, &[(0, 0, NEW)], false));
        inbox.token(1, false, now);
        assert_eq!(inbox.next_forgetting(patience), Some(now + patience));
        inbox.token(1, true, now);
        assert_eq!(inbox.next_forgetting(patience), None);
        inbox.token(1, false, now);
        inbox.forget_the_lost(now + patience / 2, patience);
        assert!(inbox.end().is_none());
        inbox.forget_the_lost(now + patience, patience);
        assert!(matches!(inbox.end(), Some(Error::PeerDead)));
    }

    #[test]
    fn senders_without_end_are_limited_and_what_more_of_them_send_is_told() {
        let mut inbox = Inbox::default();
        let hostile = |n: u64| sample((1 << 32) + n, 0, 0, &[(0, 7, NEW)], false);
        inbox.token(1, true, Instant::now());
        for n in 0..3 * MOST as u64 {
            let Bytes::Copied(bytes) = hostile(n) else { unreachable!() };
            let expected = if n < MOST as u64 { Saw::Frame(7) } else { Saw::Skipped(bytes.len() as u64) };
            assert_eq!(all(&mut inbox, Bytes::Copied(bytes)), [expected]);
        }
        // One that Zenoh has announced is received, and its frames are counted.
        assert_eq!(all(&mut inbox, sample(1, 0, 0, &[(0, 0, NEW)], false)), [Saw::Frame(0)]);
        assert_eq!(all(&mut inbox, sample(1, 0, 2, &[(0, 2, NEW)], false)), [Saw::Gap(1, 2), Saw::Frame(2)]);
        assert_eq!((inbox.open(), inbox.talkers.len()), (MOST, MOST));
        // Those that were received still are, but the one whose place it took.
        assert_eq!(all(&mut inbox, hostile(0)).len(), 1);
        assert_eq!(all(&mut inbox, hostile(MOST as u64 - 1)), [Saw::Duplicate(7)]);
        // Announced ones that never send anything.
        for epoch in 0..3 * MOST as u64 {
            inbox.token((1 << 33) + epoch, true, Instant::now());
        }
        assert_eq!(inbox.announced.len(), MOST);
        // As many ends as there are senders, and ended ones make room.
        for one in &mut inbox.talkers {
            one.state = State::Ended;
        }
        assert_eq!(all(&mut inbox, sample(2, 0, 0, &[(0, 0, NEW)], false)), [Saw::Frame(0)]);
    }

    #[test]
    fn frames_with_nothing_to_tell_between_them_are_passed_on_together() {
        const SIZE: usize = 16 + 8;
        let mut inbox = Inbox::default();
        inbox.accept(sample(1, 5, 0, &[(0, 0, NEW), (3, 7, NEW), (0, 1, NEW)], true));
        assert_eq!(inbox.run().len(), 3 * SIZE);
        assert_eq!(inbox.release_run(SIZE).0, Released { frames: 1, payload: 4 });
        assert_eq!(inbox.run().len(), 2 * SIZE);
        assert!(inbox.advance(), "the next frame may come by itself");
        assert_eq!(inbox.run().len(), SIZE);
        assert_eq!(inbox.release_run(SIZE).0, Released { frames: 1, payload: 4 });
        assert!(inbox.run().is_empty() && !inbox.is_idle(), "the end comes next");
        assert!(!inbox.advance());
        assert!(matches!(inbox.end(), Some(Error::Closed)));
        // Of another sender of the source a first frame is missing, of a stream behind other frames.
        inbox.accept(sample(2, 5, 0, &[(0, 2, NEW), (0, 3, NEW), (3, 9, NEW), (3, 10, NEW)], false));
        let mut seen = Vec::new();
        while !inbox.is_idle() {
            let run = inbox.run().len();
            if run > 0 {
                seen.push(Err(inbox.release_run(run).0.frames));
            } else {
                assert!(inbox.advance());
                seen.push(Ok(match inbox.event().unwrap() {
                    Event::Frame(frame) => Saw::Frame(frame.header.seq),
                    Event::Gap { expected, found, .. } => Saw::Gap(expected, found),
                    event => panic!("{event:?}"),
                }));
            }
        }
        assert_eq!(seen, [Ok(Saw::Frame(2)), Err(1), Ok(Saw::Gap(8, 9)), Err(2)]);
        // What is missing before a sample, and what comes twice.
        inbox.accept(sample(2, 5, 6, &[(0, 6, NEW)], false));
        assert!(inbox.run().is_empty());
        assert!(inbox.advance() && matches!(inbox.event(), Ok(Event::Gap { expected: 4, found: 6, .. })));
        assert_eq!(inbox.run().len(), SIZE);
        inbox.release_run(SIZE);
        inbox.accept(sample(2, 5, 6, &[(0, 6, NEW), (0, 7, NEW)], false));
        assert!(inbox.run().is_empty());
        assert!(inbox.advance() && matches!(inbox.event(), Ok(Event::Duplicate { .. })));
        assert_eq!(inbox.run().len(), SIZE);
    }

    #[test]
    fn damaged_samples_are_skipped() {
        let mut inbox = Inbox::default();
        assert_eq!(all(&mut inbox, Bytes::Copied(vec![7; 99])), [Saw::Skipped(99)]);
        let Bytes::Copied(mut bytes) = sample(1, 0, 0, &[(0, 0, NEW), (0, 1, NEW)], false) else { unreachable!() };
        for len in 0..bytes.len() {
            let seen = all(&mut Inbox::default(), Bytes::Copied(bytes[..len].to_vec()));
            assert!(seen.len() <= 2, "{len}");
        }
        bytes[OPENING + 24] ^= 0xFF;
        assert_eq!(all(&mut inbox, Bytes::Copied(bytes)), [Saw::Frame(0), Saw::Skipped(24)]);
        // What was skipped is missing.
        assert_eq!(all(&mut inbox, sample(1, 0, 2, &[(0, 2, NEW)], false)), [Saw::Gap(1, 2), Saw::Frame(2)]);
    }
}
