//! Every operation on an MPMC ring.

use slipring::frame::Flags;
use slipring::mpmc::{Consumer, Producer};
use slipring::{Error, Options, Redelivery, Ring};

use crate::frames::{Delivery, LEN, Ledger, number, payload};
use crate::process::{NOW, Neighbour, Operation, Page, SOON};
use crate::{Case, Fate, Pace, Scene};

const SLOTS: u64 = 4;
/// Numbers of frames: the neighbour's, those that operations send, one that proves that all frames
/// before it were received, and those that survivors send.
const NEIGHBOURS: u64 = 90;
const OURS: u64 = 100;
const SENTINEL: u64 = 999;
const REFILL: u64 = 1000;

/// What another participant holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    Nothing,
    /// A claim, with committed frames on both sides of it.
    Claim,
    /// The first frame.
    Frame,
}

/// The start of the ring's positions, how many frames wait, what a neighbour holds, and whether it
/// dies before the operation.
#[derive(Clone, Copy)]
struct State {
    name: &'static str,
    start: u64,
    waiting: u64,
    other: Other,
    dies: bool,
}

const fn state(name: &'static str, start: u64, waiting: u64, other: Other, dies: bool) -> State {
    State { name, start, waiting, other, dies }
}

const STATES: [State; 11] = [
    state("empty", 0, 0, Other::Nothing, false),
    state("one frame", 0, 1, Other::Nothing, false),
    state("full", 0, SLOTS, Other::Nothing, false),
    state("empty, at the wrap", SLOTS - 1, 0, Other::Nothing, false),
    state("two frames, at the wrap", SLOTS - 1, 2, Other::Nothing, false),
    state("a dead producer's claim", SLOTS - 1, 2, Other::Claim, true),
    state("a dead consumer's frame", SLOTS - 1, 2, Other::Frame, true),
    state("full, a dead producer's claim", 1, SLOTS - 1, Other::Claim, true),
    state("full, a dead consumer's frame", 1, SLOTS, Other::Frame, true),
    state("a living producer's claim", SLOTS - 1, 2, Other::Claim, false),
    state("a living consumer's frame", SLOTS - 1, 2, Other::Frame, false),
];

type Send = fn(&Ring, &mut Option<Producer>);
type Receive = fn(&Ring, &mut Option<Consumer>, &Page);

/// Name, frames that it sends, the operation. All of them return `Full` on a full ring.
const SENDS: [(&str, u64, Send); 8] = [
    ("mpmc try_send", 1, |_, tx| _ = tx.as_ref().unwrap().try_send(&payload(OURS))),
    ("mpmc send", 1, |_, tx| _ = tx.as_ref().unwrap().send_deadline(&payload(OURS), NOW)),
    ("mpmc reserve, commit", 1, |_, tx| {
        if let Ok(mut grant) = tx.as_ref().unwrap().try_reserve(LEN) {
            grant.copy_from_slice(&payload(OURS));
            grant.commit(LEN);
        }
    }),
    ("mpmc reserve, abort", 0, |_, tx| {
        if let Ok(mut grant) = tx.as_ref().unwrap().try_reserve(LEN) {
            grant.copy_from_slice(&payload(OURS));
        }
    }),
    ("mpmc try_send_batch of 2", 2, |_, tx| {
        let (one, two) = (payload(OURS), payload(OURS + 1));
        let _ = tx.as_ref().unwrap().try_send_batch([&one[..], &two]);
    }),
    ("mpmc close producer", 0, |_, tx| tx.take().unwrap().close()),
    ("mpmc attach producer", 0, |ring, tx| *tx = Some(Producer::attach(ring).unwrap())),
    ("mpmc sweep", 0, |ring, _| _ = ring.reap_dead().unwrap()),
];

