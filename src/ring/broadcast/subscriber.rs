//! The handle of a reliable subscriber: receiving in place, by copy and in batches.
//!
//! Relies on the consumer of the byte ring for the algorithm, on `seat.rs` for the guard that an
//! eviction respects, on `attachment.rs` for waiting and for the publisher's liveness.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;

use super::join::{Refused, Start};
use super::layout::Position;
use super::seat::Seat;
use crate::error::{Error, Result};
use crate::frame::header::SHORT;
use crate::frame::{Frame, Header};
use crate::memory::Words;
use crate::ring::attachment::{Attachment, Fan};
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::receive::{check_max, until_end};
use crate::ring::spsc::catch_up::Run;
use crate::ring::spsc::consumer::is_more_there;
use crate::ring::spsc::core;
use crate::ring::spsc::layout::{Fault, Peeked};
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::sync::Ordering;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::SLEEP_CAP;

/// A reliable subscriber: it receives every frame from its start on, and holds the publisher back
/// if it is slow.
///
/// Every `try_…` call is wait-free, allocates no memory, and makes no system call except to wake a
/// publisher that sleeps. If there is nothing to receive, it asks the kernel from time to time
/// whether the publisher is dead.
///
/// A publisher with [`SlowPolicy::Evict`](super::SlowPolicy::Evict) may evict it, but not while it
/// holds a view or a batch: then every call fails with [`Error::Evicted`].
pub struct Subscriber {
    pub(super) core: core::Consumer<Words>,
    seat: Seat,
    run: Run,
    /// Frames published before the next one to be received.
    frames: u64,
    attachment: Attachment<Fan>,
    /// A subscriber is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(consumer Subscriber, "broadcast::Subscriber", attachment, "this handle");

/// The error for a start that there is not.
#[cold]
pub(super) fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Fault(fault) => fault.error(),
        Refused::NotThere => Error::Invalid {
            what: "start: no frame begins at that position, or it was overwritten: start at the oldest",
        },
    }
}

impl Subscriber {
    /// Opens or creates the named ring, and subscribes.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Subscriber::attach`].
    pub fn open(name: &str, options: &Options, start: Start) -> Result<Self> {
        Ring::open_and_attach(Kind::Broadcast, name, options, |ring| Self::attach(ring, start))
    }

