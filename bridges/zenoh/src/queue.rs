//! What Zenoh's threads pass to a receiver: samples, up to a number of bytes, liveliness, and the
//! questions of senders.
//!
//! Used by `receiver.rs`. It never holds up the thread that reads from the network, which serves
//! every key. With [`Policy::Block`] the senders hold themselves up: they ask, and go on when the
//! question has been answered, behind all that came before it. A sample beyond the limit is
//! dropped, and the position of the next one tells how many frames it had.
//!
//! A receiver that waits can lend its inbox and a taker to Zenoh's threads. Then they pass a sample
//! on themselves, and the receiver sleeps until something else comes than frames to be passed on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slipring::Deadline;
use zenoh::bytes::ZBytes;
use zenoh::query::Query;

use crate::Policy;
use crate::inbox::{Bytes, Inbox};
use crate::receiver::{Taker, pass};

/// Bytes that wait for a receiver, with [`Policy::Drop`].
const ROOM: usize = 4 << 20;
/// With [`Policy::Block`], for samples of senders that do not hold themselves up.
const MOST: usize = 64 << 20;
/// What a sample takes beside its bytes.
const BESIDE: usize = 256;
/// Tokens and questions that wait.
const OTHERS: usize = 64 << 10;

pub(crate) enum Arrival {
    Sample(ZBytes),
    Token {
        epoch: u64,
        is_alive: bool,
    },
    /// To be answered.
    Question(Query),
}

/// What a waiting receiver lends.
struct Lent {
    inbox: Inbox,
    taker: Arc<Mutex<dyn Taker>>,
}

#[derive(Default)]
struct State {
    arrivals: VecDeque<Arrival>,
    /// While the receiver waits in [`Queue::lend`].
    lent: Option<Lent>,
    bytes: usize,
    is_closed: bool,
    /// Tokens and questions that wait.
    others: usize,
    /// Samples that were dropped, and tokens and questions.
    dropped: u64,
    sleepers: usize,
}

enum Passed {
    Wholly,
    /// The receiver goes on with it.
    InPart,
    Not(Arrival),
}

impl State {
    /// Passes a sample on, if the receiver waits and nothing is before it.
    fn pass(&mut self, arrival: Arrival) -> Passed {
        if !self.arrivals.is_empty() || !self.is_passing() {
            return Passed::Not(arrival);
        }
        match (&mut self.lent, arrival) {
            (Some(Lent { inbox, taker }), Arrival::Sample(bytes)) => {
                inbox.accept(Bytes::new(bytes));
                if pass(inbox, taker) { Passed::Wholly } else { Passed::InPart }
            }
            (_, arrival) => Passed::Not(arrival),
        }
    }

    /// Whether an inbox is lent, and nothing is left in it.
    fn is_passing(&mut self) -> bool {
        self.lent.as_mut().is_some_and(|lent| lent.inbox.is_idle())
    }

    fn next(&mut self) -> Option<Arrival> {
        let arrival = self.arrivals.pop_front()?;
        match &arrival {
            Arrival::Sample(bytes) => self.bytes -= bytes.len() + BESIDE,
            _ => self.others -= 1,
        }
        Some(arrival)
    }
}

pub(crate) struct Queue {
    room: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

impl Queue {
    pub(crate) fn new(policy: Policy) -> Self {
        let room = if policy == Policy::Drop { ROOM } else { MOST };
        Queue { room, state: Mutex::default(), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, arrival: Arrival) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let arrival = match state.pass(arrival) {
            Passed::Wholly => return,
            Passed::InPart => return self.arrived.notify_one(),
            Passed::Not(arrival) => arrival,
        };
        let is_full = match arrival {
            Arrival::Sample(_) => state.bytes >= self.room,
            _ => state.others >= OTHERS,
        };
        if is_full {
            state.dropped += 1;
            return;
        }
        match &arrival {
            Arrival::Sample(bytes) => state.bytes += bytes.len() + BESIDE,
            _ => state.others += 1,
        }
        state.arrivals.push_back(arrival);
        if state.sleepers > 0 {
            self.arrived.notify_one();
        }
    }

    /// The next arrival; `None` if there is none until the deadline.
    pub(crate) fn pop(&self, deadline: Option<Deadline>) -> Option<Arrival> {
        let mut state = self.lock();
        loop {
            if let Some(arrival) = state.next() {
                return Some(arrival);
            }
            let deadline = deadline.filter(|deadline| !deadline.has_passed())?;
            state = self.sleep(state, deadline);
        }
    }

