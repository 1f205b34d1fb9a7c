//! Opening and creating a queue: its name, its limits, its owner.
//!
//! Used by both ends, and by `manage.rs`. Relies on `os/mq.rs` and `os/lock.rs`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, fstat};
use rustix::io::Errno;

use super::{Options, RECEIVER};
use crate::error::{Error, Result};
use crate::os::fork::LockFd;
use crate::os::owner;
use crate::os::{lock, mq};
use crate::transport::message::Wire;

/// The default size of a queue's largest message in bytes, where the system allows it.
const DEFAULT_MESSAGE_SIZE: usize = 8192;
/// The default number of messages in a queue, where the system allows it.
const DEFAULT_MESSAGES: usize = 10;
/// The byte that openers of the queue hold shared while they lock their own, and a remover
/// exclusively: see [`remove_if_unused`](super::remove_if_unused).
pub(super) const GATE: u64 = RECEIVER + 1;

/// How often to retry when other processes keep creating and removing the name.
const ATTEMPTS: usize = 100;

pub(super) const AT_GATE: &str = "lock the name of the queue";

/// Opens the queue; its name cannot be removed before [`leave_gate`].
pub(super) fn enter(name: &str, options: &Options) -> Result<(LockFd, mq::Attributes)> {
    for _ in 0..ATTEMPTS {
        let (fd, shape) = open_to_lock(name, options)?;
        lock::insist(|| lock::try_lock_shared(fd.as_fd(), GATE)).map_err(|e| Error::io(AT_GATE, e))?;
        if fstat(fd.as_fd()).map_err(|e| Error::io("examine the message queue", e))?.st_nlink > 0 {
            return Ok((fd, shape));
        }
    }
    Err(Error::NotFound)
}

pub(super) fn leave_gate(queue: &LockFd) -> Result<()> {
    lock::unlock(queue.as_fd(), GATE).map_err(|e| Error::io(AT_GATE, e))
}

/// As [`open`], for an end that will lock a byte: forked children do not keep the lock.
fn open_to_lock(name: &str, options: &Options) -> Result<(LockFd, mq::Attributes)> {
    let fd = LockFd::open(|| open(name, options).map(|(fd, _)| fd))?;
    let shape = shape_of(fd.as_fd())?;
    Ok((fd, shape))
}

pub(super) fn open(name: &str, options: &Options) -> Result<(OwnedFd, mq::Attributes)> {
    let name = checked_name(name)?;
    for _ in 0..ATTEMPTS {
        match mq::open(&name, None) {
            Ok(fd) => return checked_queue(fd, options),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(refusal(e, None)),
        }
        if !options.create {
            return Err(Error::NotFound);
        }
        let shape = shape(options)?;
        match mq::open(&name, Some(shape)) {
            Ok(fd) => return Ok((fd, shape)),
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) => return Err(refusal(e, Some(shape))),
        }
    }
    Err(Error::NotFound)
}

/// Checks what opening the queue would refuse. Creates nothing.
pub(crate) fn check(name: &str, options: &Options) -> Result<()> {
    match open(name, &options.clone().create(false)) {
        Err(Error::NotFound) if options.create => shape(options).map(drop),
        opened => opened.map(drop),
    }
}

pub(super) fn checked_name(name: &str) -> Result<CString> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let valid = name
        .strip_prefix('/')
        .is_some_and(|rest| (1..=128).contains(&rest.len()) && rest.bytes().all(allowed) && !rest.starts_with('.'));
    const WRONG: Error = Error::Invalid {
        what: "queue name: must be / and 1 to 128 of A-Z a-z 0-9 . _ - without a leading dot, as in /ticks",
    };
    if valid { CString::new(name).map_err(|_| WRONG) } else { Err(WRONG) }
}

