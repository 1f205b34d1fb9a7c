//! Support for `fork(3)`: a handle detects that it is a copy in a child, and a child does not
//! inherit the locks that prove the parent's life.
//!
//! Used by every handle and guard ([`generation`], [`is_child_of`]) and by the holders of OFD locks
//! ([`LockFd`]). Relies on `pthread_atfork` and on `os/owner_thread.rs`.
//!
//! A forked child shares its parent's open file descriptions, and an OFD lock lives as long as any
//! descriptor of its description. Without further care the parent would seem alive until its
//! children have exited, too. The fork handlers registered here replace every [`LockFd`] in the
//! child by a descriptor that cannot be used. The number stays taken, so a stale reference to it
//! cannot reach another file.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::{lock, owner_thread};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// How often this process and its ancestors have forked since the first call. A handle notes this
/// when it is created.
///
/// No system call. (A bare `clone` system call is not noticed; the C library does not support it
/// either.)
#[inline]
pub(crate) fn generation() -> u32 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handlers run around `fork(3)` in the thread that calls it; see each for why
        // it may run there. Registration fails only for lack of memory. Forks are not noticed here
        // then, but `Participant::check_process` still detects them.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
    FORKS.load(Relaxed)
}

/// Whether this process was forked since `born` was noted. One load and a comparison, cheap enough
/// for every call.
#[inline(always)]
pub(crate) fn is_child_of(born: u32) -> bool {
    FORKS.load(Relaxed) != born
}

/// A value of which each process has its own: a forked child finds a new one, not a copy that a
/// thread of its parent may have locked. For `static`s; what a parent left is never freed in its
/// child.
pub(crate) struct PerProcess<T>(AtomicPtr<Own<T>>);

struct Own<T> {
    born: u32,
    value: Mutex<T>,
}

