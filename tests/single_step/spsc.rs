//! Every operation on an SPSC ring, except those that sleep or wake (`spsc_asleep.rs`).

use slipring::frame::Flags;
use slipring::spsc::{Consumer, Producer};
use slipring::{Error, Options, Redelivery, Ring};

use crate::frames::{Delivery, LEN, Ledger, number, payload};
use crate::process::{NOW, Neighbour, Operation, Page, SOON};
use crate::{Case, Fate, Pace, Scene};

const CAPACITY: usize = 4096;
const RECORD: usize = 16 + LEN;
/// A record and the empty header after it must fit.
pub const FULL: u64 = ((CAPACITY - 8) / RECORD) as u64;
/// Numbers of the frames that operations send, and that survivors send.
pub const OURS: u64 = 100;
const REFILL: u64 = 1000;

/// The start of the ring's positions, and how many frames wait.
#[derive(Clone, Copy)]
struct State {
    name: &'static str,
    start: usize,
    waiting: u64,
}

const fn state(name: &'static str, start: usize, waiting: u64) -> State {
    State { name, start, waiting }
}

const EMPTY: State = state("empty", 0, 0);
const FEW: State = state("three frames", 0, 3);
const STRADDLES: State = state("one frame, which straddles the end", CAPACITY - 24, 1);
const STATES: [State; 7] = [
    EMPTY,
    state("one frame", 0, 1),
    FEW,
    state("full", 0, FULL),
    state("empty, next record straddles the end", CAPACITY - 24, 0),
    STRADDLES,
    state("one frame, which ends at the end", CAPACITY - RECORD, 1),
];

/// Whether the peer is attached from the start, attaches when the child is dead, or is another
/// process in the middle of an operation: reading the first frames, or writing the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Attached,
    Later,
    Busy,
}

type Send = fn(&Ring, &mut Option<Producer>, &Page);
type Receive = fn(&Ring, &mut Option<Consumer>, &Page);

/// Name, frames that it sends, whether all or none, the operation.
const SENDS: [(&str, u64, Send); 9] = [
    ("spsc try_send", 1, |_, tx, _| _ = tx.as_mut().unwrap().try_send(&payload(OURS))),
    ("spsc send", 1, |_, tx, _| _ = tx.as_mut().unwrap().send_deadline(&payload(OURS), NOW)),
    ("spsc reserve, commit", 1, |_, tx, _| {
        if let Ok(mut grant) = tx.as_mut().unwrap().try_reserve(LEN + 9) {
            grant[..LEN].copy_from_slice(&payload(OURS));
            grant.commit(LEN);
        }
    }),
    ("spsc reserve, abort", 0, |_, tx, _| {
        if let Ok(mut grant) = tx.as_mut().unwrap().try_reserve(LEN) {
            grant.copy_from_slice(&payload(OURS));
        }
    }),
    ("spsc batch of 3, commit", 3, |_, tx, _| {
        let mut batch = tx.as_mut().unwrap().batch();
        if (0..3).all(|i| batch.push(&payload(OURS + i)).is_ok()) {
            batch.commit();
        }
    }),
    ("spsc batch of 2, abort", 0, |_, tx, _| {
        let mut batch = tx.as_mut().unwrap().batch();
        let _ = (0..2).all(|i| batch.push(&payload(OURS + i)).is_ok());
    }),
    ("spsc close producer", 0, |_, tx, _| tx.take().unwrap().close()),
    ("spsc attach producer", 0, |ring, tx, _| *tx = Some(Producer::attach(ring).unwrap())),
    ("spsc sweep", 0, |ring, _, _| _ = ring.reap_dead().unwrap()),
];