/// Checks that an existing queue is ours and has the requested limits.
fn checked_queue(fd: OwnedFd, options: &Options) -> Result<(OwnedFd, mq::Attributes)> {
    let stat = fstat(&fd).map_err(|e| Error::io("examine the message queue", e))?;
    if !owner::owns(fd.as_fd(), &stat) {
        return Err(Error::Untrusted { what: "the message queue belongs to another user" });
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Error::Untrusted {
            what: "other users may send to the message queue: remove it, and it will be created with mode 0600",
        });
    }
    let shape = shape_of(fd.as_fd())?;
    expect("messages in the existing queue", options.messages, shape.messages)?;
    expect("message size of the existing queue", options.message_size, shape.message_size)?;
    if shape.message_size < Wire::MIN_MESSAGE {
        let (expected, found) = (Wire::MIN_MESSAGE as u64, shape.message_size as u64);
        return Err(Error::Incompatible { what: "least message size of the existing queue", expected, found });
    }
    Ok((fd, shape))
}

fn shape_of(queue: BorrowedFd<'_>) -> Result<mq::Attributes> {
    mq::attributes(queue).map_err(|e| Error::io("read the limits of the message queue", e))
}

fn expect(what: &'static str, asked: Option<usize>, found: usize) -> Result<()> {
    match asked {
        Some(asked) if asked != found => Err(Error::Incompatible { what, expected: asked as u64, found: found as u64 }),
        _ => Ok(()),
    }
}

/// The limits of a new queue: the requested ones, or as much of the default as the system allows.
fn shape(options: &Options) -> Result<mq::Attributes> {
    let messages = options.messages.unwrap_or_else(|| DEFAULT_MESSAGES.min(limit("msg_max").unwrap_or(usize::MAX)));
    let message_size =
        options.message_size.unwrap_or_else(|| DEFAULT_MESSAGE_SIZE.min(limit("msgsize_max").unwrap_or(usize::MAX)));
    if messages == 0 || message_size < Wire::MIN_MESSAGE {
        return Err(Error::Invalid { what: "limits of a queue: must be at least 1 message of at least 128 bytes" });
    }
    Ok(mq::Attributes { messages, message_size })
}

/// A limit of `/proc/sys/fs/mqueue`.
fn limit(name: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).ok()?.trim().parse().ok()
}

/// Translates the errors of mq_open(3), with what to do about them.
fn refusal(error: std::io::Error, created: Option<mq::Attributes>) -> Error {
    const USED_UP: &str = "another message queue: RLIMIT_MSGQUEUE is used up; remove queues, ask for fewer or smaller \
                           messages, or raise it (`ulimit -q`)";
    let too_much = |what, asked: usize, limit: Option<usize>| {
        let limit = limit.filter(|limit| asked > *limit)?;
        Some(Error::Incompatible { what, expected: asked as u64, found: limit as u64 })
    };
    match (error.raw_os_error().map(Errno::from_raw_os_error), created) {
        (Some(Errno::ACCESS), _) => {
            Error::Untrusted { what: "the message queue belongs to another user, who does not share it" }
        }
        (Some(Errno::MFILE | Errno::NOMEM), Some(_)) => Error::Unsupported { what: USED_UP },
        (Some(Errno::NOSPC), _) => {
            Error::Unsupported { what: "another message queue: raise /proc/sys/fs/mqueue/queues_max, or remove queues" }
        }
        (Some(Errno::NOSYS), _) => {
            Error::Unsupported { what: "POSIX message queues: this kernel was built without CONFIG_POSIX_MQUEUE" }
        }
        (Some(Errno::INVAL), Some(shape)) => {
            const SIZE: &str = "message size: raise /proc/sys/fs/mqueue/msgsize_max, or ask for less";
            const COUNT: &str = "number of messages: raise /proc/sys/fs/mqueue/msg_max, or ask for fewer";
            too_much(SIZE, shape.message_size, limit("msgsize_max"))
                .or_else(|| too_much(COUNT, shape.messages, limit("msg_max")))
                .unwrap_or_else(|| Error::io("create the message queue", error))
        }
        _ => Error::io("open the message queue", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in
            ["", "/", "x", "/a/b", "//", "/.hidden", "/a b", "/\u{e9}", "/a\0", &format!("/{}", "n".repeat(129))]
        {
            assert!(matches!(checked_name(name), Err(Error::Invalid { .. })), "{name:?}");
        }
        assert!(checked_name("/a.b-c_D9").is_ok());
    }
}
