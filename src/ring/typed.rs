//! Typed messages and streams: values sent by copy or written in place, and read by copy or in
//! place.
//!
//! Every call here calls the untyped interface with a view of the value's bytes. `zerocopy` proves
//! at compile time that `T` has no padding to leak (`IntoBytes`) and that any bytes are a valid `T`
//! (`FromBytes`). So a peer can send nonsense, but not an invalid `T`. As everywhere, a peer is
//! trusted not to change a frame after committing it (see "What is not possible" in the crate's
//! documentation). The peers agree on the type; `Header::kind` can distinguish several.
//!
//! Payloads in rings are aligned to 8, so messages of a larger alignment do not compile:
//!
//! ```compile_fail
//! #[derive(zerocopy::IntoBytes, zerocopy::Immutable)]
//! #[repr(C, align(16))]
//! struct Wide([u8; 16]);
//! let (mut tx, _rx) = slipring::spsc::pair(4096).unwrap();
//! tx.try_send_value(&Wide([0; 16])).unwrap();
//! ```
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{mpmc, spsc, stream};
use crate::error::Result;
use crate::frame::value;
use crate::wait::deadline::Deadline;

/// Alignment of every payload in a ring, behind headers of 16 (spsc) and 24 bytes (mpmc) at
/// multiples of 8.
const PAYLOAD_ALIGN: usize = 8;

/// Fails to compile, where it is used, for a `T` that a ring could misalign.
struct Message<T>(T);

impl<T> Message<T> {
    const FITS: () = assert!(align_of::<T>() <= PAYLOAD_ALIGN, "messages in rings are aligned to 8 bytes at most");
}

/// Fails to compile, where it is used, for a `T` without bytes.
struct Item<T>(T);

impl<T> Item<T> {
    const SIZE: usize = {
        assert!(size_of::<T>() > 0, "a stream of values without bytes has no length");
        size_of::<T>()
    };
}

/// A copy of a frame; one of another length stays where it is.
#[inline(always)]
fn copy_spsc<T: FromBytes>(view: spsc::ReadView<'_>) -> Result<T> {
    value::copy(&view).inspect_err(|_| view.keep())
}

/// A copy of a frame.
#[inline(always)]
fn copy_mpmc<T: FromBytes>(view: mpmc::ReadView<'_>) -> Result<T> {
    value::copy(&view)
}

impl spsc::Producer {
    /// [`try_send`](spsc::Producer::try_send) of a value: a frame as long as `T`. Wait-free.
    ///
    /// # Errors
    /// As [`try_send`](spsc::Producer::try_send).
    ///
    /// ```
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// #[repr(C)]
    /// struct Quote {
    ///     bid: i64,
    ///     ask: i64,
    /// }
    ///
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send_value(&Quote { bid: 10_841, ask: 10_842 })?;
    /// assert_eq!(rx.try_recv()?.value::<Quote>()?.ask, 10_842);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_send_value<T: IntoBytes + Immutable>(&mut self, value: &T) -> Result<()> {
        let () = Message::<T>::FITS;
        self.try_send(value.as_bytes())
    }

    /// [`send`](spsc::Producer::send) of a value; waits while the ring is full.
    ///
    /// # Errors
    /// As [`send`](spsc::Producer::send).
    #[inline]
    pub fn send_value<T: IntoBytes + Immutable>(&mut self, value: &T) -> Result<()> {
        let () = Message::<T>::FITS;
        self.send(value.as_bytes())
    }

    /// [`send_deadline`](spsc::Producer::send_deadline) of a value.
    ///
    /// # Errors
    /// As [`send_deadline`](spsc::Producer::send_deadline).
    #[inline]
    pub fn send_value_deadline<T: IntoBytes + Immutable>(
        &mut self,
        value: &T,
        deadline: impl Into<Deadline>,
    ) -> Result<()> {
        let () = Message::<T>::FITS;
        self.send_deadline(value.as_bytes(), deadline)
    }
}

