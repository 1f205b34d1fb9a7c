//! Histories of the MPMC ring against a list of positions: grants and views that are kept, dropped
//! and forgotten, handles that leave and die, and participants that recover what they held.
//!
//! The model is exact: which frame is next, with which number, whether it is marked REDELIVERED,
//! and when the ring is full or empty.

use std::time::Duration;

use slipring::frame::{Flags, Header};
use slipring::{Error, Options, Redelivery, Ring, mpmc};

use super::draw::Draw;
use super::killable::{self, Life};

const SLOTS: usize = 4;
const MAX_PAYLOAD: usize = 40;
/// Fewer than the calls after which a handle checks its peers by itself, which would depend on the
/// clock.
const OPERATIONS: usize = 200;
/// Handles per role at a time.
const HANDLES: usize = 2;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let policy = draw.one_of(&[Redelivery::AtLeastOnce, Redelivery::AtMostOnce]);
    let ring =
        Ring::create_anonymous(&Options::mpmc(SLOTS, MAX_PAYLOAD).participants(2 * HANDLES + 1).redelivery(policy))
            .unwrap();
    let mut world = World::new(&ring, policy);
    for _ in 0..OPERATIONS {
        if !draw.more() {
            break;
        }
        world.step(&mut draw);
    }
    world.drain();
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    header: Header,
    payload: Vec<u8>,
}

/// The state of a position. Owners are numbered, and a number is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    Writing(usize),
    Ready(Sent),
    Reading(usize, Sent),
    Redeliver(Sent),
    Done,
}

/// A handle from which grants and views borrow for any time.
struct Seat<T: 'static> {
    handle: &'static T,
    life: Life,
    owner: usize,
}

impl<T> Seat<T> {
    /// Frees the memory.
    fn free(handle: &'static T) {
        // SAFETY: it came from `Box::leak`, is freed once, and everything that borrowed it was
        // dropped or forgotten before.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(handle).cast_mut()) });
    }
}

struct World<'r> {
    ring: &'r Ring,
    policy: Redelivery,
    producers: Vec<Seat<mpmc::Producer>>,
    consumers: Vec<Seat<mpmc::Consumer>>,
    grants: Vec<(usize, usize, mpmc::WriteGrant<'static>)>,
    views: Vec<(usize, usize, mpmc::ReadView<'static>)>,
    /// Killed handles, which are freed at the end.
    dead: (Vec<&'static mpmc::Producer>, Vec<&'static mpmc::Consumer>),
    dead_owners: Vec<usize>,
    owners: usize,
    positions: Vec<Position>,
}

fn is_end(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::PeerDead)
}

impl<'r> World<'r> {
    fn new(ring: &'r Ring, policy: Redelivery) -> Self {
        World {
            ring,
            policy,
            producers: Vec::new(),
            consumers: Vec::new(),
            grants: Vec::new(),
            views: Vec::new(),
            dead: Default::default(),
            dead_owners: Vec::new(),
            owners: 0,
            positions: Vec::new(),
        }
    }

    fn step(&mut self, draw: &mut Draw<'_>) {
        match draw.below(16) {
            0..=4 => self.send(draw),
            5 => self.send_batch(draw),
            6 => self.finish_grant(draw),
            7..=10 => self.receive(draw),
            11 => self.receive_batch(draw),
            12 => self.finish_view(draw),
            13 => self.change_producer(draw),
            14 => self.change_consumer(draw),
            _ => self.look(draw),
        }
    }

    fn producer(&mut self, draw: &mut Draw<'_>) -> (&'static mpmc::Producer, usize) {
        let at = draw.below(HANDLES);
        if at >= self.producers.len() {
            let (handle, life) = killable::attach(self.ring, mpmc::Producer::attach).unwrap();
            self.reap();
            self.owners += 1;
            self.producers.push(Seat { handle: Box::leak(Box::new(handle)), life, owner: self.owners });
        }
        let seat = &self.producers[at.min(self.producers.len() - 1)];
        (seat.handle, seat.owner)
    }

