//! Every operation on an mpsc ring: wherever a participant dies, the frames of all producers arrive
//! in order, its end is told behind its last frame, and its lane can be taken again.

use slipring::frame::Flags;
use slipring::mpsc::{Consumer, Producer, Received};
use slipring::{Error, Options, Ring};

use crate::frames::{Delivery, LEN, Ledger, number, payload};
use crate::process::{NOW, Neighbour, Page, SOON};
use crate::spsc::{FULL, OURS, fail, forever};
use crate::{Case, Fate, Pace, Scene};

/// The lane of a producer that lives, and the frames that wait there.
const OTHER: u16 = 0;
const OTHERS: std::ops::Range<u64> = 5000..5003;
/// The lane of the child, or of the producer that ends.
const LANE: u16 = 1;

type Send = fn(&Ring, &mut Option<Producer>, &Page);
type Receive = fn(&Ring, &mut Option<Consumer>, &Page);

/// Name, how it stops, frames that it sends (all or none), the operation.
const SENDS: [(&str, Pace, u64, Send); 6] = [
    ("mpsc try_send", Pace::Every, 1, |_, tx, _| _ = tx.as_mut().unwrap().try_send(&payload(OURS))),
    ("mpsc reserve, commit", Pace::Sample, 1, |_, tx, _| {
        if let Ok(mut grant) = tx.as_mut().unwrap().try_reserve(LEN + 9) {
            grant[..LEN].copy_from_slice(&payload(OURS));
            grant.commit(LEN);
        }
    }),
    ("mpsc batch of 3, commit", Pace::Sample, 3, |_, tx, _| {
        let mut batch = tx.as_mut().unwrap().batch();
        if (0..3).all(|i| batch.push(&payload(OURS + i)).is_ok()) {
            batch.commit();
        }
    }),
    ("mpsc close producer", Pace::Every, 0, |_, tx, _| tx.take().unwrap().close()),
    ("mpsc attach producer", Pace::Sample, 0, |ring, tx, _| *tx = Some(Producer::attach(ring).unwrap())),
    ("mpsc sweep", Pace::Sample, 0, |ring, _, _| _ = ring.reap_dead().unwrap()),
];

/// Frames that wait in the child's lane.
const STATES: [(&str, u64); 3] = [("empty", 0), ("three frames", 3), ("full", FULL)];

/// Name, how it stops, the most frames that it receives, the operation.
const RECEIVES: [(&str, Pace, usize, Receive); 6] = [
    ("mpsc try_recv", Pace::Every, 1, |_, rx, page| {
        if let Ok(Received::Frame(view)) = rx.as_mut().unwrap().try_recv() {
            page.take(number(&view));
        }
    }),
    ("mpsc recv", Pace::Sample, 1, |_, rx, page| {
        if let Ok(Received::Frame(view)) = rx.as_mut().unwrap().recv_deadline(NOW) {
            page.take(number(&view));
        }
    }),
    ("mpsc try_recv_batch", Pace::Sample, FULL as usize, |_, rx, page| {
        if let Ok(Received::Frame(mut batch)) = rx.as_mut().unwrap().try_recv_batch(usize::MAX) {
            batch.iter().for_each(|frame| page.take(number(frame.payload)));
        }
    }),
    // Frames of both lanes, and the end if there is one; then one call more.
    ("mpsc try_recv to the end", Pace::Sample, 2 * FULL as usize, |_, rx, page| {
        while let Ok(received) = rx.as_mut().unwrap().try_recv() {
            if let Received::Frame(view) = received {
                page.take(number(&view));
            }
        }
    }),
    ("mpsc close consumer", Pace::Sample, 0, |_, rx, _| rx.take().unwrap().close()),
    ("mpsc attach consumer", Pace::Sample, 0, |ring, rx, _| *rx = Some(Consumer::attach(ring).unwrap())),
];

/// What has happened to the producer of the second lane.
const ENDS: [(&str, End); 3] = [("", End::Lives), (", closed", End::Closed), (", dead", End::Dead)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lives,
    Closed,
    Dead,
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, waiting) in STATES {
        for (operation, pace, sends, does) in SENDS {
            let scene = Box::new(move || sending(operation, sends, does, waiting));
            cases.push(Case { operation, state: name.into(), pace, scene });
        }
        for (operation, pace, takes, does) in RECEIVES {
            for (ended, end) in ENDS {
                let pace = if (waiting, end) == (3, End::Lives) { pace } else { Pace::Sample };
                let scene = Box::new(move || receiving(operation, takes, does, waiting, end));
                cases.push(Case { operation, state: format!("{name}{ended}"), pace, scene });
            }
        }
    }
    cases
}

/// A ring of two lanes, one of which has a producer whose frames wait.
fn ring() -> (Ring, Producer) {
    let ring = Ring::create_anonymous(&Options::mpsc(4096, 2)).unwrap();
    let mut other = Producer::attach(&ring).unwrap();
    OTHERS.for_each(|n| other.try_send(&payload(n)).unwrap());
    (ring, other)
}

fn fill(tx: &mut Producer, waiting: u64) {
    assert_eq!(tx.lane(), LANE);
    (0..waiting).for_each(|n| tx.try_send(&payload(n)).unwrap());
}

