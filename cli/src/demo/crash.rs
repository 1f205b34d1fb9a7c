//! `kill -9` of a sender with a half-written frame, and of a receiver that holds a frame.
//!
//! Receivers write a receipt for every frame before they release it, and a pipe keeps its contents
//! when its writer dies: so the parent knows afterwards what arrived, also at the killed receiver.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipring::frame::Flags;
use slipring::{Counts, Options, Ring, mpmc};

use crate::child::{self, Part, Passed};
use crate::failure::{FAILED, Failure, Outcome};
use crate::units;

/// Number of frames that the victims handle before they are killed.
const BEFORE_DEATH: u64 = 5_000;
/// Sender numbers of the survivor and of the victim.
const STEADY: u64 = 1;
const VICTIM: u64 = 2;
/// How long the survivors continue afterwards.
const AFTERMATH: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);
/// The byte that a process writes when it is ready to be killed.
const HOLDING: u64 = u64::MAX;
/// Flag in a receipt: the frame was marked as redelivered. The sender is in the bits below it, the
/// number of the frame in those below that.
const AGAIN: u64 = 1 << 63;
const SENDER_SHIFT: u32 = 48;

/// The results.
pub(super) struct Crash {
    sender: u32,
    receiver: u32,
    /// From each kill until the slot was usable again.
    after: [Duration; 2],
    /// Frames sent by both senders, and how many of them after the kills.
    frames: u64,
    after_kills: u64,
    redelivered: u64,
}

impl Crash {
    pub(super) fn describe(&self) -> String {
        let Crash { sender, receiver, after, frames, after_kills, redelivered } = self;
        let [undone, given] = after.map(|after| units::nanoseconds(after.as_nanos() as f64));
        let mut text = "  kill -9 in mid-stream, mpmc 2 to 2\n".to_owned();
        let _ =
            writeln!(text, "    sender {sender} killed while writing a frame: its slot was free again after {undone}");
        let _ = writeln!(
            text,
            "    receiver {receiver} killed while holding a frame: redelivered to the other after {given}"
        );
        let _ = writeln!(
            text,
            "    {after_kills} frames since; {frames} in all: none missing, {redelivered} marked as redelivered\n"
        );
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "half_written_recovered_after_ns": self.after[0].as_nanos() as u64,
            "held_redelivered_after_ns": self.after[1].as_nanos() as u64,
            "frames": self.frames, "frames_after_kills": self.after_kills, "redelivered": self.redelivered, "missing": 0,
        })
    }
}

pub(super) fn run() -> Outcome<Crash> {
    let ring = Ring::create_anonymous(&Options::mpmc(256, 64))?;
    let passed = Passed::ring(&ring)?;
    let fd = || passed.number();
    let opener = mpmc::Producer::attach(&ring)?; // keeps the ring open between the producers
    let mut taker = Part::start(None, "consume", [fd()])?;
    let mut doomed_taker = Part::start(None, "consume", [fd(), BEFORE_DEATH.to_string()])?;
    child::wait_for_consumers(&ring, 2)?;
    let mut maker = Part::start(None, "produce", [fd(), STEADY.to_string()])?;
    let mut doomed_maker = Part::start(None, "produce", [fd(), VICTIM.to_string(), BEFORE_DEATH.to_string()])?;
    let (notify, holding) = channel();
    let [taken, doomed_taken] = [Ledger::of(&mut taker, &notify)?, Ledger::of(&mut doomed_taker, &notify)?];
    let [made, doomed_made] = [Ledger::of(&mut maker, &notify)?, Ledger::of(&mut doomed_maker, &notify)?];
    let stop = maker.stdin();

    // The victim that is ready first is killed first: alive, it would block the others with what it
    // holds.
    let (mut undone, mut given) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..2 {
        let heard = holding.recv_timeout(PATIENCE);
        let ready = heard.map_err(|_| Failure::new(FAILED, "kill: a process ended before it could be killed"))?;
        if ready == doomed_maker.pid() {
            undone = kill(&mut doomed_maker, &ring, |counts| counts.recovered)?;
        } else {
            given = kill(&mut doomed_taker, &ring, |counts| counts.redelivered)?;
        }
    }
    doomed_made.entries()?;

    let sent_before = ring.stats().counts.sent;
    std::thread::sleep(AFTERMATH);
    drop(stop);
    maker.finish()?;
    let sent = made.entries()?.first().copied().unwrap_or(0);
    opener.close();
    taker.finish()?;
    let mut receipts = taken.entries()?;
    receipts.extend(doomed_taken.entries()?);
    let redelivered = audit(&receipts, sent)?;
    let report = ring.verify()?;
    if !report.is_clean() || report.frames > 0 {
        return Err(Failure::new(FAILED, format_args!("kill: the ring is not clean afterwards: {report:?}")));
    }
    let frames = sent + BEFORE_DEATH;
    let after_kills = frames.saturating_sub(sent_before);
    Ok(Crash {
        sender: doomed_maker.pid(),
        receiver: doomed_taker.pid(),
        after: [undone, given],
        frames,
        after_kills,
        redelivered,
    })
}

