//! Threads of the library's own: named, and deaf to signals, which are for the program's threads.
//!
//! Used by `transport/doorbell.rs`. A thread that the program does not know of must not be the one that the kernel picks to
//! run a handler, nor the one in which a signal that is read from a signalfd is not blocked.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// Spawns a thread in which every signal is blocked from its first instruction on. Four system calls.
pub(crate) fn spawn_deaf(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` was filled by the line above; `before` is written. Changes the mask of this thread only.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    let thread = Builder::new().name(name.to_owned()).spawn(body); // it inherits our mask
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
    fn the_thread_is_deaf_and_the_caller_is_not() {
        let before = blocked();
        let (tell, told) = std::sync::mpsc::channel();
        spawn_deaf("deaf", move || tell.send(blocked()).unwrap()).unwrap().join().unwrap();
        let mask = told.recv().unwrap();
        assert!([libc::SIGINT, libc::SIGTERM, libc::SIGUSR1].iter().all(|signal| mask & (1 << (signal - 1)) != 0));
        assert_eq!(blocked(), before);
    }
}
