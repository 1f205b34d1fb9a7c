//! The sending calls of byte rings: by copy, by grant and in batches.
//!
//! Used by `spsc/producer.rs` and `broadcast/publisher.rs`, whose algorithm is the same; they differ
//! in who makes room, and in how a grant is filled. Relies on `spsc/core.rs` for writing and
//! committing frames.

/// Defines the calls, [`WriteGrant`] and [`WriteBatch`] of a handle with the fields `core`,
/// `sequencer`, `staged_numbers` and `attachment`, given the path to its [`Producer`] of bytes.
///
/// The handle defines `full` (what a call without room does), `wait_for_room`, `is_room_likely` and
/// `published_now`.
///
/// [`WriteGrant`]: crate::spsc::WriteGrant
/// [`WriteBatch`]: crate::spsc::WriteBatch
/// [`Producer`]: crate::ring::spsc::core::Producer
macro_rules! send_calls {
    (
        $handle:ident, $module:literal, $($bytes:ident).+,
        who: $who:literal, when: $when:literal, full: $full:literal, errors: $errors:literal
    ) => {
        impl $handle {
            #[doc = concat!("Sends a copy of `payload`, unless ", $when, ". Wait-free.")]
            ///
            /// # Errors
            #[doc = $full]
            ///
            /// ```
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// while tx.try_send(&[7; 100]).is_ok() {}
            /// rx.try_recv()?;
            /// tx.try_send(&[7; 100])?; // there is room again
            /// # Ok::<(), slipring::Error>(())
            /// ```
            #[inline]
            pub fn try_send(&mut self, payload: &[u8]) -> Result<()> {
                self.try_put(Header::PLAIN, payload)
            }

            /// [`try_send`](Self::try_send) with a kind, a stream and flags. `len` and `seq` of the
            /// header are filled in.
            ///
            /// # Errors
            /// As [`try_send`](Self::try_send), and [`Error::Invalid`] for a kind that
            /// [`Header::new`] and [`Header::control`] refuse.
            ///
            /// ```
            /// use slipring::frame::Header;
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// tx.try_send_frame(Header { stream: 2, ..Header::new(0x0107, 0)? }, b"order")?;
            /// let frame = rx.try_recv()?;
            /// assert_eq!((frame.header().kind, frame.header().stream, frame.header().seq), (0x0107, 2, 0));
            /// # Ok::<(), slipring::Error>(())
            /// ```
            #[inline]
            pub fn try_send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                self.try_put(header.checked()?, payload)
            }

            /// Numbers the next frame of `stream`, for a relay that keeps the numbers of its source: numbers
            /// that are left out say how many frames are missing. Those behind it continue from there.
            ///
            /// ```
            /// use slipring::frame::{Header, Order, Tracker};
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// let mut tracker = Tracker::new();
            /// tx.try_send(b"first")?;
            /// assert_eq!(tracker.check(rx.try_recv()?.header()), Order::Next);
            /// tx.number_from(0, 8);
            /// tx.try_send(b"ninth")?;
            /// assert_eq!(tracker.check(rx.try_recv()?.header()), Order::Gap { expected: 1 });
            /// # Ok::<(), slipring::Error>(())
            /// ```
            pub fn number_from(&mut self, stream: u16, seq: u32) {
                self.sequencer.advance(stream, seq.wrapping_sub(self.sequencer.next(stream)));
            }

            #[inline(always)]
            fn try_put(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                let tail = self.$($bytes).+.tail();
                self.try_room_at(tail, payload.len())?;
                self.write_and_commit(tail, header, payload);
                Ok(())
            }

            #[doc = concat!("Sends a copy of `payload`; waits while ", $when, ". Blocking: progress depends on")]
            #[doc = concat!($who, ".")]
            ///
            /// # Errors
            #[doc = $errors]
            #[inline]
            pub fn send(&mut self, payload: &[u8]) -> Result<()> {
                self.put(Header::PLAIN, payload, Deadline::never())
            }

            /// [`send`](Self::send), until a deadline.
            ///
            /// # Errors
            /// As [`send`](Self::send), and [`Error::Timeout`].
            ///
            /// ```
            /// use std::time::Duration;
            #[doc = concat!("let (mut tx, _rx) = slipring::", $module, "::pair(4096)?;")]
            /// tx.try_send(&[0; 4000])?;
            /// let late = tx.send_deadline(&[0; 4000], Duration::from_millis(5));
            /// assert!(matches!(late, Err(slipring::Error::Timeout)));
            /// # Ok::<(), slipring::Error>(())
            /// ```
            #[inline]
            pub fn send_deadline(&mut self, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
                self.put(Header::PLAIN, payload, deadline)
            }

            /// [`send`](Self::send) with a kind, a stream and flags. `len` and `seq` of the header
            /// are filled in.
            ///
            /// # Errors
            /// As [`send`](Self::send), and [`Error::Invalid`] for a kind that [`Header::new`] and
            /// [`Header::control`] refuse.
            #[inline]
            pub fn send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                self.send_frame_deadline(header, payload, Deadline::never())
            }

            /// [`send_frame`](Self::send_frame), until a deadline.
            ///
            /// # Errors
            /// As [`send_frame`](Self::send_frame), and [`Error::Timeout`].
            ///
            /// ```
            /// use slipring::{Deadline, frame::Header};
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// let header = Header { stream: 2, ..Header::new(0x0107, 0)? };
            /// tx.send_frame_deadline(header, b"order", Deadline::never())?;
            /// assert_eq!(rx.recv()?.header().stream, 2);
            /// # Ok::<(), slipring::Error>(())
            /// ```
            #[inline]
            pub fn send_frame_deadline(
                &mut self,
                header: Header,
                payload: &[u8],
                deadline: impl Into<Deadline>,
            ) -> Result<()> {
                self.put(header.checked()?, payload, deadline)
            }

            #[inline(always)]
            fn put(&mut self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
                let tail = self.$($bytes).+.tail();
                self.room(tail, payload.len(), deadline)?;
                self.write_and_commit(tail, header, payload);
                Ok(())
            }

            #[doc = concat!("[`try_reserve`](Self::try_reserve); waits while ", $when, ".")]
            ///
            /// # Errors
            /// As [`send`](Self::send).
            #[inline]
            pub fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
                self.reserve_deadline(len, Deadline::never())
            }

            /// [`reserve`](Self::reserve), until a deadline.
            ///
            /// # Errors
            /// As [`send`](Self::send), and [`Error::Timeout`].
            #[inline]
            pub fn reserve_deadline(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<WriteGrant<'_>> {
                self.room(self.$($bytes).+.tail(), len, deadline)?;
                Ok(self.grant(len))
            }

            /// A grant of room that there is.
            #[inline(always)]
            pub(in crate::ring) fn grant(&mut self, len: usize) -> WriteGrant<'_> {
                self.$($bytes).+.lend_ahead();
                WriteGrant { producer: self, len }
            }

            /// Starts a batch: frames that become visible at once, with one release store and one
            /// check for sleepers.
            ///
            /// ```
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// let mut batch = tx.batch();
            /// batch.push(b"one")?;
            /// batch.push(b"two")?;
            /// batch.commit();
            /// assert_eq!(&*rx.try_recv()?, b"one");
            /// assert_eq!(&*rx.try_recv()?, b"two");
            /// # Ok::<(), slipring::Error>(())
            /// ```
            #[inline]
            pub fn batch(&mut self) -> WriteBatch<'_> {
                self.staged_numbers.clear();
                WriteBatch { staged: self.$($bytes).+.begin(), producer: self, frames: 0, bytes: 0 }
            }

            /// Sends copies of as many `payloads` as there is room for, and says how many. They
            /// become visible at once, as those of a [`WriteBatch`] do. Wait-free.
            ///
            /// # Errors
            /// As [`try_send`](Self::try_send), if not even the first can be sent.
            ///
            /// ```
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// assert_eq!(tx.try_send_batch([[1; 2000].as_slice(), &[2; 2000], &[3; 2000]])?, 2);
            /// assert_eq!(&*rx.try_recv()?, [1; 2000]);
            /// # Ok::<(), slipring::Error>(())
            /// ```
            pub fn try_send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
                let mut batch = self.batch();
                for payload in payloads {
                    match batch.push(payload) {
                        Ok(()) => {}
                        Err(error) if batch.is_empty() => return Err(error),
                        Err(_) => break, // the next call says what it is
                    }
                }
                let sent = batch.len();
                if sent > 0 {
                    batch.commit();
                }
                Ok(sent)
            }

            /// [`try_send_batch`](Self::try_send_batch); waits until the first of the `payloads` can
            #[doc = concat!("be sent. Blocking: progress depends on ", $who, ".")]
            ///
            /// # Errors
            /// As [`send`](Self::send); nothing is sent then.
            ///
            /// ```
            #[doc = concat!("let (mut tx, mut rx) = slipring::", $module, "::pair(4096)?;")]
            /// let words = [b"one".as_slice(), b"two", b"three"];
            /// let mut sent = 0;
            /// while sent < words.len() {
            ///     sent += tx.send_batch(words[sent..].iter().copied())?;
            ///     while rx.try_recv().is_ok() {}
            /// }
            /// # Ok::<(), slipring::Error>(())
            /// ```
            pub fn send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
                self.send_batch_deadline(payloads, Deadline::never())
            }

            /// [`send_batch`](Self::send_batch), until a deadline.
            ///
            /// # Errors
            /// As [`send_batch`](Self::send_batch), and [`Error::Timeout`].
            pub fn send_batch_deadline<'p>(
                &mut self,
                payloads: impl IntoIterator<Item = &'p [u8]>,
                deadline: impl Into<Deadline>,
            ) -> Result<usize> {
                let mut payloads = payloads.into_iter();
                let Some(first) = payloads.next() else { return Ok(0) };
                self.room(self.$($bytes).+.tail(), first.len(), deadline)?;
                self.try_send_batch(std::iter::once(first).chain(payloads))
            }

            /// Sends encoded frames of the short form, one after the other, as many as there is room
            /// for. They keep their numbers, and become visible at once. Waits until the first can be
            /// sent; returns the bytes of those that were.
            #[cfg(feature = "transports")]
            pub(crate) fn send_encoded(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
                let (first, _) = $crate::frame::first_encoded(frames)?;
                self.room(self.$($bytes).+.tail(), first.len as usize, deadline)?;
                let mut batch = self.batch();
                let mut end = 0;
                while end < frames.len() {
                    match batch.push_encoded(&frames[end..]) {
                        Ok(bytes) => end += bytes,
                        Err(error) if end == 0 => return Err(error),
                        Err(_) => break, // the next call says what it is
                    }
                }
                if end > 0 {
                    batch.commit();
                }
                Ok(end)
            }

            #[inline(always)]
            fn check_call(&self, len: usize) -> Result<()> {
                self.attachment.check_send()?;
                if len <= self.max_payload() { Ok(()) } else { Err(Error::TooLarge { max: self.max_payload() }) }
            }

            /// Waits for room at the producer's tail.
            #[inline(always)]
            fn room(&mut self, tail: u64, len: usize, deadline: impl Into<Deadline>) -> Result<()> {
                self.check_call(len)?;
                if self.core.has_room(tail, len) { Ok(()) } else { self.wait_for_room(len, deadline.into()) }
            }

            #[inline(always)]
            fn try_room_at(&mut self, tail: u64, len: usize) -> Result<()> {
                self.check_call(len)?;
                if self.core.has_room(tail, len) { Ok(()) } else { self.full(tail, len) }
            }

            /// Whether there is room for a payload of `len` bytes at the producer's tail.
            #[inline(always)]
            pub(in crate::ring) fn try_room(&mut self, len: usize) -> Result<()> {
                self.try_room_at(self.$($bytes).+.tail(), len)
            }

            /// Sends a frame for which there is room.
            #[cfg(feature = "async")]
            #[inline(always)]
            pub(in crate::ring) fn put_ahead(&mut self, header: Header, payload: &[u8]) {
                self.write_and_commit(self.$($bytes).+.tail(), header, payload);
            }

            /// Sends a frame for which there is room at the producer's tail.
            #[inline(always)]
            fn write_and_commit(&mut self, tail: u64, header: Header, payload: &[u8]) {
                // SAFETY: the data is mapped twice (`expect_mirror`).
                unsafe { self.$($bytes).+.write_whole(tail, payload) };
                self.$($bytes).+.commit_at(tail, header.sent(payload.len(), self.sequencer.allocate(header)));
                self.published_now(1, payload.len() as u64);
            }
        }

        /// Room in the ring, to be filled and committed. Dropping or forgetting it without
        /// [`WriteGrant::commit`] aborts: nothing is sent.
        #[must_use = "a grant that is not committed sends nothing"]
        pub struct WriteGrant<'a> {
            producer: &'a mut $handle,
            len: usize,
        }

        impl WriteGrant<'_> {
            /// Sends the first `len` bytes as a frame.
            ///
            /// # Panics
            /// If `len` exceeds the grant.
            #[inline]
            pub fn commit(self, len: usize) {
                self.finish(Header::PLAIN, len);
            }

            /// [`WriteGrant::commit`] with a kind, a stream and flags. `len` and `seq` of the header
            /// are filled in.
            ///
            /// # Errors
            /// [`Error::Invalid`] for a kind that [`Header::new`] and [`Header::control`] refuse;
            /// nothing is sent.
            ///
            /// # Panics
            /// If `len` exceeds the grant.
            #[inline]
            pub fn commit_frame(self, header: Header, len: usize) -> Result<()> {
                self.finish(header.checked()?, len);
                Ok(())
            }

            #[inline(always)]
            fn finish(self, header: Header, len: usize) {
                assert!(len <= self.len, "commit of more than was reserved");
                // A copy of the grant in a forked child sends nothing, because the handle belongs to
                // the parent.
                if !self.producer.attachment.is_forked() {
                    let number = self.producer.sequencer.allocate(header);
                    self.producer.$($bytes).+.commit_grant(self.len, header.sent(len, number));
                    self.producer.published_now(1, len as u64);
                }
            }
        }

        /// Frames that become visible together. Dropping or forgetting it without
        /// [`WriteBatch::commit`] aborts: none of them is sent.
        #[must_use = "a batch that is not committed sends nothing"]
        pub struct WriteBatch<'a> {
            producer: &'a mut $handle,
            staged: core::Staged,
            frames: u64,
            bytes: u64,
        }

        impl WriteBatch<'_> {
            /// Adds a copy of `payload`. Wait-free.
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($handle), "::try_send`]. After [`Error::Full`] the batch is unchanged:")]
            /// commit it, and start another.
            #[inline]
            pub fn push(&mut self, payload: &[u8]) -> Result<()> {
                self.put(Header::PLAIN, payload)
            }

            /// [`WriteBatch::push`] with a kind, a stream and flags. `len` and `seq` of the header
            /// are filled in.
            ///
            /// # Errors
            /// As [`WriteBatch::push`], and [`Error::Invalid`] for a kind that [`Header::new`] and
            /// [`Header::control`] refuse.
            #[inline]
            pub fn push_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                self.put(header.checked()?, payload)
            }

            /// Adds the first of some encoded frames, with its number, and returns its bytes.
            #[cfg(feature = "transports")]
            #[inline]
            fn push_encoded(&mut self, frames: &[u8]) -> Result<usize> {
                let (header, end) = $crate::frame::first_encoded(frames)?;
                let (header, payload) = (header.checked()?, &frames[$crate::frame::SHORT..][..header.len as usize]);
                self.put_numbered(header, payload, |staged, sequencer| staged.stage_as(sequencer, header))?;
                Ok(end)
            }

            #[inline(always)]
            fn put(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                self.put_numbered(header, payload, |staged, sequencer| staged.stage(sequencer, header))
            }

            #[inline(always)]
            fn put_numbered(
                &mut self,
                header: Header,
                payload: &[u8],
                number: impl FnOnce(&mut StagedNumbers, &Sequencer) -> u32,
            ) -> Result<()> {
                let (tail, len) = (self.staged.tail(), payload.len());
                self.producer.try_room_at(tail, len)?;
                let producer = &mut *self.producer;
                producer.$($bytes).+.write(tail, payload);
                let number = number(&mut producer.staged_numbers, &producer.sequencer);
                producer.$($bytes).+.stage(&mut self.staged, header.sent(len, number));
                self.frames += 1;
                self.bytes += len as u64;
                Ok(())
            }

            /// Frames in the batch.
            #[must_use]
            pub fn len(&self) -> usize {
                self.frames as usize
            }

            /// Whether the batch has no frames.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.frames == 0
            }

            /// Makes the whole batch visible.
            #[inline]
            pub fn commit(self) {
                // A copy of the batch in a forked child sends nothing, because the handle belongs to
                // the parent.
                if self.producer.attachment.is_forked() {
                    return;
                }
                let producer = &mut *self.producer;
                producer.$($bytes).+.publish(self.staged);
                producer.staged_numbers.commit(&mut producer.sequencer);
                producer.published_now(self.frames, self.bytes);
            }
        }
    };
}
pub(super) use send_calls;