impl<T: Default> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The value of this process, locked.
    pub(crate) fn lock(&'static self) -> MutexGuard<'static, T> {
        let born = generation();
        loop {
            // SYNC(own): pairs with the CAS in `lock`; the value is there before its address.
            let seen = self.0.load(Ordering::Acquire);
            // SAFETY: null, or made from a box below and never freed.
            if let Some(own) = unsafe { seen.as_ref() } {
                if own.born == born {
                    return own.value.lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
            let new = Box::into_raw(Box::new(Own { born, value: Mutex::new(T::default()) }));
            // SYNC(own): pairs with the load in `lock`.
            if self.0.compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed).is_err() {
                // SAFETY: made two lines above, and published nowhere.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

/// A descriptor that holds OFD locks of this process. In a forked child its number refers to a
/// stand-in.
///
/// The stand-in is an `O_PATH` descriptor: reading, writing, polling and locking it fail with
/// `EBADF`.
#[derive(Debug)]
pub(crate) struct LockFd(ManuallyDrop<OwnedFd>);

impl LockFd {
    /// Opens and registers a descriptor; no other thread can fork in between.
    pub(crate) fn open<E>(open: impl FnOnce() -> Result<OwnedFd, E>) -> Result<Self, E> {
        generation(); // registers the handlers
        REGISTRY.with(|open_fds| {
            let fd = open()?;
            if let Some(open_fds) = open_fds {
                set(open_fds, fd.as_raw_fd(), true);
            }
            Ok(LockFd(ManuallyDrop::new(fd)))
        })
    }
}

impl AsFd for LockFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for LockFd {
    fn drop(&mut self) {
        REGISTRY.with(|open_fds| {
            if let Some(open_fds) = open_fds {
                set(open_fds, self.0.as_raw_fd(), false);
            }
            // Closing is not enough: a child that another thread is starting has a copy of the
            // descriptor until its `execve`. In a forked child this fails, as it should.
            let _ = lock::unlock_all(self.0.as_fd());
            // SAFETY: dropped once, here, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        });
    }
}

/// The numbers of all [`LockFd`]s, one bit each, and the lock that delays forks while they change.
struct Registry {
    /// The thread that holds the lock (an address unique among living threads), or 0.
    holder: AtomicUsize,
    /// Whether the holder is about to fork.
    forking: AtomicBool,
    numbers: UnsafeCell<Vec<u64>>,
}

// SAFETY: `numbers` is touched only by the thread that is named in `holder`.
unsafe impl Sync for Registry {}

static REGISTRY: Registry =
    Registry { holder: AtomicUsize::new(0), forking: AtomicBool::new(false), numbers: UnsafeCell::new(Vec::new()) };

impl Registry {
    /// Takes the lock. False if this thread holds it already: a signal handler interrupted
    /// [`Registry::with`] and forks.
    fn lock(&self) -> bool {
        let me = owner_thread::address();
        loop {
            // SYNC(numbers): pairs with the store in `unlock`.
            match self.holder.compare_exchange_weak(0, me, Ordering::Acquire, Relaxed) {
                Ok(_) => return true,
                Err(holder) if holder == me => return false,
                Err(_) => std::thread::yield_now(), // an open or a close, or another thread's fork
            }
        }
    }

    fn unlock(&self) {
        // SYNC(numbers): pairs with the CAS in `lock`.
        self.holder.store(0, Ordering::Release);
    }

    /// Runs `change` while no thread can fork. `change` gets `None` inside a signal handler that
    /// interrupted another call.
    fn with<T>(&self, change: impl FnOnce(Option<&mut Vec<u64>>) -> T) -> T {
        if !self.lock() {
            return change(None);
        }
        // SAFETY: this thread holds the lock, and `change` gets the only reference.
        let done = change(Some(unsafe { &mut *self.numbers.get() }));
        self.unlock();
        done
    }
}

fn set(numbers: &mut Vec<u64>, fd: i32, open: bool) {
    let Ok(fd) = usize::try_from(fd) else { return };
    let (word, bit) = (fd / 64, 1 << (fd % 64));
    if open && numbers.len() <= word {
        numbers.resize(word + 1, 0);
    }
    if let Some(word) = numbers.get_mut(word) {
        *word = if open { *word | bit } else { *word & !bit };
    }
}

/// Before the fork, in the thread that forks: waits until no descriptor is being opened or closed.
extern "C" fn prepare() {
    // If a signal handler interrupted such a section and forks, it forks without the lock. The
    // child keeps the descriptors then; FORKS still identifies it as a child.
    if REGISTRY.lock() {
        REGISTRY.forking.store(true, Relaxed);
    }
}

/// After the fork, in the parent.
extern "C" fn parent() {
    if REGISTRY.forking.swap(false, Relaxed) {
        REGISTRY.unlock();
    }
}

/// After the fork, in the child's only thread. It only makes system calls and accesses plain
/// memory.
extern "C" fn child() {
    FORKS.fetch_add(1, Relaxed);
    if !REGISTRY.forking.swap(false, Relaxed) {
        return;
    }
    // SAFETY: `prepare` took the lock in the thread that this one is a copy of.
    let numbers = unsafe { &mut *REGISTRY.numbers.get() };
    let mut stand_in = -1;
    for (index, word) in numbers.iter_mut().enumerate() {
        while *word != 0 {
            let fd = (64 * index) as i32 + word.trailing_zeros() as i32;
            *word &= *word - 1;
            replace(fd, &mut stand_in);
        }
    }
    if stand_in >= 0 {
        // SAFETY: opened by `replace`, and known to nothing else.
        unsafe { libc::close(stand_in) };
    }
    REGISTRY.unlock();
}

/// Makes `fd` refer to the stand-in. If no descriptor is left for a stand-in, `fd` itself is closed
/// to make room.
fn replace(fd: i32, stand_in: &mut i32) {
    const NOTHING: &std::ffi::CStr = c"/";
    // SAFETY: the path is a constant string that ends in NUL.
    let open = || unsafe { libc::open(NOTHING.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if *stand_in < 0 {
        *stand_in = open();
    }
    if *stand_in >= 0 {
        // SAFETY: `fd` is a lock descriptor's number, which refers to the stand-in from now on; its
        // owner may close it.
        unsafe { libc::dup3(*stand_in, fd, libc::O_CLOEXEC) };
        return;
    }
    // SAFETY: as above; the number is taken again by the next line.
    unsafe { libc::close(fd) };
    let made = open();
    if made >= 0 && made != fd {
        // SAFETY: as above.
        unsafe { libc::dup3(made, fd, libc::O_CLOEXEC) };
        *stand_in = made;
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::os::lock;
    use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};

    #[test]
    fn a_child_does_not_keep_its_parents_locks() {
        let file = memfd_create("fork", MemfdFlags::CLOEXEC).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let held = LockFd::open(|| open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())).unwrap();
        assert!(lock::try_lock(held.as_fd(), 7).unwrap());
        let born = generation();
        let (alive, stay) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut report, tell) = std::os::unix::net::UnixStream::pair().unwrap();
        // SAFETY: the child makes system calls only; it lives until the parent has closed `stay`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let harmless = is_child_of(born) && lock::try_lock(held.as_fd(), 7).is_err();
            let mut byte = u8::from(harmless);
            // SAFETY: writes one byte from `byte`.
            unsafe { libc::write(tell.as_raw_fd(), (&raw const byte).cast(), 1) };
            // SAFETY: this process's copy, which is not closed again.
            unsafe { libc::close(stay.as_raw_fd()) };
            // SAFETY: reads at most one byte into `byte`.
            unsafe { libc::read(alive.as_raw_fd(), (&raw mut byte).cast(), 1) };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut harmless = [0];
        std::io::Read::read_exact(&mut report, &mut harmless).unwrap();
        assert_eq!(harmless, [1]);
        assert!(!is_child_of(born));
        assert!(lock::is_locked(file.as_fd(), 7).unwrap(), "the parent still holds it");
        drop(held);
        assert!(!lock::is_locked(file.as_fd(), 7).unwrap(), "released though the child lives");
        drop(stay);
        let mut status = -1;
        // SAFETY: `pid` is our child, and `status` lives through the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
    }
}