/// Kills the process, and waits until the survivors have recovered what it held: `count` has grown.
fn kill(part: &mut Part, ring: &Ring, count: impl Fn(&Counts) -> u64) -> Outcome<Duration> {
    let before = count(&ring.stats().counts);
    let start = Instant::now();
    part.kill()?;
    while count(&ring.stats().counts) == before {
        if start.elapsed() > PATIENCE {
            return Err(Failure::new(FAILED, "kill: what the dead process held was not recovered"));
        }
        std::thread::sleep(Duration::from_micros(20));
    }
    Ok(start.elapsed())
}

/// Every frame of both senders must have exactly one receipt, unless it was marked. Returns how
/// many were.
fn audit(receipts: &[u64], sent: u64) -> Outcome<u64> {
    let mut seen: HashMap<u64, u64> = HashMap::with_capacity(receipts.len());
    let mut again = 0;
    for receipt in receipts {
        let times = seen.entry(receipt & !AGAIN).or_default();
        *times += 1;
        again += u64::from(receipt & AGAIN != 0);
        if *times > 1 && receipt & AGAIN == 0 {
            return Err(Failure::new(FAILED, "kill: a frame came twice without being marked"));
        }
    }
    let missing =
        |(who, count): (u64, u64)| (0..count).filter(|n| !seen.contains_key(&(who << SENDER_SHIFT | n))).count();
    let missing: usize = [(STEADY, sent), (VICTIM, BEFORE_DEATH)].into_iter().map(missing).sum();
    let too_many = seen.len() as u64 - (sent + BEFORE_DEATH - missing as u64);
    match (missing, too_many) {
        (0, 0) => Ok(again),
        _ => Err(Failure::new(FAILED, format_args!("kill: frames missing: {missing}, never sent: {too_many}"))),
    }
}

/// The records that a process writes to its stdout, eight bytes each.
struct Ledger {
    reader: JoinHandle<std::io::Result<Vec<u64>>>,
}

impl Ledger {
    /// Sends the process id through `notify` when the process is ready to be killed.
    fn of(part: &mut Part, notify: &Sender<u32>) -> Outcome<Self> {
        let (stdout, pid, notify) = (part.stdout()?, part.pid(), notify.clone());
        let holding = move || notify.send(pid).unwrap_or_default(); // the parent may have ended
        Ok(Ledger { reader: crate::opening::spawn(move || collect(stdout, holding))? })
    }

    /// All records until the process ended.
    fn entries(self) -> Outcome<Vec<u64>> {
        match self.reader.join() {
            Ok(entries) => entries.map_err(|e| Failure::new(FAILED, e)),
            Err(_) => Err(Failure::new(FAILED, "kill: a ledger could not be read")),
        }
    }
}

fn collect(mut stdout: ChildStdout, holding: impl Fn()) -> std::io::Result<Vec<u64>> {
    let mut entries = Vec::new();
    let mut buffer = Vec::new();
    let mut block = [0; 64 << 10];
    loop {
        let n = stdout.read(&mut block)?;
        if n == 0 {
            return Ok(entries);
        }
        buffer.extend_from_slice(&block[..n]);
        let whole = buffer.len() / 8 * 8;
        for entry in buffer[..whole].chunks_exact(8) {
            match u64::from_le_bytes(std::array::from_fn(|i| entry[i])) {
                HOLDING => holding(),
                entry => entries.push(entry),
            }
        }
        buffer.drain(..whole);
    }
}

fn write(entries: &[u64]) -> Outcome {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    crate::output::stdout()?.write_all(&bytes).map_err(Failure::output)
}

/// Waits to be killed.
fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

/// Sends numbered frames until stdin ends, and writes how many. Or sends `before_death` frames, and
/// then waits to be killed with a half-written one.
pub(super) fn produce(ring: &Ring, who: u64, dies_after: Option<u64>) -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);
    crate::opening::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        STOP.store(true, Ordering::Relaxed);
    })?;
    let tx = mpmc::Producer::attach(ring)?;
    for number in 0.. {
        let payload = (who << SENDER_SHIFT | number).to_le_bytes();
        if dies_after == Some(number) {
            let mut grant = tx.reserve(64)?;
            grant[..4].copy_from_slice(&payload[..4]);
            write(&[HOLDING])?;
            hold();
        }
        if STOP.load(Ordering::Relaxed) && dies_after.is_none() {
            return write(&[number]);
        }
        tx.send(&payload)?;
    }
    Ok(())
}

/// Receives frames, and writes a receipt for each before releasing it. After `before_death` frames
/// it waits to be killed while it holds one.
pub(super) fn consume(ring: &Ring, dies_after: Option<u64>) -> Outcome {
    let rx = mpmc::Consumer::attach(ring)?;
    let mut taken = 0;
    loop {
        let left = dies_after.map_or(u64::MAX, |n| n.saturating_sub(taken));
        let mut batch = match rx.recv_batch(left.clamp(1, 32) as usize) {
            Ok(batch) => batch,
            Err(error) if child::is_end(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if left == 0 {
            write(&[HOLDING])?;
            hold();
        }
        let mut receipts = Vec::new();
        for frame in batch.iter() {
            let Some(number) = frame.payload.first_chunk::<8>() else {
                return Err(Failure::new(FAILED, "kill: a frame is too short"));
            };
            let again = if frame.header.flags.contains(Flags::REDELIVERED) { AGAIN } else { 0 };
            receipts.push(u64::from_le_bytes(*number) | again);
        }
        write(&receipts)?;
        taken += receipts.len() as u64;
    }
}