    /// Subscribes to the ring. Some system calls.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`]; [`Error::Invalid`] if [`Start::At`] is a position that is
    /// overwritten; [`Error::Incompatible`] for another kind of ring; [`Error::Corrupt`];
    /// [`Error::Io`].
    ///
    /// ```
    /// use slipring::broadcast::{self, Start, Subscriber};
    /// let (mut tx, mut early) = broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// let mut late = Subscriber::attach(tx.ring(), Start::Latest)?;
    /// tx.send(b"two")?;
    /// assert_eq!(&*early.recv()?, b"one");
    /// assert_eq!(&*late.recv()?, b"two");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn attach(ring: &Ring, start: Start) -> Result<Self> {
        expect_mirror(ring, Kind::Broadcast)?;
        let attachment = Attachment::join(ring, Kind::Broadcast, Role::Consumer)?;
        let subscribed = ring.broadcast_shared().subscribe_reliable(attachment.id(), start);
        let (core, seat, frames) = subscribed.map_err(refused)?;
        attachment.announce();
        let run = Run::new(attachment.counted(Counter::Received), core.looked_at(), core.shared().capacity);
        Ok(Subscriber { core, seat, run, frames, attachment, _not_sync: PhantomData })
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.shared().max_payload()
    }

    /// Where this subscriber is: before the first frame that it has not released. Another
    /// subscription can start there ([`Start::At`]).
    ///
    /// ```
    /// use slipring::broadcast::{self, Start, Subscriber};
    /// let (mut tx, mut rx) = broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// rx.recv()?;
    /// let position = rx.position();
    /// drop(rx);
    /// let mut rx = Subscriber::attach(tx.ring(), Start::At(position))?;
    /// assert_eq!(&*rx.recv()?, b"two");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn position(&self) -> Position {
        Position { at: self.core.shared().exact().load(Ordering::Relaxed), frames: self.frames }
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to receive. It is
    /// no borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Broadcast(self.ring().broadcast_shared(), self.attachment.id()))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Receives the next frame in place, if there is one. Dropping the view releases it. Wait-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no frame. [`Error::Closed`] or [`Error::PeerDead`] when the
    /// publisher has departed and everything that it committed was received, until another
    /// publisher attaches. [`Error::Evicted`]; [`Error::Corrupt`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// assert!(matches!(rx.try_recv(), Err(slipring::Error::Empty)));
    /// tx.try_send(b"hello")?;
    /// tx.close();
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// assert!(matches!(rx.try_recv(), Err(slipring::Error::Closed)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<ReadView<'_>> {
        let frame = self.try_next()?;
        Ok(self.view(frame))
    }

    /// Receives the next frame in place; waits while there is none. Blocking: progress depends on
    /// the publisher.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Evicted`], [`Error::Corrupt`],
    /// [`Error::Forked`].
    #[inline]
    pub fn recv(&mut self) -> Result<ReadView<'_>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Subscriber::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Subscriber::recv`], and [`Error::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let (_tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// let late = rx.recv_deadline(Duration::from_millis(5));
    /// assert!(matches!(late, Err(slipring::Error::Timeout)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<ReadView<'_>> {
        let frame = self.next(deadline.into())?;
        Ok(self.view(frame))
    }

    /// Copies the next frame into `buffer` and releases it, if there is one. The header has the
    /// length. Wait-free.
    ///
    /// # Errors
    /// As [`Subscriber::try_recv`]; [`Error::TooLarge`], with a sufficient length as `max`, if
    /// `buffer` is too short; the frame then stays.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.try_send(b"hello")?;
    /// let mut buffer = [0; 64];
    /// let header = rx.try_recv_into(&mut buffer)?;
    /// assert_eq!(&buffer[..header.len as usize], b"hello");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Header> {
        let frame = self.try_recv()?;
        copy_out(frame, buffer)
    }

    /// [`Subscriber::try_recv_into`]; waits while there is no frame.
    ///
    /// # Errors
    /// As [`Subscriber::recv`], and [`Error::TooLarge`].
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Header> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`Subscriber::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`Subscriber::recv_into`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Header> {
        let frame = self.recv_deadline(deadline)?;
        copy_out(frame, buffer)
    }

    /// Receives all committed frames in place, if there are any. Dropping the batch releases the
    /// frames that were read. Wait-free.
    ///
    /// # Errors
    /// As [`Subscriber::try_recv`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// for word in ["a", "b", "c"] {
    ///     tx.try_send(word.as_bytes())?;
    /// }
    /// let mut batch = rx.try_recv_batch(8)?;
    /// let words: Vec<_> = batch.iter().map(|frame| frame.payload).collect();
    /// assert_eq!(words, [b"a", b"b", b"c"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.try_next()?;
        Ok(self.batch(max))
    }

    /// [`Subscriber::try_recv_batch`]; waits while there is no frame.
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    #[inline]
    pub fn recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        self.recv_batch_deadline(max, Deadline::never())
    }

    /// [`Subscriber::recv_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Subscriber::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_batch_deadline(&mut self, max: usize, deadline: impl Into<Deadline>) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.next(deadline.into())?;
        Ok(self.batch(max))
    }

    /// Copies of the frames, each released when it is copied, until the publisher has closed
    /// ([`Error::Closed`]). Blocking: waits while there is none. Any other error is the last item.
    /// Allocates for each frame; [`Subscriber::recv`] does not.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// tx.close();
    /// assert_eq!(rx.iter().collect::<Result<Vec<_>, _>>()?, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Vec<u8>>> {
        until_end(|| self.recv().map(|view| view.to_vec()))
    }

    fill_level!(
        "Bytes that this subscriber has not released, headers included.",
        |rx| rx.core.shared().observe(),
        rx.ring().capacity(),
        rx.capacity() - rx.len() < 24,
        "let (mut tx, rx) = slipring::broadcast::pair(4096)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((rx.len(), rx.capacity()), (24, 4096));"
    );

    /// The view of a frame that was just found, which releases the guard.
    #[inline(always)]
    pub(super) fn view(&mut self, frame: Peeked) -> ReadView<'_> {
        ReadView { subscriber: self, frame }
    }

    #[inline(always)]
    pub(super) fn batch(&mut self, max: usize) -> ReadBatch<'_> {
        self.core.rewind();
        ReadBatch { subscriber: self, frames: 0, bytes: 0, max: u32::try_from(max).unwrap_or(u32::MAX) }
    }

    /// The next frame, with the guard held; `None` if there is none.
    #[inline(always)]
    fn look(&mut self) -> Result<Option<Peeked>> {
        if !self.core.has_next() {
            return Ok(None);
        }
        if self.seat.hold().is_err() {
            return Err(Error::Evicted);
        }
        match self.core.look_first() {
            Ok(frame) => Ok(Some(frame)),
            Err(fault) => self.report(fault).map(|()| None),
        }
    }

    #[cold]
    #[inline(never)]
    fn report(&self, fault: Fault) -> Result<()> {
        self.seat.release();
        if fault == Fault::Empty { Ok(()) } else { Err(fault.error()) }
    }

    #[inline(always)]
    pub(super) fn try_next(&mut self) -> Result<Peeked> {
        self.attachment.check_fork()?;
        loop {
            match self.look()? {
                Some(frame) => return Ok(frame),
                None => self.expect_frame()?,
            }
        }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, deadline: Deadline) -> Result<Peeked> {
        self.attachment.check_fork()?;
        loop {
            match self.look()? {
                Some(frame) => return Ok(frame),
                None => self.wait_for_frame(deadline)?,
            }
        }
    }

    /// Whether to look again, when there was no frame: publishes all releases, and pauses if the
    /// publisher streams.
    fn look_again(&mut self) -> Result<bool> {
        if self.seat.is_evicted() {
            return Err(Error::Evicted);
        }
        if !self.core.publish() {
            return Ok(false);
        }
        self.attachment.wake_peers(1);
        self.run.end(self.attachment.counted(Counter::Received), self.core.looked_at());
        Ok(self.core.has_next())
    }

    /// Polls once more; returns the reason if there is no frame.
    #[cold]
    #[inline(never)]
    fn expect_frame(&mut self) -> Result<()> {
        if self.look_again()? {
            return Ok(());
        }
        let Subscriber { core, seat, attachment, .. } = self;
        attachment.explain(|| is_there(core, seat))
    }

    /// Returns when there is a frame.
    #[cold]
    #[inline(never)]
    fn wait_for_frame(&mut self, deadline: Deadline) -> Result<()> {
        if self.look_again()? {
            return Ok(());
        }
        let Subscriber { core, seat, attachment, .. } = self;
        attachment.wait(deadline, || is_there(core, seat), || SLEEP_CAP)
    }

    /// Returns when there is a frame behind those that were read and are held.
    fn wait_for_more(&mut self, deadline: Deadline) -> Result<()> {
        self.attachment.check_fork()?;
        let Subscriber { core, attachment, .. } = self;
        if is_more_there(core)?.is_none() {
            if core.publish() {
                attachment.wake_peers(1);
            }
            attachment.wait(deadline, || is_more_there(core), || SLEEP_CAP)?;
        }
        Ok(())
    }

    /// [`Subscriber::release`] while frames behind `end` stay held, and so does the guard.
    fn release_some(&mut self, end: u64, frames: u32, bytes: u64) {
        if self.attachment.is_forked() {
            return;
        }
        let is_stop = self.core.free(end);
        self.frames = self.frames.wrapping_add(frames.into());
        self.attachment.count_traffic(Counter::Received, frames.into(), bytes);
        if is_stop {
            self.stop(bytes);
        }
    }

    /// Frees everything before `end`. Does nothing in a forked child, because the frames belong to
    /// the parent.
    #[inline(always)]
    pub(super) fn release(&mut self, end: u64, frames: u32, bytes: u64) {
        if self.attachment.is_forked() {
            return;
        }
        let is_stop = self.core.free(end);
        self.seat.release();
        self.frames = self.frames.wrapping_add(frames.into());
        self.attachment.count_traffic(Counter::Received, frames.into(), bytes);
        if is_stop {
            self.stop(bytes);
        }
    }

    /// The views are gone, and nothing is released.
    pub(super) fn keep(&self) {
        if !self.attachment.is_forked() {
            self.seat.release();
        }
    }

    /// The work that is not needed for every frame: publishes the head, and in a long run keeps a
    /// distance to the publisher.
    #[cold]
    #[inline(never)]
    fn stop(&mut self, bytes: u64) {
        let frames = self.run.go_on(self.attachment.counted(Counter::Received), || self.core.lead());
        if self.core.tell(u64::from(frames) * (bytes + SHORT as u64)) {
            self.attachment.wake_peers(1);
        }
    }

    /// The payload of a held frame.
    #[inline(always)]
    pub(super) fn payload(&self, frame: &Peeked) -> &[u8] {
        // SAFETY: mapped twice (`expect_mirror`). `look` bounded the length by the ring. The publisher
        // does not overwrite the frame: this subscriber was admitted, it has not released the frame
        // (that needs `&mut self`), and it holds its guard, so it is not evicted (`gate.rs`).
        unsafe { self.core.shared().slice(frame.payload_position(), frame.len()) }
    }
}

