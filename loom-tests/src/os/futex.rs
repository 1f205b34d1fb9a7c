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

/// As `os/futex.rs` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Woken(usize),
    Changed,
    Otherwise,
}

/// [`wait`] on several words. As in the kernel, a thread that was woken by one word stays
/// queued on the others until it runs, and a wake may be spent on it there.
pub(crate) fn wait_any<'w>(words: impl Iterator<Item = (&'w AtomicU32, u32)>, _timeout: Duration) -> Ended {
    let me = thread::current();
    let mut queue = QUEUE.lock().unwrap();
    let words: Vec<_> = words.collect();
    if words.iter().any(|(word, expected)| word.load(Ordering::Relaxed) != *expected) {
        return Ended::Changed;
    }
    let keys: Vec<_> = words.iter().map(|(word, _)| std::ptr::from_ref::<AtomicU32>(word).addr()).collect();
    queue.extend(keys.iter().map(|key| (*key, me.clone())));
    drop(queue);
    loop {
        thread::park();
        let mut queue = QUEUE.lock().unwrap();
        let left: Vec<_> = queue.iter().filter(|(_, thread)| thread.id() == me.id()).map(|(key, _)| *key).collect();
        if let Some(woken) = keys.iter().position(|key| !left.contains(key)) {
            queue.retain(|(_, thread)| thread.id() != me.id());
            return Ended::Woken(woken);
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
