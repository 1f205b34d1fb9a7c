//! The calls that take any handle: close, take over, what is known about it.
//!
//! Used by C programs. Relies on the objects of all other files.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use slipring::{Kind, Ring};

use crate::arguments::{Given, Wait, out, slipring_options, text};
use crate::consumer::{self, Consumer};
use crate::error::{Failure, SLIPRING_EINVAL, SLIPRING_EOPNOTSUPP, status};
use crate::latest::{LatestReader, LatestWriter};
use crate::named::{Flag, Lock, Permits, Signals};
use crate::producer::{self, Producer};
use crate::stream::{Reader, Writer};
use crate::table::{self, Object};
use crate::{rpc, set};

/// Closes a handle of any type: what it holds is aborted, released or unlocked, and its peers are
/// told. Its value is invalid from then on, and every call with it returns -SLIPRING_EHANDLE.
///
/// The owner thread may call it, and another thread while the owner is in no call, for example after
/// it has ended. Returns 0; -SLIPRING_EHANDLE for NULL and for a handle that was closed;
/// -SLIPRING_EBUSY during a call of the owner.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_close(handle: *mut c_void) -> c_int {
    let result = match table::type_of(handle) {
        Producer::TYPE => table::close::<Producer>(handle),
        Consumer::TYPE => table::close::<Consumer>(handle),
        Writer::TYPE => table::close::<Writer>(handle),
        Reader::TYPE => table::close::<Reader>(handle),
        LatestWriter::TYPE => table::close::<LatestWriter>(handle),
        LatestReader::TYPE => table::close::<LatestReader>(handle),
        Permits::TYPE => table::close::<Permits>(handle),
        Signals::TYPE => table::close::<Signals>(handle),
        Lock::TYPE => table::close::<Lock>(handle),
        Flag::TYPE => table::close::<Flag>(handle),
        _ => set::close(handle)
            .or_else(|| rpc::close(handle))
            .unwrap_or_else(|| Err(Failure::bad_handle(handle.addr() as u64))),
    };
    status(result.map(|()| 0))
}

/// Makes the calling thread the owner of a handle of another thread, which is in no call on it. A
/// handle belongs to the thread that makes the first call on it after opening. Returns 0;
/// -SLIPRING_EBUSY during a call of the owner.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_take(handle: *mut c_void) -> c_int {
    status(table::take(handle).map(|()| 0))
}

/// Why a call that is for some types of handles is not for this one.
#[cold]
pub(crate) fn not_for(handle: *const c_void) -> Failure {
    if table::is_open(handle) { unsupported() } else { Failure::bad_handle(handle.addr() as u64) }
}

#[cold]
pub(crate) fn unsupported() -> Failure {
    Failure::Told(SLIPRING_EOPNOTSUPP, c"this handle cannot do that: see the comment of the function in slipring.h")
}

/// What is known about a ring. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_info {
    /// sizeof(slipring_info).
    pub struct_size: usize,
    /// SLIPRING_SPSC and so on.
    pub kind: c_int,
    /// 1 if a peer of the other role is attached.
    pub has_peer: c_int,
    /// Bytes of the ring, of all lanes for mpsc; frames of an mpmc ring; cells of latest values.
    pub capacity: u64,
    /// The largest payload in bytes.
    pub max_payload: u64,
    /// What of the capacity is in use.
    pub used: u64,
    /// Attached producers.
    pub producers: u64,
    /// Attached consumers.
    pub consumers: u64,
    /// Frames sent, or bytes of a stream.
    pub sent: u64,
    /// Frames received and released.
    pub received: u64,
    /// Bytes of payload sent.
    pub bytes: u64,
    /// Frames delivered again after a consumer had died.
    pub redelivered: u64,
    /// Frames lost by the death of a consumer, with SLIPRING_AT_MOST_ONCE.
    pub lost: u64,
    /// How often a dead participant's work was recovered.
    pub recovered: u64,
    /// Times that a participant slept.
    pub sleeps: u64,
}

