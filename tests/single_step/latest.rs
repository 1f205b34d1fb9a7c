//! Every operation on a board of latest values: wherever its participant dies, the newest value of
//! every cell is whole, and a successor continues.

use slipring::latest::{Reader, Writer};
use slipring::{Error, Options, Ring};

use crate::process::{Page, SOON};
use crate::{Case, Fate, Pace, Scene};

const CELLS: usize = 2;
const SIZE: usize = 48;
/// The cell that the operations write and read.
const CELL: usize = 1;

/// The value of a version: of another length than the one before.
fn value(version: u64) -> Vec<u8> {
    let len = 20 + version as usize * 7 % (SIZE - 20);
    (0..len as u64).map(|i| (version * 31 + i) as u8).collect()
}

/// Name, number of values in each cell.
const STATES: [(&str, u64); 3] = [("empty", 0), ("1 value", 1), ("7 values", 7)];

type Write = fn(&Ring, &mut Option<Writer>, u64);
type Read = fn(&Ring, &mut Option<Reader>, &Page);

/// Name, how it stops, values that it writes, the operation, which gets the next version.
const WRITES: [(&str, Pace, u64, Write); 3] = [
    ("latest write", Pace::Every, 1, |_, tx, next| _ = tx.as_mut().unwrap().write(CELL, &value(next))),
    ("latest close writer", Pace::Sample, 0, |_, tx, _| tx.take().unwrap().close()),
    ("latest attach writer", Pace::Sample, 0, |ring, tx, _| *tx = Some(Writer::attach(ring).unwrap())),
];

const READS: [(&str, Read); 4] = [
    ("latest try_read", |_, rx, page| _ = rx.as_mut().unwrap().try_read(CELL, page.buffer(SIZE))),
    ("latest try_changed", |_, rx, _| _ = rx.as_mut().unwrap().try_changed()),
    ("latest close reader", |_, rx, _| rx.take().unwrap().close()),
    ("latest attach reader", |ring, rx, _| *rx = Some(Reader::attach(ring).unwrap())),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, values) in STATES {
        for (operation, pace, writes, does) in WRITES {
            let scene = Box::new(move || writing(operation, writes, does, values));
            cases.push(Case { operation, state: name.into(), pace, scene });
        }
        for (operation, does) in READS {
            let scene = Box::new(move || reading(operation, does, values));
            cases.push(Case { operation, state: name.into(), pace: Pace::Sample, scene });
        }
    }
    cases
}

fn board(values: u64) -> Ring {
    let ring = Ring::create_anonymous(&Options::latest(CELLS, SIZE).participants(4)).unwrap();
    let mut tx = Writer::attach(&ring).unwrap();
    for cell in 0..CELLS {
        (1..=values).for_each(|version| assert_eq!(tx.write(cell, &value(version)).unwrap(), version));
    }
    ring
}

/// The version of the newest value of a cell, which must be whole. 0 if there is none.
fn newest(rx: &mut Reader, cell: usize) -> Result<u64, String> {
    let mut buffer = [0; SIZE];
    match rx.try_read(cell, &mut buffer) {
        Ok(reading) if reading.value == value(reading.version) => Ok(reading.version),
        Ok(reading) => Err(format!("version {} is torn", reading.version)),
        Err(Error::Empty | Error::Closed | Error::PeerDead) => Ok(0),
        Err(error) => Err(format!("a survivor got: {error}")),
    }
}

/// The child is the writer; a reader is attached from the start.
fn writing(operation: &'static str, writes: u64, does: Write, values: u64) -> Scene {
    let ring = board(values);
    let mut rx = Reader::attach(&ring).unwrap();
    let attaches = operation == "latest attach writer";
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut tx = (!attaches).then(|| Writer::attach(&theirs).unwrap());
            Box::new(move |_| does(&theirs, &mut tx, values + 1))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let version = newest(&mut rx, CELL)?;
            if newest(&mut rx, 0)? != values {
                return Err("another cell changed".into());
            }
            if version != values + writes && (page.is_complete() || version != values) {
                return Err(format!("version {version}, after {values} and {writes}"));
            }
            // The reader must not wait for a dead writer. (One that died before it attached is not
            // reported.)
            if !attaches && !matches!(rx.changed_deadline(SOON), Err(Error::Closed | Error::PeerDead)) {
                return Err("the end was not told".into());
            }
            go_on(&ring, rx, version)?;
            Ok(version - values)
        })),
    }
}

/// The child is a reader; the writer and another reader are attached from the start.
fn reading(operation: &'static str, does: Read, values: u64) -> Scene {
    let ring = board(values);
    let rx = Reader::attach(&ring).unwrap();
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut rx = (operation != "latest attach reader").then(|| Reader::attach(&theirs).unwrap());
            Box::new(move |page| does(&theirs, &mut rx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            if operation == "latest try_read" && page.is_complete() && values > 0 {
                let expected = value(values);
                if page.buffer(SIZE)[..expected.len()] != expected {
                    return Err("torn".into());
                }
            }
            go_on(&ring, rx, values)?;
            Ok(0)
        })),
    }
}

/// The board works as a new one.
fn go_on(ring: &Ring, mut rx: Reader, version: u64) -> Result<(), String> {
    let fail = |error: Error| format!("a survivor got: {error}");
    let mut tx = Writer::attach(ring).map_err(fail)?;
    for next in version + 1..version + 10 {
        if tx.write(CELL, &value(next)).map_err(fail)? != next || newest(&mut rx, CELL)? != next {
            return Err(format!("version {next} is not the newest"));
        }
    }
    let report = ring.verify().map_err(fail)?;
    if !report.is_clean() {
        return Err(format!("{report:?}"));
    }
    crate::segment::only_the_living(ring, 2)?;
    drop((tx, rx));
    crate::segment::only_the_living(ring, 0)
}
