//! Passing frames on, in either direction.
//!
//! Frames are collected while they arrive, and sent when they pause. Out of a ring, all frames that
//! are there go in one sample; into a byte ring, those of a sample become visible at once, written by
//! the thread of Zenoh that received them. Gaps are passed on, not only counted: into a byte ring by
//! the numbers of the frames, on a key by positions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Flags, Frame, Header, Sequencer};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, Released};
use slipring::{Deadline, Error};
use slipring_zenoh::{Policy, Receiver, Sender, Taker};
use zenoh::Session;

use crate::place::{Place, Source, open_destination, open_source};
use crate::report::{Context, Failure, LOST, Outcome, TIMEOUT, Tally, USAGE};
use crate::stop::Stop;
use crate::{calls, patterns};

/// The length of a slice: how long a wait lasts until it checks for a signal.
const SLICE: Duration = Duration::from_millis(100);
/// After an end was requested: how long DST may take for what was received.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) policy: Policy,
    pub(crate) reconnect: Duration,
    pub(crate) follow: bool,
    pub(crate) count: Option<u64>,
    pub(crate) stats: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) names: [String; 2],
}

impl Options {
    /// The options of one pair among many, which goes on with the next sender.
    pub(crate) fn of_one(&self, names: [String; 2]) -> Self {
        Options { names, follow: true, ..self.clone() }
    }
}

/// One direction, under way.
struct Way<'a> {
    options: &'a Options,
    stop: &'a Stop,
    context: &'a Context,
    tally: Tally,
    /// Since when nothing has moved.
    idle_since: Instant,
    /// When skipped bytes were told last.
    noted: Option<Instant>,
}

/// Why passing on has ended.
enum End {
    /// An end was requested, or enough frames were passed on.
    Stopped,
    /// The last sender has ended: [`Error::Closed`] or [`Error::PeerDead`].
    Source(Error),
}

pub(crate) fn run(
    session: &Session,
    source: &Place,
    destination: &Place,
    options: &Options,
    stop: &Stop,
    context: &Context,
) -> Outcome {
    match (source, destination) {
        (Place::Rings(rings), Place::Zenoh(expression)) => {
            let keys = patterns::of_key(expression).ok_or_else(no_pattern)?;
            return patterns::send(session, rings, &keys, options, stop, context);
        }
        (Place::Zenoh(expression), Place::Rings(rings)) => {
            let keys = patterns::of_key(expression).ok_or_else(no_pattern)?;
            return patterns::receive(session, expression, &keys, rings, options, stop, context);
        }
        (Place::Slipring(_) | Place::Calls(..), Place::Zenoh(key)) if key.contains('*') => {
            return Err(Failure::new(USAGE, "a key to send on has no wildcard, unless the rings have one").at(key));
        }
        (Place::Calls(name, directory), Place::Zenoh(key)) => {
            return calls::ask(session, name, directory.as_deref(), key, options, stop, context);
        }
        (Place::Zenoh(key), Place::Calls(name, directory)) => {
            return calls::answer(session, key, name, directory.as_deref(), options, stop, context);
        }
        _ => {}
    }
    let mut way = Way { options, stop, context, tally: Tally::new(), idle_since: Instant::now(), noted: None };
    let outcome = match (source, destination) {
        (Place::Slipring(from), Place::Zenoh(key)) => way.send(session, from, key),
        (Place::Zenoh(expression), Place::Slipring(to)) => way.receive(session, expression, to),
        _ => Ok(()),
    };
    way.tally.say(&options.names, options.stats, true, context);
    outcome.and_then(|()| way.tally.check(&options.names[0]))
}

fn no_pattern() -> Failure {
    Failure::new(USAGE, "rings by pattern need a key with one wildcard, as in ring:ticks-* zenoh:site1/ticks/**")
}

