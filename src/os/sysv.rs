//! System V message queues and semaphores (sysvipc(7)), which are named by numbers and cannot be
//! polled.
//!
//! Used by `transport/sysv/`. rustix has neither, hence libc. libc has no semaphores, so those
//! are bare system calls.

use std::io;

use libc::{c_int, c_long};

/// The kernel's figures for a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueState {
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    /// Bytes that all its messages together may occupy.
    pub(crate) capacity: usize,
    /// Messages in the queue.
    pub(crate) messages: u64,
}

/// Opens the queue of `key`. With `create` it must not exist yet, and gets mode 0600. One system
/// call, `msgget`.
pub(crate) fn queue(key: i32, create: bool) -> io::Result<i32> {
    // SAFETY: takes two numbers and returns one.
    number(c_long::from(unsafe { libc::msgget(key, creation(create)) }))
}

/// Reads the state of the queue. One system call, `msgctl(IPC_STAT)`.
pub(crate) fn queue_state(queue: i32) -> io::Result<QueueState> {
    // SAFETY: a structure of integers, for which all zeros is a valid value.
    let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is written, and lives through the call.
    number(c_long::from(unsafe { libc::msgctl(queue, libc::IPC_STAT, &raw mut state) }))?;
    let capacity = usize::try_from(state.msg_qbytes).unwrap_or(usize::MAX);
    let (uid, mode) = (state.msg_perm.uid, u32::from(state.msg_perm.mode));
    Ok(QueueState { uid, mode, capacity, messages: state.msg_qnum })
}

/// Removes the queue and its messages; pending calls on it end with `EIDRM`. One system call.
pub(crate) fn remove_queue(queue: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID reads no structure.
    number(c_long::from(unsafe { libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()) })).map(drop)
}

/// Bytes of a message before its text: its type, a `long` above 0.
pub(crate) const TYPE: usize = size_of::<c_long>();

/// Sends `message`, which begins with its type; `WouldBlock` if the queue is full. One system call,
/// `msgsnd`.
pub(crate) fn send(queue: i32, message: &[u8]) -> io::Result<()> {
    let text = message.len().checked_sub(TYPE).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: reads a `long` and `text` bytes, which is all of `message`; the kernel copies, so
    // alignment does not matter.
    number(c_long::from(unsafe { libc::msgsnd(queue, message.as_ptr().cast(), text, libc::IPC_NOWAIT) })).map(drop)
}

/// Receives the oldest message of any type and returns the length of its text, which follows the
/// type in `buffer`. Without `wait`: `ENOMSG` if there is none. A message that is too large stays
/// in the queue (`E2BIG`). One system call, `msgrcv`.
pub(crate) fn receive(queue: i32, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
    let room = buffer.len().checked_sub(TYPE).ok_or(io::ErrorKind::InvalidInput)?;
    let flags = if wait { 0 } else { libc::IPC_NOWAIT };
    // SAFETY: writes a `long` and at most `room` bytes, for which `buffer` has room.
    let received = unsafe { libc::msgrcv(queue, buffer.as_mut_ptr().cast(), room, 0, flags) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Receives the oldest message without waiting and truncates its text to the room in `buffer`; the
/// rest is lost. One system call, `msgrcv`.
pub(crate) fn receive_cut(queue: i32, buffer: &mut [u8]) -> io::Result<usize> {
    let room = buffer.len().checked_sub(TYPE).ok_or(io::ErrorKind::InvalidInput)?;
    let flags = libc::IPC_NOWAIT | libc::MSG_NOERROR;
    // SAFETY: writes a `long` and at most `room` bytes, for which `buffer` has room.
    let received = unsafe { libc::msgrcv(queue, buffer.as_mut_ptr().cast(), room, 0, flags) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Opens the semaphores of `key`, at least `count`. With `create` the set must not exist yet; it
/// gets mode 0600 and all values 0. One system call, `semget`.
pub(crate) fn semaphores(key: i32, count: u16, create: bool) -> io::Result<i32> {
    // SAFETY: takes three numbers and returns one.
    number(unsafe { libc::syscall(libc::SYS_semget, key, c_int::from(count), creation(create)) })
}

/// The value of one semaphore. One system call, `semctl(GETVAL)`.
pub(crate) fn value(set: i32, semaphore: u16) -> io::Result<i32> {
    // SAFETY: GETVAL takes numbers only.
    number(unsafe { libc::syscall(libc::SYS_semctl, set, c_int::from(semaphore), libc::GETVAL, 0 as c_long) })
}

/// The process that last changed one semaphore. One system call, `semctl(GETPID)`.
pub(crate) fn last_changed_by(set: i32, semaphore: u16) -> io::Result<u32> {
    // SAFETY: GETPID takes numbers only.
    let pid =
        number(unsafe { libc::syscall(libc::SYS_semctl, set, c_int::from(semaphore), libc::GETPID, 0 as c_long) })?;
    Ok(pid.unsigned_abs())
}

/// Sets the value of one semaphore. One system call, `semctl(SETVAL)`.
pub(crate) fn set_value(set: i32, semaphore: u16, value: u16) -> io::Result<()> {
    let value = c_long::from(value);
    // SAFETY: SETVAL takes numbers only.
    number(unsafe { libc::syscall(libc::SYS_semctl, set, c_int::from(semaphore), libc::SETVAL, value) }).map(drop)
}

/// Removes the semaphores. One system call.
pub(crate) fn remove_semaphores(set: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID reads nothing.
    number(unsafe { libc::syscall(libc::SYS_semctl, set, 0 as c_int, libc::IPC_RMID, 0 as c_long) }).map(drop)
}

/// A step of [`operate`].
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// This semaphore must be 0.
    Zero(u16),
    /// Adds to this semaphore; the kernel undoes that when this process ends, however it ends.
    Add(u16, i16),
}

/// Does all steps or none: `WouldBlock` if not all are possible now. One system call, `semop`.
pub(crate) fn operate(set: i32, steps: &[Step]) -> io::Result<()> {
    let operations: Vec<RawStep> = steps
        .iter()
        .map(|step| match *step {
            Step::Zero(semaphore) => RawStep { semaphore, add: 0, flags: libc::IPC_NOWAIT as i16 },
            Step::Add(semaphore, add) => RawStep { semaphore, add, flags: libc::IPC_NOWAIT as i16 | SEM_UNDO },
        })
        .collect();
    // SAFETY: reads `operations.len()` structures of the layout of `struct sembuf` from
    // `operations`.
    number(unsafe { libc::syscall(libc::SYS_semop, set, operations.as_ptr(), operations.len()) }).map(drop)
}

/// `struct sembuf` of <sys/sem.h>.
#[repr(C)]
struct RawStep {
    semaphore: u16,
    add: i16,
    flags: i16,
}

/// <linux/sem.h>
const SEM_UNDO: i16 = 0x1000;

fn creation(create: bool) -> c_int {
    if create { libc::IPC_CREAT | libc::IPC_EXCL | 0o600 } else { 0 }
}

fn number(result: c_long) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
