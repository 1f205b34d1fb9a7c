//! The short form of the calls that are made for every frame: one comparison recognises the handle,
//! its generation, its type and its kind, and whatever is unusual is left to the long form.
//!
//! Used by `producer.rs` and `consumer.rs`. Relies on `table.rs`, whose text proves that owner and
//! closer exclude each other: these are its steps A1 to A5.
//!
//! After each long call the slot notes whether the next one may be quick ([`Object::quick`]): of an
//! spsc ring, without a doorbell, a reservation, or a type of its own. A function with a quick form
//! is written so that everything else is a call at its end: it has few registers to save.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use crate::table::{Object, Slot};
use crate::thread::Record;

/// A call of the owner under way, until [`Quick::end`].
pub(crate) struct Quick<T> {
    record: &'static Record,
    object: NonNull<c_void>,
    of: PhantomData<T>,
}

/// An object with a quick form.
///
/// # Safety
/// If `quick()` is not null, it is a `Self::Quick` that the next call of the owner may use alone.
pub(crate) unsafe trait HasQuick: Object {
    type Quick;
}

impl<T: HasQuick> Quick<T> {
    /// A1 to A4; `None` without a reason, which the long form finds.
    #[inline(always)]
    pub(crate) fn begin(handle: *const c_void) -> Option<Self> {
        let row = const { T::ROW.expect("quick objects have a row") };
        let handle = handle.addr() as u64;
        let slot = Slot::of_quick(handle);
        let owner = slot.owner.load(Ordering::Relaxed);
        // SAFETY: a record, and those are never freed.
        let record = unsafe { &*owner };
        if !record.is_mine() || record.in_call.load(Ordering::Relaxed) != 0 {
            return None;
        }
        record.in_call.store(handle, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let is_mine = slot.owner.load(Ordering::Acquire) == owner;
        if is_mine && slot.quick[row as usize].load(Ordering::Relaxed) == handle {
            // SAFETY: not null while a word of `quick` is a handle. (0 is a handle of slot 0, whose
            // owner is no thread.)
            let object = unsafe { NonNull::new_unchecked(slot.quick_object.load(Ordering::Relaxed)) };
            return Some(Quick { record, object, of: PhantomData });
        }
        record.in_call.store(0, Ordering::Release);
        None
    }

    #[inline(always)]
    pub(crate) fn object(&mut self) -> &mut T::Quick {
        // SAFETY: of this type and ours alone (`HasQuick`): this is a call of the owner, and
        // another thread that wants to drop it sees that.
        unsafe { self.object.cast().as_mut() }
    }

    #[inline(always)]
    pub(crate) fn end(self) {
        self.record.in_call.store(0, Ordering::Release);
    }
}