impl spsc::Consumer {
    /// A copy of the next frame as a `T`, released at once, if there is one.
    ///
    /// # Errors
    /// As [`try_recv`](spsc::Consumer::try_recv);
    /// [`Error::Incompatible`](crate::Error::Incompatible) if the frame is not exactly as long as a
    /// `T`. The frame then stays in the ring.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send_value(&[17u32, 4])?;
    /// assert_eq!(rx.try_recv_value::<[u32; 2]>()?, [17, 4]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_value<T: FromBytes>(&mut self) -> Result<T> {
        copy_spsc(self.try_recv()?)
    }

    /// [`try_recv_value`](spsc::Consumer::try_recv_value); waits while the ring is empty.
    ///
    /// # Errors
    /// As [`recv`](spsc::Consumer::recv) and [`try_recv_value`](spsc::Consumer::try_recv_value).
    #[inline]
    pub fn recv_value<T: FromBytes>(&mut self) -> Result<T> {
        copy_spsc(self.recv()?)
    }

    /// [`recv_value`](spsc::Consumer::recv_value), until a deadline.
    ///
    /// # Errors
    /// As [`recv_value`](spsc::Consumer::recv_value), and
    /// [`Error::Timeout`](crate::Error::Timeout).
    #[inline]
    pub fn recv_value_deadline<T: FromBytes>(&mut self, deadline: impl Into<Deadline>) -> Result<T> {
        copy_spsc(self.recv_deadline(deadline)?)
    }
}

impl spsc::WriteGrant<'_> {
    /// The reserved bytes as a `T`, to be filled in place: what lies there before is zeros or an
    /// old frame.
    ///
    /// # Errors
    /// [`Error::Incompatible`](crate::Error::Incompatible) if not exactly `size_of::<T>()` bytes
    /// were reserved.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let mut grant = tx.try_reserve(32)?;
    /// *grant.value_mut::<[u64; 4]>()? = [1, 2, 3, 4];
    /// grant.commit(32);
    /// assert_eq!(rx.try_recv()?.value::<[u64; 4]>()?[3], 4);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> Result<&mut T> {
        let () = Message::<T>::FITS;
        value::value_mut(self)
    }
}

impl spsc::ReadView<'_> {
    /// The frame as a `T`, in place. No copy, no system call.
    ///
    /// # Errors
    /// [`Error::Incompatible`](crate::Error::Incompatible) if the frame is not exactly as long as a
    /// `T`.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(&[0; 7])?;
    /// let error = rx.try_recv()?.value::<u64>().unwrap_err();
    /// assert_eq!(error.to_string(), "incompatible size of the message: expected 8, found 7");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn value<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        let () = Message::<T>::FITS;
        value::value(self)
    }
}

impl mpmc::Producer {
    /// [`try_send`](mpmc::Producer::try_send) of a value: a frame as long as `T`. Lock-free.
    ///
    /// # Errors
    /// As [`try_send`](mpmc::Producer::try_send).
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.try_send_value(&[17u32, 4])?;
    /// assert_eq!(rx.try_recv()?.value::<[u32; 2]>()?, &[17, 4]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_send_value<T: IntoBytes + Immutable>(&self, value: &T) -> Result<()> {
        let () = Message::<T>::FITS;
        self.try_send(value.as_bytes())
    }

    /// [`send`](mpmc::Producer::send) of a value; waits while the ring is full.
    ///
    /// # Errors
    /// As [`send`](mpmc::Producer::send).
    #[inline]
    pub fn send_value<T: IntoBytes + Immutable>(&self, value: &T) -> Result<()> {
        let () = Message::<T>::FITS;
        self.send(value.as_bytes())
    }

    /// [`send_deadline`](mpmc::Producer::send_deadline) of a value.
    ///
    /// # Errors
    /// As [`send_deadline`](mpmc::Producer::send_deadline).
    #[inline]
    pub fn send_value_deadline<T: IntoBytes + Immutable>(
        &self,
        value: &T,
        deadline: impl Into<Deadline>,
    ) -> Result<()> {
        let () = Message::<T>::FITS;
        self.send_deadline(value.as_bytes(), deadline)
    }
}

impl mpmc::Consumer {
    /// A copy of the next frame as a `T`, released at once, if there is one.
    ///
    /// # Errors
    /// As [`try_recv`](mpmc::Consumer::try_recv);
    /// [`Error::Incompatible`](crate::Error::Incompatible) if the frame is not exactly as long as a
    /// `T`. That frame has been taken from the ring, and is released.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.send_value(&[17u32, 4])?;
    /// assert_eq!(rx.try_recv_value::<[u32; 2]>()?, [17, 4]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_value<T: FromBytes>(&self) -> Result<T> {
        copy_mpmc(self.try_recv()?)
    }

    /// [`try_recv_value`](mpmc::Consumer::try_recv_value); waits while the ring is empty.
    ///
    /// # Errors
    /// As [`recv`](mpmc::Consumer::recv) and [`try_recv_value`](mpmc::Consumer::try_recv_value).
    #[inline]
    pub fn recv_value<T: FromBytes>(&self) -> Result<T> {
        copy_mpmc(self.recv()?)
    }

    /// [`recv_value`](mpmc::Consumer::recv_value), until a deadline.
    ///
    /// # Errors
    /// As [`recv_value`](mpmc::Consumer::recv_value), and
    /// [`Error::Timeout`](crate::Error::Timeout).
    #[inline]
    pub fn recv_value_deadline<T: FromBytes>(&self, deadline: impl Into<Deadline>) -> Result<T> {
        copy_mpmc(self.recv_deadline(deadline)?)
    }
}