/// Name, the most frames that it receives, the operation.
const RECEIVES: [(&str, usize, Receive); 9] = [
    ("spsc try_recv", 1, |_, rx, page| {
        if let Ok(view) = rx.as_mut().unwrap().try_recv() {
            page.take(number(&view));
        }
    }),
    ("spsc recv", 1, |_, rx, page| {
        if let Ok(view) = rx.as_mut().unwrap().recv_deadline(NOW) {
            page.take(number(&view));
        }
    }),
    ("spsc try_recv, keep", 1, |_, rx, _| {
        if let Ok(view) = rx.as_mut().unwrap().try_recv() {
            view.keep();
        }
    }),
    ("spsc try_recv_into", 1, |_, rx, page| _ = rx.as_mut().unwrap().try_recv_into(page.buffer(LEN))),
    ("spsc try_recv_batch", FULL as usize, |_, rx, page| {
        if let Ok(mut batch) = rx.as_mut().unwrap().try_recv_batch(usize::MAX) {
            batch.iter().for_each(|frame| page.take(number(frame.payload)));
        }
    }),
    ("spsc batch of 2 received", 2, |_, rx, page| {
        if let Ok(mut batch) = rx.as_mut().unwrap().try_recv_batch(usize::MAX) {
            batch.iter().take(2).for_each(|frame| page.take(number(frame.payload)));
        }
    }),
    ("spsc close consumer", 0, |_, rx, _| rx.take().unwrap().close()),
    ("spsc attach consumer", 0, |ring, rx, _| *rx = Some(Consumer::attach(ring).unwrap())),
    ("spsc recv, the producer is dead", 1, |_, rx, page| match rx.as_mut().unwrap().recv() {
        Ok(view) => page.take(number(&view)),
        Err(Error::PeerDead) => {}
        Err(e) => panic!("{e}"),
    }),
];

/// A new ring with its positions at `start`, and its counters.
pub fn ring(start: usize, policy: Redelivery) -> Ring {
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY).participants(4).redelivery(policy)).unwrap();
    if start == 0 {
        return ring;
    }
    let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let mut left = start;
    while left > 0 {
        let record = left.min(1024);
        tx.try_send(&vec![0; record - 16]).unwrap();
        drop(rx.try_recv().unwrap());
        left -= record;
    }
    drop(tx);
    drop(rx);
    assert_eq!(ring.stats().tail, start as u64);
    ring
}

pub fn fill(tx: &mut Producer, frames: u64) {
    (0..frames).for_each(|n| tx.try_send(&payload(n)).unwrap());
}

pub fn forever<T: 'static>(mut handle: Option<T>, mut does: impl FnMut(&mut Option<T>, &Page) + 'static) -> Operation {
    Box::new(move |page| does(&mut handle, page))
}

/// Attaching takes ten thousand instructions. It is tested where its path differs: with and without
/// frames to walk.
fn attaches_in(state: State, peer: Peer) -> bool {
    peer == Peer::Attached && (state.name == FEW.name || state.name == STRADDLES.name)
}

/// States in which the short form kills at every instruction of the hot operations.
fn is_main(state: State) -> bool {
    [EMPTY, FEW, STRADDLES].iter().any(|main| main.name == state.name)
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (operation, sends, does) in SENDS {
        for state in STATES {
            for peer in [Peer::Attached, Peer::Later, Peer::Busy] {
                if operation.contains("attach") && !attaches_in(state, peer) {
                    continue;
                }
                let hot = peer == Peer::Attached
                    && is_main(state)
                    && matches!(operation, "spsc try_send" | "spsc batch of 3, commit");
                let scene = move || sending(operation, sends, does, state, peer);
                cases.push(case(operation, state.name, peer, None, hot, Box::new(scene)));
            }
        }
    }
    for (operation, takes, does) in RECEIVES {
        for state in STATES {
            for (peer, policy) in [
                (Peer::Attached, Redelivery::AtLeastOnce),
                (Peer::Attached, Redelivery::AtMostOnce),
                (Peer::Later, Redelivery::AtLeastOnce),
                (Peer::Busy, Redelivery::AtLeastOnce),
            ] {
                if peer == Peer::Busy && operation.ends_with("is dead") {
                    continue;
                }
                if operation.contains("attach") && !(attaches_in(state, peer) && policy == Redelivery::AtLeastOnce) {
                    continue;
                }
                let hot = (peer, policy) == (Peer::Attached, Redelivery::AtLeastOnce)
                    && is_main(state)
                    && matches!(operation, "spsc try_recv" | "spsc batch of 2 received");
                let scene = move || receiving(operation, takes, does, state, peer, policy);
                cases.push(case(operation, state.name, peer, Some(policy), hot, Box::new(scene)));
            }
        }
    }
    for policy in [Redelivery::AtLeastOnce, Redelivery::AtMostOnce] {
        for (operation, orphans) in [("spsc attach consumer", 2), ("spsc attach producer", 0), ("spsc sweep", 2)] {
            let scene = move || reaping(operation, orphans, policy);
            cases.push(case(operation, "the dead", Peer::Attached, Some(policy), false, Box::new(scene)));
        }
    }
    cases
}

