//! The table of handles. A handle is no address: its value is the number of a slot, a generation
//! and a type, which each call compares with the slot. So a handle that was closed, is of another
//! type, or was made up is recognised, and nothing of it is dereferenced.
//!
//! Used by every call; `quick.rs` has the short form for the calls that are made for every frame.
//! Relies on `thread.rs`.
//!
//! ```text
//! bits 32..63 generation   12..31 slot   4..11 type   0..3 zero
//! ```
//!
//! **One thread at a time.** A handle belongs to the thread that uses it first, until another one
//! closes it or takes it over. A call costs no read-modify-write and no fence:
//!
//! ```text
//! owner's call                              another thread closes or takes over
//! A1  owner is my record?                   B1  owner: record → CLOSING (compare and swap)
//! A2  record.in_call = handle               B2  membarrier: a full fence in each thread
//! A3  (compiler fence)                      B3  record.in_call == handle? gives the owner back: busy
//! A4  owner is my record? word == handle?   B4  uses the object
//! A5  the call; record.in_call = 0
//! ```
//!
//! A2 and A4 are in this order in the program, and the fence of B2 lies between two instructions of
//! the owner. If it lies before A4, A4 sees B1 and the owner leaves; otherwise B3 sees A2. So never
//! do both go on. `in_call` is a word of the *thread*: a stale handle writes into no other's.
//!
//! **fork.** In a child every handle that is open belongs to `FORKED`, so each call but `close`
//! takes the cold path and is refused there, whatever another thread of the parent was doing with
//! it.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence};

use rustix::thread::{MembarrierCommand, membarrier};

use crate::error::{Failure, SLIPRING_EHANDLE};
use crate::thread::{self, CLOSING, FORKED, Record, UNOWNED};

const _: () = assert!(mem::size_of::<*const c_void>() == 8, "a handle has 64 bits");

const SLOTS: usize = 256;
const CHUNKS: usize = 256;

/// A free slot's word, and that of a slot whose object is being made or dropped.
const FREE: u64 = 0;
const TAKEN: u64 = 1;

#[repr(align(128))]
pub(crate) struct Slot {
    /// The handle, while it is open.
    word: AtomicU64,
    /// [`UNOWNED`] before the first call.
    pub(crate) owner: AtomicPtr<Record>,
    object: AtomicPtr<c_void>,
    /// For each [`Row`] the handle, while quick calls of that row may use `quick_object`; otherwise 0.
    /// Written by the owner in a call, or by one that has seized the handle.
    pub(crate) quick: [AtomicU64; 2],
    pub(crate) quick_object: AtomicPtr<c_void>,
    generation: AtomicU32,
    /// A handle that belongs to this one: the other side of a ring buffer.
    companion: AtomicU64,
    /// Calls under way, for objects of all threads.
    users: AtomicU32,
}

type Chunk = [Slot; SLOTS];

/// The first chunk, which a quick call reaches without a look at the table. Its slot 0 is never used:
/// the handle 0 is in no slot.
static FIRST: Chunk = [const { Slot::new() }; SLOTS];

static TABLE: [AtomicPtr<Chunk>; CHUNKS] = {
    let mut table = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
    table[0] = AtomicPtr::new((&raw const FIRST).cast_mut());
    table
};

/// The search for a free slot begins with this chunk: those before it have been full. Only a hint.
static FIRST_WITH_ROOM: AtomicUsize = AtomicUsize::new(0);

#[inline(always)]
fn number_of(handle: u64) -> usize {
    (handle >> 12) as usize & (SLOTS * CHUNKS - 1)
}

/// The calls that have a quick form, by the type of their handle.
#[derive(Clone, Copy)]
pub(crate) enum Row {
    Producer = 0,
    Consumer = 1,
}

/// An object behind a handle.
///
/// # Safety
/// `TYPE` is the type's alone. If `SHARED`, the type is `Sync`.
pub(crate) unsafe trait Object: Send + 'static {
    /// In the handle.
    const TYPE: u8;
    /// Whether all threads may use it at once.
    const SHARED: bool = false;
    /// The quick calls that it may have.
    const ROW: Option<Row> = None;

    /// What the next quick call may use, until the next other call; null if there is none.
    fn quick(&mut self) -> *mut c_void {
        ptr::null_mut()
    }
}