/// Name, the most frames that it receives, the operation.
const RECEIVES: [(&str, usize, Receive); 7] = [
    ("mpmc try_recv", 1, |_, rx, page| {
        if let Ok(view) = rx.as_ref().unwrap().try_recv() {
            page.take(number(&view));
        }
    }),
    ("mpmc try_recv, keep", 1, |_, rx, _| {
        if let Ok(view) = rx.as_ref().unwrap().try_recv() {
            view.keep();
        }
    }),
    ("mpmc recv", 1, |_, rx, page| {
        if let Ok(view) = rx.as_ref().unwrap().recv_deadline(NOW) {
            page.take(number(&view));
        }
    }),
    ("mpmc try_recv_into", 1, |_, rx, page| _ = rx.as_ref().unwrap().try_recv_into(page.buffer(104))),
    ("mpmc try_recv_batch", SLOTS as usize, |_, rx, page| {
        if let Ok(mut batch) = rx.as_ref().unwrap().try_recv_batch(8) {
            batch.iter().for_each(|frame| page.take(number(frame.payload)));
        }
    }),
    ("mpmc close consumer", 0, |_, rx, _| rx.take().unwrap().close()),
    ("mpmc attach consumer", 0, |ring, rx, _| *rx = Some(Consumer::attach(ring).unwrap())),
];

pub fn cases() -> Vec<Case> {
    use Redelivery::{AtLeastOnce, AtMostOnce};
    let mut cases = Vec::new();
    for state in STATES {
        for (policy, attached) in [(AtLeastOnce, true), (AtMostOnce, true), (AtLeastOnce, false)] {
            // Attaching takes ten thousand instructions. It is tested where its path differs: with
            // and without a dead participant to reap.
            let is_due =
                |operation: &str| !operation.contains("attach") || (attached && (state.dies || state.waiting == 0));
            if state.dies || policy == AtLeastOnce {
                for (operation, sends, does) in SENDS.into_iter().filter(|(operation, ..)| is_due(operation)) {
                    let scene = move || sending(operation, sends, does, state, policy, attached);
                    cases.push(case(operation, state, policy, attached, Box::new(scene)));
                }
            }
            for (operation, takes, does) in RECEIVES.into_iter().filter(|(operation, ..)| is_due(operation)) {
                let scene = move || receiving(operation, takes, does, state, policy, attached);
                cases.push(case(operation, state, policy, attached, Box::new(scene)));
            }
            if state.dies && attached {
                let scene = move || recovering(state, policy);
                cases.push(case("mpmc send or receive, recovering", state, policy, attached, Box::new(scene)));
            }
        }
    }
    let waking: [(_, fn() -> Scene); 2] =
        [("mpmc send, waking", waking_consumer), ("mpmc recv, waking", waking_producer)];
    for (operation, scene) in waking {
        cases.push(Case { operation, state: "a peer sleeps".into(), pace: Pace::Slow, scene: Box::new(scene) });
    }
    for policy in [AtLeastOnce, AtMostOnce] {
        let state = |name| format!("{name}{}", suffix(policy));
        let scene = Box::new(move || sleeping_consumer(policy));
        cases.push(Case { operation: "mpmc recv, asleep", state: state("empty"), pace: Pace::Slow, scene });
        let scene = Box::new(move || sleeping_producer(policy));
        cases.push(Case { operation: "mpmc send, asleep", state: state("full"), pace: Pace::Slow, scene });
    }
    cases
}

fn case(
    operation: &'static str,
    state: State,
    policy: Redelivery,
    attached: bool,
    scene: Box<dyn Fn() -> Scene>,
) -> Case {
    let is_hot = matches!(operation, "mpmc try_send" | "mpmc try_recv" | "mpmc reserve, abort")
        || (operation == "mpmc try_recv_batch" && state.name == "two frames, at the wrap");
    let is_main = matches!(state.name, "one frame" | "empty, at the wrap" | "two frames, at the wrap");
    let pace =
        if is_hot && attached && policy == Redelivery::AtLeastOnce && is_main { Pace::Every } else { Pace::Sample };
    let peers = if attached { "" } else { ", peers come later" };
    Case { operation, state: format!("{}{peers}{}", state.name, suffix(policy)), pace, scene }
}