fn case(
    operation: &'static str,
    state: &str,
    peer: Peer,
    policy: Option<Redelivery>,
    hot: bool,
    scene: Box<dyn Fn() -> Scene>,
) -> Case {
    let peer = match peer {
        Peer::Attached => "",
        Peer::Later => ", peer comes later",
        Peer::Busy => ", peer is at work",
    };
    let policy = if policy == Some(Redelivery::AtMostOnce) { ", at most once" } else { "" };
    let state = format!("{state}{peer}{policy}");
    Case { operation, state, pace: if hot { Pace::Every } else { Pace::Sample }, scene }
}

/// The child is the producer.
fn sending(operation: &'static str, sends: u64, does: Send, state: State, peer: Peer) -> Scene {
    let ring = ring(state.start, Redelivery::AtLeastOnce);
    let base = ring.stats().counts;
    let rx = (peer == Peer::Attached).then(|| Consumer::attach(&ring).unwrap());
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.waiting = (0..state.waiting).collect();
    ledger.sends = (OURS..OURS + sends).collect();
    ledger.at_once = true;
    if state.waiting + sends > FULL {
        ledger.sends.clear();
    }
    let attaches = operation == "spsc attach producer";
    let is_filled = attaches || peer == Peer::Busy;
    if is_filled {
        fill(&mut Producer::attach(&ring).unwrap(), state.waiting);
    }
    let reader = (peer == Peer::Busy).then(|| {
        Neighbour::start(|page| {
            let mut rx = Consumer::attach(&ring).unwrap();
            let mut batch = rx.try_recv_batch(usize::MAX);
            batch.iter_mut().for_each(|batch| batch.iter().take(2).for_each(|frame| page.take(number(frame.payload))));
            page.arrive_and_wait();
        })
    });
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut tx = (!attaches).then(|| Producer::attach(&theirs).unwrap());
            tx.iter_mut().filter(|_| !is_filled).for_each(|tx| fill(tx, state.waiting));
            forever(tx, move |tx, page| does(&theirs, tx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let now = ring.stats().counts;
            if let Some(reader) = reader {
                let read = reader.finish()?;
                ledger.waiting.retain(|number| !read.contains(number));
            }
            let mut rx = rx.map_or_else(|| Consumer::attach(&ring), Ok).map_err(fail)?;
            let deliveries = if attaches { drain(&mut rx)? } else { drain_to_the_end(&mut rx)? };
            let visible = ledger.judge(page, &deliveries, ring.stats().counts.lost)?;
            let known = base.sent + state.waiting + visible;
            if !(known - sends.min(visible)..=known).contains(&now.sent) {
                return Err(format!("{known} frames were sent, {} counted", now.sent));
            }
            let tx = Producer::attach(&ring).map_err(fail)?;
            go_on(&ring, tx, rx)?;
            Ok(visible)
        })),
    }
}