    /// Waits as [`Queue::pop`] does. Until it returns, Zenoh's threads pass on what comes, as
    /// [`pass`] does; if that leaves something in the inbox, there is no arrival to wait for.
    pub(crate) fn lend(&self, inbox: &mut Inbox, taker: &Arc<Mutex<dyn Taker>>, deadline: Deadline) -> Option<Arrival> {
        let mut state = self.lock();
        state.lent = Some(Lent { inbox: std::mem::take(inbox), taker: Arc::clone(taker) });
        while state.arrivals.is_empty() && state.is_passing() && !deadline.has_passed() {
            state = self.sleep(state, deadline);
        }
        let is_passing = state.is_passing();
        if let Some(lent) = state.lent.take() {
            *inbox = lent.inbox;
        }
        if is_passing { state.next() } else { None }
    }

    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>, deadline: Deadline) -> MutexGuard<'a, State> {
        state.sleepers += 1;
        let waited = self.arrived.wait_timeout(state, deadline.remaining().min(Duration::from_secs(3600)));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.sleepers -= 1;
        state
    }

    /// Samples that were dropped because the receiver did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// From now on nothing is accepted.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let arrivals = std::mem::take(&mut state.arrivals);
        drop(state);
        drop(arrivals); // questions end without an answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_takes_is_limited_and_counted_also_if_it_has_no_bytes() {
        let queue = Queue::new(Policy::Drop);
        for _ in 0..ROOM / BESIDE + 5 {
            queue.push(Arrival::Sample(ZBytes::new()));
        }
        assert_eq!(queue.dropped(), 5);
        for epoch in 0..OTHERS as u64 + 7 {
            queue.push(Arrival::Token { epoch, is_alive: true });
        }
        assert_eq!(queue.dropped(), 5 + 7);
        let mut popped = 0;
        while queue.pop(None).is_some() {
            popped += 1;
        }
        assert_eq!(popped, ROOM / BESIDE + OTHERS);
        queue.push(Arrival::Sample(ZBytes::from(vec![1; 10])));
        assert!(matches!(queue.pop(None), Some(Arrival::Sample(_))));
        let state = queue.lock();
        assert_eq!((state.bytes, state.others, state.dropped), (0, 0, 12));
    }

    /// Takes all, or nothing.
    #[derive(Default)]
    struct All {
        is_full: bool,
        frames: u64,
        next: Vec<(u16, u32)>,
    }

    impl Taker for All {
        fn take(&mut self, frames: &[u8]) -> usize {
            if self.is_full { 0 } else { frames.len() }
        }

        fn taken(&mut self, taken: slipring::transport::Released, next: &[(u16, u32)]) {
            self.frames += taken.frames;
            self.next.extend(next);
        }
    }

    fn sample(position: u32) -> Arrival {
        use slipring::frame::{Form, Frame, Header};
        let (mut bytes, seq) = (Vec::new(), position);
        crate::wire::Opening {
            epoch: 7,
            position: position.into(),
            source: 0,
            stream: 0,
            first_seq: seq,
            repeats: false,
        }
        .encode(&mut bytes)
        .unwrap();
        Frame::new(Header { seq, ..Header::PLAIN }, b"tick").unwrap().encode(Form::Short, &mut bytes).unwrap();
        Arrival::Sample(ZBytes::from(bytes))
    }

    #[test]
    fn while_a_receiver_waits_frames_are_passed_on_by_those_who_push_them() {
        let (queue, taker) = (Queue::new(Policy::Block), Arc::new(Mutex::new(All::default())));
        let lent: Arc<Mutex<dyn Taker>> = taker.clone();
        let wait = Deadline::after(Duration::from_secs(60));
        let mut inbox = Inbox::default();
        std::thread::scope(|scope| {
            let (queue, lent, inbox) = (&queue, &lent, &mut inbox);
            let receiver = scope.spawn(move || queue.lend(inbox, lent, wait).is_some());
            while queue.lock().lent.is_none() {
                std::thread::yield_now();
            }
            (0..3).for_each(|n| queue.push(sample(n)));
            assert_eq!(taker.lock().unwrap().frames, 3);
            taker.lock().unwrap().is_full = true;
            queue.push(sample(3));
            queue.push(sample(4));
            assert!(!receiver.join().unwrap(), "the inbox comes first");
        });
        assert_eq!(taker.lock().unwrap().next, [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(inbox.run().len(), 24, "one frame, which is in the inbox");
        inbox.release_run(24);
        assert!(inbox.is_idle());
        assert!(matches!(queue.lend(&mut inbox, &lent, wait), Some(Arrival::Sample(_))));
        assert!(queue.lend(&mut inbox, &lent, Deadline::after(Duration::ZERO)).is_none());
        assert_eq!(queue.lock().bytes, 0);
    }
}