fn suffix(policy: Redelivery) -> &'static str {
    if policy == Redelivery::AtMostOnce { ", at most once" } else { "" }
}

/// A ring in a state, the survivors that are attached from the start, and the neighbour if it
/// lives.
struct Ground {
    ring: Ring,
    state: State,
    ledger: Ledger,
    survivors: Option<(Producer, Consumer)>,
    neighbour: Option<Neighbour>,
}

impl Ground {
    fn new(state: State, policy: Redelivery, attached: bool) -> Self {
        let ring =
            Ring::create_anonymous(&Options::mpmc(SLOTS as usize, 64).participants(6).redelivery(policy)).unwrap();
        let survivors = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        for _ in 0..state.start {
            survivors.0.try_send(&[]).unwrap();
            drop(survivors.1.try_recv().unwrap());
        }
        let mut ledger = Ledger::new(policy);
        ledger.waiting = (0..state.waiting).map(|n| 2 * n).collect();
        if state.other == Other::Frame {
            let first = ledger.waiting.remove(0);
            ledger.orphaned.extend(state.dies.then_some(first));
        }
        let neighbour = if state.dies { None } else { set(&ring, state) };
        Ground { ring, state, ledger, survivors: attached.then_some(survivors), neighbour }
    }

    /// Frames that fit.
    fn room(&self) -> usize {
        (SLOTS - self.state.waiting - u64::from(self.state.other == Other::Claim)) as usize
    }

    /// What the child does before the operation, once it has attached, because attaching would reap
    /// the dead.
    fn stage(&self) -> impl FnOnce() + 'static {
        let (ring, state) = (self.ring.clone(), self.state);
        move || {
            if state.dies {
                set(&ring, state).unwrap().kill();
            }
        }
    }

    /// Lets the survivors continue, and checks what they receive.
    fn check(mut self, page: &Page) -> Result<u64, String> {
        let ring = self.ring;
        let before = ring.stats().counts;
        let (tx, rx) = match self.survivors {
            Some(survivors) => survivors,
            None => (Producer::attach(&ring).map_err(fail)?, Consumer::attach(&ring).map_err(fail)?),
        };
        let mut deliveries = Vec::new();
        drain(&rx, &mut deliveries)?;
        let mut by_neighbour = 0;
        if let Some(neighbour) = self.neighbour {
            // The neighbour lives, and keeps what it holds.
            ring.reap_dead().map_err(fail)?;
            drain(&rx, &mut deliveries)?;
            neighbour.finish()?;
            match self.state.other {
                Other::Claim => self.ledger.waiting.push(1),
                _ => by_neighbour = 1,
            }
            drain(&rx, &mut deliveries)?;
        }
        wait_for_orphans(&ring, &rx, &mut deliveries)?;
        tx.send_deadline(&payload(SENTINEL), SOON).map_err(|e| format!("a producer waits for the dead: {e}"))?;
        while deliveries.last().is_none_or(|d: &Delivery| d.number != SENTINEL) {
            let view = rx.recv_deadline(SOON).map_err(|e| format!("a consumer waits for the dead: {e}"))?;
            deliveries.push(received(&view)?);
        }
        ring.reap_dead().map_err(fail)?;
        drain(&rx, &mut deliveries)?;
        let after = ring.stats().counts;
        if after.received - before.received != deliveries.len() as u64 + by_neighbour {
            return Err(format!("received {} frames, counted {before:?}, then {after:?}", deliveries.len()));
        }
        deliveries.retain(|d| d.number != SENTINEL);
        let visible = self.ledger.judge(page, &deliveries, after.lost)?;
        let room = self.ledger.sends.len() as u64;
        let known = self.state.start + self.state.waiting + visible;
        if !(known - room.min(visible)..=known).contains(&before.sent) {
            return Err(format!("{known} frames were sent, {} counted", before.sent));
        }
        if before.received > self.state.start + self.ledger.takes as u64 {
            return Err(format!("{} frames are counted as received", before.received));
        }
        go_on(&ring, tx, rx)?;
        Ok(visible)
    }
}

