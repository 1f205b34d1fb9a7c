//! The entries that each participant writes, and the check of all of them together.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use slipring::frame::Flags;

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The kinds of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum What {
    /// Attached.
    Attached,
    /// About to commit the frame.
    About,
    /// Committed it.
    Sent,
    /// Received the frame; `extra` is 1 if it was marked REDELIVERED.
    Got,
    /// Received a frame whose payload is torn.
    Torn,
    /// Released it.
    Released,
    /// About to attach.
    Joining,
    /// Missed so many frames: those are `extra`.
    Gap,
    /// Was told that it was evicted.
    Evicted,
    /// Left in an orderly way.
    Left,
    /// Has received everything, and was told that its sender has ended; in an mpsc ring, that of
    /// the lane `frame`.
    Ended,
}

const ALL: [What; 11] = [
    What::Attached,
    What::About,
    What::Sent,
    What::Got,
    What::Torn,
    What::Released,
    What::Joining,
    What::Gap,
    What::Evicted,
    What::Left,
    What::Ended,
];

/// 32 bytes, so that no entry crosses a page: the kernel does not interrupt a write within a page.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub what: What,
    pub frame: u64,
    pub time: u64,
    pub extra: u64,
}

impl Entry {
    pub const SIZE: usize = 32;

    fn new(what: What, frame: u64, extra: u64) -> Self {
        Entry { what, frame, time: now_ns(), extra }
    }
}

/// An append-only file of entries, each written with one system call: entries survive their
/// writer's death.
pub struct Ledger(File);

impl Ledger {
    pub fn create(path: &Path) -> Self {
        Ledger(OpenOptions::new().create_new(true).append(true).open(path).unwrap())
    }

    pub fn note(&mut self, what: What, frame: u64, extra: u64) {
        let Entry { what, frame, time, extra } = Entry::new(what, frame, extra);
        let mut bytes = [0; Entry::SIZE];
        for (field, to) in [what as u64, frame, time, extra].into_iter().zip(bytes.chunks_exact_mut(8)) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        assert_eq!(self.0.write(&bytes).unwrap(), Entry::SIZE);
    }
}

/// The last entry of a ledger, if there is one.
pub fn last(path: &Path) -> Option<Entry> {
    let file = File::open(path).ok()?;
    let at = file.metadata().unwrap().len().checked_sub(Entry::SIZE as u64)?;
    let mut bytes = [0; Entry::SIZE];
    file.read_exact_at(&mut bytes, at).unwrap();
    entries(&bytes).pop()
}

pub fn read(path: &Path) -> Vec<Entry> {
    entries(&std::fs::read(path).unwrap_or_default()) // killed before it created one
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let field = |entry: &[u8], i: usize| u64::from_le_bytes(entry[8 * i..8 * i + 8].try_into().unwrap());
    let entry =
        |e: &[u8]| Entry { what: ALL[field(e, 0) as usize], frame: field(e, 1), time: field(e, 2), extra: field(e, 3) };
    bytes.chunks_exact(Entry::SIZE).map(entry).collect()
}

/// Entries for frames that a supervisor drained itself.
pub fn drained(frame: Option<u64>, flags: Flags) -> [Entry; 2] {
    let marked = flags.contains(Flags::REDELIVERED).into();
    let got = frame.map_or(What::Torn, |_| What::Got);
    let frame = frame.unwrap_or(0);
    [Entry::new(got, frame, marked), Entry::new(What::Released, frame, 0)]
}

/// The entry for an end that a supervisor received itself.
pub fn ended(lane: u16) -> Entry {
    Entry::new(What::Ended, lane.into(), 0)
}

/// How many of these entries there are.
pub fn count(entries: &[Entry], what: What) -> usize {
    entries.iter().filter(|entry| entry.what == what).count()
}

/// A frame's number names its sender: the number of the process, then that of the frame.
pub const fn number(process: u32, frame: u32) -> u64 {
    (process as u64) << 32 | frame as u64
}

/// A payload that identifies its frame and shows whether it is torn: number, CRC32C of the rest,
/// rest.
pub fn payload(number: u64, room: usize) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let len = (mixed >> 40) as usize % (room - 12);
    let rest: Vec<u8> = (0..len).map(|i| (mixed >> (i % 7 * 8)) as u8 ^ i as u8).collect();
    [&number.to_le_bytes()[..], &crc32c::crc32c(&rest).to_le_bytes(), &rest].concat()
}

/// The number of a frame, unless it is torn.
pub fn number_of(bytes: &[u8], room: usize) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().unwrap());
    (bytes == payload(number, room)).then_some(number)
}

/// What happened to one frame.
#[derive(Default)]
struct Fate {
    about: bool,
    sent: bool,
    unmarked: u32,
    marked: u32,
    released: Vec<u64>,
    last_got: u64,
}

/// Joins the ledgers of one round. Returns how many frames there were, and how many were received
/// again; or what is wrong.
pub fn judge(ledgers: &[Vec<Entry>]) -> Result<(u64, u64), String> {
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    for ledger in ledgers {
        let mut newest: HashMap<u64, u64> = HashMap::new();
        for entry in ledger {
            let fate = fates.entry(entry.frame).or_default();
            match entry.what {
                What::About => fate.about = true,
                What::Sent => fate.sent = true,
                What::Torn => return Err(format!("torn: {:#x}", entry.frame)),
                What::Released => fate.released.push(entry.time),
                What::Got => {
                    fate.last_got = fate.last_got.max(entry.time);
                    if entry.extra == 1 {
                        fate.marked += 1;
                    } else {
                        fate.unmarked += 1;
                        let before = newest.insert(entry.frame >> 32, entry.frame);
                        if before.is_some_and(|before| before >= entry.frame) {
                            return Err(format!("{:#x} came after {before:#x?}", entry.frame));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let (mut frames, mut again) = (0, 0);
    for (frame, fate) in fates {
        let Fate { about, sent, unmarked, marked, released, last_got } = fate;
        let got = unmarked + marked;
        if got == 0 && !about && !sent {
            continue; // the entry of an attach or of an end
        }
        let wrong = if !about {
            "was received without being sent"
        } else if sent && got == 0 {
            "is lost"
        } else if unmarked > 1 {
            "came twice without a mark"
        } else if released.len() > 1 {
            "was released twice"
        } else if released.first().is_some_and(|at| *at < last_got) {
            "came again after it was released"
        } else {
            frames += u64::from(got > 0);
            again += u64::from(marked > 0);
            continue;
        };
        return Err(format!(
            "{frame:#x} {wrong}: sent {sent}, got {unmarked} + {marked} marked, released {released:?}"
        ));
    }
    Ok((frames, again))
}

/// When the process of this ledger sent or received its first frame.
pub fn began(ledger: &[Entry]) -> Option<u64> {
    ledger.iter().find(|entry| matches!(entry.what, What::Sent | What::Got)).map(|entry| entry.time)
}
