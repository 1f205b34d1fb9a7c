//! Typed messages of a lossy subscriber: copies, and the number of those that it missed.

use super::{Codec, Typed, decode};
use crate::error::{Error, Result};
use crate::ring::broadcast::{LossySubscriber, Received};
use crate::wait::deadline::Deadline;

impl<T, C: Codec<T>> Typed<T, LossySubscriber, C> {
    /// The next value that was not overwritten, if there is one. What was missed before it is counted
    /// ([`Typed::take_missed`]).
    ///
    /// # Errors
    /// As [`LossySubscriber::try_recv_into`]; [`Error::Incompatible`] for a frame of another type,
    /// which is consumed; the codec's.
    ///
    /// ```
    /// use slipring::broadcast;
    /// use slipring::typed::Typed;
    /// let (tx, rx) = broadcast::overwriting(4096)?;
    /// let mut tx: Typed<u64, _> = Typed::new(tx)?;
    /// let mut rx: Typed<u64, _> = Typed::new(rx)?;
    /// (0..1000).try_for_each(|n| tx.try_send(&n))?;
    /// let first = rx.try_recv()?;
    /// assert_eq!(rx.take_missed(), first);
    /// assert_eq!(rx.try_recv()?, first + 1);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<T> {
        self.next_whole(LossySubscriber::try_recv_into)
    }

    /// The next value that was not overwritten; waits for it.
    ///
    /// # Errors
    /// As [`LossySubscriber::recv_into`] and [`Typed::try_recv`].
    pub fn recv(&mut self) -> Result<T> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Typed::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Typed::recv`], and [`Error::Timeout`].
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<T> {
        let deadline = deadline.into();
        self.next_whole(|handle, buffer| handle.recv_into_deadline(buffer, deadline))
    }

    /// How many frames were overwritten before they were read, since this was called last: exactly.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.state.missed)
    }

    fn next_whole(
        &mut self,
        mut receive: impl FnMut(&mut LossySubscriber, &mut [u8]) -> Result<Received>,
    ) -> Result<T> {
        let Typed { handle, state, .. } = self;
        loop {
            match receive(handle, &mut state.buffer) {
                Ok(Received::Frame(header)) if header.is_control() => {}
                Ok(Received::Frame(header)) => {
                    return decode::<T, C>(state.header.kind, header, &state.buffer[..header.len as usize]);
                }
                Ok(Received::Gap { missed }) => state.missed += missed,
                // The frame is still there, unless it is overwritten: then the gap is next.
                Err(Error::TooLarge { max }) if max > state.buffer.len() => state.buffer.resize(max, 0),
                Err(error) => return Err(error),
            }
        }
    }
}