/// Sends the waiting frames, with the neighbour's claim or frame between them.
fn set(ring: &Ring, state: State) -> Option<Neighbour> {
    let tx = Producer::attach(ring).unwrap();
    let mut neighbour = None;
    for n in 0..state.waiting {
        tx.try_send(&payload(2 * n)).unwrap();
        if n == 0 {
            neighbour = match state.other {
                Other::Nothing => None,
                Other::Claim => Some(Neighbour::start(|page| {
                    let tx = Producer::attach(ring).unwrap();
                    let mut grant = tx.try_reserve(LEN).unwrap();
                    grant[..20].fill(7);
                    page.arrive_and_wait();
                    grant.copy_from_slice(&payload(1));
                    grant.commit(LEN);
                })),
                Other::Frame => Some(Neighbour::start(|page| {
                    let rx = Consumer::attach(ring).unwrap();
                    let view = rx.try_recv().unwrap();
                    page.arrive_and_wait();
                    drop(view);
                })),
            };
        }
    }
    neighbour
}

fn forever<T: 'static>(mut handle: T, mut does: impl FnMut(&mut T, &Page) + 'static) -> Operation {
    Box::new(move |page| does(&mut handle, page))
}

/// The child is a producer.
fn sending(operation: &'static str, sends: u64, does: Send, state: State, policy: Redelivery, attached: bool) -> Scene {
    let mut ground = Ground::new(state, policy, attached);
    // A call with a deadline reaps dead participants before it times out, and their discarded
    // frames make room.
    let is_dropped = state.dies && state.other == Other::Frame && policy == Redelivery::AtMostOnce;
    let more = usize::from(operation == "mpmc send" && is_dropped);
    ground.ledger.sends = (OURS..OURS + sends).take(ground.room() + more).collect();
    let (theirs, stage) = (ground.ring.clone(), ground.stage());
    Scene {
        child: Box::new(move |_| {
            let tx = (operation != "mpmc attach producer").then(|| Producer::attach(&theirs).unwrap());
            stage();
            forever(tx, move |tx, _| does(&theirs, tx))
        }),
        fate: Fate::Kill(Box::new(move |page| ground.check(page))),
    }
}

