//! A payload as a value of the user's type, in place, without `unsafe`: `zerocopy` proves that
//! every byte pattern is valid.
//!
//! Used by [`Frame`] and by the rings' typed calls (`ring/typed.rs`). Relies on `zerocopy`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Frame;
use crate::error::{Error, Result};

impl<'a> Frame<'a> {
    /// The payload as a `T`, in place. No copy, no system call.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if it is not exactly as long as a `T`, or not aligned for one. A
    /// payload in a ring is aligned to 8; in a decoder's buffer it may be unaligned. Give `T` an
    /// alignment of 1 (`zerocopy::little_endian`), or copy.
    ///
    /// ```
    /// # use slipring::frame::{Frame, Header};
    /// use zerocopy::little_endian::U32;
    /// let frame = Frame::new(Header::new(0x0100, 0)?, &[1, 0, 0, 0])?;
    /// assert_eq!(frame.value::<U32>()?.get(), 1);
    /// assert!(frame.value::<[U32; 2]>().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn value<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&'a T> {
        value(self.payload)
    }
}

/// `bytes` as a `T`.
#[inline(always)]
pub(crate) fn value<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<&T> {
    T::ref_from_bytes(bytes).map_err(|_| mismatch::<T>(bytes))
}

/// A copy of `bytes` as a `T`, whatever their alignment.
#[inline(always)]
pub(crate) fn copy<T: FromBytes>(bytes: &[u8]) -> Result<T> {
    T::read_from_bytes(bytes).map_err(|_| mismatch::<T>(bytes))
}

/// `bytes` as a mutable `T`.
#[inline(always)]
pub(crate) fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(bytes: &mut [u8]) -> Result<&mut T> {
    if bytes.len() != size_of::<T>() || !is_aligned::<T>(bytes) {
        return Err(mismatch::<T>(bytes));
    }
    T::mut_from_bytes(bytes).map_err(|error| mismatch::<T>(error.into_src()))
}

/// `bytes` as a slice of `T`.
#[inline(always)]
pub(crate) fn values<T: FromBytes + Immutable>(bytes: &[u8]) -> Result<&[T]> {
    <[T]>::ref_from_bytes(bytes).map_err(|_| mismatch_of_slice::<T>(bytes))
}

/// `bytes` as a mutable slice of `T`.
#[inline(always)]
pub(crate) fn values_mut<T: FromBytes + IntoBytes>(bytes: &mut [u8]) -> Result<&mut [T]> {
    <[T]>::mut_from_bytes(bytes).map_err(|error| mismatch_of_slice::<T>(error.into_src()))
}

fn is_aligned<T>(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr() % align_of::<T>() == 0
}

#[cold]
fn mismatch<T>(bytes: &[u8]) -> Error {
    if bytes.len() == size_of::<T>() {
        return misaligned::<T>(bytes);
    }
    Error::Incompatible { what: "size of the message", expected: size_of::<T>() as u64, found: bytes.len() as u64 }
}

#[cold]
fn mismatch_of_slice<T>(bytes: &[u8]) -> Error {
    if is_aligned::<T>(bytes) {
        return Error::Invalid { what: "length of the chunk: must be a whole number of values" };
    }
    misaligned::<T>(bytes)
}

fn misaligned<T>(bytes: &[u8]) -> Error {
    let found = 1 << bytes.as_ptr().addr().trailing_zeros();
    Error::Incompatible { what: "alignment of the bytes", expected: align_of::<T>() as u64, found }
}
