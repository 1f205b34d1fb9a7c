//! Semaphores, mutexes and events, each in a segment of its own.
//!
//! Used by C programs. Relies on `table.rs`; permits and the guard of a mutex are kept beside their
//! handle.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::ptr;

use slipring::{Event, Locked, Mutex, MutexGuard, Permit, Semaphore, SignalSemaphore};

use crate::arguments::{Given, SLIPRING_FROM_FD, Wait, optional, slipring_options};
use crate::error::{Failure, count, opened, status};
use crate::table::{self, Object};

/// A number of permits that processes share. The permits of a process that dies are given back.
pub struct slipring_semaphore(());

/// A count that any process may raise, and waiters lower by one each.
pub struct slipring_signal_semaphore(());

/// Data that several processes change in place, one at a time.
pub struct slipring_mutex(());

/// One signal to many: set until it is reset.
pub struct slipring_event(());

pub(crate) struct Permits {
    /// Dropped first.
    held: Vec<Permit<'static>>,
    pub(crate) semaphore: Box<Semaphore>,
}

pub(crate) struct Lock {
    /// Dropped first.
    guard: Option<MutexGuard<'static>>,
    mutex: Box<Mutex>,
}

impl Lock {
    /// The mutex, if this handle does not have it locked.
    pub(crate) fn free(&mut self) -> Result<&Mutex, Failure> {
        if self.guard.is_some() { Err(Failure::HELD) } else { Ok(&self.mutex) }
    }
}

pub(crate) struct Signals(pub(crate) SignalSemaphore);
pub(crate) struct Flag(pub(crate) Event);

// SAFETY: the type's number is its alone.
unsafe impl Object for Permits {
    const TYPE: u8 = 7;
}

// SAFETY: the same.
unsafe impl Object for Signals {
    const TYPE: u8 = 8;
}

// SAFETY: the same.
unsafe impl Object for Lock {
    const TYPE: u8 = 9;
}

// SAFETY: the same.
unsafe impl Object for Flag {
    const TYPE: u8 = 10;
}

/// Opens a primitive by name or by descriptor, or makes an anonymous one.
macro_rules! open {
    ($type:ident, $name:expr, $options:expr, create: $is_created:expr, ($($size:expr)?)) => {{
        let (name, options): (*const c_char, &Given<'_>) = ($name, $options);
        options.expect_primitive()?;
        match options.name(name)? {
            None if options.has(SLIPRING_FROM_FD) => $type::from_fd(options.fd()?)?,
            None => $type::create_anonymous($($size)?)?,
            Some(name) if $is_created => $type::open_or_create(name, $($size)?)?,
            Some(name) => $type::open(name)?,
        }
    }};
}

/// Opens a semaphore; creates it with `options->capacity` permits if that is not 0 and it does not
/// exist. `options` may have SLIPRING_FROM_FD; a NULL name makes an anonymous one. The name is in
/// the directory of SLIPRING_DIR; `options->directory` is refused. Errors as for
/// slipring_producer_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_semaphore_open(
    name: *const c_char,
    options: *const slipring_options,
    semaphore: *mut *mut slipring_semaphore,
) -> c_int {
    opened(semaphore, || {
        let options = Given::new(options)?;
        let permits = options.raw.capacity;
        let semaphore = open!(Semaphore, name, &options, create: permits > 0, (permits));
        table::insert(Permits { held: Vec::new(), semaphore: Box::new(semaphore) })
    })
}

/// Acquires a permit. Returns 0; -SLIPRING_EAGAIN if there is none and `timeout_ns` is 0;
/// -SLIPRING_ETIMEDOUT. Several may be held.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_semaphore_acquire(semaphore: *mut slipring_semaphore, timeout_ns: i64) -> c_int {
    status(table::with(semaphore.cast(), |permits: &mut Permits| {
        let permit = match Wait::of(timeout_ns) {
            Wait::Not => permits.semaphore.try_acquire()?.ok_or(slipring::Error::Empty)?,
            Wait::Forever => permits.semaphore.acquire()?,
            Wait::Until(deadline) => permits.semaphore.acquire_deadline(deadline)?,
        };
        // SAFETY: it lengthens a lifetime only: the permit shares the semaphore beside it, which
        // stays in its box and is dropped after `held`.
        permits.held.push(unsafe { mem::transmute::<Permit<'_>, Permit<'static>>(permit) });
        Ok(0)
    }))
}

/// Gives a permit back that this handle acquired. Returns 0 or -SLIPRING_ENOTHELD. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_semaphore_release(semaphore: *mut slipring_semaphore) -> c_int {
    status(table::with(semaphore.cast(), |permits: &mut Permits| {
        permits.held.pop().map(|_| 0).ok_or(Failure::NOT_HELD)
    }))
}

/// How many permits are free now. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_semaphore_available(semaphore: *mut slipring_semaphore) -> i64 {
    count(table::with(semaphore.cast(), |permits: &mut Permits| Ok(permits.semaphore.available() as i64)))
}

/// Opens a signalling semaphore; creates it if `options->capacity` is not 0 and it does not exist.
/// Otherwise as slipring_semaphore_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_signal_semaphore_open(
    name: *const c_char,
    options: *const slipring_options,
    semaphore: *mut *mut slipring_signal_semaphore,
) -> c_int {
    opened(semaphore, || {
        let options = Given::new(options)?;
        let create = options.raw.capacity > 0;
        table::insert(Signals(open!(SignalSemaphore, name, &options, create: create, ())))
    })
}

/// Raises the count by `n`. Returns 0 or -SLIPRING_EOVERFLOW. A system call only to wake sleepers.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_signal_semaphore_post(semaphore: *mut slipring_signal_semaphore, n: u32) -> c_int {
    status(table::with(semaphore.cast(), |signals: &mut Signals| {
        signals.0.post_many(n)?;
        Ok(0)
    }))
}

