//! Typed values of a board: written and read by copy.
//!
//! `zerocopy` proves at compile time that `T` has no padding to leak and that any bytes are a valid
//! `T`: a writer can publish nonsense, but not an invalid `T`.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::reader::unlike;
use super::{Reader, Reading, Writer};
use crate::error::Result;
use crate::wait::deadline::Deadline;

impl Writer {
    /// [`write`](Writer::write) of a value as long as `T`. Wait-free.
    ///
    /// # Errors
    /// As [`write`](Writer::write).
    ///
    /// ```
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, Debug, PartialEq)]
    /// #[repr(C)]
    /// struct Meter {
    ///     peak: f32,
    ///     rms: f32,
    /// }
    ///
    /// let (mut tx, mut rx) = slipring::latest::pair(32, size_of::<Meter>())?;
    /// tx.write_value(31, &Meter { peak: 0.5, rms: 0.25 })?;
    /// assert_eq!(rx.read_value::<Meter>(31)?.value, Meter { peak: 0.5, rms: 0.25 });
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn write_value<T: IntoBytes + Immutable>(&mut self, cell: usize, value: &T) -> Result<u64> {
        self.write(cell, value.as_bytes())
    }
}

impl Reader {
    /// [`try_read`](Reader::try_read) of a value as long as `T`. Lock-free.
    ///
    /// # Errors
    /// As [`try_read`](Reader::try_read); [`Error::Incompatible`](crate::Error::Incompatible) if
    /// the value is not exactly as long as a `T`.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(1, 8)?;
    /// tx.write_value(0, &[1.5f32, 2.5])?;
    /// assert_eq!(rx.try_read_value::<[f32; 2]>(0)?.value, [1.5, 2.5]);
    /// assert!(rx.try_read_value::<f32>(0).is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_read_value<T: FromBytes + IntoBytes>(&mut self, cell: usize) -> Result<Reading<T>> {
        let mut value = T::new_zeroed();
        loop {
            match self.copy_now(cell, value.as_mut_bytes()) {
                Ok((version, skipped)) => return Ok(Reading { value, version, skipped }),
                // The error comes from a call, so that the compiler can keep the value in registers.
                Err(miss) => self.overcome(miss, cell, size_of::<T>())?,
            }
        }
    }

    /// [`read`](Reader::read) of a value as long as `T`.
    ///
    /// # Errors
    /// As [`read`](Reader::read) and [`try_read_value`](Reader::try_read_value).
    pub fn read_value<T: FromBytes + IntoBytes>(&mut self, cell: usize) -> Result<Reading<T>> {
        self.read_value_deadline(cell, Deadline::never())
    }

    /// [`read_value`](Reader::read_value), until a deadline.
    ///
    /// # Errors
    /// As [`read_value`](Reader::read_value), and [`Error::Timeout`](crate::Error::Timeout).
    pub fn read_value_deadline<T: FromBytes + IntoBytes>(
        &mut self,
        cell: usize,
        deadline: impl Into<Deadline>,
    ) -> Result<Reading<T>> {
        let deadline = deadline.into();
        self.read_typed(|reader, bytes| reader.wait_copy::<true>(cell, bytes, deadline))
    }

    #[inline(always)]
    fn read_typed<T: FromBytes + IntoBytes>(
        &mut self,
        copy: impl FnOnce(&mut Self, &mut [u8]) -> Result<(u64, super::layout::Shape, u64)>,
    ) -> Result<Reading<T>> {
        if size_of::<T>() > self.max_len() {
            return Err(unlike(size_of::<T>(), self.max_len()));
        }
        let mut reading = Reading { value: T::new_zeroed(), version: 0, skipped: 0 };
        let (version, shape, skipped) = copy(self, reading.value.as_mut_bytes())?;
        if shape.len as usize != size_of::<T>() {
            return Err(unlike(size_of::<T>(), shape.len as usize));
        }
        (reading.version, reading.skipped) = (version, skipped);
        Ok(reading)
    }
}