/// Fills `*info` for the ring of a producer, a consumer, or an end of a stream or of latest values:
/// counts of all participants since it was created. Returns 0; -SLIPRING_EINVAL for a wrong
/// `struct_size`; -SLIPRING_EOPNOTSUPP for other handles. Some loads for each participant.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_get_info(handle: *mut c_void, info: *mut slipring_info) -> c_int {
    status((|| {
        let info = out(info)?;
        if info.struct_size != mem::size_of::<slipring_info>() {
            return Err(Failure::Told(SLIPRING_EINVAL, c"info.struct_size: must be sizeof(slipring_info)"));
        }
        let (ring, has_peer) = ring_of(handle)?;
        let stats = ring.stats();
        let in_slots = matches!(ring.kind(), Kind::Mpmc | Kind::Latest);
        *info = slipring_info {
            struct_size: info.struct_size,
            kind: ring.kind() as c_int,
            has_peer: has_peer.into(),
            capacity: if in_slots { ring.slots() } else { ring.capacity() } as u64,
            max_payload: ring.max_payload() as u64,
            used: stats.used(),
            producers: stats.producers as u64,
            consumers: stats.consumers as u64,
            sent: stats.counts.sent,
            received: stats.counts.received,
            bytes: stats.counts.bytes,
            redelivered: stats.counts.redelivered,
            lost: stats.counts.lost,
            recovered: stats.counts.recovered,
            sleeps: stats.counts.sleeps,
        };
        Ok(0)
    })())
}

/// The ring of a handle, and whether a peer is there.
fn ring_of(handle: *mut c_void) -> Result<(Ring, bool), Failure> {
    match table::type_of(handle) {
        Producer::TYPE => table::with(handle, |producer: &mut Producer| {
            let has_peer = match producer.end() {
                Ok(producer::EndRef::Spsc(end)) => end.has_peer(),
                Ok(producer::EndRef::Mpmc(end)) => end.has_peer(),
                Ok(producer::EndRef::Mpsc(end)) => end.has_peer(),
                Ok(producer::EndRef::Broadcast(end)) => end.has_peer(),
                _ => false,
            };
            Ok((producer.ring.clone().ok_or_else(unsupported)?, has_peer))
        }),
        Consumer::TYPE => table::with(handle, |consumer: &mut Consumer| {
            let has_peer = match consumer.end() {
                Ok(consumer::EndRef::Spsc(end)) => end.has_peer(),
                Ok(consumer::EndRef::Mpmc(end)) => end.has_peer(),
                Ok(consumer::EndRef::Mpsc(end)) => end.has_peer(),
                Ok(consumer::EndRef::Broadcast(end)) => end.has_peer(),
                Ok(consumer::EndRef::Lossy(end)) => end.has_peer(),
                _ => false,
            };
            Ok((consumer.ring.clone().ok_or_else(unsupported)?, has_peer))
        }),
        Writer::TYPE => table::with(handle, |end: &mut Writer| Ok((end.0.ring().clone(), end.0.has_peer()))),
        Reader::TYPE => table::with(handle, |end: &mut Reader| Ok((end.0.ring().clone(), end.0.has_peer()))),
        LatestWriter::TYPE => {
            table::with(handle, |end: &mut LatestWriter| Ok((end.0.ring().clone(), end.0.has_peer())))
        }
        LatestReader::TYPE => {
            table::with(handle, |end: &mut LatestReader| Ok((end.0.ring().clone(), end.0.has_peer())))
        }
        _ => Err(not_for(handle)),
    }
}

