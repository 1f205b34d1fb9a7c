//! Byte streams: the ends of a ring of bytes without boundaries, for audio and the like.
//!
//! Used by C programs, and by `ringbuffer.rs`. Relies on `table.rs`.
//!
//! A vector is no grant that is kept: between two calls the free bytes belong to the writer anyway,
//! and the filled ones to the reader. So `commit` and `consume` look only at how many there are.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use slipring::stream::{Consumer, Producer};
use slipring::{Error, Kind, Ring};

use crate::arguments::{Given, SLIPRING_ANY, SLIPRING_STREAM, Wait, buffer as room, bytes, out, slipring_options};
use crate::error::{Failure, SLIPRING_EMSGSIZE, SLIPRING_EOPNOTSUPP, count, opened, status};
use crate::producer::{anonymous, is_endpoint};
use crate::table::{self, Object};

/// The writing end of a byte stream.
pub struct slipring_stream_writer(());

/// The reading end of a byte stream.
pub struct slipring_stream_reader(());

/// A run of bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_span {
    /// Its first byte.
    pub data: *mut c_void,
    /// How many.
    pub len: usize,
}

impl slipring_span {
    const EMPTY: slipring_span = slipring_span { data: ptr::null_mut(), len: 0 };
}

pub(crate) struct Writer(pub(crate) Producer);
pub(crate) struct Reader(pub(crate) Consumer);

// SAFETY: the type's number is its alone.
unsafe impl Object for Writer {
    const TYPE: u8 = 3;
}

// SAFETY: the same.
unsafe impl Object for Reader {
    const TYPE: u8 = 4;
}

impl Writer {
    /// The free bytes.
    pub(crate) fn free(&mut self) -> Result<slipring_span, Failure> {
        let len = self.0.capacity() - self.0.len();
        if len == 0 {
            return Ok(slipring_span::EMPTY);
        }
        let mut grant = self.0.try_reserve(len)?;
        Ok(slipring_span { data: grant.as_mut_ptr().cast(), len })
    }

    pub(crate) fn commit(&mut self, n: usize) -> Result<(), Failure> {
        if n > 0 {
            self.0
                .try_reserve(n)
                .map_err(|error| if error == Error::Full { TOO_MANY } else { error.into() })?
                .commit(n);
        }
        Ok(())
    }
}

impl Reader {
    /// The filled bytes.
    pub(crate) fn filled(&mut self) -> Result<slipring_span, Failure> {
        let len = self.0.len();
        if len == 0 {
            return Ok(slipring_span::EMPTY);
        }
        let view = self.0.try_read_view(len)?;
        let span = slipring_span { data: view.as_ptr().cast_mut().cast(), len: view.len() };
        view.keep();
        Ok(span)
    }

    pub(crate) fn consume(&mut self, n: usize) -> Result<(), Failure> {
        if n > 0 {
            let view =
                self.0.try_read_view(n).map_err(|error| if error == Error::Empty { TOO_MANY } else { error.into() })?;
            if view.len() < n {
                view.keep();
                return Err(TOO_MANY);
            }
            view.release(n);
        }
        Ok(())
    }
}

const TOO_MANY: Failure = Failure::Told(SLIPRING_EMSGSIZE, c"more bytes than the vector has: nothing was changed");

const OTHER_KIND: Failure =
    Failure::Told(SLIPRING_EOPNOTSUPP, c"the ring is no byte stream: its kind must be SLIPRING_STREAM");

fn open(name: *const c_char, options: &Given<'_>) -> Result<Ring, Failure> {
    // First, so that no ring of another kind is created.
    if !matches!(options.raw.kind, SLIPRING_ANY | SLIPRING_STREAM) {
        return Err(OTHER_KIND);
    }
    options.expect_for(SLIPRING_STREAM)?;
    let ring = match options.name(name)? {
        None => anonymous(options, SLIPRING_STREAM)?,
        Some(name) if is_endpoint(name) => {
            return Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"a byte stream is a named ring, not an endpoint: pass its name",
            ));
        }
        Some(name) if options.raw.kind == SLIPRING_ANY => Ring::open(name, &options.ring(0)?)?,
        Some(name) => Ring::open_or_create(name, &options.ring(0)?)?,
    };
    if ring.kind() != Kind::Stream {
        return Err(OTHER_KIND);
    }
    if let Some(description) = options.message_type {
        ring.agree_on_type(description)?;
    }
    Ok(ring)
}