impl mpmc::WriteGrant<'_> {
    /// The reserved bytes as a `T`, to be filled in place: what lies there before is zeros or an
    /// old frame.
    ///
    /// # Errors
    /// [`Error::Incompatible`](crate::Error::Incompatible) if not exactly `size_of::<T>()` bytes
    /// were reserved.
    #[inline]
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> Result<&mut T> {
        let () = Message::<T>::FITS;
        value::value_mut(self)
    }
}

impl mpmc::ReadView<'_> {
    /// The frame as a `T`, in place. No copy, no system call.
    ///
    /// # Errors
    /// [`Error::Incompatible`](crate::Error::Incompatible) if the frame is not exactly as long as a
    /// `T`.
    #[inline]
    pub fn value<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&T> {
        let () = Message::<T>::FITS;
        value::value(self)
    }
}

impl stream::Producer {
    /// Writes as many of `values` as fit, none of them in part, and returns how many. Wait-free.
    ///
    /// # Errors
    /// As [`try_write`](stream::Producer::try_write), if no value fits.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// assert_eq!(tx.try_write_values(&[0.5f32; 2000])?, 1024);
    /// let mut block = [0f32; 64];
    /// assert_eq!(rx.try_read_values(&mut block)?, 64);
    /// assert_eq!(block, [0.5; 64]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_write_values<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<usize> {
        Ok(self.try_write_units(values.as_bytes(), Item::<T>::SIZE)? / Item::<T>::SIZE)
    }

    /// Writes all of `values`; waits while the stream is full.
    ///
    /// # Errors
    /// As [`write_all`](stream::Producer::write_all): some of the values may have been written,
    /// none of them in part.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// tx.write_all_values(&[0.5f32; 64])?;
    /// let mut block = [0f32; 100];
    /// assert_eq!(rx.read_values(&mut block)?, 64);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn write_all_values<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<()> {
        self.write_all_values_deadline(values, Deadline::never()).map_err(|partial| partial.error)
    }

    /// [`write_all_values`](stream::Producer::write_all_values), until a deadline.
    ///
    /// # Errors
    /// As there, and [`Error::Timeout`](crate::Error::Timeout), with the number of values that were
    /// written.
    pub fn write_all_values_deadline<T: IntoBytes + Immutable>(
        &mut self,
        values: &[T],
        deadline: impl Into<Deadline>,
    ) -> Result<(), stream::PartialWrite> {
        self.write_all_units(values.as_bytes(), Item::<T>::SIZE, deadline.into())
    }
}

impl stream::Consumer {
    /// Reads as many values as there are, up to the length of `values`, none of them in part, and
    /// returns how many. Wait-free. It copies, so the stream need not be aligned.
    ///
    /// # Errors
    /// As [`try_read`](stream::Consumer::try_read), if no whole value is there. The bytes of an
    /// incomplete last value stay in the stream.
    #[inline]
    pub fn try_read_values<T: FromBytes + IntoBytes>(&mut self, values: &mut [T]) -> Result<usize> {
        Ok(self.try_read_units(values.as_mut_bytes(), Item::<T>::SIZE)? / Item::<T>::SIZE)
    }

    /// [`try_read_values`](stream::Consumer::try_read_values); waits until one whole value is
    /// there.
    ///
    /// # Errors
    /// As [`read`](stream::Consumer::read).
    pub fn read_values<T: FromBytes + IntoBytes>(&mut self, values: &mut [T]) -> Result<usize> {
        self.read_values_deadline(values, Deadline::never())
    }

    /// [`read_values`](stream::Consumer::read_values), until a deadline.
    ///
    /// # Errors
    /// As there, and [`Error::Timeout`](crate::Error::Timeout).
    pub fn read_values_deadline<T: FromBytes + IntoBytes>(
        &mut self,
        values: &mut [T],
        deadline: impl Into<Deadline>,
    ) -> Result<usize> {
        Ok(self.read_units(values.as_mut_bytes(), Item::<T>::SIZE, deadline.into())? / Item::<T>::SIZE)
    }
}

