//! Waiting for several things at once: wait sets, their wakers, cancellers, and descriptors to poll.
//!
//! Used by C programs. Relies on `table.rs`. Wakers and cancellers are for all threads.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use slipring::transport::Doorbell;
use slipring::{Canceller, Readiness, Ready, Token, WaitSet, Waker};

use crate::arguments::{Wait, items_mut};
use crate::consumer::{self, Consumer};
use crate::error::{Failure, SLIPRING_EINVAL, count, opened, status};
use crate::handle::{not_for, unsupported};
use crate::latest::{LatestReader, LatestWriter};
use crate::named::{Flag, Lock, Permits, Signals};
use crate::producer::{self, Producer};
use crate::stream::{Reader, Writer};
use crate::table::{self, Object};

/// Waits for any number of handles and descriptors at once.
pub struct slipring_wait_set(());

/// Wakes a wait set from any thread or signal handler.
pub struct slipring_waker(());

/// Ends the blocking calls on one handle from any thread or signal handler.
pub struct slipring_canceller(());

struct Set(WaitSet);
struct SetWaker(Waker);
struct HandleCanceller(Canceller);

// SAFETY: the type's number is its alone.
unsafe impl Object for Set {
    const TYPE: u8 = 11;
}

// SAFETY: the type's number is its alone, and a waker is `Sync`.
unsafe impl Object for SetWaker {
    const TYPE: u8 = 12;
    const SHARED: bool = true;
}

// SAFETY: the type's number is its alone, and a canceller is `Sync`.
unsafe impl Object for HandleCanceller {
    const TYPE: u8 = 13;
    const SHARED: bool = true;
}

/// What the files of the other types close these by.
pub(crate) fn close(handle: *const c_void) -> Option<Result<(), Failure>> {
    match table::type_of(handle) {
        Set::TYPE => Some(table::close::<Set>(handle)),
        SetWaker::TYPE => Some(table::close::<SetWaker>(handle)),
        HandleCanceller::TYPE => Some(table::close::<HandleCanceller>(handle)),
        _ => None,
    }
}

/// Makes a wait set. Returns 0 or the errno of a system call. Close it by slipring_close().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_set_open(set: *mut *mut slipring_wait_set) -> c_int {
    opened(set, || table::insert(Set(WaitSet::new()?)))
}

/// Adds a handle under a number of the caller's choice, by which slipring_wait_set_wait() returns
/// it: a consumer, a stream reader or a reader of latest values that may receive; a producer that
/// has room for `len` bytes, or a stream writer; a semaphore with a permit; a mutex that is free; an
/// event that is set. `len` is 0 for all others. The handle stays usable, and closing it removes it.
///
/// Returns 0; -SLIPRING_EINVAL if the number is in the set; -SLIPRING_EHELD while a frame is held;
/// -SLIPRING_EOPNOTSUPP for other handles.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_set_add(
    set: *mut slipring_wait_set,
    token: usize,
    handle: *mut c_void,
    len: usize,
) -> c_int {
    status(readiness(handle, len).and_then(|readiness| add(set, token, readiness)))
}

/// Adds a descriptor: readable, or writable if `writable` is not 0. It stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_set_add_fd(
    set: *mut slipring_wait_set,
    token: usize,
    fd: c_int,
    writable: c_int,
) -> c_int {
    if fd < 0 {
        return status(Err(Failure::Told(SLIPRING_EINVAL, c"the descriptor is negative: pass an open one")));
    }
    // SAFETY: not -1. The caller passes a descriptor that is open during the call; one that is not
    // is refused by the system.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let readiness = if writable == 0 { Readiness::readable_fd(fd) } else { Readiness::writable_fd(fd) };
    status(readiness.map_err(Failure::from).and_then(|readiness| add(set, token, readiness)))
}

fn add(set: *mut slipring_wait_set, token: usize, readiness: Readiness) -> Result<c_int, Failure> {
    table::with(set.cast(), |set: &mut Set| {
        set.0.add(Token(token), readiness)?;
        Ok(0)
    })
}

