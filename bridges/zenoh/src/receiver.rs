//! The receiving end: the samples of a key, or of all keys that an expression matches, as events.
//!
//! Used by programs, by `main.rs`, and by `queue.rs`, whose callers pass frames on while a receiver
//! waits. Relies on `queue.rs` and `inbox.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slipring::frame::Event;
use slipring::transport::{Capabilities, FrameReceiver, Released};
use slipring::{Deadline, Error, Result};
use zenoh::key_expr::KeyExpr;
use zenoh::pubsub::Subscriber;
use zenoh::query::Queryable;
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use crate::inbox::{Bytes, Inbox};
use crate::queue::{Arrival, Queue};
use crate::{CAPABILITIES, OWN, Policy, failed};

/// How long a sender may be lost until it counts as dead, by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// The receiving end of a key, or of every key that an expression matches.
///
/// Events come as from every transport: frames in the order of each sender, and before a frame the
/// exact number of those that are missing ([`Event::Gap`]). Several senders are received together,
/// up to 1024; what more of them send is an [`Event::Skipped`].
/// [`Error::Closed`] and [`Error::PeerDead`] come when the last of them has ended; another one may
/// begin afterwards.
pub struct Receiver {
    queue: Arc<Queue>,
    inbox: Inbox,
    patience: Duration,
    // In this order they are dropped, and nothing is declared any more.
    _declared: Vec<Declared>,
}

/// What is undeclared when it is dropped.
#[expect(dead_code, reason = "they are held, not read")]
enum Declared {
    Subscriber(Subscriber<()>),
    Queryable(Queryable<()>),
}

/// Where [`Receiver::pass_on`] passes frames on to.
pub trait Taker: Send {
    /// Takes frames, one after the other as
    /// [`FrameSenderExt::send_encoded`](slipring::transport::FrameSenderExt::send_encoded) accepts
    /// them, and returns the bytes of those that were taken: whole frames from the first one on, or
    /// 0. Must not wait, because it holds up every key of the session.
    fn take(&mut self, frames: &[u8]) -> usize;

    /// Called after [`Taker::take`] with what was taken, and with the number that follows, whenever
    /// the stream changes.
    fn taken(&mut self, taken: Released, next: &[(u16, u32)]);
}

/// Passes on the frames of an inbox. True if it is idle then.
pub(crate) fn pass(inbox: &mut Inbox, taker: &Mutex<dyn Taker>) -> bool {
    let mut taker = taker.lock().unwrap_or_else(PoisonError::into_inner);
    while !inbox.is_idle() {
        let frames = if inbox.open() == 1 { inbox.run() } else { &[] };
        let all = frames.len();
        let taken = if all > 0 { taker.take(frames) } else { 0 };
        if taken > 0 {
            let (released, next) = inbox.release_run(taken);
            taker.taken(released, &next);
        }
        if taken == 0 || taken < all {
            return false;
        }
    }
    true
}

impl Receiver {
    /// Opens a receiver. It gets what is sent from now on and, of senders that answer with it, the
    /// newest frames.
    ///
    /// # Errors
    /// [`Error::Io`] with Zenoh's reason.
    pub fn open(session: &Session, expression: &str, policy: Policy) -> Result<Self> {
        let queue = Arc::new(Queue::new(policy));
        let mut declared = Vec::new();
        let end = format!("{expression}/{OWN}/end");
        let arrivals = Arc::clone(&queue);
        let answer = session.declare_queryable(end).callback(move |query| arrivals.push(Arrival::Question(query)));
        declared.push(Declared::Queryable(answer.wait().map_err(failed)?));
        let arrivals = Arc::clone(&queue);
        let tokens = session.liveliness().declare_subscriber(format!("{expression}/{OWN}/*")).history(true);
        let tokens = tokens.callback(move |sample| {
            if let Some(epoch) = epoch_of(&sample) {
                arrivals.push(Arrival::Token { epoch, is_alive: sample.kind() == SampleKind::Put });
            }
        });
        declared.push(Declared::Subscriber(tokens.wait().map_err(failed)?));
        let arrivals = Arc::clone(&queue);
        let samples = session.declare_subscriber(expression.to_owned()).callback(move |sample| {
            if sample.kind() == SampleKind::Put {
                arrivals.push(Arrival::Sample(sample.payload().clone()));
            }
        });
        declared.push(Declared::Subscriber(samples.wait().map_err(failed)?));
        let arrivals = Arc::clone(&queue);
        let newest = session.get(expression.to_owned()).callback(move |reply| {
            if let Ok(sample) = reply.result() {
                arrivals.push(Arrival::Sample(sample.payload().clone()));
            }
        });
        newest.wait().map_err(failed)?;
        Ok(Receiver { queue, inbox: Inbox::default(), patience: PATIENCE, _declared: declared })
    }