#[cfg(feature = "transports")]
impl Subscriber {
    /// Committed records, from one position to another, as they are in the ring. They have been
    /// read with the guard held, and not released.
    pub(super) fn records(&self, start: u64, end: u64) -> &[u8] {
        // SAFETY: mapped twice (`expect_mirror`). `look` ends where a ring full does. Nothing of it is
        // overwritten, as in `payload`.
        unsafe { self.core.shared().slice(start, end.wrapping_sub(start) as usize) }
    }
}

/// Whether to look again for a frame.
fn is_there(core: &core::Consumer<Words>, seat: &Seat) -> Result<Option<()>> {
    if seat.is_evicted() {
        return Err(Error::Evicted);
    }
    Ok(core.has_next().then_some(()))
}

fn copy_out(frame: ReadView<'_>, buffer: &mut [u8]) -> Result<Header> {
    let len = frame.len();
    match buffer.get_mut(..len) {
        Some(into) => {
            into.copy_from_slice(&frame);
            Ok(frame.header())
        }
        None => {
            frame.keep();
            Err(Error::TooLarge { max: len })
        }
    }
}

/// A frame in place. Dropping it releases it.
#[must_use = "dropping a view releases its frame unread"]
pub struct ReadView<'a> {
    subscriber: &'a mut Subscriber,
    frame: Peeked,
}

