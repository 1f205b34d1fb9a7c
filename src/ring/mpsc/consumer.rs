//! The consumer's handle: receiving from all lanes, in place, by copy and in batches.
//!
//! Relies on `core.rs` for the lanes, on `attachment.rs` for waiting and for the producers'
//! liveness.

use std::cell::Cell;
use std::marker::PhantomData;

use super::core::{Found, Lanes};
use super::received::{ReadBatch, ReadView, Received, Source};
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::frame::header::SHORT;
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::receive::{check_max, until_end};
use crate::ring::spsc::catch_up::Run;
use crate::ring::spsc::layout::{Fault, Peeked};
use crate::ring::spsc::received::Tally;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Redelivery, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};

/// Frames of a turn, of about the size of the last one.
const TURN: u64 = 64;

/// The consumer. A ring has one at a time: a successor can attach when it is dropped, or when its
/// process has died. In the second case, the frames that it held are redelivered with a mark.
///
/// It takes the lanes in turn. The frames of one producer are received in their order. When a
/// producer closes or dies, [`Received::Ended`] tells of it after the producer's last frame; the
/// frames of the others go on.
///
/// Every `try_…` call is wait-free, allocates no memory unless a producer has come or gone, and
/// makes no system call except to wake a sleeping producer (none in
/// [`WakeMode::Poll`](crate::WakeMode::Poll)). If there is nothing to receive, it looks at every
/// lane with a producer, and asks the kernel from time to time whether a producer is dead.
///
/// If a lane is damaged, one call fails with [`Error::Corrupt`]. Then that lane is left out.
pub struct Consumer {
    pub(super) lanes: Lanes,
    /// The lane of the frame that was copied last.
    copied_from: u16,
    run: Run,
    attachment: Attachment<One>,
    /// A consumer is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(consumer Consumer, "mpsc::Consumer", attachment, "this handle");

impl Consumer {
    /// Opens or creates the named ring, and attaches to it as its consumer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Consumer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Mpsc, name, options, Self::attach)
    }

