//! Typed handles without frames: latest values and byte streams.
//!
//! Relies on the handles' calls for values (`ring/typed.rs`, `ring/latest/typed.rs`), which need no
//! codec.

use super::{Message, Plain, Typed};
use crate::error::Result;
use crate::ring::latest::{self, Reading};
use crate::ring::stream;
use crate::wait::deadline::Deadline;

impl<T: Message> Typed<T, latest::Writer, Plain> {
    /// [`latest::Writer::write_value`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use slipring::latest;
    /// use slipring::typed::Typed;
    /// let (tx, rx) = latest::pair(4, 16)?;
    /// let mut tx: Typed<[f32; 2], _> = Typed::new(tx)?;
    /// let mut rx: Typed<[f32; 2], _> = Typed::new(rx)?;
    /// tx.write(3, &[0.5, 0.25])?;
    /// assert_eq!(rx.try_read(3)?.value, [0.5, 0.25]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn write(&mut self, cell: usize, value: &T) -> Result<u64> {
        self.handle.write_value(cell, value)
    }
}

impl<T: Message> Typed<T, latest::Reader, Plain> {
    /// [`latest::Reader::try_read_value`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_read(&mut self, cell: usize) -> Result<Reading<T>> {
        self.handle.try_read_value(cell)
    }

    /// [`latest::Reader::read_value_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn read_deadline(&mut self, cell: usize, deadline: impl Into<Deadline>) -> Result<Reading<T>> {
        self.handle.read_value_deadline(cell, deadline)
    }
}

impl<T: Message> Typed<T, stream::Producer, Plain> {
    /// [`stream::Producer::try_write_values`].
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use slipring::stream;
    /// use slipring::typed::Typed;
    /// let (tx, rx) = stream::pair(4096)?;
    /// let mut tx: Typed<f32, _> = Typed::new(tx)?;
    /// assert!(Typed::<i32, _>::new(rx).is_err());
    /// assert_eq!(tx.try_write(&[0.5; 64])?, 64);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_write(&mut self, values: &[T]) -> Result<usize> {
        self.handle.try_write_values(values)
    }

    /// [`stream::Producer::write_all_values_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn write_all_deadline(
        &mut self,
        values: &[T],
        deadline: impl Into<Deadline>,
    ) -> Result<(), stream::PartialWrite> {
        self.handle.write_all_values_deadline(values, deadline)
    }
}

impl<T: Message> Typed<T, stream::Consumer, Plain> {
    /// [`stream::Consumer::try_read_values`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_read(&mut self, values: &mut [T]) -> Result<usize> {
        self.handle.try_read_values(values)
    }

    /// [`stream::Consumer::read_values_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn read_deadline(&mut self, values: &mut [T], deadline: impl Into<Deadline>) -> Result<usize> {
        self.handle.read_values_deadline(values, deadline)
    }
}