impl ReadView<'_> {
    /// The frame's header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.frame.header()
    }

    /// Leaves the frame in the ring: this subscriber receives it next.
    #[inline]
    pub fn keep(self) {
        self.subscriber.keep();
        std::mem::forget(self); // nothing to free; the subscriber continues at its first unreleased frame
    }
}

impl Deref for ReadView<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.subscriber.payload(&self.frame)
    }
}

impl Drop for ReadView<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.subscriber.release(self.frame.end(), 1, self.frame.len() as u64);
    }
}

/// Frames in place. Dropping it releases those that were read.
#[must_use = "a batch that is not looked at receives nothing"]
pub struct ReadBatch<'a> {
    subscriber: &'a mut Subscriber,
    frames: u32,
    bytes: u64,
    /// No more frames than this are shown.
    max: u32,
}

impl ReadBatch<'_> {
    /// The committed frames, in order, including those that arrive meanwhile, at most one ring
    /// full.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { subscriber: self.subscriber, frames: &mut self.frames, bytes: &mut self.bytes, max: self.max }
    }

    /// Waits until there is a frame behind those that were read, which stay held. Then
    /// [`ReadBatch::iter`] goes on with it. If the held frames fill the ring, no frame can come:
    /// release some first ([`ReadBatch::release_first`]). Blocking: progress depends on the
    /// publisher.
    ///
    /// # Errors
    /// As [`Subscriber::recv`], and [`Error::Timeout`]. The held frames stay held.
    ///
    /// ```
    /// use std::time::Duration;
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 1);
    /// assert!(matches!(batch.wait_for_more(Duration::ZERO), Err(slipring::Error::Timeout)));
    /// tx.send(b"two")?;
    /// batch.wait_for_more(Duration::from_secs(10))?;
    /// assert_eq!(batch.iter().next().unwrap().payload, b"two");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn wait_for_more(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.subscriber.wait_for_more(deadline.into())
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is a frame behind those that
    /// were read so far. It is no borrow.
    ///
    /// ```
    /// use slipring::{Token, WaitSet};
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 1);
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(0), batch.more_readable())?;
    /// assert!(set.try_wait()?.next().is_none());
    /// tx.send(b"two")?;
    /// assert!(set.wait()?.eq([Token(0)]));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn more_readable(&self) -> Readiness {
        let rx = &*self.subscriber;
        rx.attachment.readiness(Look::BroadcastBehind(rx.ring().broadcast_shared(), rx.core.looked_at()))
    }

    /// Releases the first `frames` of the frames that were read and are held, or all of them if
    /// there are fewer. The others stay held. Wait-free; looks at each held frame.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.send(b"12345678")?;
    /// tx.send(b"87654321")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 2);
    /// batch.release_first(1);
    /// batch.keep();
    /// assert_eq!(&*rx.recv()?, b"87654321");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn release_first(&mut self, frames: usize) {
        let read = std::mem::take(&mut self.frames);
        let core = &mut self.subscriber.core;
        core.rewind();
        let (mut first, mut bytes) = (0, 0);
        while (first as usize) < frames && first < read {
            let Ok(frame) = core.look() else { break }; // no correct peer changes a held frame
            first += 1;
            bytes += frame.len() as u64;
        }
        let end = core.looked_at();
        if first > 0 {
            self.subscriber.release_some(end, first, bytes);
        }
        self.bytes = 0;
        while first + self.frames < read {
            let Ok(frame) = self.subscriber.core.look() else { break };
            self.frames += 1;
            self.bytes += frame.len() as u64;
        }
    }

    /// Leaves all frames in the ring: they are the next ones that this subscriber receives.
    /// Wait-free.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// tx.try_send(b"stays")?;
    /// rx.try_recv_batch(8)?.keep();
    /// assert_eq!(&*rx.try_recv()?, b"stays");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn keep(mut self) {
        self.frames = 0; // the drop then releases nothing
    }
}

