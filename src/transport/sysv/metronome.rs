//! A thread that wakes a receiver blocked in `msgrcv`, which has no timeout.
//!
//! Used by the receiver in `mod.rs`. Relies on `os/sysv.rs` to send, and on `os/thread.rs` for a
//! thread that takes no signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::os::thread::spawn_with_signals_blocked;
use crate::os::{fork, sysv};
use crate::transport::message::WAIT_LIMIT;

/// Wakes a blocked receiver, which neither its deadline nor a death would wake.
///
/// A thread that checks every 50 ms whether the receiver is still in the same blocking call, and
/// then sends it an empty message.
pub(super) struct Metronome {
    beat: Arc<Beat>,
    thread: Option<JoinHandle<()>>,
    born: u32,
}

struct Beat {
    /// Odd while the receiver blocks, and different each time.
    calls: AtomicU64,
    stop: AtomicBool,
}

/// The receiver blocks while this value lives.
pub(super) struct Blocked<'a>(&'a Beat);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Metronome {
    /// Starts the thread for a receiver of `queue`. Empty messages have type `wake`.
    pub(super) fn start(queue: i32, wake: u64) -> Result<Self> {
        let beat = Arc::new(Beat { calls: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let theirs = Arc::clone(&beat);
        let thread = spawn_with_signals_blocked("slipring-sysv", move || {
            let mut before = 0;
            while !theirs.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(WAIT_LIMIT);
                let now = theirs.calls.load(Ordering::Relaxed);
                if now == before && now % 2 == 1 {
                    // If the queue is full, the receiver does not block. If it was removed, the
                    // receiver's call has ended.
                    let _ = sysv::send(queue, &wake.to_ne_bytes());
                }
                before = now;
            }
        });
        let thread = thread.map_err(|e| Error::io("start the thread that wakes the receiver", e))?;
        Ok(Metronome { beat, thread: Some(thread), born: fork::generation() })
    }

    /// Hold the result during a blocking call.
    pub(super) fn blocked(&self) -> Blocked<'_> {
        self.beat.calls.fetch_add(1, Ordering::Relaxed);
        Blocked(&self.beat)
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            return; // the thread runs in the parent only
        }
        self.beat.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
