//! Typed messages of many producers: what is received is a value, or the end of a producer.

use super::{Codec, Typed, decode};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::ring::mpsc::{self, Received};
use crate::wait::deadline::Deadline;

impl<T, C: Codec<T>> Typed<T, mpsc::Consumer, C> {
    /// The next value or the end of a producer, if there is one.
    ///
    /// # Errors
    /// As [`mpsc::Consumer::try_recv`]; [`Error::Incompatible`] for a frame of another type, which is
    /// consumed; the codec's.
    ///
    /// ```
    /// use slipring::mpsc::{self, Received};
    /// use slipring::typed::Typed;
    /// let (tx, rx) = mpsc::pair(4096, 4)?;
    /// let mut tx: Typed<u64, _> = Typed::new(tx)?;
    /// let mut rx: Typed<u64, _> = Typed::new(rx)?;
    /// tx.send(&17)?;
    /// assert_eq!(rx.try_recv()?, Received::Frame(17));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<Received<T>> {
        let kind = self.state.header.kind;
        value::<T, C>(kind, self.handle.try_recv()?)
    }

    /// The next value or the end of a producer; waits for it.
    ///
    /// # Errors
    /// As [`mpsc::Consumer::recv`] and [`Typed::try_recv`].
    #[inline]
    pub fn recv(&mut self) -> Result<Received<T>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Typed::recv`], until a deadline.
    ///
    /// # Errors
    /// As there, and [`Error::Timeout`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<Received<T>> {
        let kind = self.state.header.kind;
        value::<T, C>(kind, self.handle.recv_deadline(deadline)?)
    }
}

#[inline(always)]
fn value<T, C: Codec<T>>(kind: u16, received: Received<mpsc::ReadView<'_>>) -> Result<Received<T>> {
    match received {
        Received::Frame(view) => decode::<T, C>(kind, view.header(), &view).map(Received::Frame),
        Received::Ended(end) => Ok(Received::Ended(end)),
    }
}
