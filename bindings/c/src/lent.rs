//! A handle of the library, and the guard that borrows from it between two calls of C.
//!
//! Used by `producer.rs` and `consumer.rs`. Rust ties a guard to its handle by a lifetime; across
//! calls there is none, so this type keeps both, and hands out the handle only while there is no
//! guard.

use std::mem;
use std::ptr::NonNull;

use crate::error::Failure;

/// A handle `T`, and the guard `G` that it has given.
pub(crate) struct Lent<T, G> {
    guard: Option<G>,
    /// In memory of its own: a reference to this struct is none to the handle.
    handle: NonNull<T>,
}

// SAFETY: it owns both, and hands them out as a `Box` would.
unsafe impl<T: Send, G: Send> Send for Lent<T, G> {}

impl<T, G> Lent<T, G> {
    pub(crate) fn new(handle: T) -> Self {
        Lent { guard: None, handle: NonNull::from(Box::leak(Box::new(handle))) }
    }

    /// The handle, if there is no guard.
    #[inline(always)]
    pub(crate) fn free(&mut self) -> Result<&mut T, Failure> {
        // SAFETY: the reference ends with the borrow of `self`, as `lend` wants.
        unsafe { self.lend() }
    }

    /// The handle, to get a guard from it, if there is none.
    ///
    /// # Safety
    /// The reference, and what is made of it, ends before the next call on `self`, or is given to
    /// [`Lent::keep`].
    #[inline(always)]
    pub(crate) unsafe fn lend<'a>(&mut self) -> Result<&'a mut T, Failure> {
        if self.guard.is_some() {
            return Err(Failure::HELD);
        }
        // SAFETY: made by `new` and freed by `drop` only. There is no guard, and no other reference
        // (the condition of this function), so this one is alone.
        Ok(unsafe { self.handle.as_mut() })
    }

    /// Keeps the guard, which the handle gave, so that there was none.
    #[inline(always)]
    pub(crate) fn keep(&mut self, guard: G) {
        // Without a look at what it replaces.
        mem::forget(self.guard.replace(guard));
    }

    #[inline(always)]
    pub(crate) fn guard(&self) -> Result<&G, Failure> {
        self.guard.as_ref().ok_or(Failure::NOT_HELD)
    }

    #[inline(always)]
    pub(crate) fn guard_mut(&mut self) -> Option<&mut G> {
        self.guard.as_mut()
    }

    /// Drops the guard, where it is: some are large.
    #[inline(always)]
    pub(crate) fn release(&mut self) -> Result<(), Failure> {
        if self.guard.is_none() {
            return Err(Failure::NOT_HELD);
        }
        self.guard = None;
        Ok(())
    }

    /// Takes the guard out. It must end before the next call on `self`: its users drop it at once.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<G, Failure> {
        self.guard.take().ok_or(Failure::NOT_HELD)
    }
}

impl<T, G> Drop for Lent<T, G> {
    fn drop(&mut self) {
        self.guard = None;
        // SAFETY: made by `new`; the guard, the only one that refers to it, has ended.
        drop(unsafe { Box::from_raw(self.handle.as_ptr()) });
    }
}