/// The child is the consumer.
fn receiving(
    operation: &'static str,
    takes: usize,
    does: Receive,
    state: State,
    peer: Peer,
    policy: Redelivery,
) -> Scene {
    let ring = ring(state.start, policy);
    let base = ring.stats().counts;
    let mut ledger = Ledger::new(policy);
    ledger.waiting = (0..state.waiting).collect();
    ledger.takes = takes;
    let (by_the_dead, attaches) = (operation.ends_with("is dead"), operation == "spsc attach consumer");
    let is_busy = peer == Peer::Busy;
    let writer = is_busy.then(|| Neighbour::start(|page| write_slowly(&ring, state.waiting, page)));
    let mut tx = (!by_the_dead && !is_busy).then(|| Producer::attach(&ring).unwrap());
    tx.iter_mut().for_each(|tx| fill(tx, state.waiting));
    let tx = tx.filter(|_| peer == Peer::Attached);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let rx = (!attaches).then(|| Consumer::attach(&theirs).unwrap());
            if by_the_dead {
                let producer = Neighbour::start(|page| {
                    let mut tx = Producer::attach(&theirs).unwrap();
                    fill(&mut tx, state.waiting);
                    let mut grant = tx.try_reserve(8);
                    grant.iter_mut().for_each(|grant| grant.fill(7));
                    page.arrive_and_wait();
                });
                producer.kill();
            }
            forever(rx, move |rx, page| does(&theirs, rx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let now = ring.stats().counts;
            let (count, received) = (state.waiting, now.received - base.received);
            if received > takes as u64 || now.sent - base.sent != count {
                return Err(format!(
                    "sent {count}, {} counted; received at most {takes}, {received} counted",
                    now.sent
                ));
            }
            ledger.waiting.extend(writer.map_or(Ok(vec![]), Neighbour::finish)?);
            let mut tx = match tx {
                Some(tx) => tx,
                None => Producer::attach(&ring).map_err(fail)?,
            };
            // A producer that is attached from the start must not have to wait for the dead.
            let was_there = peer == Peer::Attached && !by_the_dead && !attaches;
            match tx.send_deadline(&payload(OURS + 1), if was_there { SOON } else { NOW }) {
                Ok(()) => ledger.waiting.push(OURS + 1),
                Err(Error::PeerDead | Error::Closed) => {}
                Err(Error::Timeout) if !was_there => {}
                Err(e) => return Err(format!("a producer waits for the dead: {e}")),
            }
            let mut rx = Consumer::attach(&ring).map_err(fail)?;
            let deliveries = drain(&mut rx)?;
            let end = ring.stats().counts;
            ledger.judge(page, &deliveries, end.lost)?;
            let marked = deliveries.iter().filter(|d| d.marked).count() as u64;
            if end.redelivered != marked || end.received - now.received != deliveries.len() as u64 {
                return Err(format!("received {} frames, {marked} marked; counted {end:?}", deliveries.len()));
            }
            go_on(&ring, tx, rx)?;
            Ok(0)
        })),
    }
}

/// A producer that has written half a frame when it is told to continue.
fn write_slowly(ring: &Ring, waiting: u64, page: &Page) {
    let mut tx = Producer::attach(ring).unwrap();
    fill(&mut tx, waiting);
    let mut grant = tx.try_reserve(LEN).ok();
    grant.iter_mut().for_each(|grant| grant[..LEN / 2].fill(7));
    page.arrive_and_wait();
    if let Some(mut grant) = grant {
        grant.copy_from_slice(&payload(OURS));
        grant.commit(LEN);
        page.take(OURS);
    }
}