impl Way<'_> {
    fn send(&mut self, session: &Session, from: &Endpoint, key: &str) -> Outcome {
        let Some(mut source) = self.open(&self.options.names[0].clone(), |until| open_source(from, until))? else {
            return Ok(());
        };
        loop {
            let mut tx = self.sender(session, key, &source).map_err(|error| Failure::from(error).at(key))?;
            match self.pump_out(&mut source, &mut tx) {
                Ok(End::Source(Error::Closed)) => {
                    self.close(&mut tx)?;
                    if !self.options.follow {
                        return Ok(());
                    }
                }
                Ok(End::Source(error)) => {
                    let _ = tx.flush(Deadline::after(GRACE));
                    tx.abandon(); // no BYE: receivers learn that this was no orderly end
                    if !self.options.follow {
                        return Err(Failure::from(error).at(&self.options.names[0]));
                    }
                }
                Ok(End::Stopped) => return self.close(&mut tx),
                Err(failure) => {
                    tx.abandon();
                    return Err(failure);
                }
            }
        }
    }

    fn sender(&self, session: &Session, key: &str, source: &Source) -> slipring::Result<Sender> {
        let mut tx = Sender::open(session, key, self.options.policy)?;
        if source.has_numbers {
            tx = tx.keep_numbers(source.generation);
        }
        if source.is_latest { tx.answer_with_the_last() } else { Ok(tx) }
    }

    fn pump_out(&mut self, source: &mut Source, tx: &mut Sender) -> Outcome<End> {
        let rx = source.rx.as_mut();
        let mut encoded = self.options.count.is_none();
        let mut is_flushed = true;
        let mut stopping = None;
        let options = self.options;
        let here = |error: Error| Failure::from(error).at(&options.names[0]);
        let there = |error: Error| Failure::from(error).at(&options.names[1]);
        loop {
            if self.is_enough() {
                return Ok(End::Stopped);
            }
            if self.stop.asked() && stopping.is_none() {
                if !rx.stop() {
                    return Ok(End::Stopped);
                }
                stopping = Some(Deadline::after(GRACE));
            }
            // Nothing is taken that could not be sent.
            if self.options.policy == Policy::Block {
                match tx.wait_for_receiver(SLICE) {
                    Err(Error::Timeout) if stopping.is_none() => {
                        self.idle(&self.options.names[1])?;
                        continue;
                    }
                    Err(Error::Timeout) => {
                        return Err(
                            Failure::new(LOST, "interrupted, and there is no receiver").at(&self.options.names[1])
                        );
                    }
                    waited => waited.map_err(there)?,
                }
            }
            if encoded {
                match rx.encoded() {
                    None => encoded = false,
                    Some([]) => {}
                    Some(frames) => {
                        let sent = match tx.send_encoded(frames, SLICE) {
                            Err(Error::Timeout) => continue, // the receiver was lost meanwhile
                            sent => sent.map_err(there)?,
                        };
                        let released = rx.release_encoded(sent);
                        self.count(released.frames, released.payload);
                        continue;
                    }
                }
            }
            let received = match is_flushed {
                false => rx.try_recv(),
                true => rx.recv_deadline(stopping.unwrap_or(Deadline::after(SLICE)).min(Deadline::after(SLICE))),
            };
            match received {
                Ok(Event::Frame(frame)) if encoded && !frame.header.flags.contains(Flags::REDELIVERED) => continue,
                Ok(Event::Frame(frame)) => {
                    let len = frame.payload.len();
                    self.send_one(tx, frame)?;
                    if encoded {
                        tx.flush(Deadline::never()).map_err(there)?;
                    } else {
                        is_flushed = false;
                    }
                    rx.release();
                    self.count(1, len as u64);
                }
                Ok(Event::Duplicate { frame, .. }) => {
                    self.tally.duplicates += 1;
                    let len = frame.payload.len();
                    self.send_one(tx, frame)?;
                    is_flushed = false;
                    self.count(1, len as u64);
                }
                Ok(Event::Gap { stream, expected, found }) => {
                    let missing = u64::from(found.wrapping_sub(expected));
                    if source.is_latest {
                        self.tally.replaced += missing;
                    } else {
                        self.gap(stream, missing);
                    }
                    tx.skip(missing).map_err(there)?;
                }
                Ok(Event::Skipped { bytes, what }) => self.skipped(bytes, what),
                Err(Error::Empty) => {
                    tx.flush(Deadline::never()).map_err(there)?;
                    is_flushed = true;
                }
                Err(Error::Timeout | Error::Cancelled) => {
                    if stopping.is_some_and(Deadline::has_passed) {
                        return Ok(End::Stopped);
                    }
                    self.idle(&self.options.names[0])?;
                }
                Err(error @ (Error::Closed | Error::PeerDead)) => {
                    return Ok(if stopping.is_some() { End::Stopped } else { End::Source(error) });
                }
                Err(error) => return Err(here(error)),
            }
        }
    }

    /// Sends one frame. Waits for a receiver, should it have been lost meanwhile.
    fn send_one(&mut self, tx: &mut Sender, frame: Frame<'_>) -> Outcome {
        let options = self.options;
        loop {
            match tx.send_stamped(frame, SLICE) {
                Err(Error::Timeout) if self.stop.asked() => {
                    return Err(Failure::new(LOST, "interrupted, and there is no receiver").at(&options.names[1]));
                }
                Err(Error::Timeout) => self.idle(&options.names[1])?,
                sent => return sent.map_err(|error| Failure::from(error).at(&options.names[1])),
            }
        }
    }

    fn close(&mut self, tx: &mut Sender) -> Outcome {
        let time = self.options.timeout.unwrap_or(if self.stop.asked() { GRACE } else { 5 * GRACE });
        tx.close(Deadline::after(time)).map_err(|error| {
            let text = format_args!("{error}; frames that were sent may not have arrived");
            Failure::new(LOST, text).at(&self.options.names[1])
        })
    }

    fn receive(&mut self, session: &Session, expression: &str, to: &Endpoint) -> Outcome {
        let Some(tx) = self.open(&self.options.names[1].clone(), |until| open_destination(to, until))? else {
            return Ok(());
        };
        let far = Arc::new(Mutex::new(Far::new(tx)));
        let rx = Receiver::open(session, expression, self.options.policy);
        let mut rx = rx.map_err(|error| Failure::from(error).at(expression))?.reconnect(self.options.reconnect);
        let outcome = loop {
            match self.pump_in(&mut rx, &far) {
                Ok(End::Source(_)) if self.options.follow => {}
                Ok(End::Source(Error::Closed) | End::Stopped) => break Ok(()),
                Ok(End::Source(error)) => break Err(Failure::from(error).at(&self.options.names[0])),
                Err(failure) => break Err(failure),
            }
        };
        self.tally.dropped_samples += rx.dropped();
        drop(rx); // nothing passes frames on any more
        let tx = &mut lock(&far).tx;
        match outcome {
            Ok(()) => {
                let until = Deadline::after(if self.stop.asked() { GRACE } else { 5 * GRACE });
                let closed = tx.flush(until).and_then(|()| tx.close(until));
                closed.map_err(|error| {
                    Failure::new(LOST, format_args!("{error}; frames that were received are lost"))
                        .at(&self.options.names[1])
                })
            }
            Err(failure) => {
                let _ = tx.flush(Deadline::after(GRACE));
                std::mem::forget(Arc::clone(&far)); // no BYE: DST learns that this was no orderly end
                Err(failure)
            }
        }
    }

    fn pump_in(&mut self, rx: &mut Receiver, far: &Arc<Mutex<Far>>) -> Outcome<End> {
        let mut is_flushed = true;
        let taker: Arc<Mutex<dyn Taker>> = far.clone();
        let in_runs = self.options.count.is_none() && lock(far).takes_runs();
        let there = |error: Error, name: &str| Failure::from(error).at(name);
        loop {
            if self.is_enough() || self.stop.asked() {
                return Ok(End::Stopped);
            }
            let mut waited = false;
            if in_runs && !lock(far).numbers.is_mixed {
                rx.pass_on(&taker, is_flushed.then(|| Deadline::after(SLICE)));
                waited = is_flushed;
            }
            let mut far = lock(far);
            let Far { tx, numbers, taken, refused } = &mut *far;
            let tx = tx.as_mut();
            let Released { frames, payload } = std::mem::take(taken);
            if frames > 0 {
                self.count(frames, payload);
            }
            if let Some(error) = refused.take() {
                return Err(self.lost(&error));
            }
            let senders = rx.senders();
            let received = if is_flushed && !waited { rx.recv_deadline(SLICE) } else { rx.try_recv() };
            match received {
                Ok(Event::Frame(frame)) => {
                    self.pass_on(tx, frame, senders, numbers)?;
                    is_flushed = false;
                }
                Ok(Event::Duplicate { frame, .. }) => {
                    self.tally.duplicates += 1;
                    let flags = frame.header.flags | Flags::REDELIVERED;
                    let frame = Frame { header: Header { flags, ..frame.header }, ..frame };
                    self.pass_on(tx, frame, senders, numbers)?;
                    is_flushed = false;
                }
                Ok(Event::Gap { stream, expected, found }) => {
                    let missing = found.wrapping_sub(expected);
                    numbers.skip(stream, missing);
                    self.gap(stream, missing.into());
                }
                Ok(Event::Skipped { bytes, what }) => self.skipped(bytes, what),
                Err(Error::Empty) if waited => self.idle(&self.options.names[0])?,
                Err(Error::Empty) => match tx.flush(Deadline::after(SLICE)) {
                    Err(Error::Timeout) => self.idle(&self.options.names[1])?,
                    flushed => {
                        flushed.map_err(|error| there(error, &self.options.names[1]))?;
                        is_flushed = true;
                    }
                },
                Err(Error::Timeout) => self.idle(&self.options.names[0])?,
                Err(error @ (Error::Closed | Error::PeerDead)) => return Ok(End::Source(error)),
                Err(error) => return Err(there(error, &self.options.names[0])),
            }
        }
    }

    /// Sends one frame to DST, with its number if DST can keep it.
    fn pass_on(
        &mut self,
        tx: &mut dyn FrameSender,
        frame: Frame<'_>,
        senders: usize,
        numbers: &mut Numbers,
    ) -> Outcome {
        let header = frame.header;
        if !header.is_control()
            && let Some(seq) = numbers.of_next(header.stream, header.seq, senders)
        {
            tx.number_from(header.stream, seq);
        }
        let mut asked_at = None;
        let mut sent = tx.try_send(header, frame.payload);
        loop {
            match sent {
                Ok(()) => break,
                Err(Error::Full) if self.options.policy == Policy::Drop => {
                    self.tally.dropped += 1;
                    numbers.skip(header.stream, 1);
                    return Ok(());
                }
                Err(Error::Full | Error::Timeout) => {
                    if self.stop.asked() {
                        let until = asked_at.get_or_insert_with(|| Deadline::after(GRACE));
                        if until.has_passed() {
                            let text = "interrupted, and no frame could be passed on any more; frames that were received are lost";
                            return Err(Failure::new(LOST, text).at(&self.options.names[1]));
                        }
                    } else if matches!(sent, Err(Error::Timeout)) {
                        self.idle(&self.options.names[1])?;
                    }
                    sent = tx.send_deadline(header, frame.payload, SLICE);
                }
                Err(error) => return Err(self.lost(&error)),
            }
        }
        numbers.sent(header);
        self.count(1, frame.payload.len() as u64);
        Ok(())
    }

    fn lost(&self, error: &Error) -> Failure {
        Failure::new(LOST, format_args!("{error}; frames that were received are lost")).at(&self.options.names[1])
    }

    /// Opens one side, in slices, so that a signal ends the wait. `None` after a signal.
    fn open<T>(&mut self, name: &str, mut open: impl FnMut(Deadline) -> slipring::Result<T>) -> Outcome<Option<T>> {
        loop {
            match open(Deadline::after(SLICE)) {
                _ if self.stop.asked() => return Ok(None),
                Err(Error::Timeout) => self.idle(name)?,
                opened => return opened.map(Some).map_err(|error| Failure::from(error).at(name)),
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.tally.frames >= count)
    }

    fn count(&mut self, frames: u64, bytes: u64) {
        self.tally.frames += frames;
        self.tally.bytes += bytes;
        if self.options.stats {
            self.tally.say(&self.options.names, true, false, self.context);
        }
        if self.options.timeout.is_some() {
            self.idle_since = Instant::now();
        }
    }

    fn gap(&mut self, stream: u16, missing: u64) {
        self.tally.gaps += 1;
        self.tally.missing += missing;
        let are = if missing == 1 { "frame is" } else { "frames are" };
        self.context.note(format_args!("{}: {missing} {are} missing from stream {stream}", self.options.names[0]));
    }

    fn skipped(&mut self, bytes: u64, what: &str) {
        self.tally.skipped_bytes += bytes;
        // A hostile sender does not fill the log.
        if self.noted.is_none_or(|noted| noted.elapsed() >= Duration::from_secs(1)) {
            self.noted = Some(Instant::now());
            let all = self.tally.skipped_bytes;
            self.context.note(format_args!("{}: {bytes} bytes skipped, {all} in all: {what}", self.options.names[0]));
        }
    }

    /// Nothing moved for a slice.
    fn idle(&mut self, name: &str) -> Outcome {
        self.tally.say(&self.options.names, self.options.stats, false, self.context);
        match self.options.timeout {
            Some(timeout) if self.idle_since.elapsed() >= timeout => {
                Err(Failure::new(TIMEOUT, format_args!("nothing was passed on for {timeout:?}")).at(name))
            }
            _ => Ok(()),
        }
    }
}

