//! JACK's ring buffer, function by function: a byte stream between two threads, or two processes.
//!
//! Used by programs that were written for `jack/ringbuffer.h`; `JACK.md` says how to port one.
//! Relies on `stream.rs` and `table.rs`.
//!
//! A buffer within a process has two handles, one for each side: the program's value is the
//! writer's, which knows the reader's. A thread that comes to a side takes it over, because JACK's
//! buffers have no owner.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::ptr;

use slipring::stream::{Consumer, Producer};
use slipring::{Options, Ring};

use crate::arguments::{buffer, bytes, out, text};
use crate::error::{Failure, SLIPRING_EOPNOTSUPP, note_failure};
use crate::stream::{Reader, Writer, slipring_span};
use crate::table::{self, Object};

/// A ring buffer of bytes, for one writing and one reading thread.
pub struct slipring_ringbuffer_t(());

/// A run of bytes, as in jack/ringbuffer.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_ringbuffer_data_t {
    /// Its first byte.
    pub buf: *mut c_char,
    /// How many.
    pub len: usize,
}

impl From<slipring_span> for slipring_ringbuffer_data_t {
    fn from(span: slipring_span) -> Self {
        slipring_ringbuffer_data_t { buf: span.data.cast(), len: span.len }
    }
}

struct WriteSide(Writer);
struct ReadSide(Reader);

// SAFETY: the type's number is its alone.
unsafe impl Object for WriteSide {
    const TYPE: u8 = 16;
}

// SAFETY: the same.
unsafe impl Object for ReadSide {
    const TYPE: u8 = 17;
}

/// Calls `f` for a side, which the calling thread takes over if need be. What JACK's functions
/// return says nothing of errors, so an error is the default, and slipring_last_error() tells it.
#[inline(always)]
fn on<T: Object, R: Default>(handle: *const c_void, mut f: impl FnMut(&mut T) -> Result<R, Failure>) -> R {
    let mut result = table::with(handle, &mut f);
    if let Err(failure) = &result {
        if failure.is_wrong_thread() && table::take(handle).is_ok() {
            result = table::with(handle, &mut f);
        }
    }
    match result {
        Ok(value) => value,
        Err(Failure::Library(slipring::Error::Full | slipring::Error::Empty)) => R::default(),
        Err(failure) => {
            note_failure(&failure);
            R::default()
        }
    }
}

#[inline(always)]
fn writing<R: Default>(rb: *const slipring_ringbuffer_t, mut f: impl FnMut(&mut Writer) -> Result<R, Failure>) -> R {
    on(rb.cast(), |side: &mut WriteSide| f(&mut side.0))
}

#[inline(always)]
fn reading<R: Default>(rb: *const slipring_ringbuffer_t, mut f: impl FnMut(&mut Reader) -> Result<R, Failure>) -> R {
    on(reader_of(rb), |side: &mut ReadSide| f(&mut side.0))
}

/// The reader's handle of a buffer.
#[inline(always)]
fn reader_of(rb: *const slipring_ringbuffer_t) -> *const c_void {
    if table::type_of(rb.cast()) == WriteSide::TYPE { table::companion(rb.cast()) } else { rb.cast() }
}

fn options(size: usize) -> Options {
    // The smallest segment is a page.
    Options::stream(size.max(4096).checked_next_power_of_two().unwrap_or(usize::MAX)).prefault(true)
}

fn pair(options: &Options) -> Result<(Writer, Reader), Failure> {
    let ring = Ring::create_anonymous(options)?;
    Ok((Writer(Producer::attach(&ring)?), Reader(Consumer::attach(&ring)?)))
}

fn pointer(result: Result<*mut slipring_ringbuffer_t, Failure>) -> *mut slipring_ringbuffer_t {
    result.unwrap_or_else(|failure| {
        note_failure(&failure);
        ptr::null_mut()
    })
}

/// Makes a ring buffer that holds at least `sz` bytes, for two threads of this process. NULL if
/// there is no memory: see slipring_last_error().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_create(sz: usize) -> *mut slipring_ringbuffer_t {
    pointer(pair(&options(sz)).and_then(|(writer, reader)| {
        let reader: *mut c_void = table::insert(ReadSide(reader))?;
        let made = table::insert(WriteSide(writer));
        match made {
            Ok(writer) => table::set_companion(writer, reader),
            Err(_) => drop(table::close::<ReadSide>(reader)),
        }
        Ok(made?.cast())
    }))
}

/// Opens the writing side of the named ring buffer of at least `sz` bytes, for a reader in another
/// process. NULL on failure. Not in JACK.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_open_writer(name: *const c_char, sz: usize) -> *mut slipring_ringbuffer_t {
    pointer((|| table::insert(WriteSide(Writer(Producer::open(text(name)?, &options(sz))?))))())
}

/// Opens the reading side of the named ring buffer, for a writer in another process. NULL on
/// failure. Not in JACK.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_open_reader(name: *const c_char, sz: usize) -> *mut slipring_ringbuffer_t {
    pointer((|| table::insert(ReadSide(Reader(Consumer::open(text(name)?, &options(sz))?))))())
}

/// Frees the ring buffer. NULL, and a buffer that was freed before, are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_free(rb: *mut slipring_ringbuffer_t) {
    let reader = reader_of(rb);
    if table::type_of(rb.cast()) == WriteSide::TYPE {
        if let Err(failure) = table::close::<WriteSide>(rb.cast()) {
            note_failure(&failure);
        }
    }
    if !reader.is_null() {
        if let Err(failure) = table::close::<ReadSide>(reader) {
            note_failure(&failure);
        }
    }
}