/// Makes a handle of `object`.
pub(crate) fn insert<T: Object, H>(object: T) -> Result<*mut H, Failure> {
    static NOTICES_FORKS: Once = Once::new();
    // SAFETY: the handler may run in a forked child: it uses atomics alone. Without it (registering
    // fails only for lack of memory) the library's own handles notice the fork.
    NOTICES_FORKS.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(after_fork));
    });
    let (number, slot) = take_free().ok_or(Failure::TOO_MANY_HANDLES)?;
    let generation = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
    slot.generation.store(generation, Ordering::Relaxed);
    slot.owner.store(unowned(), Ordering::Relaxed);
    slot.companion.store(0, Ordering::Relaxed);
    slot.object.store(Box::into_raw(Box::new(object)).cast(), Ordering::Relaxed);
    let handle = u64::from(generation) << 32 | (number as u64) << 12 | u64::from(T::TYPE) << 4;
    slot.word.store(handle, Ordering::Release);
    Ok(ptr::without_provenance_mut(handle as usize))
}

extern "C" fn after_fork() {
    thread::after_fork();
    for chunk in &TABLE {
        // SAFETY: chunks are never freed once they are in the table.
        for slot in unsafe { chunk.load(Ordering::Acquire).as_ref() }.into_iter().flatten() {
            if slot.word.load(Ordering::Acquire) > TAKEN {
                slot.owner.store(ptr::from_ref(&FORKED).cast_mut(), Ordering::Release);
                slot.users.store(0, Ordering::Release);
            }
        }
    }
}

fn take_free() -> Option<(usize, &'static Slot)> {
    let start = FIRST_WITH_ROOM.load(Ordering::Relaxed);
    take_free_from(start).or_else(|| take_free_from(0))
}

fn take_free_from(start: usize) -> Option<(usize, &'static Slot)> {
    for (number, chunk) in TABLE.iter().enumerate().skip(start) {
        let mut slots = chunk.load(Ordering::Acquire);
        if slots.is_null() {
            let new = Box::into_raw(Box::new([const { Slot::new() }; SLOTS]));
            match chunk.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => slots = new,
                Err(found) => {
                    // SAFETY: made above, and known to no other thread.
                    drop(unsafe { Box::from_raw(new) });
                    slots = found;
                }
            }
        }
        // SAFETY: chunks are never freed once they are in the table.
        let slots = unsafe { &*slots };
        let first = usize::from(number == 0);
        for (at, slot) in slots.iter().enumerate().skip(first) {
            let is_ours = slot.word.load(Ordering::Relaxed) == FREE
                && slot.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if is_ours {
                return Some((number * SLOTS + at, slot));
            }
        }
        let _ = FIRST_WITH_ROOM.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
    None
}

impl Slot {
    const fn new() -> Self {
        Slot {
            word: AtomicU64::new(FREE),
            owner: AtomicPtr::new(unowned()),
            object: AtomicPtr::new(ptr::null_mut()),
            quick: [const { AtomicU64::new(0) }; 2],
            quick_object: AtomicPtr::new(ptr::null_mut()),
            generation: AtomicU32::new(0),
            companion: AtomicU64::new(0),
            users: AtomicU32::new(0),
        }
    }

    /// The slot that the handle names, whatever is in it.
    #[inline(always)]
    fn of(handle: u64) -> Result<&'static Slot, Failure> {
        let number = number_of(handle);
        let chunk = TABLE[number / SLOTS].load(Ordering::Acquire);
        // SAFETY: chunks are never freed once they are in the table.
        match unsafe { chunk.as_ref() } {
            Some(slots) if number != 0 => Ok(&slots[number % SLOTS]),
            _ => Err(Failure::bad_handle(handle)),
        }
    }

    /// The slot that the handle names, if it is in the first chunk, or any.
    #[inline(always)]
    pub(crate) fn of_quick(handle: u64) -> &'static Slot {
        &FIRST[(handle >> 12) as usize % SLOTS]
    }

    #[inline(always)]
    fn check<T: Object>(&self, handle: u64) -> Result<(), Failure> {
        let is_of_type = (handle >> 4) as u8 == T::TYPE;
        if is_of_type && self.word.load(Ordering::Acquire) == handle {
            Ok(())
        } else {
            Err(Failure::bad_handle(handle))
        }
    }
}

