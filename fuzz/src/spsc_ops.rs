//! Histories of the SPSC ring against a queue: every way to send and to receive, with grants,
//! batches and views that are dropped, and handles that leave, die and are succeeded.
//!
//! The model is exact: which frame is received, in which order, with which number, whether it is
//! marked REDELIVERED, and when the ring is full.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slipring::frame::{Flags, Header, padded};
use slipring::{Error, Options, Redelivery, Ring, spsc};

use super::draw::Draw;
use super::killable::{self, Life};

const CAPACITY: usize = 4096;
const MAX_PAYLOAD: usize = CAPACITY - 24;
/// Fewer than the calls after which a handle checks its peers by itself, which would depend on the
/// clock.
const OPERATIONS: usize = 200;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let policy = draw.one_of(&[Redelivery::AtLeastOnce, Redelivery::AtMostOnce]);
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY).participants(4).redelivery(policy)).unwrap();
    let mut world = World::new(&ring, policy);
    for _ in 0..OPERATIONS {
        if !draw.more() {
            break;
        }
        world.step(&mut draw);
    }
    world.drain();
}

#[derive(Clone, Debug)]
struct Sent {
    header: Header,
    payload: Vec<u8>,
    /// A dead consumer had seen it.
    redelivered: bool,
}

struct World<'r> {
    ring: &'r Ring,
    policy: Redelivery,
    tx: Option<(spsc::Producer, Life)>,
    rx: Option<(spsc::Consumer, Life)>,
    /// Killed handles, which are dropped at the end.
    dead: (Vec<spsc::Producer>, Vec<spsc::Consumer>),
    /// Frames that are committed and not released.
    queue: VecDeque<Sent>,
    /// How many of them, from the front, consumers have seen.
    shown: usize,
    sequence: HashMap<u16, u32>,
}

fn record(len: usize) -> usize {
    padded(16 + len)
}

fn is_end(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::PeerDead)
}

impl<'r> World<'r> {
    fn new(ring: &'r Ring, policy: Redelivery) -> Self {
        let (dead, queue, sequence) = Default::default();
        World { ring, policy, tx: None, rx: None, dead, queue, shown: 0, sequence }
    }

    fn step(&mut self, draw: &mut Draw<'_>) {
        match draw.below(16) {
            0..=4 => self.send(draw),
            5 => self.batch(draw),
            6..=9 => self.receive(draw),
            10 => self.receive_batch(draw),
            11 => self.change_producer(draw),
            12 => self.change_consumer(draw),
            13 => self.look(),
            _ => {
                self.send(draw);
                self.receive(draw);
            }
        }
    }

    /// The producer, which is attached if there is none. A successor numbers from 0.
    fn producer(&mut self) -> &mut spsc::Producer {
        if self.tx.is_none() {
            self.tx = Some(killable::attach(self.ring, spsc::Producer::attach).unwrap());
            self.sequence.clear();
        }
        &mut self.tx.as_mut().unwrap().0
    }

    fn consumer(&mut self) -> &mut spsc::Consumer {
        if self.rx.is_none() {
            self.rx = Some(killable::attach(self.ring, spsc::Consumer::attach).unwrap());
            if self.policy == Redelivery::AtMostOnce {
                self.queue.drain(..self.shown);
                self.shown = 0;
            }
            self.queue.iter_mut().take(self.shown).for_each(|sent| sent.redelivered = true);
        }
        &mut self.rx.as_mut().unwrap().0
    }

    fn used(&self) -> usize {
        self.queue.iter().map(|sent| record(sent.payload.len())).sum()
    }

    fn fits(&self, more: usize) -> bool {
        self.used() + more + 8 <= CAPACITY
    }

    /// A frame to send, numbered.
    fn draft(&mut self, draw: &mut Draw<'_>, len: usize) -> Sent {
        let stream = draw.one_of(&[0, 0, 7, u16::MAX]);
        let mut header = Header { kind: 0x0100 | u16::from(draw.byte()), stream, ..Header::PLAIN };
        if draw.below(8) == 7 {
            header = Header { flags: Flags::WHOLE | Flags::CONTROL, kind: header.kind & 0xFF, ..header };
        }
        Sent { header, payload: draw.payload(len), redelivered: false }
    }