    /// Sets how long a sender may be lost until it counts as dead: the time that the network, or
    /// the sender's bridge, has to come back. 10 s by default.
    #[must_use]
    pub fn reconnect(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many senders are open.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.inbox.open()
    }

    /// Samples that were dropped here, with [`Policy::Drop`] or beyond 64 MiB, because they were not
    /// received in time. Their frames are among the missing ones. What Zenoh says of senders is
    /// counted here, too, if more than 65,536 of such messages wait.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Passes frames on to `taker`, encoded and without a wait between them, until the next event is
    /// another one (a gap, an end, a frame of the long form), until `taker` does not take all that
    /// there are, or until there are none. With a deadline it waits for more; those that come until
    /// then are passed on by the thread of Zenoh that received them. Nothing is passed on while
    /// several senders are open, whose numbers are not one sequence.
    /// [`FrameReceiver::try_recv`] says what comes next. The caller must not have `taker` locked.
    pub fn pass_on(&mut self, taker: &Arc<Mutex<dyn Taker>>, deadline: Option<Deadline>) {
        loop {
            if !(self.inbox.is_idle() || pass(&mut self.inbox, taker)) {
                return;
            }
            let arrival = match deadline {
                None => self.queue.pop(None),
                Some(deadline) => {
                    let wake = self.inbox.next_forgetting(self.patience).map(Deadline::at);
                    let until = wake.map_or(deadline, |wake| deadline.min(wake));
                    self.queue.lend(&mut self.inbox, taker, until)
                }
            };
            match arrival {
                Some(arrival) => self.take(arrival),
                None => return,
            }
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Sample(bytes) => self.inbox.accept(Bytes::new(bytes)),
            Arrival::Token { epoch, is_alive } => self.inbox.token(epoch, is_alive, Instant::now()),
            Arrival::Question(query) => {
                // Behind all samples that were sent before it. The sender may have left.
                let _ = query.reply(query.key_expr().clone(), Vec::new()).wait();
            }
        }
    }

    /// Makes the next event the current one. `None`: without waiting.
    fn advance(&mut self, deadline: Option<Deadline>) -> Result<()> {
        loop {
            if self.inbox.advance() {
                return Ok(());
            }
            if let Some(end) = self.inbox.end() {
                return Err(end);
            }
            let wake = self.inbox.next_forgetting(self.patience).map(Deadline::at);
            let until = deadline.map(|deadline| wake.map_or(deadline, |wake| deadline.min(wake)));
            match self.queue.pop(until) {
                Some(arrival) => self.take(arrival),
                None => {
                    self.inbox.forget_the_lost(Instant::now(), self.patience);
                    if let Some(end) = self.inbox.end() {
                        return Err(end);
                    }
                    match deadline {
                        None => return Err(Error::Empty),
                        Some(deadline) if deadline.has_passed() => return Err(Error::Timeout),
                        Some(_) => {}
                    }
                }
            }
        }
    }
}

impl FrameReceiver for Receiver {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        self.advance(None)?;
        self.inbox.event()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.advance(Some(deadline))?;
        self.inbox.event()
    }

    fn max_payload(&self) -> usize {
        CAPABILITIES.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.queue.close(); // a thread of Zenoh may wait for room
    }
}

/// Watches for senders until it is dropped: see [`senders_of`].
pub struct Senders {
    _subscriber: Subscriber<()>,
}

/// Calls `found` with the key of each sender that an expression matches, those that are there and
/// those that come, on a thread of Zenoh. Senders with [`Policy::Block`] wait for a receiver.
///
/// # Errors
/// [`Error::Io`] with Zenoh's reason.
pub fn senders_of(
    session: &Session,
    expression: &str,
    found: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Senders> {
    let tokens = session.liveliness().declare_subscriber(format!("{expression}/{OWN}/*")).history(true);
    let tokens = tokens.callback(move |sample| {
        if let (SampleKind::Put, Some((key, _))) =
            (sample.kind(), sample.key_expr().as_str().split_once(&format!("/{OWN}/")))
        {
            found(key);
        }
    });
    Ok(Senders { _subscriber: tokens.wait().map_err(failed)? })
}

/// The sender whose liveliness a token is.
fn epoch_of(sample: &Sample) -> Option<u64> {
    let key: &KeyExpr<'_> = sample.key_expr();
    u64::from_str_radix(key.as_str().rsplit('/').next()?, 16).ok()
}
