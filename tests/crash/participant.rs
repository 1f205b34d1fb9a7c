//! What a participant does until it is killed: it sends or receives with every call that exists,
//! and writes entries to its ledger.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use slipring::frame::Flags;
use slipring::mpsc::{Received, Source};
use slipring::{Error, Kind, Options, Result, Role, mpmc, mpsc, spsc};

use super::Dice;
use super::ledger::{Ledger, What, number, number_of, payload};

/// Payloads are shorter than this.
pub const ROOM: usize = 200;
/// The most frames in one batch.
pub const BATCH: u64 = 5;
pub const MOMENT: Duration = Duration::from_millis(20);

/// Rings so small that they are often full or empty, and wrap often.
pub fn ring_options(kind: Kind, dir: &Path) -> Options {
    match kind {
        Kind::Spsc => Options::spsc(4096),
        // Not many more lanes than producers, so that each lane is taken often.
        Kind::Mpsc => Options::mpsc(4096, 10),
        _ => Options::mpmc(8, ROOM),
    }
    .participants(20)
    .directory(dir)
}

/// Runs a participant until it is killed.
pub fn live(kind: Kind, role: Role, dir: &Path, me: u32, ledger: &Path) {
    let mut ledger = Ledger::create(ledger);
    let dice = Dice(u64::from(me).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let options = ring_options(kind, dir);
    match (kind, role) {
        (Kind::Spsc, Role::Producer) => {
            let tx = attach(|| spsc::Producer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            produce(tx, me, ledger, dice)
        }
        (Kind::Spsc, _) => {
            let rx = attach(|| spsc::Consumer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            consume(rx, ledger, dice)
        }
        (Kind::Mpsc, Role::Producer) => {
            let tx = attach(|| mpsc::Producer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            produce(tx, me, ledger, dice)
        }
        (Kind::Mpsc, _) => {
            let rx = attach(|| mpsc::Consumer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            consume(Lanes { rx, ended: Ends::default() }, ledger, dice)
        }
        (_, Role::Producer) => {
            let tx = attach(|| mpmc::Producer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            produce(tx, me, ledger, dice)
        }
        _ => {
            let rx = attach(|| mpmc::Consumer::open("ring", &options));
            ledger.note(What::Attached, 0, 0);
            consume(rx, ledger, dice)
        }
    }
}

/// Attaches. The kernel may take some milliseconds to release the locks of a killed predecessor.
pub fn attach<T>(mut once: impl FnMut() -> Result<T>) -> T {
    loop {
        match once() {
            Ok(end) => return end,
            Err(Error::RoleTaken { .. } | Error::TooManyParticipants { .. } | Error::NoFreeLane { .. }) => {
                std::thread::yield_now();
            }
            Err(e) => panic!("attach: {e}"),
        }
    }
}

/// A producer, as far as this test uses it. Each call sends these frames at once, or fails and
/// sends none of them.
trait Sender {
    fn send(&mut self, bytes: &[u8]) -> Result<()>;
    fn send_in_place(&mut self, bytes: &[u8]) -> Result<()>;
    /// Sends some of them, and returns how many.
    fn send_batch(&mut self, all: &[Vec<u8>]) -> Result<usize>;
    fn abort(&mut self) -> Result<()>;
    fn wait_for_peer(&self);
}

/// The calls of a [`Sender`] that are the same for the producers of all kinds.
macro_rules! common_calls {
    ($producer:ty) => {
        fn send(&mut self, bytes: &[u8]) -> Result<()> {
            self.send_deadline(bytes, MOMENT)
        }

        fn send_in_place(&mut self, bytes: &[u8]) -> Result<()> {
            let mut grant = self.reserve_deadline(ROOM, MOMENT)?;
            grant[..bytes.len()].copy_from_slice(bytes);
            grant.commit(bytes.len());
            Ok(())
        }

        fn wait_for_peer(&self) {
            let _ = <$producer>::wait_for_peer(self, MOMENT);
        }
    };
}

impl Sender for spsc::Producer {
    common_calls!(spsc::Producer);

    fn send_batch(&mut self, all: &[Vec<u8>]) -> Result<usize> {
        let mut batch = self.batch();
        let pushed = all.iter().take_while(|bytes| batch.push(bytes).is_ok()).count();
        batch.commit();
        Ok(pushed)
    }

    fn abort(&mut self) -> Result<()> {
        self.try_reserve(ROOM)?.fill(0xEE);
        let mut batch = self.batch();
        batch.push(b"aborted")?;
        batch.push(b"aborted, too")
    }
}

impl Sender for mpsc::Producer {
    common_calls!(mpsc::Producer);

    fn send_batch(&mut self, all: &[Vec<u8>]) -> Result<usize> {
        self.try_send_batch(all.iter().map(Vec::as_slice))
    }

    fn abort(&mut self) -> Result<()> {
        self.try_reserve(ROOM)?.fill(0xEE);
        let mut batch = self.batch();
        batch.push(b"aborted")?;
        batch.push(b"aborted, too")
    }
}

impl Sender for mpmc::Producer {
    common_calls!(mpmc::Producer);

    fn send_batch(&mut self, all: &[Vec<u8>]) -> Result<usize> {
        self.try_send_batch(all.iter().map(Vec::as_slice))
    }

    fn abort(&mut self) -> Result<()> {
        self.try_reserve(ROOM)?.fill(0xEE);
        Ok(())
    }
}

fn produce(mut tx: impl Sender, me: u32, mut ledger: Ledger, mut dice: Dice) {
    let mut next = 0;
    loop {
        let count = if dice.next(3) == 0 { 1 + dice.next(BATCH) } else { 1 };
        let numbers: Vec<u64> = (0..count).map(|i| number(me, next + i as u32)).collect();
        let frames: Vec<_> = numbers.iter().map(|n| payload(*n, ROOM)).collect();
        numbers.iter().for_each(|n| ledger.note(What::About, *n, 0));
        let outcome = match (count, dice.next(8)) {
            (_, 0) => tx.abort().map(|()| 0),
            (1, 1..=3) => tx.send_in_place(&frames[0]).map(|()| 1),
            (1, _) => tx.send(&frames[0]).map(|()| 1),
            _ => tx.send_batch(&frames),
        };
        match outcome {
            Ok(sent) => {
                numbers[..sent].iter().for_each(|n| ledger.note(What::Sent, *n, 0));
                next += sent as u32;
            }
            Err(Error::Full | Error::Timeout) => {}
            Err(Error::PeerDead | Error::Closed) => tx.wait_for_peer(),
            Err(e) => panic!("send: {e}"),
        }
    }
}

/// A consumer. Each call notes what it received before it releases it.
trait Receiver {
    fn recv(&mut self, ledger: &mut Ledger) -> Result<()>;
    fn recv_batch(&mut self, max: usize, ledger: &mut Ledger) -> Result<()>;
    fn wait_for_peer(&self);
}

fn got(bytes: &[u8], flags: Flags, ledger: &mut Ledger) -> u64 {
    let marked = flags.contains(Flags::REDELIVERED).into();
    let whole = number_of(bytes, ROOM);
    let claimed = bytes.get(..8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()));
    ledger.note(whole.map_or(What::Torn, |_| What::Got), claimed, marked);
    claimed
}

impl Receiver for spsc::Consumer {
    fn recv(&mut self, ledger: &mut Ledger) -> Result<()> {
        let view = self.recv_deadline(MOMENT)?;
        let frame = got(&view, view.header().flags, ledger);
        drop(view);
        ledger.note(What::Released, frame, 0);
        Ok(())
    }

    fn recv_batch(&mut self, max: usize, ledger: &mut Ledger) -> Result<()> {
        let mut batch = self.recv_batch_deadline(max, MOMENT)?;
        let frames: Vec<_> = batch.iter().map(|frame| got(frame.payload, frame.header.flags, ledger)).collect();
        drop(batch);
        frames.into_iter().for_each(|frame| ledger.note(What::Released, frame, 0));
        Ok(())
    }

    fn wait_for_peer(&self) {
        let _ = spsc::Consumer::wait_for_peer(self, MOMENT);
    }
}

/// The producers of the lanes of an mpsc ring, as one consumer knows them.
#[derive(Default)]
pub struct Ends {
    /// Which producer sent the last frame of each lane.
    last: HashMap<u16, u32>,
    ended: HashSet<u32>,
}

impl Ends {
    /// A frame was received.
    pub fn frame(&mut self, source: Source, frame: u64) {
        let producer = (frame >> 32) as u32;
        assert!(!self.ended.contains(&producer), "a frame of producer {producer} behind its end");
        self.last.insert(source.lane, producer);
    }

    /// An end was received.
    pub fn end(&mut self, end: mpsc::Ended) {
        assert!(end.died, "no producer closes");
        if let Some(producer) = self.last.remove(&end.lane) {
            self.ended.insert(producer);
        }
    }
}

/// A consumer of an mpsc ring.
struct Lanes {
    rx: mpsc::Consumer,
    ended: Ends,
}

impl Receiver for Lanes {
    fn recv(&mut self, ledger: &mut Ledger) -> Result<()> {
        match self.rx.recv_deadline(MOMENT)? {
            Received::Frame(view) => {
                let frame = got(&view, view.header().flags, ledger);
                self.ended.frame(view.source(), frame);
                drop(view);
                ledger.note(What::Released, frame, 0);
            }
            Received::Ended(end) => {
                ledger.note(What::Ended, end.lane.into(), 0);
                self.ended.end(end);
            }
        }
        Ok(())
    }

    fn recv_batch(&mut self, max: usize, ledger: &mut Ledger) -> Result<()> {
        match self.rx.recv_batch_deadline(max, MOMENT)? {
            Received::Frame(mut batch) => {
                let source = batch.source();
                let frames: Vec<_> = batch.iter().map(|frame| got(frame.payload, frame.header.flags, ledger)).collect();
                drop(batch);
                for frame in frames {
                    self.ended.frame(source, frame);
                    ledger.note(What::Released, frame, 0);
                }
            }
            Received::Ended(end) => {
                ledger.note(What::Ended, end.lane.into(), 0);
                self.ended.end(end);
            }
        }
        Ok(())
    }

    fn wait_for_peer(&self) {
        let _ = self.rx.wait_for_peer(MOMENT);
    }
}

impl Receiver for mpmc::Consumer {
    fn recv(&mut self, ledger: &mut Ledger) -> Result<()> {
        let view = self.recv_deadline(MOMENT)?;
        let frame = got(&view, view.header().flags, ledger);
        drop(view);
        ledger.note(What::Released, frame, 0);
        Ok(())
    }

    fn recv_batch(&mut self, max: usize, ledger: &mut Ledger) -> Result<()> {
        let mut batch = self.recv_batch_deadline(max, MOMENT)?;
        let frames: Vec<_> = batch.iter().map(|frame| got(frame.payload, frame.header.flags, ledger)).collect();
        drop(batch);
        frames.into_iter().for_each(|frame| ledger.note(What::Released, frame, 0));
        Ok(())
    }

    fn wait_for_peer(&self) {
        let _ = mpmc::Consumer::wait_for_peer(self, MOMENT);
    }
}

fn consume(mut rx: impl Receiver, mut ledger: Ledger, mut dice: Dice) {
    loop {
        let outcome = match dice.next(3) {
            0 => rx.recv_batch(1 + dice.next(6) as usize, &mut ledger),
            _ => rx.recv(&mut ledger),
        };
        match outcome {
            Ok(()) | Err(Error::Timeout) => {}
            Err(Error::PeerDead | Error::Closed) => rx.wait_for_peer(),
            Err(e) => panic!("receive: {e}"),
        }
    }
}