    /// A frame was committed: assigns the number that the ring must use.
    fn sent(&mut self, mut sent: Sent) {
        sent.header.len = sent.payload.len() as u32;
        if !sent.header.is_control() {
            let next = self.sequence.entry(sent.header.stream).or_insert(0);
            sent.header.seq = *next;
            *next += 1;
        }
        self.queue.push_back(sent);
    }

    fn length(draw: &mut Draw<'_>) -> usize {
        match draw.below(8) {
            0 => MAX_PAYLOAD + 1 - draw.below(20),
            1 => draw.below(2000),
            _ => draw.below(100),
        }
    }

    fn send(&mut self, draw: &mut Draw<'_>) {
        self.producer();
        let len = Self::length(draw);
        let sent = self.draft(draw, len);
        let fits = self.fits(record(len));
        let (tx, _) = self.tx.as_mut().unwrap();
        let (mut keep, mut commits) = (len, true);
        let draft = &sent;
        let outcome = match draw.below(5) {
            0 => tx.send_frame_deadline(draft.header, &draft.payload, Duration::ZERO),
            1 => {
                keep = draw.below(len + 1);
                tx.try_reserve(len).map(|mut grant| {
                    grant.copy_from_slice(&draft.payload);
                    grant.commit_frame(draft.header, keep).unwrap();
                })
            }
            2 => {
                commits = false;
                draw.flag(); // a grant has no destructor: dropping and forgetting it are the same
                tx.try_reserve(len).map(|mut grant| grant.fill(0xFF))
            }
            _ => tx.try_send_frame(draft.header, &draft.payload),
        };
        match outcome {
            Ok(()) => {
                assert!(fits && len <= MAX_PAYLOAD, "{len} bytes fit into {} of {CAPACITY}", self.used());
                if commits {
                    let mut sent = sent;
                    sent.payload.truncate(keep);
                    self.sent(sent);
                }
            }
            Err(Error::TooLarge { max }) => assert!(max == MAX_PAYLOAD && len > max),
            Err(Error::Full | Error::Timeout) => assert!(!fits, "{len} bytes, {} of {CAPACITY} used", self.used()),
            Err(e) if is_end(&e) => assert!(!fits && self.rx.is_none(), "{e}"),
            Err(e) => panic!("{e}"),
        }
    }

    fn batch(&mut self, draw: &mut Draw<'_>) {
        self.producer();
        let drafts: Vec<_> = (0..draw.below(6))
            .map(|_| {
                let len = Self::length(draw);
                self.draft(draw, len)
            })
            .collect();
        let used = self.used();
        let (tx, _) = self.tx.as_mut().unwrap();
        let mut batch = tx.batch();
        let mut staged = Vec::new();
        let mut room = used;
        for draft in drafts {
            let len = draft.payload.len();
            let fits = room + record(len) + 8 <= CAPACITY;
            match batch.push_frame(draft.header, &draft.payload) {
                Ok(()) => {
                    assert!(fits && len <= MAX_PAYLOAD);
                    room += record(len);
                    staged.push(draft);
                }
                Err(Error::TooLarge { .. }) => assert!(len > MAX_PAYLOAD),
                Err(e) => assert!(!fits && (matches!(e, Error::Full) || is_end(&e)), "{e}"),
            }
            assert_eq!(batch.len(), staged.len());
        }
        match draw.below(3) {
            0 => drop(batch),
            _ => {
                batch.commit();
                staged.into_iter().for_each(|sent| self.sent(sent));
            }
        }
    }

    fn check(header: Header, payload: &[u8], expected: &Sent) {
        let flags = expected.header.flags | if expected.redelivered { Flags::REDELIVERED } else { Flags::NONE };
        assert_eq!(header, Header { flags, ..expected.header });
        assert_eq!(payload, expected.payload);
    }

    /// The first frame was released.
    fn released(&mut self) {
        self.queue.pop_front();
        self.shown = self.shown.saturating_sub(1);
    }