/// Opens the writing end of a byte stream: as slipring_producer_open(), with SLIPRING_STREAM to
/// create one, and without endpoints. A NULL name makes an anonymous one.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_writer_open(
    name: *const c_char,
    options: *const slipring_options,
    writer: *mut *mut slipring_stream_writer,
) -> c_int {
    opened(writer, || table::insert(Writer(Producer::attach(&open(name, &Given::new(options)?)?)?)))
}

/// Opens the reading end of a byte stream: as slipring_stream_writer_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_reader_open(
    name: *const c_char,
    options: *const slipring_options,
    reader: *mut *mut slipring_stream_reader,
) -> c_int {
    opened(reader, || table::insert(Reader(Consumer::attach(&open(name, &Given::new(options)?)?)?)))
}

/// Writes bytes. With `timeout_ns` 0 it writes what fits, and returns how many bytes that was, or
/// -SLIPRING_EAGAIN for none. Otherwise it waits until all are written, and returns `len`; if it
/// fails after a part, it returns how many bytes were written, and the next call the error:
/// -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE, -SLIPRING_EPEERDEAD. Wait-free with 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_write(
    writer: *mut slipring_stream_writer,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(writer.cast(), |writer: &mut Writer| {
        let bytes = bytes(data, len)?;
        match Wait::of(timeout_ns) {
            Wait::Not => Ok(writer.0.try_write(bytes)? as i64),
            wait => match writer.0.write_all_deadline(bytes, wait.deadline()) {
                Ok(()) => Ok(len as i64),
                Err(partial) if partial.written > 0 => Ok(partial.written as i64),
                Err(partial) => Err(partial.error.into()),
            },
        }
    }))
}

/// Describes the free bytes, to be written in place: up to two runs, the second of which follows
/// the first. The second is empty today, because the memory is mapped twice in a row; programs
/// written for rings that wrap around need no change. Returns the sum of both. Then
/// slipring_stream_commit(). Wait-free, no system call.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_write_vector(writer: *mut slipring_stream_writer, spans: *mut slipring_span) -> i64 {
    count(table::with(writer.cast(), |writer: &mut Writer| vector(spans, writer.free()?)))
}

/// Publishes the first `n` bytes of the vector. Returns 0; -SLIPRING_EMSGSIZE if it has fewer.
/// Wait-free; a system call only to wake a sleeping reader.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_commit(writer: *mut slipring_stream_writer, n: usize) -> c_int {
    status(table::with(writer.cast(), |writer: &mut Writer| writer.commit(n).map(|()| 0)))
}

/// Reads at most `size` bytes, at least one: waits for the first. Returns how many, or
/// -SLIPRING_EAGAIN if none and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE and
/// -SLIPRING_EPEERDEAD at the end. Wait-free with 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_read(
    reader: *mut slipring_stream_reader,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(reader.cast(), |reader: &mut Reader| {
        let buffer = room(buffer, size)?;
        Ok(match Wait::of(timeout_ns) {
            Wait::Not => reader.0.try_read(buffer)?,
            Wait::Forever => reader.0.read(buffer)?,
            Wait::Until(deadline) => reader.0.read_deadline(buffer, deadline)?,
        } as i64)
    }))
}

/// Describes the filled bytes, to be read in place, as slipring_stream_write_vector(). Returns the
/// sum of both runs, which is 0 for an empty ring and at the end. Then slipring_stream_consume().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_read_vector(reader: *mut slipring_stream_reader, spans: *mut slipring_span) -> i64 {
    count(table::with(reader.cast(), |reader: &mut Reader| vector(spans, reader.filled()?)))
}

/// Removes the first `n` bytes of the vector. Returns 0; -SLIPRING_EMSGSIZE if it has fewer.
/// Wait-free; a system call only to wake a sleeping writer.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_stream_consume(reader: *mut slipring_stream_reader, n: usize) -> c_int {
    status(table::with(reader.cast(), |reader: &mut Reader| reader.consume(n).map(|()| 0)))
}

fn vector(spans: *mut slipring_span, span: slipring_span) -> Result<i64, Failure> {
    *out(spans.cast::<[slipring_span; 2]>())? = [span, slipring_span::EMPTY];
    Ok(span.len as i64)
}
