//! What Zenoh's threads pass to a receiver: samples, up to a number of bytes, and liveliness.
//!
//! Used by `receiver.rs` and `hub.rs`. With [`Policy::Block`] a full queue holds up the thread that
//! reads from the network, so the sender is held up; with [`Policy::Drop`] the sample is dropped, and
//! the position of the next one tells how many frames it had.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use slipring::Deadline;
use zenoh::bytes::ZBytes;

use crate::Policy;

/// Bytes that wait for a receiver.
const ROOM: usize = 4 << 20;

pub(crate) enum Arrival {
    Sample(ZBytes),
    Token { epoch: u64, is_alive: bool },
}

#[derive(Default)]
struct State {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    is_closed: bool,
    /// Samples that were dropped.
    dropped: u64,
    sleepers: usize,
}

pub(crate) struct Queue {
    policy: Policy,
    state: Mutex<State>,
    arrived: Condvar,
    room: Condvar,
}

impl Queue {
    pub(crate) fn new(policy: Policy) -> Self {
        Queue { policy, state: Mutex::default(), arrived: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, arrival: Arrival) {
        let mut state = self.lock();
        if let Arrival::Sample(bytes) = &arrival {
            while state.bytes >= ROOM && !state.is_closed {
                if self.policy == Policy::Drop {
                    state.dropped += 1;
                    return;
                }
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.bytes += bytes.len();
        }
        if state.is_closed {
            return;
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
                if let Arrival::Sample(bytes) = &arrival {
                    let was_full = state.bytes >= ROOM;
                    state.bytes -= bytes.len();
                    if was_full {
                        self.room.notify_all();
                    }
                }
                return Some(arrival);
            }
            let deadline = deadline.filter(|deadline| !deadline.has_passed())?;
            state.sleepers += 1;
            let waited =
                self.arrived.wait_timeout(state, deadline.remaining().min(std::time::Duration::from_secs(3600)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleepers -= 1;
        }
    }

    /// Samples that were dropped because the receiver did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// From now on nothing is accepted, and pushes do not wait.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.arrivals.clear();
        drop(state);
        self.room.notify_all();
    }
}
