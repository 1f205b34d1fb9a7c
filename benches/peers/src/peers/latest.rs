//! slipring's board of latest values: one cell of 64 bytes, read and written as a value.

use std::sync::atomic::{AtomicBool, Ordering};

use slipring::{Error, latest};
use zerocopy::IntoBytes;

use crate::ends::{self, Get, Put, WORDS};
use crate::job::{Link, Result};
use crate::{message, part, run};

pub(crate) struct Board;

impl Put for latest::Writer {
    #[inline(always)]
    fn put(&mut self, value: &[u64; WORDS]) {
        self.write_value(0, value).expect("write");
    }
}

impl Get for latest::Reader {
    #[inline(always)]
    fn get(&mut self) -> [u64; WORDS] {
        loop {
            match self.try_read_value(0) {
                Ok(reading) => return reading.value,
                Err(Error::Overtaken) => {}
                Err(error) => panic!("read: {error}"),
            }
        }
    }
}

impl ends::Board for Board {
    type Writer = latest::Writer;
    type Reader = latest::Reader;

    fn ends(link: &Link) -> Result<(latest::Writer, latest::Reader)> {
        Ok(latest::pair(1, link.size)?)
    }
}

/// What reading beside a writer found.
pub(crate) struct Torn {
    pub(crate) reads: u64,
    pub(crate) written: u64,
    /// Values that differ from the one before.
    pub(crate) changes: u64,
    /// Reads that gave up, since the writer was faster than each of the copies.
    pub(crate) overtaken: u64,
}

/// Reads at full speed while another thread writes. Fails at a value that is torn, older than one
/// before it, or not that of its version.
pub(crate) fn torn(reads: u64) -> Result<Torn> {
    let (mut tx, mut rx) = latest::pair(1, 8 * WORDS)?;
    let cpus = run::cpus();
    let over = AtomicBool::new(false);
    let value = |n: u64| {
        let mut value = [0u64; WORDS];
        message::write::<WORDS>(value.as_mut_bytes(), n);
        value
    };
    tx.write_value(0, &value(1))?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            part::pin(part::cpu_of(&cpus, 0));
            let mut n = 1;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                tx.write_value(0, &value(n)).expect("write");
            }
            n
        });
        let reader = scope.spawn(|| -> Result<Torn> {
            part::pin(part::cpu_of(&cpus, 1));
            let mut found = Torn { reads, written: 0, changes: 0, overtaken: 0 };
            let mut last = 0;
            for _ in 0..reads {
                match rx.try_read_value::<[u64; WORDS]>(0) {
                    Ok(reading) => {
                        let number = message::read::<WORDS>(reading.value.as_bytes());
                        if number != Some(reading.version) || reading.version < last {
                            return Err(format!("torn or old: {reading:?}, after version {last}").into());
                        }
                        found.changes += u64::from(reading.version > last);
                        last = reading.version;
                    }
                    Err(Error::Overtaken) => found.overtaken += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(found)
        });
        let outcome = reader.join();
        over.store(true, Ordering::Relaxed);
        let mut found = outcome.map_err(|_| "the reader panicked")??;
        found.written = writer.join().map_err(|_| "the writer panicked")?;
        Ok(found)
    })
}