    fn consumer(&mut self, draw: &mut Draw<'_>) -> (&'static mpmc::Consumer, usize) {
        let at = draw.below(HANDLES);
        if at >= self.consumers.len() {
            let (handle, life) = killable::attach(self.ring, mpmc::Consumer::attach).unwrap();
            self.reap();
            self.owners += 1;
            self.consumers.push(Seat { handle: Box::leak(Box::new(handle)), life, owner: self.owners });
        }
        let seat = &self.consumers[at.min(self.consumers.len() - 1)];
        (seat.handle, seat.owner)
    }

    /// Reaps the dead, as an attach or a sweep does.
    fn reap(&mut self) {
        for owner in std::mem::take(&mut self.dead_owners) {
            self.recover(owner);
        }
    }

    /// Reaps the dead now, because a call with a deadline may or may not do so, depending on the
    /// clock.
    fn sweep(&mut self) {
        assert_eq!(self.ring.reap_dead().unwrap(), self.dead_owners.len());
        self.reap();
    }

    /// Releases what `owner` held.
    fn recover(&mut self, owner: usize) {
        for position in &mut self.positions {
            *position = match std::mem::replace(position, Position::Done) {
                Position::Writing(by) if by == owner => Position::Done,
                Position::Reading(by, sent) if by == owner => match self.policy {
                    Redelivery::AtMostOnce => Position::Done,
                    _ => Position::Redeliver(sent),
                },
                other => other,
            };
        }
    }

    fn is_full(&self) -> bool {
        let tail = self.positions.len();
        tail >= SLOTS && self.positions[tail - SLOTS] != Position::Done
    }

    fn claimed(&mut self, what: Position) {
        assert!(!self.is_full(), "claimed in a full ring");
        self.positions.push(what);
    }

    fn draft(draw: &mut Draw<'_>) -> Sent {
        let header = Header { kind: 0x0100 | u16::from(draw.byte()), stream: u16::from(draw.byte()), ..Header::PLAIN };
        let len = draw.below(MAX_PAYLOAD + 2);
        Sent { header, payload: draw.payload(len) }
    }

    /// The sequence number that the ring must use.
    fn numbered(&self, sent: Sent, position: usize) -> Sent {
        let header = Header { len: sent.payload.len() as u32, seq: position as u32, ..sent.header };
        Sent { header, ..sent }
    }

    fn send(&mut self, draw: &mut Draw<'_>) {
        let (tx, owner) = self.producer(draw);
        let sent = Self::draft(draw);
        let len = sent.payload.len();
        let way = draw.below(5);
        if way == 0 {
            self.sweep();
        }
        let at = self.positions.len();
        let outcome = match way {
            0 => tx.send_frame_deadline(sent.header, &sent.payload, Duration::ZERO).map(|()| None),
            1..=2 => tx.try_reserve(len).map(Some),
            _ => tx.try_send_frame(sent.header, &sent.payload).map(|()| None),
        };
        match outcome {
            Ok(None) => self.claimed(Position::Ready(self.numbered(sent, at))),
            Ok(Some(grant)) => {
                self.claimed(Position::Writing(owner));
                self.grants.push((owner, at, grant));
            }
            Err(Error::TooLarge { max }) => assert!(max == MAX_PAYLOAD && len > max),
            Err(Error::Full | Error::Timeout) => assert!(self.is_full()),
            Err(e) => assert!(is_end(&e) && self.is_full() && self.consumers.is_empty(), "{e}"),
        }
        assert!(len <= MAX_PAYLOAD || at == self.positions.len());
    }

    fn send_batch(&mut self, draw: &mut Draw<'_>) {
        let (tx, _) = self.producer(draw);
        let len = draw.below(MAX_PAYLOAD + 1);
        let payloads: Vec<_> = (0..draw.below(SLOTS + 2)).map(|_| draw.payload(len)).collect();
        match tx.try_send_batch(payloads.iter().map(Vec::as_slice)) {
            Ok(count) => {
                for payload in &payloads[..count] {
                    let sent = Sent { header: Header::PLAIN, payload: payload.clone() };
                    self.claimed(Position::Ready(self.numbered(sent, self.positions.len())));
                }
                assert!(count == payloads.len() || self.is_full());
            }
            Err(e) => assert!(self.is_full() && (matches!(e, Error::Full) || is_end(&e)), "{e}"),
        }
    }