/// Describes the bytes to be read, in place: `vec` has room for two runs, of which the second is
/// empty.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_get_read_vector(
    rb: *const slipring_ringbuffer_t,
    vec: *mut slipring_ringbuffer_data_t,
) {
    describe(vec, reading(rb, |reader| Ok(Some(reader.filled()?))));
}

/// Describes the room to be written, in place: `vec` has room for two runs, of which the second is
/// empty.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_get_write_vector(
    rb: *const slipring_ringbuffer_t,
    vec: *mut slipring_ringbuffer_data_t,
) {
    describe(vec, writing(rb, |writer| Ok(Some(writer.free()?))));
}

fn describe(vec: *mut slipring_ringbuffer_data_t, span: Option<slipring_span>) {
    let none = slipring_ringbuffer_data_t { buf: ptr::null_mut(), len: 0 };
    match out(vec.cast::<[slipring_ringbuffer_data_t; 2]>()) {
        Ok(both) => *both = [span.map_or(none, Into::into), none],
        Err(failure) => note_failure(&failure),
    }
}

/// Reads at most `cnt` bytes. Returns how many. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_read(rb: *mut slipring_ringbuffer_t, dest: *mut c_char, cnt: usize) -> usize {
    reading(rb, |reader| Ok(reader.0.try_read(buffer(dest.cast(), cnt)?)?))
}

/// Reads at most `cnt` bytes and leaves them in the buffer. Returns how many. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_peek(rb: *mut slipring_ringbuffer_t, dest: *mut c_char, cnt: usize) -> usize {
    reading(rb, |reader| {
        let dest = buffer(dest.cast(), cnt)?;
        let filled = reader.filled()?;
        let source = bytes(filled.data, filled.len.min(cnt))?;
        dest[..source.len()].copy_from_slice(source);
        Ok(source.len())
    })
}

/// Removes `cnt` bytes, after slipring_ringbuffer_get_read_vector(); all there are if fewer.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_read_advance(rb: *mut slipring_ringbuffer_t, cnt: usize) {
    reading(rb, |reader| {
        let cnt = cnt.min(reader.0.len());
        reader.consume(cnt)
    });
}

/// How many bytes can be read.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_read_space(rb: *const slipring_ringbuffer_t) -> usize {
    reading(rb, |reader| Ok(reader.0.len()))
}

/// Locks the buffer into memory. Returns 0, or -1 if the limit RLIMIT_MEMLOCK forbids it, and for
/// buffers between processes, which stay as they are. Call it before the two threads start.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_mlock(rb: *mut slipring_ringbuffer_t) -> c_int {
    let capacity = writing(rb, |writer| Ok(writer.0.capacity()));
    if replace(rb, &options(capacity).lock_memory(true), true) { 0 } else { -1 }
}

/// Makes the buffer empty. Not while another thread uses it.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_reset(rb: *mut slipring_ringbuffer_t) {
    slipring_ringbuffer_read_advance(rb, usize::MAX);
}

/// Makes the buffer empty, and changes its size to at least `sz` bytes. Not while another thread
/// uses it. Buffers between processes stay as they are, and slipring_last_error() says so.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_reset_size(rb: *mut slipring_ringbuffer_t, sz: usize) {
    replace(rb, &options(sz), false);
}

/// Gives a buffer of this process another ring. Returns whether it has one; otherwise the buffer
/// has the ring that it had.
fn replace(rb: *mut slipring_ringbuffer_t, options: &Options, with_contents: bool) -> bool {
    let reader = reader_of(rb);
    let has_both = !reader.is_null() && reader.addr() != rb.addr();
    let made = if has_both { pair(options) } else { Err(not_both(rb)) };
    let (mut writer, mut reader) = match made {
        Ok(pair) => pair,
        Err(failure) => {
            note_failure(&failure);
            return false;
        }
    };
    let is_copied = reading(rb, |old| {
        let contents = old.filled()?;
        if with_contents && contents.len > 0 {
            writer.0.try_write(bytes(contents.data, contents.len)?)?;
        }
        Ok(true)
    });
    let mut swap_readers = || {
        reading(rb, |old| {
            mem::swap(old, &mut reader);
            Ok(true)
        })
    };
    if !is_copied || !swap_readers() {
        return false;
    }
    let is_replaced = writing(rb, |old| {
        mem::swap(old, &mut writer);
        Ok(true)
    });
    if !is_replaced {
        swap_readers();
    }
    is_replaced
}

/// Why a buffer is not replaced that has one side only, or is none.
fn not_both(rb: *const slipring_ringbuffer_t) -> Failure {
    let is_side = matches!(table::type_of(rb.cast()), WriteSide::TYPE | ReadSide::TYPE) && table::is_open(rb.cast());
    if is_side {
        Failure::Told(SLIPRING_EOPNOTSUPP, c"a named ring buffer keeps its memory: only one in a process is changed")
    } else {
        Failure::bad_handle(rb.addr() as u64)
    }
}

/// Writes at most `cnt` bytes. Returns how many. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_write(rb: *mut slipring_ringbuffer_t, src: *const c_char, cnt: usize) -> usize {
    writing(rb, |writer| Ok(writer.0.try_write(bytes(src.cast(), cnt)?)?))
}

/// Publishes `cnt` bytes, after slipring_ringbuffer_get_write_vector(); all there is room for if
/// fewer.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_write_advance(rb: *mut slipring_ringbuffer_t, cnt: usize) {
    writing(rb, |writer| {
        let cnt = cnt.min(writer.0.capacity() - writer.0.len());
        writer.commit(cnt)
    });
}

/// How many bytes can be written.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_ringbuffer_write_space(rb: *const slipring_ringbuffer_t) -> usize {
    writing(rb, |writer| Ok(writer.0.capacity() - writer.0.len()))
}