    fn receive(&mut self, draw: &mut Draw<'_>) {
        self.consumer();
        let expected = self.queue.front().cloned();
        let (rx, _) = self.rx.as_mut().unwrap();
        let mut release = true;
        let outcome = match draw.below(8) {
            0 => {
                let mut buffer = vec![0; draw.below(200)];
                let outcome = rx.try_recv_into(&mut buffer);
                outcome.map(|header| Self::check(header, &buffer[..header.len as usize], expected.as_ref().unwrap()))
            }
            how @ 1..=2 => {
                release = false;
                rx.try_recv().map(|view| {
                    Self::check(view.header(), &view, expected.as_ref().unwrap());
                    if how == 1 { view.keep() } else { std::mem::forget(view) }
                })
            }
            3 => {
                let outcome = rx.recv_deadline(Duration::ZERO);
                outcome.map(|view| Self::check(view.header(), &view, expected.as_ref().unwrap()))
            }
            _ => rx.try_recv().map(|view| Self::check(view.header(), &view, expected.as_ref().unwrap())),
        };
        if expected.is_some() {
            self.shown = self.shown.max(1);
        }
        match (outcome, expected) {
            (Ok(()), Some(_)) if release => self.released(),
            (Ok(()), Some(_)) => {}
            (Err(Error::TooLarge { max }), Some(expected)) => assert_eq!(max, expected.payload.len()),
            (Err(Error::Empty | Error::Timeout), None) => {}
            (Err(e), None) if is_end(&e) => assert!(self.tx.is_none(), "{e}"),
            (outcome, expected) => panic!("{outcome:?}, expected {expected:?}"),
        }
    }

    fn receive_batch(&mut self, draw: &mut Draw<'_>) {
        self.consumer();
        let (want, forget) = (draw.below(20), draw.below(4) == 3);
        let (rx, _) = self.rx.as_mut().unwrap();
        let mut seen = 0;
        match rx.try_recv_batch(usize::MAX) {
            Ok(mut batch) => {
                for (frame, expected) in batch.iter().take(want).zip(&self.queue) {
                    Self::check(frame.header, frame.payload, expected);
                    seen += 1;
                }
                assert_eq!(seen, want.min(self.queue.len()));
                if forget {
                    std::mem::forget(batch);
                }
            }
            Err(Error::Empty) => assert!(self.queue.is_empty()),
            Err(e) => assert!(is_end(&e) && self.queue.is_empty() && self.tx.is_none(), "{e}"),
        }
        // `zip` draws one frame more than it yields from a queue that has ended, but there is none.
        if !self.queue.is_empty() {
            self.shown = self.shown.max(seen.max(1));
        }
        if !forget {
            (0..seen).for_each(|_| self.released());
        }
    }

    fn change_producer(&mut self, draw: &mut Draw<'_>) {
        self.producer();
        let (tx, life) = self.tx.take().unwrap();
        match draw.below(3) {
            0 => tx.close(),
            1 => {
                life.end();
                self.dead.0.push(tx);
            }
            _ => {
                assert!(matches!(spsc::Producer::attach(self.ring), Err(Error::RoleTaken { .. })));
                self.tx = Some((tx, life));
            }
        }
    }

    fn change_consumer(&mut self, draw: &mut Draw<'_>) {
        self.consumer();
        let (rx, life) = self.rx.take().unwrap();
        match draw.below(3) {
            0 => {
                rx.close();
                // Frames that no dead consumer had seen are unmarked for its successor.
                self.shown = self.queue.iter().take_while(|sent| sent.redelivered).count();
            }
            1 => {
                life.end();
                self.dead.1.push(rx);
            }
            _ => {
                assert!(matches!(spsc::Consumer::attach(self.ring), Err(Error::RoleTaken { .. })));
                self.rx = Some((rx, life));
            }
        }
    }

    fn look(&self) {
        let report = self.ring.verify().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        assert_eq!(report.frames as usize, self.queue.len());
        assert_eq!(report.bytes as usize, self.queue.iter().map(|sent| sent.payload.len()).sum());
        assert_eq!(self.ring.stats().used() as usize, self.used());
        let mut waiting = self.queue.iter();
        self.ring
            .inspect(|frame| {
                let sent = waiting.next().unwrap();
                assert_eq!((frame.header, frame.payload), (sent.header, &sent.payload[..]));
                true
            })
            .unwrap();
        assert!(waiting.next().is_none());
    }

    /// At the end of any history: all committed frames are received, and the ring can be filled.
    fn drain(&mut self) {
        self.look();
        while !self.queue.is_empty() {
            self.consumer();
            let Some(expected) = self.queue.front().cloned() else { break };
            let (rx, _) = self.rx.as_mut().unwrap();
            let view = rx.try_recv().unwrap();
            Self::check(view.header(), &view, &expected);
            drop(view);
            self.released();
        }
        self.producer().try_send(&[1; MAX_PAYLOAD]).unwrap();
        assert_eq!(*self.consumer().try_recv().unwrap(), [1; MAX_PAYLOAD]);
    }
}