/// The child reaps a participant that died holding frames, or with a half-written one.
fn reaping(operation: &'static str, orphans: u64, policy: Redelivery) -> Scene {
    let ring = ring(CAPACITY - 24, policy);
    let mut ledger = Ledger::new(policy);
    ledger.orphaned = (0..orphans).collect();
    ledger.waiting = (orphans..4).collect();
    ledger.takes = usize::from(operation == "spsc attach consumer") * 4;
    let producer = Neighbour::start(|page| {
        let mut tx = Producer::attach(&ring).unwrap();
        fill(&mut tx, 4);
        let mut grant = tx.try_reserve(LEN).unwrap();
        grant.fill(7);
        page.arrive_and_wait();
    });
    let consumer = Neighbour::start(|page| {
        let mut rx = Consumer::attach(&ring).unwrap();
        let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
        let mut seen = batch.iter().take(orphans as usize);
        if orphans == 0 {
            page.arrive_and_wait();
        }
        let _last = (&mut seen).last();
        page.arrive_and_wait();
    });
    producer.kill();
    consumer.kill();
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| match operation {
            "spsc attach consumer" => forever(None, move |rx, _| *rx = Some(Consumer::attach(&theirs).unwrap())),
            "spsc attach producer" => forever(None, move |tx, _| *tx = Some(Producer::attach(&theirs).unwrap())),
            _ => forever(Some(()), move |_, _| _ = theirs.reap_dead().unwrap()),
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let mut rx = Consumer::attach(&ring).map_err(fail)?;
            let deliveries = drain(&mut rx)?;
            if orphans == 0 {
                // A batch reads its first frame at once.
                ledger.takes = 1;
            }
            ledger.judge(page, &deliveries, ring.stats().counts.lost)?;
            let tx = Producer::attach(&ring).map_err(fail)?;
            go_on(&ring, tx, rx)?;
            Ok(0)
        })),
    }
}

pub fn fail(error: Error) -> String {
    format!("a survivor got: {error}")
}

fn received(view: &slipring::spsc::ReadView<'_>) -> Result<Delivery, String> {
    Delivery::new(view, view.header().flags.contains(Flags::REDELIVERED))
}

/// Receives the frames that are there.
pub fn drain(rx: &mut Consumer) -> Result<Vec<Delivery>, String> {
    let mut deliveries = Vec::new();
    loop {
        match rx.try_recv() {
            Ok(view) => deliveries.push(received(&view)?),
            Err(Error::Empty | Error::Closed | Error::PeerDead) => return Ok(deliveries),
            Err(e) => return Err(fail(e)),
        }
    }
}

/// Receives the frames that are there, until the ring reports that the producer has left.
fn drain_to_the_end(rx: &mut Consumer) -> Result<Vec<Delivery>, String> {
    let mut deliveries = Vec::new();
    loop {
        match rx.recv_deadline(SOON) {
            Ok(view) => deliveries.push(received(&view)?),
            Err(Error::Closed | Error::PeerDead) => return Ok(deliveries),
            Err(e) => return Err(fail(e)),
        }
    }
}

/// The ring works as a new one: it takes and delivers as many frames as a new one, and only living
/// participants are registered.
pub fn go_on(ring: &Ring, mut tx: Producer, mut rx: Consumer) -> Result<(), String> {
    let before = ring.stats().counts;
    let sent = loop {
        let frames = ring.stats().counts.sent - before.sent;
        match tx.try_send(&payload(REFILL + frames)) {
            Ok(()) => {}
            Err(Error::Full) => break frames,
            Err(e) => return Err(fail(e)),
        }
    };
    let full = ring.verify().map_err(fail)?;
    if sent != FULL || full.frames != FULL || !full.is_clean() {
        return Err(format!("{sent} of {FULL} frames fit: {full:?}"));
    }
    let expected = (REFILL..REFILL + FULL).map(|number| Delivery { number, marked: false });
    let deliveries = drain(&mut rx)?;
    if !deliveries.iter().copied().eq(expected) {
        return Err(format!("sent {sent} frames, received {deliveries:?}"));
    }
    let (empty, after) = (ring.verify().map_err(fail)?, ring.stats());
    if !empty.is_clean() || empty.frames != 0 || after.used() != 0 || after.counts.received - before.received != FULL {
        return Err(format!("drained: {empty:?}, {after:?}"));
    }
    crate::segment::only_the_living(ring, 2)?;
    drop((tx, rx));
    crate::segment::only_the_living(ring, 0)
}
