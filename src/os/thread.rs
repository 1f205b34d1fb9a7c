//! The library's own threads: named, and with every signal blocked, because signals are for the
//! program's threads.
//!
//! Used by `set/`. The kernel must not pick a thread that the program does not
//! know of to run a signal handler. Nor may a signal that is read from a signalfd be unblocked in
//! such a thread.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// Spawns a thread in which every signal is blocked from its first instruction on. Four system
/// calls.
pub(crate) fn spawn_with_signals_blocked(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set that it is passed.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` was filled by the line above; `before` is written. Changes the mask of this
    // thread only.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    let thread = Builder::new().name(name.to_owned()).spawn(body); // inherits this thread's mask
    // SAFETY: `before` was written by the call above, which succeeded.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn signals_are_blocked_in_the_thread_and_not_in_the_caller() {
        let before = blocked();
        let (tell, told) = std::sync::mpsc::channel();
        spawn_with_signals_blocked("blocked", move || tell.send(blocked()).unwrap()).unwrap().join().unwrap();
        let mask = told.recv().unwrap();
        assert!([libc::SIGINT, libc::SIGTERM, libc::SIGUSR1].iter().all(|signal| mask & (1 << (signal - 1)) != 0));
        assert_eq!(blocked(), before);
    }
}