/// DST, which the receiving bridge fills, and Zenoh's threads while it waits.
struct Far {
    tx: Box<dyn FrameSender>,
    numbers: Numbers,
    /// Taken in runs, and not counted yet.
    taken: Released,
    refused: Option<Error>,
}

impl Far {
    fn new(tx: Box<dyn FrameSender>) -> Self {
        Far { tx, numbers: Numbers::default(), taken: Released::default(), refused: None }
    }

    /// Whether frames can be sent as they are: into a byte ring. A byte stream would take the numbers
    /// of another sender for no gap.
    fn takes_runs(&mut self) -> bool {
        self.tx.takes_encoded() && self.tx.number_from(0, self.numbers.next.next(0))
    }
}

impl Taker for Far {
    fn take(&mut self, frames: &[u8]) -> usize {
        match self.tx.send_encoded(frames, Duration::ZERO) {
            Ok(sent) => sent,
            // DST is full: the first frame is passed on by itself.
            Err(Error::Timeout) => 0,
            Err(error) => {
                self.refused = Some(error);
                0
            }
        }
    }

    fn taken(&mut self, taken: Released, next: &[(u16, u32)]) {
        self.taken.frames += taken.frames;
        self.taken.payload += taken.payload;
        next.iter().for_each(|(stream, number)| self.numbers.passed(*stream, *number));
    }
}