/// The child is a consumer.
fn receiving(
    operation: &'static str,
    takes: usize,
    does: Receive,
    state: State,
    policy: Redelivery,
    attached: bool,
) -> Scene {
    let mut ground = Ground::new(state, policy, attached);
    ground.ledger.takes = takes;
    let (theirs, stage) = (ground.ring.clone(), ground.stage());
    Scene {
        child: Box::new(move |_| {
            let rx = (operation != "mpmc attach consumer").then(|| Consumer::attach(&theirs).unwrap());
            stage();
            forever(rx, move |rx, page| does(&theirs, rx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| ground.check(page))),
    }
}

/// The child recovers what the dead held, because it would have to wait otherwise.
fn recovering(state: State, policy: Redelivery) -> Scene {
    let mut ground = Ground::new(state, policy, true);
    // Discarded frames make room. Redelivered ones can be received, once a claim before them is
    // aborted.
    let is_dropped = state.other == Other::Frame && policy == Redelivery::AtMostOnce;
    if ground.room() == 0 && is_dropped {
        ground.ledger.sends = vec![OURS];
    } else {
        ground.ledger.takes = state.waiting as usize - usize::from(is_dropped);
    }
    let (sends, takes) = (ground.ledger.sends.len(), ground.ledger.takes);
    let (theirs, stage) = (ground.ring.clone(), ground.stage());
    Scene {
        child: Box::new(move |_| {
            let ends = (Producer::attach(&theirs).unwrap(), Consumer::attach(&theirs).unwrap());
            stage();
            forever(ends, move |(tx, rx), page| {
                (0..sends).for_each(|_| tx.send(&payload(OURS)).unwrap());
                (0..takes).for_each(|_| page.take(number(&rx.recv().unwrap())));
            })
        }),
        fate: Fate::Kill(Box::new(move |page| ground.check(page))),
    }
}

/// The child wakes a consumer that sleeps in another process.
fn waking_consumer() -> Scene {
    let mut ground = Ground::new(STATES[0], Redelivery::AtLeastOnce, true);
    ground.ledger.sends = vec![OURS];
    let ring = ground.ring.clone();
    let sleeper = Neighbour::start(|page| {
        let rx = Consumer::attach(&ring).unwrap();
        page.arrive();
        page.take(number(&rx.recv().unwrap()));
    });
    let until_asleep = sleeper.until_asleep();
    Scene {
        child: Box::new(move |_| {
            let tx = Producer::attach(&ring).unwrap();
            until_asleep();
            forever(tx, |tx, _| tx.send(&payload(OURS)).unwrap())
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let (tx, rx) = ground.survivors.unwrap();
            tx.try_send(&payload(SENTINEL)).map_err(fail)?;
            let got = sleeper.finish()?;
            let mut deliveries: Vec<_> = got.into_iter().map(|number| Delivery { number, marked: false }).collect();
            drain(&rx, &mut deliveries)?;
            if deliveries.pop().is_none_or(|last| last.number != SENTINEL) {
                return Err(format!("the last frame is not the last: {deliveries:?}"));
            }
            let visible = ground.ledger.judge(page, &deliveries, 0)?;
            go_on(&ground.ring, tx, rx)?;
            Ok(visible)
        })),
    }
}

/// The child wakes a producer that sleeps in another process, because the ring is full.
fn waking_producer() -> Scene {
    let mut ground = Ground::new(STATES[2], Redelivery::AtLeastOnce, true);
    ground.ledger.takes = 1;
    let ring = ground.ring.clone();
    let sleeper = Neighbour::start(|page| {
        let tx = Producer::attach(&ring).unwrap();
        page.arrive();
        tx.send(&payload(NEIGHBOURS)).unwrap();
    });
    let until_asleep = sleeper.until_asleep();
    Scene {
        child: Box::new(move |_| {
            let rx = Consumer::attach(&ring).unwrap();
            until_asleep();
            forever(rx, |rx, page| page.take(number(&rx.recv().unwrap())))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let (tx, rx) = ground.survivors.unwrap();
            let mut deliveries = Vec::new();
            // If the child was stopped before it made room, a survivor makes room.
            drain(&rx, &mut deliveries)?;
            wait_for_orphans(&ground.ring, &rx, &mut deliveries)?;
            sleeper.finish()?;
            ground.ring.reap_dead().map_err(fail)?;
            drain(&rx, &mut deliveries)?;
            ground.ledger.waiting.push(NEIGHBOURS);
            ground.ledger.judge(page, &deliveries, 0)?;
            go_on(&ground.ring, tx, rx)?;
            Ok(0)
        })),
    }
}

/// The child sleeps until a producer in another process has sent something.
fn sleeping_consumer(policy: Redelivery) -> Scene {
    let mut ground = Ground::new(STATES[0], policy, true);
    ground.ledger.takes = 1;
    let ring = ground.ring.clone();
    let waker = Neighbour::start(|page| {
        let tx = Producer::attach(&ring).unwrap();
        page.await_sleeper();
        tx.send(&payload(NEIGHBOURS)).unwrap();
    });
    let expect_me = waker.expect_me();
    Scene {
        child: Box::new(move |_| {
            let rx = Consumer::attach(&ring).unwrap();
            expect_me();
            forever(rx, |rx, page| page.take(number(&rx.recv().unwrap())))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            waker.finish()?;
            ground.ledger.waiting.push(NEIGHBOURS);
            ground.state.waiting = 1;
            ground.check(page)
        })),
    }
}

