//! What a peer is: an end that sends, an end that receives, and how they are opened.
//!
//! Implemented in `peers/`; used by `tasks.rs`, whose loops are the same for all, and by `part.rs`.

use std::os::fd::OwnedFd;

use crossbeam_utils::Backoff;

use crate::job::{Link, Result, Wait};

/// An end that sends messages of `W` words. If a message cannot be sent it panics, which ends the
/// part.
pub(crate) trait Sender<const W: usize> {
    /// Calls `write` once to write a message, and sends it; waits while there is no room.
    fn send(&mut self, write: impl FnOnce(&mut [u8]));

    /// Publishes messages that a batching sender has kept back.
    fn flush(&mut self) {}
}

/// An end that receives messages of `W` words.
pub(crate) trait Receiver<const W: usize> {
    /// Waits for a message and passes it to `read`; a batching receiver passes all that are there.
    fn recv(&mut self, read: impl FnMut(&[u8]));
}

/// A peer between processes.
pub(crate) trait Peer {
    type Sender<const W: usize>: Sender<W> + 'static;
    type Receiver<const W: usize>: Receiver<W>;

    /// Makes the channel, before any end is opened, in the process that starts the others. They
    /// inherit the descriptors, whose numbers are then in [`Link::fds`].
    fn create(_link: &Link) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    fn sender<const W: usize>(link: &Link) -> Result<Self::Sender<W>>;
    fn receiver<const W: usize>(link: &Link) -> Result<Self::Receiver<W>>;
}

/// A peer between threads.
pub(crate) trait Local {
    type Sender<const W: usize>: Sender<W> + Send;
    type Receiver<const W: usize>: Receiver<W> + Send;

    /// A channel: [`Link::pairs`] senders and as many receivers.
    fn ends<const W: usize>(link: &Link) -> Result<Ends<Self::Sender<W>, Self::Receiver<W>>>;
}

/// What a receiver that may miss messages has found.
pub(crate) enum Poll {
    /// A message, which was passed on.
    Message,
    /// It has missed messages: how many, if it says that.
    Missed(Option<u64>),
    Nothing,
}

/// Words of the messages that receivers may miss, and of the values of which only the newest
/// matters.
pub(crate) const WORDS: usize = 8;

/// A receiver that may miss messages.
pub(crate) trait Lossy {
    /// Passes the next message to `read`, if there is one.
    fn poll(&mut self, read: impl FnMut(&[u8])) -> Poll;
}

/// A peer between processes whose sender does not wait for its receivers.
pub(crate) trait Fan {
    type Publisher: Sender<WORDS> + 'static;
    type Subscriber: Lossy;

    /// As [`Peer::create`].
    fn create(_link: &Link) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    fn publisher(link: &Link) -> Result<Self::Publisher>;
    /// Opened before the first message is sent.
    fn subscriber(link: &Link) -> Result<Self::Subscriber>;
}

/// The writer of a value of which only the newest matters.
pub(crate) trait Put: Send {
    fn put(&mut self, value: &[u64; WORDS]);
}

/// Its reader.
pub(crate) trait Get: Send {
    /// A copy of the newest value. The writer has written one before.
    fn get(&mut self) -> [u64; WORDS];
}

/// A peer for such values, between threads.
pub(crate) trait Board {
    type Writer: Put;
    type Reader: Get;

    fn ends(link: &Link) -> Result<(Self::Writer, Self::Reader)>;
}

pub(crate) type Ends<S, R> = (Vec<S>, Vec<R>);

/// Retries until it succeeds, waiting as `wait` demands, for peers that leave the waiting to the
/// caller.
#[inline(always)]
pub(crate) fn until<T>(wait: Wait, mut attempt: impl FnMut() -> Option<T>) -> T {
    let backoff = Backoff::new();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        match wait {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Yield | Wait::Sleep => backoff.snooze(),
        }
    }
}

/// Retries for some seconds, for ends that open what the other end creates.
#[cfg(any(feature = "ipc-channel", feature = "ringfire", feature = "shaq"))]
pub(crate) fn retry<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match attempt() {
            Err(_) if std::time::Instant::now() < give_up => std::thread::sleep(std::time::Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}