/// Lowers the count by one, once it is above 0. Returns 0; -SLIPRING_EAGAIN if it is 0 and
/// `timeout_ns` is 0; -SLIPRING_ETIMEDOUT.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_signal_semaphore_wait(semaphore: *mut slipring_signal_semaphore, timeout_ns: i64) -> c_int {
    status(table::with(semaphore.cast(), |signals: &mut Signals| {
        match Wait::of(timeout_ns) {
            Wait::Not if signals.0.try_wait()? => {}
            Wait::Not => return Err(slipring::Error::Empty.into()),
            Wait::Forever => signals.0.wait()?,
            Wait::Until(deadline) => signals.0.wait_deadline(deadline)?,
        }
        Ok(0)
    }))
}

/// Opens a mutex with its data; creates it with `options->capacity` bytes, cleared, if that is not 0
/// and it does not exist. Otherwise as slipring_semaphore_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_mutex_open(
    name: *const c_char,
    options: *const slipring_options,
    mutex: *mut *mut slipring_mutex,
) -> c_int {
    opened(mutex, || {
        let options = Given::new(options)?;
        let bytes = options.raw.capacity;
        let mutex = open!(Mutex, name, &options, create: bytes > 0, (bytes));
        table::insert(Lock { guard: None, mutex: Box::new(mutex) })
    })
}

/// slipring_mutex_lock() returns it if the owner before died: the data may be half changed.
pub const SLIPRING_OWNER_DIED: c_int = 1;

/// Locks the mutex: writes the address of the data to `*data` and its size to `*len` (NULL to leave
/// one out). Returns 0, or SLIPRING_OWNER_DIED: check the data, then
/// slipring_mutex_mark_consistent(), without which the next owner is told the same. Errors:
/// -SLIPRING_EAGAIN if it is locked and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT; -SLIPRING_EHELD if
/// this handle has it.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_mutex_lock(
    mutex: *mut slipring_mutex,
    data: *mut *mut c_void,
    len: *mut usize,
    timeout_ns: i64,
) -> c_int {
    status(table::with(mutex.cast(), |lock: &mut Lock| {
        let mutex = lock.free()?;
        let (data, len) = (optional(data)?, optional(len)?);
        let locked: Locked<'_> = match Wait::of(timeout_ns) {
            Wait::Not => mutex.try_lock()?.ok_or(slipring::Error::Full)?,
            Wait::Forever => mutex.lock()?,
            Wait::Until(deadline) => mutex.lock_deadline(deadline)?,
        };
        let has_died = locked.owner_died();
        let mut guard = locked.into_guard();
        let (start, size) = (guard.as_mut_ptr(), guard.len());
        // SAFETY: it lengthens a lifetime only: the guard refers to the mutex beside it, which stays
        // in its box and is dropped after `guard`.
        lock.guard = Some(unsafe { mem::transmute::<MutexGuard<'_>, MutexGuard<'static>>(guard) });
        if let Some(data) = data {
            *data = if size == 0 { ptr::null_mut() } else { start.cast() };
        }
        if let Some(len) = len {
            *len = size;
        }
        Ok(if has_died { SLIPRING_OWNER_DIED } else { 0 })
    }))
}

/// Says that the data is whole again, after SLIPRING_OWNER_DIED. Returns 0 or -SLIPRING_ENOTHELD.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_mutex_mark_consistent(mutex: *mut slipring_mutex) -> c_int {
    status(table::with(mutex.cast(), |lock: &mut Lock| {
        lock.guard.as_mut().ok_or(Failure::NOT_HELD)?.mark_consistent();
        Ok(0)
    }))
}

/// Unlocks the mutex: its data must not be used any more. Returns 0 or -SLIPRING_ENOTHELD.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_mutex_unlock(mutex: *mut slipring_mutex) -> c_int {
    status(table::with(mutex.cast(), |lock: &mut Lock| lock.guard.take().map(|_| 0).ok_or(Failure::NOT_HELD)))
}

/// Opens an event; creates it if `options->capacity` is not 0 and it does not exist. Otherwise as
/// slipring_semaphore_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_event_open(
    name: *const c_char,
    options: *const slipring_options,
    event: *mut *mut slipring_event,
) -> c_int {
    opened(event, || {
        let options = Given::new(options)?;
        let create = options.raw.capacity > 0;
        table::insert(Flag(open!(Event, name, &options, create: create, ())))
    })
}

/// Sets the event: all that wait for it go on. Returns 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_event_set(event: *mut slipring_event) -> c_int {
    status(table::with(event.cast(), |flag: &mut Flag| {
        flag.0.set()?;
        Ok(0)
    }))
}

/// Resets the event. Returns 1 if it was set, otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_event_reset(event: *mut slipring_event) -> c_int {
    status(table::with(event.cast(), |flag: &mut Flag| Ok(flag.0.reset()?.into())))
}

/// Waits until the event is set. Returns 0; -SLIPRING_EAGAIN if it is not and `timeout_ns` is 0;
/// -SLIPRING_ETIMEDOUT. It stays set.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_event_wait(event: *mut slipring_event, timeout_ns: i64) -> c_int {
    status(table::with(event.cast(), |flag: &mut Flag| {
        match Wait::of(timeout_ns) {
            Wait::Not if flag.0.is_set() => {}
            Wait::Not => return Err(slipring::Error::Empty.into()),
            Wait::Forever => flag.0.wait()?,
            Wait::Until(deadline) => flag.0.wait_deadline(deadline)?,
        }
        Ok(0)
    }))
}
