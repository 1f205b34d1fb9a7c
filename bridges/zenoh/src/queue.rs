//! What Zenoh's threads pass to a receiver: samples, up to a number of bytes, liveliness, and the
//! questions of senders.
//!
//! Used by `receiver.rs`. It never holds up the thread that reads from the network, which serves
//! every key. With [`Policy::Block`] the senders hold themselves up: they ask, and go on when the
//! question has been answered, behind all that came before it. A sample beyond the limit is
//! dropped, and the position of the next one tells how many frames it had.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slipring::Deadline;
use zenoh::bytes::ZBytes;
use zenoh::query::Query;

use crate::Policy;

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

#[derive(Default)]
struct State {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    is_closed: bool,
    /// Tokens and questions that wait.
    others: usize,
    /// Samples that were dropped, and tokens and questions.
    dropped: u64,
    sleepers: usize,
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
            if let Some(arrival) = state.arrivals.pop_front() {
                match &arrival {
                    Arrival::Sample(bytes) => state.bytes -= bytes.len() + BESIDE,
                    _ => state.others -= 1,
                }
                return Some(arrival);
            }
            let deadline = deadline.filter(|deadline| !deadline.has_passed())?;
            state.sleepers += 1;
            let waited = self.arrived.wait_timeout(state, deadline.remaining().min(Duration::from_secs(3600)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleepers -= 1;
        }
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
}