impl stream::WriteGrant<'_> {
    /// The grant as values, to be written in place. A stream that carries values of one size only
    /// is always aligned.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the bytes are not a whole number of values;
    /// [`Error::Incompatible`](crate::Error::Incompatible) if other writes have left the stream
    /// unaligned for a `T`.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// let mut grant = tx.try_reserve(4 * 128)?;
    /// for (i, sample) in grant.as_values_mut::<f32>()?.iter_mut().enumerate() {
    ///     *sample = i as f32 / 128.0;
    /// }
    /// grant.commit(4 * 128);
    /// assert_eq!(rx.try_read_view(4 * 128)?.as_values::<f32>()?[64], 0.5);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn as_values_mut<T: FromBytes + IntoBytes>(&mut self) -> Result<&mut [T]> {
        let _ = Item::<T>::SIZE;
        value::values_mut(self)
    }
}

impl stream::ReadView<'_> {
    /// The view as values, in place.
    ///
    /// # Errors
    /// As [`WriteGrant::as_values_mut`](stream::WriteGrant::as_values_mut).
    #[inline]
    pub fn as_values<T: FromBytes + Immutable>(&self) -> Result<&[T]> {
        let _ = Item::<T>::SIZE;
        value::values(self)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Error;

    #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Tick {
        price: i64,
        size: u32,
        venue: u32,
    }

    fn tick(n: u32) -> Tick {
        Tick { price: -i64::from(n), size: n, venue: !n }
    }

    #[test]
    fn messages_are_aligned_wherever_frames_of_odd_lengths_leave_them() {
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        for n in 0..2000 {
            tx.try_send(&[0xFF; 31][..n as usize % 32]).unwrap();
            tx.try_send_value(&tick(n)).unwrap();
            let mut grant = tx.try_reserve(size_of::<Tick>()).unwrap();
            *grant.value_mut().unwrap() = tick(n + 1);
            grant.commit(size_of::<Tick>());
            drop(rx.try_recv().unwrap());
            assert_eq!(rx.try_recv().unwrap().value::<Tick>().unwrap(), &tick(n));
            let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
            assert_eq!(batch.iter().next().unwrap().value::<Tick>().unwrap(), &tick(n + 1));
        }
    }

    #[test]
    fn slots_of_any_stride_are_aligned() {
        for payload in [16, 17, 40, 41, 100] {
            let (tx, rx) = mpmc::pair(4, payload).unwrap();
            for n in 0..20 {
                tx.send_value(&tick(n)).unwrap();
                let mut grant = tx.try_reserve(size_of::<Tick>()).unwrap();
                *grant.value_mut().unwrap() = tick(n + 1);
                grant.commit(size_of::<Tick>());
                assert_eq!(rx.try_recv().unwrap().value::<Tick>().unwrap(), &tick(n));
                assert_eq!(rx.try_recv().unwrap().value::<Tick>().unwrap(), &tick(n + 1));
            }
        }
    }

    #[test]
    fn another_size_is_an_error_that_names_both() {
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        for len in [0, 15, 17] {
            tx.try_send(&[0; 17][..len]).unwrap();
            let view = rx.try_recv().unwrap();
            let error = view.value::<Tick>().unwrap_err();
            assert!(matches!(error, Error::Incompatible { expected: 16, found, .. } if found == len as u64));
        }
        let mut grant = tx.try_reserve(17).unwrap();
        assert!(matches!(grant.value_mut::<Tick>(), Err(Error::Incompatible { expected: 16, found: 17, .. })));
    }

    #[test]
    fn an_unaligned_payload_outside_a_ring_is_an_error() {
        use crate::frame::{Frame, Header};
        let words = [0u64; 3];
        let bytes = &words.as_bytes()[4..12];
        let frame = Frame::new(Header::new(Header::DEFAULT_KIND, 0).unwrap(), bytes).unwrap();
        assert!(matches!(frame.value::<u64>(), Err(Error::Incompatible { expected: 8, found: 4, .. })));
        assert_eq!(frame.value::<[u32; 2]>().unwrap(), &[0, 0]);
    }

    #[test]
    fn values_are_never_torn_at_the_ends_of_a_stream() {
        let (mut tx, mut rx) = stream::pair(4096).unwrap();
        let mut out = [tick(0); 300];
        assert!(matches!(rx.try_read_values(&mut out), Err(Error::Empty)));
        // 5 bytes of something else: 4091 are left, room for 255 values and a half.
        tx.try_write(b"other").unwrap();
        let values: Vec<_> = (0..300).map(tick).collect();
        assert_eq!(tx.try_write_values(&values).unwrap(), 255);
        assert!(matches!(tx.try_write_values(&values), Err(Error::Full)));
        assert_eq!(tx.try_write_values::<Tick>(&[]).unwrap(), 0);
        rx.try_read_view(5).unwrap().release(5);
        assert_eq!(rx.try_read_values(&mut out).unwrap(), 255);
        assert_eq!(out[..255], values[..255]);
        assert_eq!(rx.try_read_values::<Tick>(&mut []).unwrap(), 0);

        // Half a value, and no producer left to finish it.
        tx.try_write(&tick(7).as_bytes()[..8]).unwrap();
        assert!(matches!(rx.try_read_values(&mut out), Err(Error::Empty)));
        drop(tx);
        assert!(matches!(rx.try_read_values(&mut out), Err(Error::Closed)));
        assert_eq!(rx.len(), 8);
    }

    #[test]
    fn values_are_copied_out_and_waited_for() {
        let soon = Duration::from_secs(20);
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        assert!(matches!(rx.recv_value_deadline::<Tick>(Duration::ZERO), Err(Error::Timeout)));
        tx.send_value_deadline(&tick(1), soon).unwrap();
        assert!(matches!(rx.try_recv_value::<u64>(), Err(Error::Incompatible { expected: 8, found: 16, .. })));
        assert_eq!(rx.recv_value::<Tick>().unwrap(), tick(1), "a frame of another length stays");
        assert!(matches!(rx.try_recv_value::<Tick>(), Err(Error::Empty)));
        let (tx, rx) = mpmc::pair(2, 16).unwrap();
        tx.send_value_deadline(&tick(2), soon).unwrap();
        tx.send_value(&tick(3)).unwrap();
        assert!(matches!(tx.send_value_deadline(&tick(4), Duration::ZERO), Err(Error::Timeout)));
        assert_eq!(rx.recv_value_deadline::<Tick>(soon).unwrap(), tick(2));
        assert_eq!(rx.try_recv_value::<Tick>().unwrap(), tick(3));
        assert!(matches!(rx.recv_value_deadline::<Tick>(Duration::ZERO), Err(Error::Timeout)));

        let (mut tx, mut rx) = stream::pair(4096).unwrap();
        tx.try_write(b"other").unwrap();
        let values: Vec<_> = (0..300).map(tick).collect();
        let late = tx.write_all_values_deadline(&values, Duration::from_millis(1));
        assert!(matches!(late, Err(stream::PartialWrite { written: 255, error: Error::Timeout })));
        rx.try_read_view(5).unwrap().release(5);
        let mut out = [tick(0); 300];
        assert_eq!(rx.read_values(&mut out).unwrap(), 255, "none of them in part");
        assert_eq!(out[..255], values[..255]);
        assert!(matches!(rx.read_values_deadline(&mut out, Duration::ZERO), Err(Error::Timeout)));
        std::thread::scope(|scope| {
            scope.spawn(|| tx.write_all_values(&values).unwrap());
            let mut got = Vec::new();
            while got.len() < 300 {
                let n = rx.read_values_deadline(&mut out, soon).unwrap();
                got.extend_from_slice(&out[..n]);
            }
            assert_eq!(got, values);
        });
    }

    #[test]
    fn views_of_values_are_contiguous_across_the_end_of_the_ring() {
        let (mut tx, mut rx) = stream::pair(4096).unwrap();
        for round in 0..50u32 {
            let mut grant = tx.try_reserve(4 * 300).unwrap();
            for (i, value) in grant.as_values_mut().unwrap().iter_mut().enumerate() {
                *value = round * 300 + i as u32;
            }
            grant.commit(4 * 300);
            let view = rx.try_read_view(4 * 300).unwrap();
            assert!(view.as_values::<u32>().unwrap().iter().copied().eq(round * 300..(round + 1) * 300));
            view.release(4 * 300);
        }
    }

    #[test]
    fn bytes_that_are_no_values_are_refused() {
        let (mut tx, mut rx) = stream::pair(4096).unwrap();
        assert!(matches!(tx.try_reserve(6).unwrap().as_values_mut::<f32>(), Err(Error::Invalid { .. })));
        tx.try_write(&[0; 10]).unwrap();
        rx.try_read_view(2).unwrap().release(2);
        let mut grant = tx.try_reserve(8).unwrap();
        assert!(matches!(grant.as_values_mut::<f32>(), Err(Error::Incompatible { expected: 4, found: 2, .. })));
        let view = rx.try_read_view(8).unwrap();
        assert!(matches!(view.as_values::<f32>(), Err(Error::Incompatible { expected: 4, found: 2, .. })));
        assert_eq!(view.as_values::<u16>().unwrap(), [0; 4]);
    }
}