fn readiness(handle: *mut c_void, len: usize) -> Result<Readiness, Failure> {
    match table::type_of(handle) {
        Consumer::TYPE => table::with(handle, |consumer: &mut Consumer| {
            use consumer::EndRef as End;
            Ok(match consumer.end()? {
                End::Spsc(end) => end.readable(),
                End::Mpmc(end) => end.readable(),
                End::Mpsc(end) => end.readable(),
                End::Broadcast(end) => end.readable(),
                End::Lossy(end) => end.readable(),
                End::Transport(end) => Readiness::readable_fd(end.poll_fd().ok_or_else(unsupported)?)?,
            })
        }),
        Producer::TYPE => table::with(handle, |producer: &mut Producer| {
            use producer::EndRef as End;
            Ok(match producer.end()? {
                End::Spsc(end) => end.writable(len),
                End::Mpmc(end) => end.writable(),
                End::Mpsc(end) => end.writable(len),
                End::Broadcast(end) => end.writable(len),
                End::Transport(end) => Readiness::writable_fd(end.poll_fd().ok_or_else(unsupported)?)?,
            })
        }),
        Reader::TYPE => table::with(handle, |reader: &mut Reader| Ok(reader.0.readable())),
        Writer::TYPE => table::with(handle, |writer: &mut Writer| Ok(writer.0.writable(len.max(1)))),
        LatestReader::TYPE => table::with(handle, |reader: &mut LatestReader| Ok(reader.0.readable())),
        Permits::TYPE => table::with(handle, |permits: &mut Permits| Ok(permits.semaphore.acquirable())),
        Signals::TYPE => table::with(handle, |signals: &mut Signals| Ok(signals.0.waitable())),
        Lock::TYPE => table::with(handle, |lock: &mut Lock| Ok(lock.free()?.lockable())),
        Flag::TYPE => table::with(handle, |flag: &mut Flag| Ok(flag.0.waitable())),
        _ => Err(not_for(handle)),
    }
}

/// Removes a member. Returns 1 if the number was in the set, otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_set_remove(set: *mut slipring_wait_set, token: usize) -> c_int {
    status(table::with(set.cast(), |set: &mut Set| Ok(set.0.remove(Token(token)).into())))
}

/// Waits until members are ready, and writes the numbers of up to `max` of them to `tokens`. Returns
/// how many; 0 if there are none and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT. A member is ready when
/// a call on it may do something, so call without waiting. No system call if one is ready.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_set_wait(
    set: *mut slipring_wait_set,
    tokens: *mut usize,
    max: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(set.cast(), |set: &mut Set| {
        if max == 0 {
            return Err(Failure::Told(SLIPRING_EINVAL, c"room for no number: pass an array of at least one"));
        }
        let tokens = items_mut(tokens, max)?;
        let ready: Ready<'_> = match Wait::of(timeout_ns) {
            Wait::Not => set.0.try_wait()?,
            Wait::Forever => set.0.wait()?,
            Wait::Until(deadline) => set.0.wait_deadline(deadline)?,
        };
        let mut n = 0;
        for (place, token) in tokens.iter_mut().zip(ready) {
            *place = token.0;
            n += 1;
        }
        Ok(n)
    }))
}

/// Makes a waker that makes the set return `token`. Close both, in any order.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_waker_open(
    set: *mut slipring_wait_set,
    token: usize,
    waker: *mut *mut slipring_waker,
) -> c_int {
    opened(waker, || {
        let made = table::with(set.cast(), |set: &mut Set| Ok(set.0.waker(Token(token))?))?;
        table::insert(SetWaker(made))
    })
}

/// Makes the set return, now or at its next wait. From any thread, and from signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wake(waker: *mut slipring_waker) -> c_int {
    status(table::with_shared(waker.cast(), |waker: &SetWaker| {
        waker.0.wake();
        Ok(0)
    }))
}

