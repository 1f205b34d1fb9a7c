//! Latest values: a writer and readers of cells of which only the newest value matters.
//!
//! Used by C programs. Relies on `table.rs`.

use std::ffi::{c_char, c_int, c_void};

use slipring::latest::{Reader, Writer};
use slipring::{Error, Kind, Ring};

use crate::arguments::{
    Given, SLIPRING_ANY, SLIPRING_LATEST, Wait, buffer as room, bytes, items, out, slipring_options,
};
use crate::error::{Failure, SLIPRING_EMSGSIZE, SLIPRING_EOPNOTSUPP, count, opened, status};
use crate::producer::{anonymous, is_endpoint};
use crate::table::{self, Object};

/// Writes latest values: one for a ring.
pub struct slipring_latest_writer(());

/// Reads latest values: any number for a ring, which the writer never waits for.
pub struct slipring_latest_reader(());

pub(crate) struct LatestWriter(pub(crate) Writer);
pub(crate) struct LatestReader(pub(crate) Reader);

// SAFETY: the type's number is its alone.
unsafe impl Object for LatestWriter {
    const TYPE: u8 = 5;
}

// SAFETY: the same.
unsafe impl Object for LatestReader {
    const TYPE: u8 = 6;
}

/// What slipring_latest_read() read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_reading {
    /// Bytes of the value.
    pub len: usize,
    /// How many values the cell has had.
    pub version: u64,
    /// Values between this one and the one that this reader read before.
    pub skipped: u64,
}

const OTHER_KIND: Failure =
    Failure::Told(SLIPRING_EOPNOTSUPP, c"the ring has no latest values: its kind must be SLIPRING_LATEST");

fn open(name: *const c_char, options: &Given<'_>) -> Result<Ring, Failure> {
    // First, so that no ring of another kind is created.
    if !matches!(options.raw.kind, SLIPRING_ANY | SLIPRING_LATEST) {
        return Err(OTHER_KIND);
    }
    options.expect_for(SLIPRING_LATEST)?;
    let ring = match options.name(name)? {
        None => anonymous(options, SLIPRING_LATEST)?,
        Some(name) if is_endpoint(name) => {
            return Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"latest values are in a named ring, not at an endpoint: pass its name",
            ));
        }
        Some(name) if options.raw.kind == SLIPRING_ANY => Ring::open(name, &options.ring(0)?)?,
        Some(name) => Ring::open_or_create(name, &options.ring(0)?)?,
    };
    if ring.kind() != Kind::Latest {
        return Err(OTHER_KIND);
    }
    if let Some(description) = options.message_type {
        ring.agree_on_type(description)?;
    }
    Ok(ring)
}

/// Opens the writer of latest values: as slipring_stream_writer_open(), with SLIPRING_LATEST,
/// `capacity` cells of `payload` bytes each.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_writer_open(
    name: *const c_char,
    options: *const slipring_options,
    writer: *mut *mut slipring_latest_writer,
) -> c_int {
    opened(writer, || table::insert(LatestWriter(Writer::attach(&open(name, &Given::new(options)?)?)?)))
}

/// Opens a reader of latest values: as slipring_latest_writer_open().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_reader_open(
    name: *const c_char,
    options: *const slipring_options,
    reader: *mut *mut slipring_latest_reader,
) -> c_int {
    opened(reader, || table::insert(LatestReader(Reader::attach(&open(name, &Given::new(options)?)?)?)))
}

/// Replaces the value of a cell. Returns its version, from 1; -SLIPRING_EINVAL for a cell that there
/// is not; -SLIPRING_EMSGSIZE. Wait-free; a system call only to wake sleeping readers.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_write(
    writer: *mut slipring_latest_writer,
    cell: usize,
    data: *const c_void,
    len: usize,
) -> i64 {
    count(table::with(writer.cast(), |writer: &mut LatestWriter| Ok(writer.0.write(cell, bytes(data, len)?)? as i64)))
}

/// Copies the newest value of a cell into `buffer`, whether or not this reader has read it before,
/// and describes it in `*reading`. Waits only for the first value of the cell. Returns 0;
/// -SLIPRING_EAGAIN if the cell has no value yet and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT;
/// -SLIPRING_EMSGSIZE if `size` is too small; -SLIPRING_EOVERTAKEN.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_read(
    reader: *mut slipring_latest_reader,
    cell: usize,
    buffer: *mut c_void,
    size: usize,
    reading: *mut slipring_reading,
    timeout_ns: i64,
) -> c_int {
    status(table::with(reader.cast(), |reader: &mut LatestReader| {
        let buffer = room(buffer, size)?;
        let reading = out(reading)?;
        let got = match Wait::of(timeout_ns) {
            Wait::Not => reader.0.try_read(cell, buffer),
            Wait::Forever => reader.0.read(cell, buffer),
            Wait::Until(deadline) => reader.0.read_deadline(cell, buffer, deadline),
        };
        let got = got.map_err(|error| match error {
            Error::TooLarge { max } => {
                let text =
                    format!("the buffer has {max} bytes, the value more: max_payload of slipring_get_info() is enough");
                Failure::Said(SLIPRING_EMSGSIZE, text.into())
            }
            error => error.into(),
        })?;
        *reading = slipring_reading { len: got.value.len(), version: got.version, skipped: got.skipped };
        Ok(0)
    }))
}

/// Waits until a watched cell has a value that this reader has not read, and returns its number.
/// All cells are watched, unless slipring_latest_watch() named some. Errors as for
/// slipring_recv().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_changed(reader: *mut slipring_latest_reader, timeout_ns: i64) -> i64 {
    count(table::with(reader.cast(), |reader: &mut LatestReader| {
        Ok(match Wait::of(timeout_ns) {
            Wait::Not => reader.0.try_changed()?,
            Wait::Forever => reader.0.changed()?,
            Wait::Until(deadline) => reader.0.changed_deadline(deadline)?,
        } as i64)
    }))
}

/// Watches only the `n` cells whose numbers are in `cells` from now on.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_latest_watch(reader: *mut slipring_latest_reader, cells: *const usize, n: usize) -> c_int {
    status(table::with(reader.cast(), |reader: &mut LatestReader| {
        let cells = items(cells, n)?;
        reader.0.watch(cells.iter().copied())?;
        Ok(0)
    }))
}