impl<'b> IntoIterator for &'b mut ReadBatch<'_> {
    type Item = Frame<'b>;
    type IntoIter = Iter<'b>;

    #[inline]
    fn into_iter(self) -> Iter<'b> {
        self.iter()
    }
}

impl Drop for ReadBatch<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.frames > 0 {
            self.subscriber.release(self.subscriber.core.looked_at(), self.frames, self.bytes);
        } else {
            self.subscriber.keep();
        }
    }
}

/// Iterates over the frames of a [`ReadBatch`].
pub struct Iter<'b> {
    subscriber: &'b mut Subscriber,
    frames: &'b mut u32,
    bytes: &'b mut u64,
    max: u32,
}

impl<'b> Iterator for Iter<'b> {
    type Item = Frame<'b>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'b>> {
        if *self.frames >= self.max {
            return None;
        }
        // The next call that returns a result reports a corrupt frame.
        let frame = self.subscriber.core.look().ok()?;
        *self.frames += 1;
        *self.bytes += frame.len() as u64;
        let payload = std::ptr::from_ref(self.subscriber.payload(&frame));
        // SAFETY: the payload lies in the ring, not in the subscriber, and stays until it is
        // released. Only the batch's drop releases, and the batch can neither be dropped nor used
        // otherwise while it is borrowed for 'b; the calls of this iterator (`look`, `payload`)
        // release nothing.
        let payload: &'b [u8] = unsafe { &*payload };
        Some(Frame { header: frame.header(), stamp: 0, payload })
    }
}
