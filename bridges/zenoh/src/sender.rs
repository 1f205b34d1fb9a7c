//! The sending end: frames are collected into samples, which are put on a key.
//!
//! Used by programs, and by `main.rs`. Relies on `wire.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slipring::frame::{Form, Frame, Header, SHORT, Sequencer, control};
use slipring::transport::{Capabilities, FrameSender};
use slipring::{Deadline, Error, Result};
use zenoh::handlers::FifoChannelHandler;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::query::{ConsolidationMode, QueryTarget, Reply};
use zenoh::{Session, Wait};

use crate::wire::{OPENING, Opening, frame_at};
use crate::{CAPABILITIES, OWN, Policy, failed};

/// Bytes of frames in one sample. With the rest of a message it fits into one batch of Zenoh.
const SAMPLE: usize = 63 << 10;
/// With [`Policy::Block`], a sender asks its receivers after so many bytes, and sends no more than
/// twice as many before they have answered. That is less than the network buffers of a connection
/// hold.
const WINDOW: usize = 1 << 20;
/// How long the answer may take. If the receivers are lost, Zenoh ends the question at once, most
/// often: one that is under way at that moment may be lost without an end.
const ANSWER: Duration = Duration::from_secs(24 * 3600);
/// After how long without an answer a sender asks again, at first and at most.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(64);
/// How often a sender that waits for an answer looks at its later questions.
const LOOK: Duration = Duration::from_millis(50);
/// How long a closing sender waits for its receivers, without a deadline.
const CLOSING: Duration = Duration::from_secs(10);

/// The sending end of a key.
///
/// Frames are collected until [`flush`](slipring::transport::FrameSenderExt::flush), or until a
/// sample is full. With [`Policy::Block`] a sender waits until there is a receiver, and while the
/// receivers do not keep up; a call that waits for the network does not end at its deadline. With
/// [`Policy::Drop`] it never waits.
pub struct Sender {
    session: Session,
    key: String,
    policy: Policy,
    publisher: Publisher<'static>,
    token: Option<LivelinessToken>,
    matching: Arc<Matching>,
    epoch: u64,
    source: u64,
    keeps_numbers: bool,
    sequencer: Sequencer,
    /// Application frames sent, without those that are collected.
    position: u64,
    /// The sample that is being filled, and how many bytes the last one had.
    sample: Vec<u8>,
    last_len: usize,
    frames: u64,
    is_closed: bool,
    last: Option<Arc<Mutex<Last>>>,
    /// Bytes since the last question, and the questions that are not answered yet.
    unasked: usize,
    asked: VecDeque<Question>,
    patience: Duration,
}

/// A question to all receivers.
struct Question {
    replies: FifoChannelHandler<Reply>,
    asked_at: Instant,
}

