//! The model of `os/futex.rs`: compares and queues under one lock, as the kernel does under its
//! hash-bucket lock.

use std::time::Duration;

use loom::sync::Mutex;
use loom::thread::{self, Thread};

use crate::sync::{AtomicU32, Ordering};

loom::lazy_static! {
    /// The sleeping threads and the addresses they sleep on, in the order of arrival.
    static ref QUEUE: Mutex<Vec<(usize, Thread)>> = Mutex::new(Vec::new());
}

/// Sleeps while `*word == expected`; false if it did not sleep. Never times out: in the
/// model a lost wake-up must show as a deadlock.
pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) -> bool {
    let me = thread::current();
    let mut queue = QUEUE.lock().unwrap();
    if word.load(Ordering::Relaxed) != expected {
        return false;
    }
    queue.push((std::ptr::from_ref(word).addr(), me.clone()));
    drop(queue);
    loop {
        thread::park();
        if !QUEUE.lock().unwrap().iter().any(|(_, sleeper)| sleeper.id() == me.id()) {
            return true;
        }
    }
}

/// Wakes up to `count` sleepers and returns how many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    let key = std::ptr::from_ref(word).addr();
    let mut queue = QUEUE.lock().unwrap();
    let mut woken = 0;
    while woken < count {
        let Some(at) = queue.iter().position(|(k, _)| *k == key) else { break };
        let (_, sleeper) = queue.remove(at);
        sleeper.unpark();
        woken += 1;
    }
    woken
}