/// A call of the owner: its end.
struct InCall(&'static Record);

impl InCall {
    /// A1 to A4.
    #[inline(always)]
    fn begin(slot: &'static Slot, handle: u64) -> Result<Self, Failure> {
        // SAFETY: a record, and those are never freed.
        let mut record = unsafe { &*slot.owner.load(Ordering::Relaxed) };
        if !record.is_mine() {
            record = Self::claim(slot, handle)?;
        }
        if record.in_call.load(Ordering::Relaxed) != 0 {
            return Err(Failure::IN_CALL); // a signal handler's call within another
        }
        record.in_call.store(handle, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let call = InCall(record);
        if slot.owner.load(Ordering::Acquire) == ptr::from_ref(record).cast_mut() {
            Ok(call)
        } else {
            Err(Failure::IN_CALL)
        }
    }

    #[cold]
    #[inline(never)]
    fn claim(slot: &'static Slot, handle: u64) -> Result<&'static Record, Failure> {
        if slot.word.load(Ordering::Acquire) != handle {
            return Err(Failure::bad_handle(handle));
        }
        let record = Record::mine();
        let mine = ptr::from_ref(record).cast_mut();
        match slot.owner.compare_exchange(unowned(), mine, Ordering::AcqRel, Ordering::Relaxed) {
            // Closed meanwhile, and another one is in its place: that one is not ours.
            Ok(_) if slot.word.load(Ordering::Acquire) != handle => {
                let _ = slot.owner.compare_exchange(mine, unowned(), Ordering::Release, Ordering::Relaxed);
                Err(Failure::bad_handle(handle))
            }
            Ok(_) => Ok(record),
            Err(found) if found == mine => Ok(record),
            Err(found) if ptr::eq(found, &CLOSING) => Err(Failure::IN_CALL),
            Err(found) if ptr::eq(found, &FORKED) => Err(Failure::FORKED),
            Err(_) => Err(Failure::WRONG_THREAD),
        }
    }
}

impl Drop for InCall {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.in_call.store(0, Ordering::Release);
    }
}

const fn unowned() -> *mut Record {
    (&raw const UNOWNED).cast_mut()
}

/// Calls `f` with the object of `handle`, for its owner thread.
#[inline(always)]
pub(crate) fn with<T: Object, R>(
    handle: *const c_void,
    f: impl FnOnce(&mut T) -> Result<R, Failure>,
) -> Result<R, Failure> {
    const { assert!(!T::SHARED) };
    let handle = handle.addr() as u64;
    let slot = Slot::of(handle)?;
    let call = InCall::begin(slot, handle)?;
    slot.check::<T>(handle)?;
    // SAFETY: the word says that the slot has an object of type `T`. Only the owner uses it, and the
    // owner is in this call, which another thread that wants to drop it sees (the module's text).
    let object = unsafe { &mut *slot.object.load(Ordering::Relaxed).cast::<T>() };
    let result = f(object);
    slot.update_quick(handle, object);
    drop(call);
    result
}

impl Slot {
    #[inline(always)]
    fn update_quick<T: Object>(&self, handle: u64, object: &mut T) {
        if let Some(row) = T::ROW {
            let quick = object.quick();
            self.quick_object.store(quick, Ordering::Relaxed);
            self.quick[row as usize].store(if quick.is_null() { 0 } else { handle }, Ordering::Relaxed);
        }
    }
}

/// Calls `f` with the object of `handle`, in any thread.
pub(crate) fn with_shared<T: Object + Sync, R>(
    handle: *const c_void,
    f: impl FnOnce(&T) -> Result<R, Failure>,
) -> Result<R, Failure> {
    const { assert!(T::SHARED) };
    let handle = handle.addr() as u64;
    let slot = Slot::of(handle).map_err(|_| Failure::Own(SLIPRING_EHANDLE))?;
    slot.users.fetch_add(1, Ordering::SeqCst);
    let result = match slot.check_shared::<T>(handle) {
        // SAFETY: `close` takes the word away first, then waits for the users: it sees this one, or
        // the word was gone. Both are sequentially consistent.
        Ok(()) => f(unsafe { &*slot.object.load(Ordering::Acquire).cast::<T>() }),
        Err(failure) => Err(failure),
    };
    slot.users.fetch_sub(1, Ordering::Release);
    result
}

impl Slot {
    fn check_shared<T: Object>(&self, handle: u64) -> Result<(), Failure> {
        let is_of_type = (handle >> 4) as u8 == T::TYPE;
        if !is_of_type || self.word.load(Ordering::SeqCst) != handle {
            // Without a text: this may be a signal handler.
            return Err(Failure::Own(SLIPRING_EHANDLE));
        }
        if ptr::eq(self.owner.load(Ordering::Relaxed), &FORKED) { Err(Failure::FORKED) } else { Ok(()) }
    }
}

/// Closes the handle, in its owner thread or in another one while the owner is in no call.
pub(crate) fn close<T: Object>(handle: *const c_void) -> Result<(), Failure> {
    let handle = handle.addr() as u64;
    let slot = Slot::of(handle)?;
    if T::SHARED {
        slot.check::<T>(handle)?;
        if slot.word.compare_exchange(handle, TAKEN, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return Err(Failure::bad_handle(handle));
        }
        while slot.users.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
    } else {
        let owner = seize(slot, handle)?;
        if slot.check::<T>(handle).is_err() {
            slot.owner.store(owner, Ordering::Release);
            return Err(Failure::bad_handle(handle));
        }
        slot.word.store(TAKEN, Ordering::Release);
        for quick in &slot.quick {
            quick.store(0, Ordering::Relaxed);
        }
    }
    // SAFETY: made by `insert` as a `Box<T>`; nothing else can come to it any more.
    drop(unsafe { Box::from_raw(slot.object.load(Ordering::Acquire).cast::<T>()) });
    slot.word.store(FREE, Ordering::Release);
    FIRST_WITH_ROOM.fetch_min(number_of(handle) / SLOTS, Ordering::Relaxed);
    Ok(())
}

/// Makes the calling thread the owner of the handle.
pub(crate) fn take(handle: *const c_void) -> Result<(), Failure> {
    let handle = handle.addr() as u64;
    let slot = Slot::of(handle)?;
    let owner = seize(slot, handle)?;
    if ptr::eq(owner, &FORKED) {
        slot.owner.store(owner, Ordering::Release);
        return Err(Failure::FORKED);
    }
    let is_open = slot.word.load(Ordering::Acquire) == handle;
    let new = if is_open { ptr::from_ref(Record::mine()).cast_mut() } else { owner };
    slot.owner.store(new, Ordering::Release);
    if is_open { Ok(()) } else { Err(Failure::bad_handle(handle)) }
}

/// Whether the handle is open, of any type.
pub(crate) fn is_open(handle: *const c_void) -> bool {
    let handle = handle.addr() as u64;
    handle > TAKEN && Slot::of(handle).is_ok_and(|slot| slot.word.load(Ordering::Acquire) == handle)
}

/// The type in the handle's value, if the handle may be open.
pub(crate) fn type_of(handle: *const c_void) -> u8 {
    (handle.addr() >> 4) as u8
}

/// Notes a handle that belongs to `handle`, which no other thread knows yet.
pub(crate) fn set_companion(handle: *mut c_void, companion: *mut c_void) {
    if let Ok(slot) = Slot::of(handle.addr() as u64) {
        slot.companion.store(companion.addr() as u64, Ordering::Release);
    }
}

/// The handle that belongs to `handle`; null if there is none. It is as good as any handle: its own
/// calls check it.
#[inline(always)]
pub(crate) fn companion(handle: *const c_void) -> *const c_void {
    let handle = handle.addr() as u64;
    let companion = match Slot::of(handle) {
        Ok(slot) if slot.word.load(Ordering::Acquire) == handle => slot.companion.load(Ordering::Acquire),
        _ => 0,
    };
    ptr::without_provenance(companion as usize)
}

/// B1 to B3. Returns the owner, whose place `CLOSING` has.
fn seize(slot: &Slot, handle: u64) -> Result<*mut Record, Failure> {
    if slot.word.load(Ordering::Acquire) != handle {
        return Err(Failure::bad_handle(handle));
    }
    let closing = ptr::from_ref(&CLOSING).cast_mut();
    let owner = slot.owner.load(Ordering::Acquire);
    if owner == closing || slot.owner.compare_exchange(owner, closing, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return Err(Failure::IN_CALL);
    }
    // SAFETY: a record, and those are never freed.
    let record = unsafe { &*owner };
    let give_back = |failure| {
        slot.owner.store(owner, Ordering::Release);
        Err(failure)
    };
    let is_of_no_thread = ptr::eq(owner, &UNOWNED) || ptr::eq(owner, &FORKED);
    if !is_of_no_thread && !record.is_mine() && !record.has_ended() && !barrier() {
        return give_back(Failure::WRONG_THREAD);
    }
    if record.in_call.load(Ordering::Acquire) == handle { give_back(Failure::IN_CALL) } else { Ok(owner) }
}

/// A full fence in each running thread of this process, if it returns true (`membarrier(2)`).
fn barrier() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}