    /// Attaches to the ring as its consumer, and continues in each lane at the first frame that no
    /// consumer has released. Frames that a dead consumer held are marked
    /// [`Flags::REDELIVERED`](crate::frame::Flags::REDELIVERED), or skipped and counted as lost,
    /// depending on [`Redelivery`](crate::Redelivery). Ends of producers that a dead consumer was
    /// told last may be told again. Some system calls; looks at every lane.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while a living consumer is attached; [`Error::Incompatible`] for
    /// another kind of ring; [`Error::Corrupt`] if every lane is damaged; [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Mpsc)?;
        let attachment = Attachment::join(ring, Kind::Mpsc, Role::Consumer)?;
        let shared = ring.mpsc_shared();
        let mut count_lost = || attachment.count(Counter::Lost, 1);
        let skips = ring.redelivery() == Redelivery::AtMostOnce;
        let lost: Option<&mut dyn FnMut()> = if skips { Some(&mut count_lost) } else { None };
        let lanes = Lanes::attach(shared.clone(), |lane| ring.room_of(&shared, lane), lost).map_err(Fault::error)?;
        attachment.announce();
        let (frames, bytes) = (attachment.counted(Counter::Received), attachment.counted(Counter::Bytes));
        let run = Run::new(frames, bytes, shared.capacity() as u64);
        Ok(Consumer { lanes, copied_from: 0, run, attachment, _not_sync: PhantomData })
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.ring().max_payload()
    }

    /// Where the frame came from that was copied last ([`Consumer::recv_into`]): valid
    /// until the next call that receives. Views and batches tell it themselves. One load.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// tx.send(b"hello")?;
    /// let mut buffer = [0; 64];
    /// rx.recv_into(&mut buffer)?;
    /// assert_eq!((rx.source().lane, rx.source().producer), (tx.lane(), tx.id()));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn source(&self) -> Source {
        self.source_at(self.copied_from)
    }

    /// Where a frame comes from that is held in the lane that is read from.
    pub(super) fn source_here(&self) -> Source {
        self.source_at(self.lanes.number())
    }

    fn source_at(&self, lane: u16) -> Source {
        Source { lane, producer: self.lanes.producer(lane) }
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to receive. It is
    /// no borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Mpsc(self.lanes.ring().clone()))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Receives the next frame in place, or the end of a producer, if there is one. Dropping the
    /// view releases the frame. Wait-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is nothing. [`Error::Closed`] or [`Error::PeerDead`] when the last
    /// producer has departed, everything was received and every end was told, until another
    /// producer attaches. [`Error::Corrupt`].
    ///
    /// ```
    /// use slipring::{Error, mpsc::{Producer, Received}};
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    /// let mut other = Producer::attach(tx.ring())?;
    /// tx.send(b"buy")?;
    /// other.send(b"sell")?;
    /// tx.close();
    /// let (mut frames, mut ended) = (0, 0);
    /// while let Ok(received) = rx.try_recv() {
    ///     match received {
    ///         Received::Frame(view) => frames += view.len(),
    ///         Received::Ended(end) => ended += u32::from(!end.died),
    ///     }
    /// }
    /// assert_eq!((frames, ended), (7, 1));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<Received<ReadView<'_>>> {
        let found = self.try_next()?;
        Ok(found.map(|frame| ReadView::new(self, frame)))
    }

    /// Receives the next frame in place, or the end of a producer; waits while there is neither.
    /// Blocking: progress depends on the producers.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`], [`Error::Forked`].
    #[inline]
    pub fn recv(&mut self) -> Result<Received<ReadView<'_>>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Consumer::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let (_tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// let late = rx.recv_deadline(Duration::from_millis(5));
    /// assert!(matches!(late, Err(slipring::Error::Timeout)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<Received<ReadView<'_>>> {
        let found = self.next(deadline)?;
        Ok(found.map(|frame| ReadView::new(self, frame)))
    }

    /// Copies the next frame into `buffer` and releases it, or returns the end of a producer, if
    /// there is one. The header has the length. Wait-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; [`Error::TooLarge`], with a sufficient length as `max`, if
    /// `buffer` is too short; the frame then stays in the ring.
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Received<Header>> {
        let found = self.try_next()?;
        self.copy_out(found, buffer)
    }

    /// [`Consumer::try_recv_into`]; waits while there is nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::TooLarge`].
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Received<Header>> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`Consumer::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv_into`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Received<Header>> {
        let found = self.next(deadline)?;
        self.copy_out(found, buffer)
    }

    /// Receives committed frames of one lane in place, at most `max` of them, or the end of a
    /// producer. Dropping the batch releases the frames that were read. Wait-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`].
    ///
    /// ```
    /// use slipring::mpsc::Received;
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// for word in ["a", "b", "c"] {
    ///     tx.try_send(word.as_bytes())?;
    /// }
    /// let Received::Frame(mut batch) = rx.try_recv_batch(8)? else { panic!("no producer has ended") };
    /// let words: Vec<_> = batch.iter().map(|frame| frame.payload).collect();
    /// assert_eq!(words, [b"a", b"b", b"c"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, max: usize) -> Result<Received<ReadBatch<'_>>> {
        check_max(max)?;
        let found = self.try_next()?;
        Ok(found.map(|_| self.batch(max)))
    }

    /// [`Consumer::try_recv_batch`]; waits while there is nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_batch(&mut self, max: usize) -> Result<Received<ReadBatch<'_>>> {
        self.recv_batch_deadline(max, Deadline::never())
    }

    /// [`Consumer::recv_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_batch_deadline(
        &mut self,
        max: usize,
        deadline: impl Into<Deadline>,
    ) -> Result<Received<ReadBatch<'_>>> {
        check_max(max)?;
        let found = self.next(deadline)?;
        Ok(found.map(|_| self.batch(max)))
    }

    /// Copies of the frames, each released when it is copied, and the ends of producers, until the
    /// last producer has closed ([`Error::Closed`]). Blocking: waits while there is nothing. Any
    /// other error is the last item. Allocates for each frame; [`Consumer::recv`] does not.
    ///
    /// ```
    /// use slipring::mpsc::Received;
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// tx.send(b"one")?;
    /// tx.close();
    /// let received = rx.iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(received[0], Received::Frame(b"one".to_vec()));
    /// assert!(matches!(received[1..], [Received::Ended(end)] if !end.died));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Received<Vec<u8>>>> {
        until_end(|| Ok(self.recv()?.map(|view| view.to_vec())))
    }

    /// [`Consumer::iter`] over what is there: ends when there is nothing.
    /// Wait-free but for the allocations.
    pub fn try_iter(&mut self) -> impl Iterator<Item = Result<Received<Vec<u8>>>> {
        until_end(|| Ok(self.try_recv()?.map(|view| view.to_vec())))
    }

    fill_level!(
        "Bytes in all lanes, headers included: sent and not yet released. Two loads for each lane.",
        |rx| rx.lanes.ring().observe(),
        rx.ring().capacity(),
        rx.capacity() - rx.len() < 24,
        "let (mut tx, rx) = slipring::mpsc::pair(4096, 2)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((rx.len(), rx.capacity()), (24, 8192));"
    );

    /// The view of a frame that was found last.
    #[cfg(feature = "async")]
    pub(super) fn view(&mut self, found: Received<Peeked>) -> Received<ReadView<'_>> {
        found.map(|frame| ReadView::new(self, frame))
    }

    /// Whether there may be a frame or an end, by the words of all lanes.
    #[cfg(feature = "async")]
    pub(super) fn is_readable(&self) -> bool {
        self.lanes.ring().is_readable()
    }

    #[inline(always)]
    pub(super) fn batch(&mut self, max: usize) -> ReadBatch<'_> {
        self.lanes.here().rewind();
        ReadBatch::new(self, max)
    }

    #[inline(always)]
    pub(super) fn try_next(&mut self) -> Result<Received<Peeked>> {
        self.attachment.check_fork()?;
        loop {
            match self.lanes.here().look_first() {
                Ok(frame) => return Ok(Received::Frame(frame)),
                Err(fault) => match self.expect_something(fault)? {
                    Found::Frame => {}
                    Found::Ended(end) => return Ok(Received::Ended(end)),
                },
            }
        }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Received<Peeked>> {
        self.attachment.check_fork()?;
        let deadline = deadline.into();
        loop {
            match self.lanes.here().look_first() {
                Ok(frame) => return Ok(Received::Frame(frame)),
                Err(fault) => match self.wait_for_something(fault, deadline)? {
                    Found::Frame => {}
                    Found::Ended(end) => return Ok(Received::Ended(end)),
                },
            }
        }
    }

    /// Searches the other lanes, because there is no frame in the one that was read from.
    #[inline(never)]
    fn expect_something(&mut self, fault: Fault) -> Result<Found> {
        if let Some(found) = self.search(fault)? {
            return Ok(found);
        }
        let Consumer { lanes, attachment, .. } = self;
        attachment.explain(|| Ok(lanes.find()))
    }

    /// [`Consumer::expect_something`]; waits until something is found.
    #[inline(never)]
    fn wait_for_something(&mut self, fault: Fault, deadline: Deadline) -> Result<Found> {
        if let Some(found) = self.search(fault)? {
            return Ok(found);
        }
        let Consumer { lanes, attachment, .. } = self;
        let found = attachment.wait(deadline, || Ok(lanes.find()), || SLEEP_CAP);
        self.count_wakes();
        found
    }

    /// Searches all lanes; if nothing is there, pauses if the producers stream, and searches once
    /// more.
    fn search(&mut self, fault: Fault) -> Result<Option<Found>> {
        if fault != Fault::Empty {
            self.lanes.condemn();
            return Err(fault.error());
        }
        let mut found = self.lanes.find();
        if found.is_none() {
            if let Some(fault) = self.lanes.pop_damaged() {
                return Err(fault.error());
            }
            if self.lanes.take_news() {
                self.run.end(self.attachment.counted(Counter::Received), self.attachment.counted(Counter::Bytes));
                found = self.lanes.find();
            }
        }
        self.count_wakes();
        Ok(found)
    }

    fn count_wakes(&mut self) {
        let wakes = self.lanes.take_wakes();
        if wakes > 0 {
            self.attachment.count(Counter::Wakes, wakes);
        }
    }

    fn copy_out(&mut self, found: Received<Peeked>, buffer: &mut [u8]) -> Result<Received<Header>> {
        let frame = match found {
            Received::Frame(frame) => frame,
            Received::Ended(end) => return Ok(Received::Ended(end)),
        };
        let len = frame.len();
        let Some(into) = buffer.get_mut(..len) else { return Err(Error::TooLarge { max: len }) };
        self.lanes.at().read(&frame, into);
        self.copied_from = self.lanes.number(); // before the release, which may end the turn
        self.release(frame.end(), Tally::of(&frame));
        Ok(Received::Frame(frame.header()))
    }

    /// Frees everything before `end` in the lane that is read from. Does nothing in a forked child,
    /// because the frames belong to the parent.
    #[inline(always)]
    pub(super) fn release(&mut self, end: u64, tally: Tally) {
        if self.attachment.is_forked() {
            return;
        }
        let is_stop = self.lanes.here().free(end);
        self.attachment.count_traffic(Counter::Received, tally.frames.into(), tally.bytes);
        if is_stop {
            self.stop(tally.bytes, tally.redelivered);
        }
    }

    /// The work that is not needed for every frame: publishes the head, and ends the turn. Where
    /// there is only one producer, it keeps a distance to it, as in a byte ring. With redelivered
    /// frames, every release comes here.
    #[cold]
    #[inline(never)]
    fn stop(&mut self, bytes: u64, redelivered: u32) {
        if redelivered > 0 {
            self.attachment.count(Counter::Redelivered, redelivered.into());
        }
        let is_alone = self.lanes.is_alone();
        let frames = if is_alone {
            self.run.go_on(self.attachment.counted(Counter::Received), || self.lanes.at().lead()).into()
        } else {
            TURN
        };
        let soon = if self.lanes.at().is_redelivering() { 0 } else { frames * (bytes + SHORT as u64) };
        self.lanes.tell(soon);
        if !is_alone {
            self.lanes.rotate();
            // An error is met again by the call that has to wait.
            let _ = self.attachment.reap_at_times();
        }
        self.count_wakes();
    }

    /// The payload of a held frame.
    #[inline(always)]
    pub(super) fn payload(&self, frame: &Peeked) -> &[u8] {
        // SAFETY: mapped twice (`expect_mirror`). The frame was read in the lane that is read from:
        // another lane is chosen only when no frame is held there, by calls with `&mut self`.
        // `look` bounded its length by the lane; releasing needs `&mut self`.
        unsafe { self.lanes.at().shared().slice(frame.payload_position(), frame.len()) }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.attachment.is_attached() {
            self.lanes.hand_back();
        }
    }
}
