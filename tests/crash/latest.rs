//! A board of latest values under torture (`fan_out.rs`): a writer and readers, and the judge of
//! their ledgers.
//!
//! A value has a number that names its writer. A writer is told the version of a value when it has
//! written it; a reader gets version and number together.

use std::collections::HashMap;
use std::path::Path;

use slipring::latest::{Reader, Writer};
use slipring::{Error, Options, Ring};

use super::fan_out::{Fan, Life, Story, Verdict};
use super::ledger::{What, number, number_of, payload};
use super::participant::{MOMENT, ROOM, attach};

pub const FAN: Fan = Fan { name: "latest", options, send, receive, judge };

const CELLS: usize = 3;
/// Entries have room for a version with its cell.
const CELL_SHIFT: u32 = 48;

fn options(dir: &Path) -> Options {
    Options::latest(CELLS, ROOM).participants(20).directory(dir)
}

fn place(cell: usize, version: u64) -> u64 {
    (cell as u64) << CELL_SHIFT | version
}

fn cell_of(place: u64) -> usize {
    (place >> CELL_SHIFT) as usize
}

fn send(life: &mut Life) {
    let mut tx = attach(|| Writer::open("ring", &life.options));
    life.note(What::Attached, 0, 0);
    life.perhaps_die(20);
    for next in 0.. {
        let (cell, number) = (life.dice.next(CELLS as u64) as usize, number(life.me, next));
        life.note(What::About, number, cell as u64);
        let version = tx.write(cell, &payload(number, ROOM)).unwrap();
        life.note(What::Sent, number, place(cell, version));
        life.perhaps_die(2000);
        if life.dice.next(200) == 0 {
            std::thread::yield_now();
        }
    }
}

fn receive(life: &mut Life) {
    loop {
        life.note(What::Joining, 0, 0);
        let rx = attach(|| Reader::open("ring", &life.options));
        life.note(What::Attached, 0, 0);
        life.perhaps_die(20);
        read(rx, life);
        life.note(What::Left, 0, 0);
    }
}

fn read(mut rx: Reader, life: &mut Life) {
    let mut buffer = [0; ROOM];
    while life.dice.next(3000) != 0 {
        let cell = match rx.changed_deadline(MOMENT) {
            Ok(cell) => cell,
            Err(Error::Timeout) => continue,
            Err(Error::PeerDead | Error::Closed) => {
                life.note(What::Ended, 0, 0);
                let _ = rx.wait_for_peer(MOMENT);
                continue;
            }
            Err(e) => panic!("changed: {e}"),
        };
        match rx.try_read(cell, &mut buffer) {
            Ok(reading) => {
                let claimed = reading.value.get(..8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()));
                let what = number_of(reading.value, ROOM).map_or(What::Torn, |_| What::Got);
                let (version, skipped) = (reading.version, reading.skipped);
                // Two entries, because one has no room for all of it.
                life.note(What::Gap, claimed, skipped);
                life.note(what, claimed, place(cell, version));
            }
            Err(Error::Overtaken) => {}
            Err(e) => panic!("read: {e}"),
        }
        life.perhaps_die(2000);
    }
}

fn judge(ring: &Ring, senders: &[Story], receivers: &[Story]) -> Verdict {
    // The newest version of each cell, and the numbers of the versions that writers know of.
    let (mut values, mut about, mut newest) = (HashMap::new(), HashMap::new(), [0; CELLS]);
    for entry in senders.iter().flat_map(|story| &story.entries) {
        match entry.what {
            What::About => _ = about.insert(entry.frame, entry.extra as usize),
            What::Sent => {
                let cell = cell_of(entry.extra);
                newest[cell] = entry.extra.max(newest[cell]);
                if let Some(other) = values.insert(entry.extra, entry.frame) {
                    return Err(format!("{:#x} and {other:#x} have one version", entry.frame));
                }
            }
            _ => {}
        }
    }
    let mut rx = attach(|| Reader::attach(ring));
    let mut end = [0; CELLS];
    for (cell, end) in end.iter_mut().enumerate() {
        let mut buffer = [0; ROOM];
        match rx.try_read(cell, &mut buffer) {
            Ok(reading) => {
                *end = place(cell, reading.version);
                number_of(reading.value, ROOM).ok_or("the newest value is torn")?;
            }
            Err(Error::Empty | Error::PeerDead | Error::Closed) => {}
            Err(e) => return Err(format!("the newest value: {e}")),
        }
        // A writer that died between its write and its entry has one more.
        if *end < newest[cell] {
            return Err(format!("version {:#x} is the last of cell {cell}, but {:#x} was sent", *end, newest[cell]));
        }
    }
    let mut received = 0;
    for story in receivers {
        let (mut last, mut skipped) = ([0; CELLS], 0);
        for entry in &story.entries {
            match entry.what {
                What::Joining => last = [0; CELLS],
                What::Torn => return Err(format!("torn: {:#x}", entry.frame)),
                What::Gap => skipped = entry.extra,
                What::Got => {
                    let cell = cell_of(entry.extra);
                    if last[cell] != 0 && entry.extra != last[cell] + 1 + skipped {
                        return Err(format!("{:#x} came after {:#x}, {skipped} skipped", entry.extra, last[cell]));
                    }
                    last[cell] = entry.extra;
                    let known = *values.entry(entry.extra).or_insert(entry.frame);
                    let is_of_cell = about.get(&entry.frame).is_none_or(|about| *about == cell);
                    if known != entry.frame || !is_of_cell {
                        return Err(format!("{:#x} was read where {known:#x} is", entry.frame));
                    }
                    received += 1;
                }
                _ => {}
            }
        }
        let ended = story.entries.last().is_some_and(|entry| entry.what == What::Ended);
        if story.survived && !(ended && last == end) {
            return Err(format!("it got {last:x?} of {end:x?}, told of the end: {ended}"));
        }
    }
    Ok((values.len() as u64, received))
}
