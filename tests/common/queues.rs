//! Limits the POSIX queues that a test program has at a time.

use std::sync::{Condvar, Mutex};

/// A user's queues share `RLIMIT_MSGQUEUE`, 800 KiB by default: nine queues of the default shape.
const AT_ONCE: usize = 4;
static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A test holds it as long as its queue exists.
pub struct QueuePermit(());

/// Waits until another test may have a queue.
pub fn queue_permit() -> QueuePermit {
    *TAKEN.1.wait_while(TAKEN.0.lock().unwrap(), |taken| *taken == AT_ONCE).unwrap() += 1;
    QueuePermit(())
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap() -= 1;
        TAKEN.1.notify_one();
    }
}
