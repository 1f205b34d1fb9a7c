//! `membarrier(2)`: a full memory barrier on every core that runs a registered process, at the cost
//! of the caller.
//!
//! Used by `wait/` so that notifiers need no fence. Linux 4.16 (`GLOBAL_EXPEDITED`).

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

/// The process that registered. A child made by `fork` keeps its parent's registration, but
/// checking is cheap, and an `execve` clears the registration together with this variable.
static REGISTERED_PID: AtomicU32 = AtomicU32::new(0);

/// Registers this process so that the [`barrier`] calls of other processes reach it. Idempotent; at
/// most two system calls, once.
///
/// False where the kernel or a seccomp filter does not allow it: the caller needs its own fences
/// then.
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

/// Executes a full barrier in every thread of every registered process between the call and its
/// return, if it returns true. The man page promises that; Linux from 5.10 on may leave a processor
/// out ("The bounded first wait" in `wait/barrier.rs`). One system call (0.4 µs on the reference
/// machine).
pub(crate) fn barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