/// The descriptor of a handle's segment, to be passed to another process (SCM_RIGHTS, or
/// inheritance by fork and exec after clearing FD_CLOEXEC), which opens it with SLIPRING_FROM_FD. It
/// belongs to the handle: do not close it. For anonymous rings and primitives.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_segment_fd(handle: *mut c_void) -> c_int {
    status(match table::type_of(handle) {
        Permits::TYPE => table::with(handle, |end: &mut Permits| Ok(end.semaphore.as_fd().as_raw_fd())),
        Signals::TYPE => table::with(handle, |end: &mut Signals| Ok(end.0.as_fd().as_raw_fd())),
        Lock::TYPE => table::with(handle, |end: &mut Lock| Ok(end.free()?.as_fd().as_raw_fd())),
        Flag::TYPE => table::with(handle, |end: &mut Flag| Ok(end.0.as_fd().as_raw_fd())),
        _ => ring_of(handle).map(|(ring, _)| ring.as_fd().as_raw_fd()),
    })
}

/// Waits until a peer of the other role is attached to the ring of a handle. Returns 0;
/// -SLIPRING_ETIMEDOUT; -SLIPRING_EOPNOTSUPP for handles without a ring.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_wait_for_peer(handle: *mut c_void, timeout_ns: i64) -> c_int {
    let deadline = Wait::of(timeout_ns).deadline();
    let result = match table::type_of(handle) {
        Producer::TYPE => table::with(handle, |producer: &mut Producer| {
            match producer.end()? {
                producer::EndRef::Spsc(end) => end.wait_for_peer(deadline)?,
                producer::EndRef::Mpmc(end) => end.wait_for_peer(deadline)?,
                producer::EndRef::Mpsc(end) => end.wait_for_peer(deadline)?,
                producer::EndRef::Broadcast(end) => end.wait_for_peer(deadline)?,
                producer::EndRef::Transport(_) => return Err(unsupported()),
            }
            Ok(())
        }),
        Consumer::TYPE => table::with(handle, |consumer: &mut Consumer| {
            match consumer.end()? {
                consumer::EndRef::Spsc(end) => end.wait_for_peer(deadline)?,
                consumer::EndRef::Mpmc(end) => end.wait_for_peer(deadline)?,
                consumer::EndRef::Mpsc(end) => end.wait_for_peer(deadline)?,
                consumer::EndRef::Broadcast(end) => end.wait_for_peer(deadline)?,
                consumer::EndRef::Lossy(end) => end.wait_for_peer(deadline)?,
                consumer::EndRef::Transport(_) => return Err(unsupported()),
            }
            Ok(())
        }),
        Writer::TYPE => table::with(handle, |end: &mut Writer| Ok(end.0.wait_for_peer(deadline)?)),
        Reader::TYPE => table::with(handle, |end: &mut Reader| Ok(end.0.wait_for_peer(deadline)?)),
        LatestWriter::TYPE => table::with(handle, |end: &mut LatestWriter| Ok(end.0.wait_for_peer(deadline)?)),
        LatestReader::TYPE => table::with(handle, |end: &mut LatestReader| Ok(end.0.wait_for_peer(deadline)?)),
        _ => Err(not_for(handle)),
    };
    status(result.map(|()| 0))
}

/// Removes the name of a ring or primitive: its participants go on, and its memory is freed with the
/// last of them. `options` may name a directory and a kind, which the ring must then have. Returns
/// 0; -SLIPRING_ENOENT; -SLIPRING_EINCOMPATIBLE; -SLIPRING_EUNTRUSTED.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_remove(name: *const c_char, options: *const slipring_options) -> c_int {
    status((|| {
        let options = Given::new(options)?;
        let name = text(name)?;
        Ring::remove(name, &options.ring(0)?)?;
        Ok(0)
    })())
}

/// Removes the names of a server's rings: those of its requests and of each reply lane. Otherwise as
/// slipring_remove().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_server_remove(name: *const c_char, options: *const slipring_options) -> c_int {
    status((|| {
        let options = Given::new(options)?;
        slipring::rpc::Server::remove(text(name)?, &rpc::ring_options(&options)?)?;
        Ok(0)
    })())
}

/// The version of the library, such as "0.1.0": compare it with SLIPRING_VERSION of the header.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_version() -> *const c_char {
    const VERSION: &[u8] = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();
    VERSION.as_ptr().cast()
}
