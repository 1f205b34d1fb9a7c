//! Receiving from a stranger: a process of another user, or one that may be compromised.
//!
//! Used where a program accepts a memfd from outside its trust domain. The ring is the same, but
//! this reader relies on nothing that the other side can change.
//!
//! * The memfd must be sealed against resizing, so that no access can fault; its size comes from
//!   `fstat`. A hole that is punched into it reads as zeros. In huge pages the next access may
//!   fault, so they are refused.
//! * The geometry is validated, copied, and not read again. Positions are private; published
//!   positions are not read back.
//! * Every word of shared memory is read once, as an aligned 64-bit atomic, into private memory,
//!   and then checked.
//! * A frame is copied out before the caller sees it; there are no references into the ring.
//! * Work per call is bounded by the frame's length, and that by the caller's buffer. Sleeps are
//!   bounded by the deadline.
//! * After one violation, nothing is read any more.
//!
//! A stranger can still send nonsense as payload, send nothing, and wake the consumer without a
//! cause.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::fstatfs;

use super::layout::{EXACT, HEAD};
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::frame::header::{SHORT, padded};
use crate::memory::Area;
use crate::os::fork;
use crate::ring::{Options, Ring};
use crate::segment::Kind;
use crate::sync::Ordering;
use crate::wait::block::block_on;
use crate::wait::cancel::{Cancellable, Canceller};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};
use crate::wait::idle::Pace;

/// A consumer that does not trust the sender. It is not a participant of the ring, so the sender
/// cannot tell whether it exists: use the socket that passed the memfd for that.
///
/// ```
/// use slipring::{Options, Ring, spsc};
/// use std::os::fd::AsFd;
/// let theirs = Ring::create_anonymous(&Options::spsc(4096))?;
/// let mut tx = spsc::Producer::attach(&theirs)?;
/// tx.try_send(b"trust me")?;
///
/// let passed = theirs.as_fd().try_clone_to_owned().unwrap(); // by SCM_RIGHTS, really
/// let mut rx = spsc::UntrustedConsumer::from_fd(passed)?;
/// let mut buffer = [0; 64];
/// let header = rx.try_recv_into(&mut buffer)?;
/// assert_eq!(&buffer[..header.len as usize], b"trust me");
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct UntrustedConsumer {
    consumer: Area,
    data: Area,
    /// Private copies, validated at attach.
    capacity: u64,
    max_payload: usize,
    position: u64,
    /// The published head.
    published: u64,
    data_event: Arc<Cancellable<One>>,
    space_event: One,
    pace: Pace,
    /// Forks of this process before it was created.
    born: u32,
    /// The sender's violation, after which nothing is read.
    violation: Option<&'static str>,
}

impl std::fmt::Debug for UntrustedConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("spsc::UntrustedConsumer").field("violation", &self.violation).finish_non_exhaustive()
    }
}