/// The child sleeps until a consumer in another process has made room.
fn sleeping_producer(policy: Redelivery) -> Scene {
    let mut ground = Ground::new(STATES[2], policy, true);
    ground.ledger.sends = vec![OURS];
    ground.ledger.takes = 1;
    let ring = ground.ring.clone();
    let waker = Neighbour::start(|page| {
        let rx = Consumer::attach(&ring).unwrap();
        page.await_sleeper();
        page.take(number(&rx.recv().unwrap()));
    });
    let expect_me = waker.expect_me();
    Scene {
        child: Box::new(move |_| {
            let tx = Producer::attach(&ring).unwrap();
            expect_me();
            forever(tx, |tx, _| tx.send(&payload(OURS)).unwrap())
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let received = waker.finish()?;
            ground.ledger.waiting.retain(|number| !received.contains(number));
            ground.check(page)
        })),
    }
}

fn fail(error: Error) -> String {
    format!("a survivor got: {error}")
}

fn received(view: &slipring::mpmc::ReadView<'_>) -> Result<Delivery, String> {
    Delivery::new(view, view.header().flags.contains(Flags::REDELIVERED))
}

/// Receives the frames that are there. Frames that are not redelivered must come in the order of
/// their positions.
fn drain(rx: &Consumer, deliveries: &mut Vec<Delivery>) -> Result<(), String> {
    let mut newest = None;
    loop {
        match rx.try_recv() {
            Ok(view) => {
                let delivery = received(&view)?;
                let seq = Some(view.header().seq).filter(|_| !delivery.marked);
                if seq.is_some() && newest.is_some() && seq <= newest {
                    return Err(format!("frame {} has position {seq:?} and came after {newest:?}", delivery.number));
                }
                newest = seq.or(newest);
                deliveries.push(delivery);
            }
            Err(Error::Empty) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
    }
}

/// The frames that dead consumers held are redelivered in time to a consumer that waits.
fn wait_for_orphans(ring: &Ring, rx: &Consumer, deliveries: &mut Vec<Delivery>) -> Result<(), String> {
    loop {
        let report = ring.verify().map_err(fail)?;
        if ring.redelivery() == Redelivery::AtMostOnce || report.reading + report.redeliver == 0 {
            return Ok(());
        }
        let view = rx.recv_deadline(SOON).map_err(|e| format!("a consumer waits for the dead: {e}"))?;
        deliveries.push(received(&view)?);
    }
}

/// The ring works as a new one: it takes and delivers as many frames as a new one, and only living
/// participants are registered.
fn go_on(ring: &Ring, tx: Producer, rx: Consumer) -> Result<(), String> {
    let mut sent = 0;
    let stopped = loop {
        match tx.try_send(&payload(REFILL + sent)) {
            Ok(()) => sent += 1,
            Err(e) => break e,
        }
    };
    let full = ring.verify().map_err(fail)?;
    if !matches!(stopped, Error::Full) || sent != SLOTS || full.frames != SLOTS || !full.is_clean() {
        return Err(format!("{sent} of {SLOTS} frames fit, then {stopped}: {full:?}"));
    }
    let mut deliveries = Vec::new();
    drain(&rx, &mut deliveries)?;
    let expected = (REFILL..REFILL + SLOTS).map(|number| Delivery { number, marked: false });
    let empty = ring.verify().map_err(fail)?;
    let left = empty.frames + empty.writing + empty.reading + empty.redeliver;
    if !deliveries.iter().copied().eq(expected) || !empty.is_clean() || left != 0 {
        return Err(format!("sent {sent} frames, received {deliveries:?}, left {empty:?}"));
    }
    crate::segment::only_the_living(ring, 2)?;
    drop((tx, rx));
    crate::segment::only_the_living(ring, 0)
}