    fn finish_grant(&mut self, draw: &mut Draw<'_>) {
        if self.grants.is_empty() {
            return;
        }
        let (_, at, mut grant) = self.grants.swap_remove(draw.below(self.grants.len()));
        let first = draw.byte();
        grant.fill(first);
        match draw.below(4) {
            0 => {
                drop(grant);
                self.positions[at] = Position::Done;
            }
            1 => std::mem::forget(grant), // stays WRITING until its handle is reaped or dropped
            _ => {
                let len = draw.below(grant.len() + 1);
                grant.commit(len);
                let sent = Sent { header: Header::PLAIN, payload: vec![first; len] };
                self.positions[at] = Position::Ready(self.numbered(sent, at));
            }
        }
    }

    /// The position of the next frame.
    fn next(&self, in_order_only: bool) -> Option<usize> {
        let slot = |at: &usize| at % SLOTS;
        let again = |at: &usize| matches!(self.positions[*at], Position::Redeliver(_));
        let all = || 0..self.positions.len();
        if let (false, Some(at)) = (in_order_only, all().filter(again).min_by_key(slot)) {
            return Some(at);
        }
        let mut open = all().filter(|at| matches!(self.positions[*at], Position::Writing(_) | Position::Ready(_)));
        open.next().filter(|at| matches!(self.positions[*at], Position::Ready(_)))
    }

    /// `owner` has received this frame, which must be the next one.
    fn taken(&mut self, header: Header, payload: &[u8], owner: usize, in_order_only: bool) -> usize {
        let at = self.next(in_order_only).expect("received a frame from an empty ring");
        let (sent, again) = match std::mem::replace(&mut self.positions[at], Position::Done) {
            Position::Ready(sent) => (sent, Flags::NONE),
            Position::Redeliver(sent) => (sent, Flags::REDELIVERED),
            other => unreachable!("{other:?}"),
        };
        assert_eq!(header, Header { flags: sent.header.flags | again, ..sent.header });
        assert_eq!(payload, sent.payload);
        self.positions[at] = Position::Reading(owner, sent);
        at
    }

    fn receive(&mut self, draw: &mut Draw<'_>) {
        let (rx, owner) = self.consumer(draw);
        let mut buffer = [0; MAX_PAYLOAD];
        let way = draw.below(5);
        if way == 3 {
            self.sweep();
        }
        let outcome = match way {
            0 => {
                assert!(matches!(rx.try_recv_into(&mut buffer[1..]), Err(Error::TooLarge { max: MAX_PAYLOAD })));
                rx.try_recv_into(&mut buffer).map(|header| {
                    let at = self.taken(header, &buffer[..header.len as usize], owner, false);
                    self.positions[at] = Position::Done;
                })
            }
            1..=2 => rx.try_recv().map(|view| {
                let at = self.taken(view.header(), &view, owner, false);
                self.views.push((owner, at, view));
            }),
            3 => rx.recv_deadline(Duration::ZERO).map(|view| {
                let at = self.taken(view.header(), &view, owner, false);
                drop(view);
                self.positions[at] = Position::Done;
            }),
            _ => rx.try_recv().map(|view| {
                let at = self.taken(view.header(), &view, owner, false);
                drop(view);
                self.positions[at] = Position::Done;
            }),
        };
        self.assert_nothing_to_receive(outcome);
    }

    fn assert_nothing_to_receive(&self, outcome: slipring::Result<()>) {
        match outcome {
            Ok(()) => {}
            Err(Error::Empty | Error::Timeout) => assert_eq!(self.next(false), None),
            Err(e) => assert!(is_end(&e) && self.next(false).is_none() && self.producers.is_empty(), "{e}"),
        }
    }

    fn receive_batch(&mut self, draw: &mut Draw<'_>) {
        let (rx, owner) = self.consumer(draw);
        let max = 1 + draw.below(SLOTS + 1);
        let forget = draw.below(4) == 3;
        let outcome = rx.try_recv_batch(max).map(|mut batch| {
            let mut got = Vec::new();
            for (i, frame) in batch.iter().enumerate() {
                got.push(self.taken(frame.header, frame.payload, owner, i > 0));
            }
            assert!(got.len() == max || self.next(true).is_none());
            if forget {
                std::mem::forget(batch);
            } else {
                drop(batch);
                got.into_iter().for_each(|at| self.positions[at] = Position::Done);
            }
        });
        self.assert_nothing_to_receive(outcome);
    }

