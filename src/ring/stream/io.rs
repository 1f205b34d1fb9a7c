//! The ends of a byte stream as `std::io::Read` and `std::io::Write`.
//!
//! Used by programs that pass a reader or writer on. Relies on `producer.rs` and `consumer.rs`.

use std::io::{self, ErrorKind, Read, Write};

use super::{Consumer, Producer};
use crate::error::Error;

/// Waits until there is something to read. The end of a stream whose producer has closed is 0
/// bytes, as in a pipe; if it died, it is an error of the kind `ConnectionReset`.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// let (mut tx, rx) = slipring::stream::pair(4096)?;
/// writeln!(tx, "EURUSD {}", 1.0842).unwrap();
/// drop(tx);
/// let lines: Vec<_> = BufReader::new(rx).lines().map(Result::unwrap).collect();
/// assert_eq!(lines, ["EURUSD 1.0842"]);
/// # Ok::<(), slipring::Error>(())
/// ```
impl Read for Consumer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match Consumer::read(self, buffer) {
            Err(Error::Closed) => Ok(0),
            read => read.map_err(io_error),
        }
    }
}

/// Waits until there is room. If the consumer has closed, and the ring is full, it is an error of
/// the kind `BrokenPipe`. The consumer sees what was written at once, so there is nothing to flush.
impl Write for Producer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes).map_err(io_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same error for `std::io`; it holds the error of this crate.
pub(super) fn io_error(error: Error) -> io::Error {
    let kind = match error {
        Error::Io { source, .. } => return source,
        Error::Closed | Error::NoConsumer => ErrorKind::BrokenPipe,
        Error::PeerDead => ErrorKind::ConnectionReset,
        Error::Corrupt { .. } => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
