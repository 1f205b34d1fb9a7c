//! Writing to a pipe that no process reads, without `SIGPIPE`.
//!
//! Used by `bytes.rs`. A Rust program ignores that signal and sees `EPIPE`; in a program of another
//! language, which uses the library through its C interface, it would end the process. Sockets have
//! a flag for it; for pipes the signal is blocked during the write, and taken if the write raised
//! it.

use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;

/// Whether `SIGPIPE` is not ignored, so that writes must be guarded. One system call.
pub(crate) fn is_deadly() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action only, and has room for it.
    let is_known = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: zeros are an action, too: of numbers and an optional function.
    let action = unsafe { action.assume_init() };
    !is_known || action.sa_sigaction != libc::SIG_IGN
}

/// Writes with `SIGPIPE` blocked in this thread, and takes the one that the write raised. Two
/// system calls beside those of `write`.
pub(crate) fn without<T>(write: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let pipe = only_sigpipe();
    let Some(before) = change_mask(libc::SIG_BLOCK, Some(&pipe)) else { return write() };
    if has_sigpipe(&before) {
        return write(); // blocked by the program, which may wait for it
    }
    let done = write();
    if matches!(done, Err(Errno::PIPE)) {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: an initialised set and time; what it took may be left out. It takes no signal
        // that was pending before the write: that one was not blocked, so it had been delivered.
        unsafe { libc::sigtimedwait(&pipe, ptr::null_mut(), &at_once) };
    }
    change_mask(libc::SIG_SETMASK, Some(&before));
    done
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: room for a set, which it initialises.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    let mut set: libc::sigset_t = unsafe { set.assume_init() };
    // SAFETY: an initialised set, and a signal that there is.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGPIPE) };
    set
}

fn has_sigpipe(set: &libc::sigset_t) -> bool {
    // SAFETY: an initialised set.
    unsafe { libc::sigismember(set, libc::SIGPIPE) == 1 }
}

/// Changes the signal mask of this thread, and returns that from before.
fn change_mask(how: libc::c_int, set: Option<&libc::sigset_t>) -> Option<libc::sigset_t> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: an initialised set or null, and room for another one.
    let result = unsafe { libc::pthread_sigmask(how, set.map_or(ptr::null(), ptr::from_ref), before.as_mut_ptr()) };
    // SAFETY: it has succeeded, and so has initialised the set.
    (result == 0).then(|| unsafe { before.assume_init() })
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::os::bytes::ByteFd;
    use std::io::IoSlice;

    fn is_pending() -> bool {
        let mut set = only_sigpipe();
        // SAFETY: room for a set.
        assert_eq!(unsafe { libc::sigpending(&raw mut set) }, 0);
        has_sigpipe(&set)
    }

    #[test]
    fn no_signal_is_left() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        // The runtime of Rust ignores the signal, and an ignored one is not left pending: so this
        // looks at the result and the mask. The C tests have the default action.
        let result = without(|| rustix::io::write(&writer, b"x"));
        assert_eq!(result, Err(Errno::PIPE));
        assert!(!is_pending());
        assert!(!has_sigpipe(&change_mask(libc::SIG_BLOCK, None).unwrap()));
        assert!(!is_deadly());
        assert_eq!(ByteFd::new(writer).unwrap().write(&[IoSlice::new(b"x")], true), Err(Errno::PIPE));
    }
}