impl Question {
    /// Whether all receivers that are there have answered. Then they have answered the questions
    /// before it, too, or these were lost.
    fn is_over(&self) -> bool {
        loop {
            match self.replies.try_recv() {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}

/// Whether there is a subscriber.
#[derive(Default)]
struct Matching {
    is_matching: Mutex<bool>,
    changed: Condvar,
    /// The same, read for every frame.
    now: AtomicBool,
}

impl Matching {
    fn set(&self, is_matching: bool) {
        let mut locked = self.is_matching.lock().unwrap_or_else(PoisonError::into_inner);
        *locked = is_matching;
        self.now.store(is_matching, Ordering::Relaxed);
        self.changed.notify_all();
    }

    fn wait(&self, deadline: Deadline) -> Result<()> {
        if self.now.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut is_matching = self.is_matching.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_matching {
            if deadline.has_passed() {
                return Err(Error::Timeout);
            }
            let time = deadline.remaining().min(Duration::from_secs(3600));
            is_matching = self.changed.wait_timeout(is_matching, time).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// The newest frame of each stream, for receivers that come later.
#[derive(Default)]
struct Last {
    position: u64,
    frames: HashMap<u16, Vec<u8>>,
}

impl Sender {
    /// Opens a sender on a key without wildcards.
    ///
    /// # Errors
    /// [`Error::Io`] with Zenoh's reason.
    pub fn open(session: &Session, key: &str, policy: Policy) -> Result<Self> {
        let congestion = match policy {
            Policy::Block => CongestionControl::Block,
            Policy::Drop => CongestionControl::Drop,
        };
        let publisher =
            session.declare_publisher(key.to_owned()).congestion_control(congestion).wait().map_err(failed)?;
        let matching = Arc::new(Matching::default());
        let listener = Arc::clone(&matching);
        let background = publisher.matching_listener().callback(move |status| listener.set(status.matching()));
        background.background().wait().map_err(failed)?;
        matching.set(publisher.matching_status().wait().map_err(failed)?.matching());
        let epoch = random();
        let token = session.liveliness().declare_token(format!("{key}/{OWN}/{epoch:016x}")).wait().map_err(failed)?;
        Ok(Sender {
            session: session.clone(),
            key: key.to_owned(),
            policy,
            publisher,
            token: Some(token),
            matching,
            epoch,
            source: 0,
            keeps_numbers: false,
            sequencer: Sequencer::new(),
            position: 0,
            sample: Vec::new(),
            last_len: 0,
            frames: 0,
            is_closed: false,
            last: None,
            unasked: 0,
            asked: VecDeque::new(),
            patience: PATIENCE,
        })
    }

    /// Keeps the sequence numbers of the frames. `source` says where they come from, such as
    /// [`Ring::generation`](slipring::Ring::generation): another sender of the same source
    /// continues its numbers, and its receivers are told exactly what was lost between the two. 0
    /// is unknown.
    #[must_use]
    pub fn keep_numbers(mut self, source: u64) -> Self {
        (self.keeps_numbers, self.source) = (true, source);
        self
    }

    /// Answers queries of the key with the newest frame of each stream, so that a receiver that
    /// comes later gets it at once: for latest values.
    ///
    /// # Errors
    /// [`Error::Io`] with Zenoh's reason.
    pub fn answer_with_the_last(mut self) -> Result<Self> {
        let last = Arc::new(Mutex::new(Last::default()));
        let (answers, epoch, source, key) = (Arc::clone(&last), self.epoch, self.source, self.key.clone());
        let queryable = self.session.declare_queryable(self.key.clone()).callback(move |query| {
            let last = answers.lock().unwrap_or_else(PoisonError::into_inner);
            let mut sample = Vec::new();
            let position = last.position;
            let opening = Opening { epoch, position, source, stream: 0, first_seq: 0, repeats: true };
            if last.frames.is_empty() || opening.encode(&mut sample).is_err() {
                return;
            }
            last.frames.values().for_each(|frame| sample.extend_from_slice(frame));
            drop(last);
            // The one who asked may have left.
            let _ = query.reply(key.clone(), sample).wait();
        });
        queryable.background().wait().map_err(failed)?;
        self.last = Some(last);
        Ok(self)
    }

    /// With [`Policy::Block`], waits until there is a receiver, and the receivers have room.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub fn wait_for_receiver(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.have_receiver(deadline.into())
    }

    /// Tells the receivers that `frames` frames before the next one will not come.
    pub fn skip(&mut self, frames: u64) -> Result<()> {
        if frames > 0 {
            self.put()?; // the position of what is collected is known already
            self.position += frames;
        }
        Ok(())
    }

    /// Adds a frame to the sample, which has room for it.
    fn collect(&mut self, header: Header, stamp: u64, payload: &[u8]) -> Result<()> {
        let is_control = header.is_control();
        let seq = match (is_control, self.keeps_numbers) {
            (true, _) => 0,
            (false, true) => header.seq,
            (false, false) => self.sequencer.next(header.stream),
        };
        let header = Header { seq, ..header };
        if self.sample.is_empty() {
            self.begin(header, self.last_len)?;
        }
        let form = if stamp == 0 { Form::Short } else { Form::Long };
        let at = self.sample.len();
        Frame { stamp, ..Frame::new(header, payload)? }.encode(form, &mut self.sample)?;
        if !is_control {
            self.frames += 1;
            self.sequencer.advance(header.stream, seq.wrapping_add(1).wrapping_sub(self.sequencer.next(header.stream)));
            self.remember(header.stream, &self.sample[at..]);
        }
        Ok(())
    }

    fn remember(&self, stream: u16, encoded: &[u8]) {
        if let Some(last) = &self.last {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let frame = last.frames.entry(stream).or_default();
            frame.clear();
            frame.extend_from_slice(encoded);
        }
    }

    /// Begins a sample for `len` bytes of frames, the first of which has this header.
    fn begin(&mut self, first: Header, len: usize) -> Result<()> {
        self.sample.reserve_exact(OPENING + len);
        let (epoch, position, source) = (self.epoch, self.position, self.source);
        Opening { epoch, position, source, stream: first.stream, first_seq: first.seq, repeats: false }
            .encode(&mut self.sample)
    }

    /// Puts the sample. May wait for the network.
    fn put(&mut self) -> Result<()> {
        if self.sample.is_empty() {
            return Ok(());
        }
        self.position += std::mem::take(&mut self.frames);
        if let Some(last) = &self.last {
            last.lock().unwrap_or_else(PoisonError::into_inner).position = self.position;
        }
        let sample = std::mem::take(&mut self.sample); // Zenoh keeps it
        self.last_len = sample.len();
        self.unasked += sample.len();
        self.publisher.put(sample).wait().map_err(failed)?;
        if self.policy == Policy::Block && self.unasked >= WINDOW {
            self.unasked = 0;
            self.asked.push_back(self.ask(ANSWER, CongestionControl::Block)?);
        }
        Ok(())
    }

    /// Asks every receiver to answer when it has received all that was sent.
    fn ask(&self, time: Duration, congestion: CongestionControl) -> Result<Question> {
        let question = self.session.get(format!("{}/{OWN}/end", self.key)).target(QueryTarget::All);
        let question = question.consolidation(ConsolidationMode::None).timeout(time);
        let replies = question.congestion_control(congestion).wait().map_err(failed)?;
        Ok(Question { replies, asked_at: Instant::now() })
    }

    /// Waits until the receivers have room.
    fn wait_for_answer(&mut self, deadline: Deadline) -> Result<()> {
        while self.asked.len() > 1 {
            if let Some(last) = self.asked.iter().rposition(Question::is_over) {
                self.asked.drain(..=last);
                self.patience = PATIENCE;
                continue;
            }
            if deadline.has_passed() {
                return Err(Error::Timeout);
            }
            if self.asked.back().is_some_and(|newest| newest.asked_at.elapsed() >= self.patience) {
                self.patience = (2 * self.patience).min(MOST_PATIENCE);
                // Dropped where the network is full: the next one comes.
                self.asked.push_back(self.ask(ANSWER, CongestionControl::Drop)?);
            }
            let until = Instant::now() + deadline.remaining().min(LOOK);
            let _ = self.asked[0].replies.recv_deadline(until);
        }
        Ok(())
    }

    fn check(&self, header: Header, payload: &[u8]) -> Result<()> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        let is_own = header.is_control() && matches!(header.kind, control::HELLO | control::BYE);
        if is_own || (header.kind < Header::DEFAULT_KIND) != header.is_control() {
            return Err(Error::Invalid {
                what: "frame kind: 0x0000-0x00FF are reserved, HELLO and BYE are the sender's own",
            });
        }
        let max = self.max_payload();
        if payload.len() > max { Err(Error::TooLarge { max }) } else { Ok(()) }
    }

    /// As [`FrameSender::send_until`], with the stamp of the frame.
    ///
    /// # Errors
    /// As [`FrameSender::send_until`].
    pub fn send_stamped(&mut self, frame: Frame<'_>, deadline: impl Into<Deadline>) -> Result<()> {
        self.check(frame.header, frame.payload)?;
        self.have_receiver(deadline.into())?;
        let len = frame.encoded_len(Form::Long);
        if !self.sample.is_empty() && self.sample.len() + len > OPENING + SAMPLE {
            self.put()?;
        }
        self.collect(frame.header, frame.stamp, frame.payload)
    }

    fn have_receiver(&mut self, deadline: Deadline) -> Result<()> {
        if self.policy == Policy::Drop {
            return Ok(());
        }
        self.wait_for_answer(deadline)?;
        self.matching.wait(deadline)
    }

    /// Ends without BYE, as if the process had died: its receivers get [`Error::PeerDead`]. Frames
    /// that are collected are not sent.
    pub fn abandon(&mut self) {
        self.is_closed = true;
        self.token = None;
    }

    /// Waits until every receiver has received all that was sent.
    fn confirm(&self, deadline: Deadline) -> Result<()> {
        let question = self.ask(deadline.remaining().min(CLOSING), CongestionControl::Block)?;
        let mut answered = 0;
        while let Ok(reply) = question.replies.recv() {
            match reply.result() {
                Ok(_) => answered += 1,
                Err(_) => return Err(Error::Timeout),
            }
        }
        let is_matching = self.publisher.matching_status().wait().map_err(failed)?.matching();
        // Other programs that subscribe do not answer.
        if answered > 0 || is_matching || self.position == 0 { Ok(()) } else { Err(Error::PeerDead) }
    }
}

impl FrameSender for Sender {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        match self.send_until(header, payload, Deadline::after(Duration::ZERO)) {
            Err(Error::Timeout) => Err(Error::Full),
            sent => sent,
        }
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        self.send_stamped(Frame::new(header, payload)?, deadline)
    }

    fn send_encoded_until(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        self.have_receiver(deadline)?;
        self.put()?;
        let mut end = 0;
        while end < frames.len() {
            let found = frame_at(frames, end)?;
            if end > 0 && found.end > SAMPLE {
                break;
            }
            self.frames += u64::from(!found.header.is_control());
            self.remember(found.header.stream, &frames[end..found.end]);
            end = found.end;
        }
        if end > 0 {
            self.begin(frame_at(frames, 0)?.header, end)?;
        }
        self.sample.extend_from_slice(&frames[..end]);
        self.put()?;
        Ok(end)
    }

    fn takes_encoded(&self) -> bool {
        true
    }

    fn flush_until(&mut self, _: Deadline) -> Result<()> {
        if self.is_closed { Err(Error::Closed) } else { self.put() }
    }

    fn close_until(&mut self, deadline: Deadline) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        self.put()?;
        if self.policy == Policy::Block {
            self.confirm(deadline)?; // before BYE, after which a receiver may leave
        }
        self.begin(Header { seq: self.sequencer.next(0), ..Header::PLAIN }, SHORT)?;
        Frame::new(Header::control(control::BYE, 0)?, &[])?.encode(Form::Short, &mut self.sample)?;
        self.put()?;
        self.is_closed = true;
        self.token = None; // after all that was sent
        Ok(())
    }

    fn max_payload(&self) -> usize {
        CAPABILITIES.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }
}

impl Drop for Sender {
    /// Sends what was collected, and BYE, unless it was closed. Waits for no receiver.
    fn drop(&mut self) {
        if !self.is_closed {
            self.policy = Policy::Drop;
            let _ = self.close_until(Deadline::after(Duration::ZERO));
        }
    }
}

/// A number that no other sender has.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let now = std::time::SystemTime::now();
    (RandomState::new().hash_one((std::process::id(), now))).max(1)
}
