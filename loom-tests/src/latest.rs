//! The board of latest values: no reader gets a torn value, an older one than before, or one that
//! was not published; the newest value survives its writer, and its successor continues.
//!
//! A cell has two slots here, the fewest with which the protocol holds, so the second value after
//! one overwrites it. Observed from inside a copy, more slots only make that later.

use loom::thread;

use crate::explore;
use crate::memory::Area;
use crate::ring::latest::core::{Miss, Writer, copy};
use crate::ring::latest::layout::{SLOT_HEADER, SLOTS, Shared, heads_len};

/// Bytes of a value: two words, so that it can be torn.
const LEN: usize = 16;
const STRIDE: usize = SLOT_HEADER + LEN;

/// A board of one cell.
pub(crate) fn board() -> Shared {
    Shared::new(Area::model(heads_len(1) + SLOTS * STRIDE), 1, STRIDE)
}

/// The value of a version: every word says which.
fn value(version: u64) -> [u8; LEN] {
    std::array::from_fn(|i| version.to_ne_bytes()[i % 8])
}

pub(crate) fn write(tx: &mut Writer, version: u64) {
    assert_eq!(tx.write(0, version as u16, &value(version)), version);
}

/// The version that a reader gets, if its copies were not overtaken. Checks that it is whole.
pub(crate) fn read(shared: &Shared) -> Option<u64> {
    let mut buffer = [0; LEN];
    match copy::<false>(shared, 0, &mut buffer) {
        Ok((version, shape)) => {
            assert_eq!((shape.len as usize, u64::from(shape.kind)), (LEN, version), "another value's shape");
            assert_eq!(buffer, value(version), "torn, or another value");
            Some(version)
        }
        Err(Miss::Nothing | Miss::Overtaken) => None,
        Err(miss) => panic!("{miss:?}"),
    }
}

/// Reads twice while a writer overwrites what is being read: whole, and in order.
#[test]
fn values_are_whole_and_in_order() {
    explore(3, || {
        let shared = board();
        let mut tx = Writer::attach(shared.clone()).unwrap();
        write(&mut tx, 1);
        let writer = thread::spawn(move || (2..=3).for_each(|version| write(&mut tx, version)));
        let first = read(&shared).unwrap_or(1);
        let second = read(&shared).unwrap_or(first);
        assert!(second >= first, "{first}, then {second}");
        writer.join().unwrap();
        assert_eq!(read(&shared), Some(3));
    });
}

/// The first value: there is none, or there is a whole one.
#[test]
fn the_first_value_is_whole() {
    explore(3, || {
        let shared = board();
        let mut tx = Writer::attach(shared.clone()).unwrap();
        let writer = thread::spawn(move || write(&mut tx, 1));
        let _ = read(&shared);
        writer.join().unwrap();
        assert_eq!(read(&shared), Some(1));
    });
}

/// Two readers do not disturb each other or the writer.
#[test]
fn readers_do_not_disturb() {
    explore(2, || {
        let shared = board();
        let mut tx = Writer::attach(shared.clone()).unwrap();
        write(&mut tx, 1);
        write(&mut tx, 2);
        let theirs = shared.clone();
        let reader = thread::spawn(move || read(&theirs));
        let writer = thread::spawn(move || write(&mut tx, 3));
        let _ = read(&shared);
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(read(&shared), Some(3));
    });
}

/// A writer dies before it publishes; its successor writes the same version, and one more, while a
/// reader reads.
#[test]
fn the_newest_value_survives_its_writer() {
    explore(3, || {
        let shared = board();
        let mut tx = Writer::attach(shared.clone()).unwrap();
        write(&mut tx, 1);
        let dying = shared.clone();
        let first = shared.clone();
        let reader = thread::spawn(move || {
            let mut last = 1;
            for _ in 0..2 {
                let now = read(&first).unwrap_or(last);
                assert!(now >= last && now <= 3);
                last = now;
            }
        });
        let victim = thread::spawn(move || {
            let mut tx = Writer::attach(dying).unwrap();
            tx.fill(0, 99, &[0xEE; LEN]);
        });
        victim.join().unwrap();
        assert_eq!(read(&shared), Some(1), "the newest value stays");
        let mut tx = Writer::attach(shared.clone()).unwrap();
        write(&mut tx, 2);
        write(&mut tx, 3);
        reader.join().unwrap();
        assert_eq!(read(&shared), Some(3));
    });
}