impl UntrustedConsumer {
    /// Maps a memfd that a stranger passed, and starts at its position.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is no sealed memfd of ordinary pages; [`Error::Corrupt`],
    /// [`Error::Incompatible`] if it is no SPSC ring of this version.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        check_pages(&fd)?;
        let ring = Ring::from_fd(fd, &Options::any())?;
        ring.expect(Kind::Spsc)?;
        let segment = ring.segment();
        let consumer = segment.consumer_page();
        let position = consumer.word(EXACT).load(Ordering::Relaxed);
        if position % 8 != 0 {
            return Err(Error::Corrupt { what: "the consumer's position is not aligned" });
        }
        let (data_event, space_event) = ring.events_one();
        Ok(UntrustedConsumer {
            consumer,
            data: segment.data(),
            capacity: ring.capacity() as u64,
            max_payload: ring.max_payload(),
            position,
            published: position,
            data_event: Cancellable::new(data_event),
            space_event,
            pace: Pace::new(ring.idle()),
            born: fork::generation(),
            violation: None,
        })
    }

    /// The largest payload of this ring: a buffer of this size is always long enough.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Copies the next frame into `buffer`, checks it and releases it, if there is one. Wait-free;
    /// no system call.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Empty`]; [`Error::TooLarge`] if `buffer` is too short (the frame
    /// stays); [`Error::Corrupt`] or [`Error::Incompatible`] once the sender broke the protocol,
    /// and [`Error::Corrupt`] on every later call.
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Header> {
        if fork::is_child_of(self.born) {
            return Err(Error::Forked);
        }
        if let Some(what) = self.violation {
            return Err(Error::Corrupt { what });
        }
        // SYNC(commit): as in `look`; its contents are checked all the same.
        let first = self.word(self.position, Ordering::Acquire);
        if first == 0 {
            self.publish();
            return Err(Error::Empty);
        }
        let second = self.word(self.position.wrapping_add(8), Ordering::Relaxed);
        let header = Header::from_words(first, second).inspect_err(|_| {
            self.violation = Some("the sender wrote what is no frame header; detached");
        })?;
        let len = header.len as usize;
        if len > self.max_payload {
            self.violation = Some("the sender announced a frame longer than its ring; detached");
            return self.try_recv_into(buffer);
        }
        let Some(into) = buffer.get_mut(..len) else { return Err(Error::TooLarge { max: len }) };
        let payload = self.position.wrapping_add(SHORT as u64);
        for (i, chunk) in into.chunks_mut(8).enumerate() {
            // Wrapping, because the sender chose the position at attach, and it may be near 2^64.
            let word = self.word(payload.wrapping_add(8 * i as u64), Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        self.position = self.position.wrapping_add(padded(SHORT + len) as u64);
        // SYNC(release): pairs with the load in `fetch_head`; our reads of the frame come before
        // it.
        self.consumer.word(EXACT).store(self.position, Ordering::Release);
        if self.position.wrapping_sub(self.published) >= self.capacity / 8 {
            self.publish();
        }
        Ok(header)
    }

    /// [`UntrustedConsumer::try_recv_into`]; waits while the ring is empty, until the deadline.
    /// There is no form without a deadline, because a stranger may keep us waiting for ever.
    ///
    /// # Errors
    /// As [`UntrustedConsumer::try_recv_into`], and [`Error::Timeout`].
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Header> {
        let (event, pace) = (self.data_event.clone(), self.pace.clone());
        let attempt = || match self.try_recv_into(buffer) {
            Ok(header) => Ok(Some(header)),
            Err(Error::Empty) => Ok(None),
            Err(e) => Err(e),
        };
        block_on(&event.sleepers, &pace, deadline.into(), event.unless_cancelled(attempt), |_| Ok(SLEEP_CAP))
    }

    /// A handle that ends this one's blocking calls from another thread or a signal handler.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.data_event.canceller()
    }

    /// Publishes the releases, and wakes the sender if it sleeps on a full ring.
    fn publish(&mut self) {
        if self.published != self.position {
            self.published = self.position;
            // SYNC(release): as above.
            self.consumer.word(HEAD).store(self.position, Ordering::Release);
            self.space_event.notify();
        }
    }

    /// One 8-byte unit of the data. `position` is ours and a multiple of 8, and is masked here, so
    /// no value that the sender chose becomes an address.
    #[inline(always)]
    fn word(&self, position: u64, order: Ordering) -> u64 {
        self.data.word((position & (self.capacity - 1)) as usize).load(order)
    }
}

/// Seals keep the size, but not the pages: a huge page that was punched out comes back only if the
/// pool has another one.
fn check_pages(memfd: &OwnedFd) -> Result<()> {
    let filesystem = fstatfs(memfd).map_err(|e| Error::io("examine the memfd", e))?;
    if filesystem.f_type == libc::TMPFS_MAGIC {
        Ok(())
    } else {
        Err(Error::Untrusted { what: "not a memfd of ordinary pages" })
    }
}