fn lock(far: &Mutex<Far>) -> MutexGuard<'_, Far> {
    far.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of the frames that go into DST: those that they came with, as long as there is one
/// sender; from then on, numbers of this relay's own.
#[derive(Default)]
struct Numbers {
    /// What DST would number the next frames, and whether it has been told so.
    next: Sequencer,
    is_mixed: bool,
    /// Numbers to leave out before the next frame of a stream.
    skipped: std::collections::HashMap<u16, u32>,
}

impl Numbers {
    fn skip(&mut self, stream: u16, frames: u32) {
        let skipped = self.skipped.entry(stream).or_default();
        *skipped = skipped.wrapping_add(frames);
    }

    /// The number for a frame of `stream` that came with `seq`, if DST would not use it by itself.
    fn of_next(&mut self, stream: u16, seq: u32, senders: usize) -> Option<u32> {
        self.is_mixed |= senders > 1;
        let next = self.next.next(stream);
        let skipped = if self.skipped.is_empty() { 0 } else { self.skipped.remove(&stream).unwrap_or(0) };
        let wanted = if self.is_mixed { next.wrapping_add(skipped) } else { seq };
        self.next.advance(stream, wanted.wrapping_sub(next));
        (wanted != next).then_some(wanted)
    }

    /// Frames of `stream` were passed on with the numbers that they came with, up to `next`.
    fn passed(&mut self, stream: u16, next: u32) {
        self.next.advance(stream, next.wrapping_sub(self.next.next(stream)));
        self.skipped.remove(&stream);
    }

    fn sent(&mut self, header: Header) {
        if !header.is_control() {
            self.next.advance(header.stream, 1);
        }
    }
}