/// Makes a canceller of a handle that belongs to the calling thread. -SLIPRING_EOPNOTSUPP for
/// transports and wait sets: use a waker.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_canceller_open(handle: *mut c_void, canceller: *mut *mut slipring_canceller) -> c_int {
    opened(canceller, || table::insert(HandleCanceller(cancel(handle)?)))
}

fn cancel(handle: *mut c_void) -> Result<Canceller, Failure> {
    match table::type_of(handle) {
        Consumer::TYPE => table::with(handle, Consumer::canceller),
        Producer::TYPE => table::with(handle, |producer: &mut Producer| {
            use producer::EndRef as End;
            Ok(match producer.end()? {
                End::Spsc(end) => end.canceller(),
                End::Mpmc(end) => end.canceller(),
                End::Mpsc(end) => end.canceller(),
                End::Broadcast(end) => end.canceller(),
                End::Transport(_) => return Err(unsupported()),
            })
        }),
        Reader::TYPE => table::with(handle, |reader: &mut Reader| Ok(reader.0.canceller())),
        Writer::TYPE => table::with(handle, |writer: &mut Writer| Ok(writer.0.canceller())),
        LatestReader::TYPE => table::with(handle, |reader: &mut LatestReader| Ok(reader.0.canceller())),
        LatestWriter::TYPE => table::with(handle, |writer: &mut LatestWriter| Ok(writer.0.canceller())),
        Permits::TYPE => table::with(handle, |permits: &mut Permits| Ok(permits.semaphore.canceller())),
        Signals::TYPE => table::with(handle, |signals: &mut Signals| Ok(signals.0.canceller())),
        Lock::TYPE => table::with(handle, |lock: &mut Lock| Ok(lock.free()?.canceller())),
        Flag::TYPE => table::with(handle, |flag: &mut Flag| Ok(flag.0.canceller())),
        _ => crate::rpc::canceller(handle).unwrap_or_else(|| Err(not_for(handle))),
    }
}

/// Ends the call on the handle that waits, and every later one that would wait, with
/// -SLIPRING_ECANCELED. From any thread, and from signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_cancel(canceller: *mut slipring_canceller) -> c_int {
    status(table::with_shared(canceller.cast(), |canceller: &HandleCanceller| {
        canceller.0.cancel();
        Ok(0)
    }))
}

/// Lets calls on the handle wait again.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_canceller_reset(canceller: *mut slipring_canceller) -> c_int {
    status(table::with_shared(canceller.cast(), |canceller: &HandleCanceller| {
        canceller.0.reset();
        Ok(0)
    }))
}

/// A descriptor for poll, select, epoll or io_uring. Of a consumer it is readable (POLLIN) when a
/// call without waiting may have a result, of a producer writable (POLLOUT) when there may be room.
/// Before polling, call slipring_recv(), or slipring_send(), with a time-out of 0 until it returns
/// -SLIPRING_EAGAIN: that arms the descriptor. It belongs to the handle: do not read, write or
/// close it. A consumer tells of released space from time to time: the descriptor of a ring's
/// producer may become writable up to 50 ms late.
///
/// Returns the descriptor; -SLIPRING_EOPNOTSUPP for other handles: use a wait set. The first call
/// makes it, by some system calls.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_fd(handle: *mut c_void) -> c_int {
    status(match table::type_of(handle) {
        Consumer::TYPE => table::with(handle, |consumer: &mut Consumer| {
            if let consumer::EndRef::Transport(end) = consumer.end()? {
                return end.poll_fd().map(|fd| fd.as_raw_fd()).ok_or_else(unsupported);
            }
            if consumer.bell.is_none() {
                consumer.bell = consumer.ring.as_ref().map(Doorbell::eventfd).transpose()?;
            }
            consumer.bell.as_ref().map(|bell| bell.as_fd().as_raw_fd()).ok_or_else(unsupported)
        }),
        Producer::TYPE => table::with(handle, Producer::fd),
        _ => Err(not_for(handle)),
    })
}
