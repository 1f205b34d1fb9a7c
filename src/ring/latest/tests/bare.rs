//! The algorithm alone, on heap memory (so Miri can run it), also with words that no writer stores.

use super::super::core::{ATTEMPTS, Miss, Writer, copy};
use super::super::layout::{SLOT_HEADER, SLOTS, Shape, Shared, heads_len};
use crate::error::Error;
use crate::memory;
use crate::memory::Area;
use crate::sync::Ordering;

const STRIDE: usize = 64;
const MAX: usize = STRIDE - SLOT_HEADER;
const CELLS: usize = 3;

fn memory() -> Area {
    memory::heap(8, heads_len(CELLS) + CELLS * SLOTS * STRIDE).unwrap().data
}

fn shared(area: &Area) -> Shared {
    Shared::new(area.clone(), CELLS, STRIDE)
}

/// The offset of a slot.
fn slot(cell: usize, version: u64) -> usize {
    heads_len(CELLS) + (cell * SLOTS + version as usize % SLOTS) * STRIDE
}

fn value(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (n * 31 + i) as u8).collect()
}

fn read(shared: &Shared, cell: usize) -> Result<(u64, u16, Vec<u8>), Miss> {
    let mut buffer = [0xAA; MAX];
    let (version, shape) = copy::<false>(shared, cell, &mut buffer)?;
    Ok((version, shape.kind, buffer[..shape.len as usize].to_vec()))
}

#[test]
fn every_length_in_every_slot_of_every_cell() {
    let area = memory();
    let shared = shared(&area);
    let mut tx = Writer::attach(shared.clone()).unwrap();
    for cell in 0..CELLS {
        assert_eq!(read(&shared, cell), Err(Miss::Nothing));
        for n in 1..=2 * MAX as u64 + 2 {
            let len = (n as usize * 7) % (MAX + 1);
            assert_eq!(tx.write(cell, n as u16, &value(n, len)), n);
            assert_eq!(read(&shared, cell).unwrap(), (n, n as u16, value(n, len)));
            assert_eq!(shared.problem(cell), None);
            let mut buffer = [0xAA; MAX];
            copy::<false>(&shared, cell, &mut buffer).unwrap();
            assert!(buffer[len..].iter().all(|byte| *byte == 0xAA), "only the value is copied");
        }
    }
    assert_eq!(shared.observe(), ((2 * MAX as u64 + 2) * CELLS as u64, CELLS as u64));
}

#[test]
fn a_typed_copy_has_the_length_of_the_buffer() {
    let area = memory();
    let shared = shared(&area);
    Writer::attach(shared.clone()).unwrap().write(0, 1, &[7; 5]);
    let mut buffer = [1; MAX];
    let (_, shape) = copy::<true>(&shared, 0, &mut buffer).unwrap();
    assert_eq!((shape.len, &buffer[..8]), (5, &[7, 7, 7, 7, 7, 0, 0, 0][..]), "the last word is filled up with zeros");
    assert_eq!(copy::<true>(&shared, 0, &mut [0; 4]).unwrap_err(), Miss::Long(5));
    assert_eq!(copy::<false>(&shared, 0, &mut [0; 4]).unwrap_err(), Miss::Long(5));
}

#[test]
fn a_writer_that_died_at_any_step_leaves_the_newest_value_to_its_successor() {
    for newest in 1..=2 * SLOTS as u64 {
        let area = memory();
        let shared = shared(&area);
        let mut tx = Writer::attach(shared.clone()).unwrap();
        (1..=newest).for_each(|n| _ = tx.write(1, 1, &value(n, 20)));
        let next = slot(1, newest + 1);
        // The words that the dead one has stored, in its order: the mark, the shape, the value.
        let stores = [(0, newest + 1), (8, u64::from(u32::MAX)), (16, 0xEE), (24, 0xEE), (32, 0xEE)];
        for (at, word) in stores {
            area.word(next + at).store(word, Ordering::Relaxed);
            assert_eq!(read(&shared, 1).unwrap(), (newest, 1, value(newest, 20)));
            assert_eq!(shared.problem(1), None, "after {at}");
        }
        let mut heir = Writer::attach(shared.clone()).unwrap();
        assert_eq!(heir.write(1, 2, &value(99, 3)), newest + 1);
        assert_eq!(read(&shared, 1).unwrap(), (newest + 1, 2, value(99, 3)));
        assert_eq!([0, 2].map(|cell| read(&shared, cell)), [Err(Miss::Nothing), Err(Miss::Nothing)], "the neighbours");
    }
}

#[test]
fn a_reader_that_is_always_overtaken_gives_up() {
    let area = memory();
    let shared = shared(&area);
    Writer::attach(shared.clone()).unwrap().write(0, 1, b"value");
    // As if the slot were overwritten all the time.
    area.word(slot(0, 1)).store(1 + SLOTS as u64, Ordering::Relaxed);
    assert_eq!(read(&shared, 0), Err(Miss::Overtaken), "after {ATTEMPTS} copies");
}

#[test]
fn forged_words_are_errors() {
    for head in [u64::MAX, 1 << 63, (1 << 63) - 1, 12345] {
        for (mark, len) in [(0, 5), (head, u32::MAX), (head, MAX as u32 + 1), (head.wrapping_sub(4), 5)] {
            let area = memory();
            let shared = shared(&area);
            area.word(0).store(head, Ordering::Relaxed);
            area.word(slot(0, head)).store(mark, Ordering::Relaxed);
            area.word(slot(0, head) + 8).store(Shape { len, kind: 1 }.word(), Ordering::Relaxed);
            let missed = read(&shared, 0).unwrap_err();
            assert!(matches!(missed, Miss::Forged | Miss::Overtaken), "{head:#x} {mark:#x} {len}: {missed:?}");
            assert!(shared.problem(0).is_some(), "{head:#x} {mark:#x} {len}");
            let attached = Writer::attach(shared.clone());
            assert_eq!(attached.is_err(), head >= 1 << 63);
            if let Ok(mut tx) = attached {
                let version = tx.write(0, 1, b"value");
                assert_eq!(read(&shared, 0).unwrap().0, version, "and are repaired by writing");
            }
        }
    }
    let area = memory();
    area.word(0).store(u64::MAX, Ordering::Relaxed);
    assert!(matches!(Writer::attach(shared(&area)), Err(Error::Corrupt { .. })));
}

/// One writer and some readers at full speed: nothing is torn, versions do not go back.
#[test]
fn no_value_is_torn_under_load() {
    const READERS: usize = 2;
    let writes = if cfg!(miri) { 300 } else { 300_000 };
    let area = memory();
    let shared = shared(&area);
    let mut tx = Writer::attach(shared.clone()).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < writes {
                        match read(&shared, 2) {
                            Ok((version, kind, bytes)) => {
                                assert!(version >= last);
                                assert_eq!(
                                    (kind, bytes),
                                    (version as u16, value(version, version as usize % (MAX + 1)))
                                );
                                last = version;
                            }
                            Err(Miss::Nothing | Miss::Overtaken) => std::thread::yield_now(),
                            Err(miss) => panic!("{miss:?}"),
                        }
                    }
                })
            })
            .collect();
        for n in 1..=writes {
            tx.write(2, n as u16, &value(n, n as usize % (MAX + 1)));
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
