//! Signals as messages: queued with a value (sigqueue(3)), read from a descriptor (signalfd(2)),
//! without a handler.
//!
//! Used by `transport/signal/`. rustix has none of these calls, hence libc.

use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use static_assertions::const_assert_eq;

/// The real-time signals that the C library leaves to programs.
pub(crate) fn realtime() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

/// Blocks the signals in this thread and in all threads that it starts from now on. One system
/// call.
pub(crate) fn block(signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals)?;
    // SAFETY: reads `set`; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A nonblocking descriptor that reads the blocked and pending signals. One system call.
pub(crate) fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals)?;
    // SAFETY: reads `set`; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, owned by this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One signal that was read from the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) signal: u32,
    /// Whether it was queued with a value. Only then are pid, uid and value set, by the sender.
    pub(crate) queued: bool,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) value: u64,
}

impl Info {
    /// Bytes of `struct signalfd_siginfo`.
    pub(crate) const LEN: usize = 128;

    /// Decodes one unit of [`Info::LEN`] bytes of a read. The offsets are those of signalfd(2).
    pub(crate) fn decode(bytes: &[u8; Self::LEN]) -> Info {
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        Info {
            signal: word(0),
            queued: word(8) as i32 == libc::SI_QUEUE,
            pid: word(12),
            uid: word(16),
            value: u64::from_ne_bytes(std::array::from_fn(|i| bytes[48 + i])),
        }
    }
}

const_assert_eq!(size_of::<libc::signalfd_siginfo>(), Info::LEN);
const_assert_eq!(std::mem::offset_of!(libc::signalfd_siginfo, ssi_ptr), 48);

/// `siginfo_t` of a queued signal, as the kernel reads it on 64-bit machines.
#[repr(C)]
struct Queued {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: u32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

const_assert_eq!(size_of::<Queued>(), size_of::<libc::siginfo_t>());

/// Queues a signal with a value for the process of a pidfd, so a reused pid is not a danger.
/// `WouldBlock` if its user has too many signals pending (`RLIMIT_SIGPENDING`). One system call,
/// `pidfd_send_signal` (Linux 5.1).
pub(crate) fn queue(process: BorrowedFd<'_>, signal: i32, uid: u32, value: u64) -> io::Result<()> {
    let pid = std::process::id();
    let info = Queued { signal, errno: 0, code: libc::SI_QUEUE, padding: 0, pid, uid, value, rest: [0; 12] };
    // SAFETY: reads a `siginfo_t` from `info`, which is as large and lives through the call.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, &raw const info, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How the threads of a process treat a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// All threads block it: it stays pending until it is read.
    Blocked,
    /// Some thread does not block it, and the process has a handler.
    Handled,
    /// Some thread does not block it, and there is no handler: it is ignored, or ends the process.
    Open,
}

/// Reads `/proc/PID/task/*/status` (proc_pid_status(5)): three system calls for each thread.
/// `NotFound` if the process does not exist.
pub(crate) fn disposition(pid: u32, signal: i32) -> io::Result<Disposition> {
    let has = |status: &str, field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    let (mut blocked, mut handled) = (true, false);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended cannot get a signal.
        let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        blocked &= has(&status, "SigBlk:");
        handled |= has(&status, "SigCgt:");
    }
    Ok(match (blocked, handled) {
        (true, _) => Disposition::Blocked,
        (false, true) => Disposition::Handled,
        (false, false) => Disposition::Open,
    })
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: writes the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was written above; an invalid signal number is refused.
        if unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: `sigemptyset` has written it; it cannot fail for a valid pointer.
    Ok(unsafe { set.assume_init() })
}
