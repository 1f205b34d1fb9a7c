//! The records of the threads that use handles: which thread runs, and in which call it is.
//!
//! Used by `table.rs` and `quick.rs`. A record is recognised without a system call and without the
//! tables of thread-local storage, which a shared library reaches by a function call only: by the
//! address of the thread's control block, which is in a register.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

/// One thread. Records are never freed, only given to another thread after theirs has ended.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Record {
    /// [`current_thread`] of the thread that it belongs to; 0 if that has ended.
    thread: AtomicUsize,
    /// The handle that the thread is in a call on; 0 outside. Written by the thread alone.
    pub(crate) in_call: AtomicU64,
    next: AtomicPtr<Record>,
}

/// A record of no thread: it owns the handles that are being closed or taken over.
pub(crate) static CLOSING: Record = Record::new(1);

/// A record of no thread: it owns the handles that no call was made on.
pub(crate) static UNOWNED: Record = Record::new(1);

/// A record of no thread: it owns the handles of the parent process.
pub(crate) static FORKED: Record = Record::new(2);

static ALL: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());

impl Record {
    const fn new(thread: usize) -> Self {
        Record { thread: AtomicUsize::new(thread), in_call: AtomicU64::new(0), next: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether it is the calling thread's.
    #[inline(always)]
    pub(crate) fn is_mine(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == current_thread()
    }

    /// Whether its thread has ended, as far as this thread knows.
    pub(crate) fn has_ended(&self) -> bool {
        fence(Ordering::SeqCst); // pairs with that of `claim`
        self.thread.load(Ordering::Acquire) == 0
    }

    /// The calling thread's.
    #[cold]
    pub(crate) fn mine() -> &'static Record {
        // A destructor of thread-local variables that runs after ours gets a record of its own,
        // which stays taken.
        MINE.try_with(|mine| match mine.0.get() {
            Some(record) => record,
            None => {
                let record = Self::claim();
                mine.0.set(Some(record));
                record
            }
        })
        .unwrap_or_else(|_| Self::claim())
    }

    fn claim() -> &'static Record {
        let me = current_thread();
        let mut next = ALL.load(Ordering::Acquire);
        // SAFETY: the list has records only that were leaked below.
        while let Some(record) = unsafe { next.as_ref() } {
            if record.thread.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // With the fence in `has_ended`: if another thread took this one for ended, the
                // calls of this one see that the handle is seized.
                fence(Ordering::SeqCst);
                return record;
            }
            next = record.next.load(Ordering::Relaxed);
        }
        let record: &'static Record = Box::leak(Box::new(Record::new(me)));
        let mut first = ALL.load(Ordering::Relaxed);
        loop {
            record.next.store(first, Ordering::Relaxed);
            let new = ptr::from_ref(record).cast_mut();
            match ALL.compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return record,
                Err(found) => first = found,
            }
        }
    }
}

/// In a forked child: of all threads it has the calling one alone.
pub(crate) fn after_fork() {
    let mut next = ALL.load(Ordering::Acquire);
    // SAFETY: as in `claim`.
    while let Some(record) = unsafe { next.as_ref() } {
        if !record.is_mine() {
            record.in_call.store(0, Ordering::Relaxed);
            record.thread.store(0, Ordering::Release);
        }
        next = record.next.load(Ordering::Relaxed);
    }
}

/// Returns the record when the thread ends.
struct Mine(Cell<Option<&'static Record>>);

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            // Left by longjmp(), it would refuse the calls of the next thread.
            record.in_call.store(0, Ordering::Relaxed);
            record.thread.store(0, Ordering::Release);
        }
    }
}

thread_local!(static MINE: Mine = const { Mine(Cell::new(None)) });

/// A number that no other living thread has: the address of the thread's control block.
#[inline(always)]
fn current_thread() -> usize {
    let address;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI of x86-64 keeps the address of the control block in its first word (psABI,
    // "Thread-Local Storage": `%fs:0`). Reads one word.
    unsafe {
        std::arch::asm!("mov {}, fs:[0]", out(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register, which user programs may.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) address, options(nostack, preserves_flags, nomem));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        thread_local!(static MARK: u8 = const { 0 });
        address = MARK.with(|mark| ptr::from_ref(mark).addr());
    }
    address
}
