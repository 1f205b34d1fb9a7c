//! The two implementations of [`Locks`]: byte locks of the segment file, and a table in memory for
//! heap segments.
//!
//! Used by `participant.rs` and `segment/mapping.rs`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::table::Locks;
use crate::error::{Error, Result};
use crate::os::fork::{self, LockFd};
use crate::os::lock;

/// The locks of one holder. Dropping it releases all of them, as death does.
pub(in crate::segment) enum HeldLocks {
    /// An open file description of its own, which forked children do not keep.
    File(LockFd),
    /// An entry in the table of a heap segment.
    Heap(HeapHolder),
}

impl HeldLocks {
    /// The description that holds the locks; `None` on the heap.
    pub(in crate::segment) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            HeldLocks::File(fd) => Some(fd.as_fd()),
            HeldLocks::Heap(_) => None,
        }
    }
}

impl Locks for HeldLocks {
    fn try_lock(&self, byte: u64) -> Result<bool> {
        match self {
            HeldLocks::File(fd) => lock::try_lock(fd.as_fd(), byte).map_err(|e| Error::io("lock the segment", e)),
            HeldLocks::Heap(holder) => Ok(*holder.table().entry(byte).or_insert(holder.number) == holder.number),
        }
    }

    fn unlock(&self, byte: u64) -> Result<()> {
        match self {
            HeldLocks::File(fd) => lock::unlock(fd.as_fd(), byte).map_err(|e| Error::io("unlock the segment", e)),
            HeldLocks::Heap(holder) => {
                let mut table = holder.table();
                if table.get(&byte) == Some(&holder.number) {
                    table.remove(&byte);
                }
                Ok(())
            }
        }
    }

    fn is_locked(&self, byte: u64) -> Result<bool> {
        match self {
            HeldLocks::File(fd) => lock::is_locked(fd.as_fd(), byte).map_err(|e| Error::io("examine a lock", e)),
            HeldLocks::Heap(holder) => Ok(holder.table().get(&byte).is_some_and(|by| *by != holder.number)),
        }
    }
}

/// Byte → number of its holder.
type LockTable = Mutex<BTreeMap<u64, u64>>;

/// One holder of locks in a heap segment's table.
pub(in crate::segment) struct HeapHolder {
    table: Arc<LockTable>,
    number: u64,
    born: u32,
}

impl HeapHolder {
    /// A new holder without locks.
    pub(in crate::segment) fn new(table: &Arc<LockTable>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        HeapHolder { table: Arc::clone(table), number, born: fork::generation() }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeapHolder {
    fn drop(&mut self) {
        // In a forked child the table is a copy without users, and a thread that the child does not
        // have may hold its mutex.
        if !fork::is_child_of(self.born) {
            self.table().retain(|_, by| *by != self.number);
        }
    }
}