/// The child is a producer, or reaps one that died in a frame.
fn sending(operation: &'static str, sends: u64, does: Send, waiting: u64) -> Scene {
    let (ring, other) = ring();
    let mut rx = Consumer::attach(&ring).unwrap();
    let attaches = operation == "mpsc attach producer";
    let sweeps = operation == "mpsc sweep";
    if sweeps {
        Neighbour::start(|page| {
            let mut tx = Producer::attach(&ring).unwrap();
            fill(&mut tx, waiting);
            tx.try_reserve(LEN).into_iter().for_each(|mut grant| grant.fill(7));
            page.arrive_and_wait();
        })
        .kill();
    }
    let mut ledger = Ledger::new(ring.redelivery());
    ledger.waiting = if attaches { Vec::new() } else { (0..waiting).collect() };
    ledger.sends = if waiting + sends > FULL { Vec::new() } else { (OURS..OURS + sends).collect() };
    ledger.at_once = true;
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut tx = (!attaches && !sweeps).then(|| Producer::attach(&theirs).unwrap());
            tx.iter_mut().for_each(|tx| fill(tx, waiting));
            forever(tx, move |tx, page| does(&theirs, tx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            // A producer is certain to have a lane unless it died while it took it or gave it back.
            let is_told = !attaches && (operation != "mpsc close producer" || waiting > 0);
            let mut told = 0;
            let mut deliveries = [Vec::new(), Vec::new()];
            if is_told {
                while told == 0 {
                    told += next(&mut rx, true, &mut deliveries)?.unwrap_or(0);
                }
            }
            ring.reap_dead().map_err(fail)?;
            while let Some(ends) = next(&mut rx, false, &mut deliveries)? {
                told += ends;
            }
            if told > 1 {
                return Err(format!("{told} ends were told"));
            }
            if !deliveries[usize::from(OTHER)].iter().map(|d| d.number).eq(OTHERS) {
                return Err(format!("the other producer's frames: {deliveries:?}"));
            }
            let visible = ledger.judge(page, &deliveries[usize::from(LANE)], 0)?;
            go_on(&ring, other, rx)?;
            Ok(visible)
        })),
    }
}

/// The child is the consumer.
fn receiving(operation: &'static str, takes: usize, does: Receive, waiting: u64, end: End) -> Scene {
    let (ring, other) = ring();
    let tx = if end == End::Dead {
        Neighbour::start(|page| {
            let mut tx = Producer::attach(&ring).unwrap();
            fill(&mut tx, waiting);
            page.arrive_and_wait();
        })
        .kill();
        None
    } else {
        let mut tx = Producer::attach(&ring).unwrap();
        fill(&mut tx, waiting);
        (end == End::Lives).then_some(tx)
    };
    let mut ledgers = [Ledger::new(ring.redelivery()), Ledger::new(ring.redelivery())];
    ledgers[usize::from(OTHER)].waiting = OTHERS.collect();
    ledgers[usize::from(LANE)].waiting = (0..waiting).collect();
    ledgers.iter_mut().for_each(|ledger| ledger.takes = takes);
    let attaches = operation == "mpsc attach consumer";
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let rx = (!attaches).then(|| Consumer::attach(&theirs).unwrap());
            forever(rx, move |rx, page| does(&theirs, rx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let mut rx = Consumer::attach(&ring).map_err(fail)?;
            let (mut told, mut deliveries) = (0, [Vec::new(), Vec::new()]);
            while let Some(ends) = next(&mut rx, false, &mut deliveries)? {
                told += ends;
            }
            let received_all = operation == "mpsc try_recv to the end" && page.is_complete();
            let has_ended = end == End::Dead || end == End::Closed && waiting > 0;
            if told > u64::from(has_ended) || (told > 0 && received_all) {
                return Err(format!("{told} ends were told"));
            }
            if has_ended && told == 0 && operation != "mpsc try_recv to the end" && !(waiting == 0 && takes > 0) {
                return Err("an end was not told".into());
            }
            for (ledger, deliveries) in ledgers.iter().zip(&deliveries) {
                ledger.judge(page, deliveries, 0)?;
            }
            drop(tx);
            while next(&mut rx, false, &mut deliveries)?.is_some() {}
            go_on(&ring, other, rx)?;
            Ok(0)
        })),
    }
}

/// Receives a frame, or an end, and counts the ends. `None` if there is nothing.
fn next(rx: &mut Consumer, waits: bool, deliveries: &mut [Vec<Delivery>; 2]) -> Result<Option<u64>, String> {
    let received = if waits { rx.recv_deadline(SOON) } else { rx.try_recv() };
    match received {
        Ok(Received::Frame(view)) => {
            let delivery = Delivery::new(&view, view.header().flags.contains(Flags::REDELIVERED))?;
            deliveries[usize::from(view.source().lane)].push(delivery);
            Ok(Some(0))
        }
        Ok(Received::Ended(end)) if end.lane == LANE => Ok(Some(1)),
        Ok(Received::Ended(end)) => Err(format!("the other producer has not ended: {end:?}")),
        Err(Error::Empty) if !waits => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// The second lane can be taken again, holds as many frames as a new one, and only the living are
/// registered.
fn go_on(ring: &Ring, other: Producer, mut rx: Consumer) -> Result<(), String> {
    let mut tx = Producer::attach(ring).map_err(fail)?;
    let mut sent = 0;
    while tx.try_send(&payload(sent)).is_ok() {
        sent += 1;
    }
    let report = ring.verify().map_err(fail)?;
    if tx.lane() != LANE || sent != FULL || report.frames != FULL || !report.is_clean() {
        return Err(format!("{sent} of {FULL} frames fit into lane {}: {report:?}", tx.lane()));
    }
    let mut deliveries = [Vec::new(), Vec::new()];
    while next(&mut rx, false, &mut deliveries)?.is_some() {}
    if !deliveries[usize::from(LANE)].iter().map(|d| d.number).eq(0..FULL) || ring.stats().used() != 0 {
        return Err(format!("drained: {deliveries:?}"));
    }
    crate::segment::only_the_living(ring, 3)?;
    tx.close();
    if next(&mut rx, false, &mut deliveries)? != Some(1) {
        return Err("a close was not told".into());
    }
    drop((other, rx));
    crate::segment::only_the_living(ring, 0)
}
