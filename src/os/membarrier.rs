//! `membarrier(2)`: a full memory barrier on every core that runs a registered process, paid for by the caller alone.
//!
//! Used by `wait/` to let notifiers go without a fence. Linux 4.16 (`GLOBAL_EXPEDITED`).

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

/// The process that registered: a child made by `fork` keeps its parent's registration, but checking is cheap and an
/// `execve` clears it together with this variable.
static REGISTERED_PID: AtomicU32 = AtomicU32::new(0);

/// Registers this process so that [`barrier`] calls of others reach it. Idempotent; at most two system calls, once.
///
/// False where the kernel or a seccomp filter does not allow it: the caller then has to fence by itself.
pub(crate) fn register() -> bool {
    let pid = std::process::id();
    if REGISTERED_PID.load(Ordering::Relaxed) == pid {
        return true;
    }
    let query = membarrier_query();
    use rustix::thread::MembarrierQuery as Q;
    if !query.contains(Q::GLOBAL_EXPEDITED | Q::REGISTER_GLOBAL_EXPEDITED) {
        return false;
    }
    let done = membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    if done {
        REGISTERED_PID.store(pid, Ordering::Relaxed);
    }
    done
}

/// When this returns true, every thread of every registered process has passed a full barrier since the call began: so says
/// the man page; Linux from 5.10 on may leave a processor out ("The nap" in `wait/eventcount.rs`). One system call (0.4 µs
/// on the reference machine).
pub(crate) fn barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