    fn finish_view(&mut self, draw: &mut Draw<'_>) {
        if self.views.is_empty() {
            return;
        }
        let (_, at, view) = self.views.swap_remove(draw.below(self.views.len()));
        match &self.positions[at] {
            Position::Reading(_, sent) => assert_eq!(*view, sent.payload[..], "changed while it was read"),
            other => panic!("{other:?}"),
        }
        if draw.below(4) == 3 {
            std::mem::forget(view); // stays READING until its handle is reaped or dropped
        } else {
            drop(view);
            self.positions[at] = Position::Done;
        }
    }

    fn change_producer(&mut self, draw: &mut Draw<'_>) {
        if self.producers.is_empty() {
            return;
        }
        let Seat { handle, life, owner } = self.producers.swap_remove(draw.below(self.producers.len()));
        let (mine, others) = self.grants.drain(..).partition(|(by, ..)| *by == owner);
        self.grants = others;
        Vec::from_iter::<Vec<_>>(mine).into_iter().for_each(std::mem::forget);
        if draw.flag() {
            life.end();
            self.dead.0.push(handle);
            self.dead_owners.push(owner);
        } else {
            Seat::free(handle);
            self.recover(owner);
        }
    }

    fn change_consumer(&mut self, draw: &mut Draw<'_>) {
        if self.consumers.is_empty() {
            return;
        }
        let Seat { handle, life, owner } = self.consumers.swap_remove(draw.below(self.consumers.len()));
        let (mine, others) = self.views.drain(..).partition(|(by, ..)| *by == owner);
        self.views = others;
        Vec::from_iter::<Vec<_>>(mine).into_iter().for_each(std::mem::forget);
        if draw.flag() {
            life.end();
            self.dead.1.push(handle);
            self.dead_owners.push(owner);
        } else {
            Seat::free(handle);
            self.recover(owner);
        }
    }

    fn look(&mut self, draw: &mut Draw<'_>) {
        if draw.flag() {
            self.sweep();
        }
        let report = self.ring.verify().unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        let count = |is: fn(&Position) -> bool| self.positions.iter().filter(|position| is(position)).count() as u64;
        assert_eq!(report.frames, count(|p| matches!(p, Position::Ready(_))));
        assert_eq!(report.writing, count(|p| matches!(p, Position::Writing(_))));
        assert_eq!(report.reading, count(|p| matches!(p, Position::Reading(..))));
        assert_eq!(report.redeliver, count(|p| matches!(p, Position::Redeliver(_))));
    }

    /// At the end of any history: when all handles have left, every committed frame is received
    /// once, and the ring can be filled.
    fn drain(&mut self) {
        self.grants.drain(..).for_each(std::mem::forget);
        self.views.drain(..).for_each(std::mem::forget);
        for Seat { handle, owner, .. } in std::mem::take(&mut self.producers) {
            Seat::free(handle);
            self.recover(owner);
        }
        for Seat { handle, owner, .. } in std::mem::take(&mut self.consumers) {
            Seat::free(handle);
            self.recover(owner);
        }
        let tx = mpmc::Producer::attach(self.ring).unwrap();
        self.reap();
        let rx = mpmc::Consumer::attach(self.ring).unwrap();
        while let Ok(view) = rx.try_recv() {
            let at = self.taken(view.header(), &view, 0, false);
            drop(view);
            self.positions[at] = Position::Done;
        }
        assert!(self.positions.iter().all(|position| *position == Position::Done), "{:?}", self.positions);
        for i in 0..SLOTS {
            tx.try_send(&[i as u8]).unwrap();
        }
        assert!(matches!(tx.try_send(&[]), Err(Error::Full)));
        for i in 0..SLOTS {
            assert_eq!(*rx.try_recv().unwrap(), [i as u8]);
        }
        assert!(self.ring.verify().unwrap().is_clean());
        drop((tx, rx));
        std::mem::take(&mut self.dead.0).into_iter().for_each(Seat::free);
        std::mem::take(&mut self.dead.1).into_iter().for_each(Seat::free);
    }
}
