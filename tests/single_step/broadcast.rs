//! Every operation on a broadcast ring, killed or paused at every instruction: wherever a
//! participant stops, the other subscribers get every frame or exact gaps, and no dead subscriber
//! holds the publisher back.
//!
//! Frames are numbered by their place among all frames of the ring, so that a subscriber which got
//! n expects n + 1, and a gap of m after it n + 1 + m.

use std::time::Duration;

use slipring::broadcast::{LossySubscriber, Position, Publisher, Received, SlowPolicy, Start, Subscriber};
use slipring::{Error, Options, Ring};

use crate::frames::{Delivery, LEN, number, payload};
use crate::process::{Page, SOON, Tracee};
use crate::{Case, Fate, Pace, Scene};

const CAPACITY: usize = 4096;
/// A record and the empty header after it must fit.
const FULL: u64 = ((CAPACITY - 8) / (16 + LEN)) as u64;
/// What a child records for a torn frame, and what it adds to the number of missed frames.
const TORN: u64 = u64::MAX;
const MISSED: u64 = 1 << 32;

/// Name, frames that were published and received before, and that wait.
const STATES: [(&str, u64, u64); 5] = [
    ("empty", 0, 0),
    ("3 frames", 0, 3),
    ("full", 0, FULL),
    ("behind the first lap", 100, 3),
    // The next frame enters a chunk: one of these five has to move the floor.
    ("full, behind the first lap", 100, FULL),
];

type Publish = fn(&Ring, &mut Option<Publisher>, u64);
type Receive = fn(&Ring, &mut Option<Subscriber>, &Page, Position);
type Watch = fn(&Ring, &mut Option<LossySubscriber>, &Page, Position);

/// Name, how it stops, frames that it sends, the operation, which gets the next frame's number.
const PUBLISHES: [(&str, Pace, u64, Publish); 7] = [
    ("broadcast try_send", Pace::Every, 1, |_, tx, next| _ = tx.as_mut().unwrap().try_send(&payload(next))),
    ("broadcast try_send, evicts", Pace::Every, 1, |_, tx, next| {
        _ = tx.as_mut().unwrap().try_send(&payload(next));
    }),
    ("broadcast batch of 3, commit", Pace::Every, 3, |_, tx, next| {
        let mut batch = tx.as_mut().unwrap().batch();
        if (next..next + 3).all(|n| batch.push(&payload(n)).is_ok()) {
            batch.commit();
        }
    }),
    ("broadcast batch of 2, abort", Pace::Sample, 0, |_, tx, next| {
        let mut batch = tx.as_mut().unwrap().batch();
        let _ = (next..next + 2).all(|n| batch.push(&payload(n)).is_ok());
    }),
    ("broadcast close publisher", Pace::Sample, 0, |_, tx, _| tx.take().unwrap().close()),
    ("broadcast attach publisher", Pace::Sample, 0, |ring, tx, _| *tx = Some(Publisher::attach(ring).unwrap())),
    ("broadcast sweep", Pace::Sample, 0, |ring, _, _| _ = ring.reap_dead().unwrap()),
];

const RECEIVES: [(&str, Pace, Receive); 7] = [
    ("broadcast try_recv", Pace::Every, |_, rx, page, _| {
        rx.as_mut().unwrap().try_recv().iter().for_each(|view| page.take(number(view)));
    }),
    ("broadcast try_recv, keep", Pace::Sample, |_, rx, _, _| {
        if let Ok(view) = rx.as_mut().unwrap().try_recv() {
            view.keep();
        }
    }),
    ("broadcast try_recv_into", Pace::Sample, |_, rx, page, _| {
        _ = rx.as_mut().unwrap().try_recv_into(page.buffer(LEN));
    }),
    ("broadcast batch of 2 received", Pace::Every, |_, rx, page, _| {
        if let Ok(mut batch) = rx.as_mut().unwrap().try_recv_batch(usize::MAX) {
            batch.iter().take(2).for_each(|frame| page.take(number(frame.payload)));
        }
    }),
    ("broadcast close subscriber", Pace::Sample, |_, rx, _, _| rx.take().unwrap().close()),
    ("broadcast attach subscriber, oldest", Pace::Sample, |ring, rx, _, _| {
        *rx = Some(Subscriber::attach(ring, Start::Oldest).unwrap());
    }),
    ("broadcast attach subscriber, position", Pace::Sample, |ring, rx, _, at| {
        *rx = Some(Subscriber::attach(ring, Start::At(at)).unwrap());
    }),
];

const WATCHES: [(&str, Pace, Watch); 3] = [
    ("broadcast lossy try_recv_into", Pace::Every, |_, rx, page, _| {
        _ = rx.as_mut().unwrap().try_recv_into(page.buffer(LEN));
    }),
    ("broadcast close lossy subscriber", Pace::Sample, |_, rx, _, _| rx.take().unwrap().close()),
    ("broadcast attach lossy subscriber", Pace::Sample, |ring, rx, _, _| {
        *rx = Some(LossySubscriber::attach(ring, Start::Latest).unwrap());
    }),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |operation, state: &str, pace, scene: Box<dyn Fn() -> Scene>| {
        cases.push(Case { operation, state: state.into(), pace, scene });
    };
    for (name, before, waiting) in STATES {
        // The short form stops everywhere in two of the states.
        let pace_of = |pace| if pace == Pace::Every && before == 0 { Pace::Sample } else { pace };
        // Where the floor is just before the subscriber, there is no boundary between them, and no
        // subscriber can start there.
        let is_startable = before == 0 || waiting < FULL;
        for (operation, pace, sends, does) in PUBLISHES {
            // Evictions happen where there is no room.
            if operation.ends_with("evicts") && waiting < FULL {
                continue;
            }
            add(operation, name, pace_of(pace), Box::new(move || publishing(operation, sends, does, before, waiting)));
        }
        add(
            "pause: broadcast try_send",
            name,
            pace_of(Pace::Every),
            Box::new(move || paused_publisher(before, waiting)),
        );
        if !is_startable {
            continue;
        }
        for (operation, pace, does) in RECEIVES {
            let attaches = operation.contains("attach");
            let child = move |ring: &Ring, at| {
                let mut rx = (!attaches).then(|| Subscriber::attach(ring, Start::At(at)).unwrap());
                let ring = ring.clone();
                Box::new(move |page: &Page| does(&ring, &mut rx, page, at)) as _
            };
            add(operation, name, pace_of(pace), Box::new(move || subscribing(child, before, waiting)));
        }
        for (operation, pace, does) in WATCHES {
            let attaches = operation.contains("attach");
            let child = move |ring: &Ring, at| {
                let mut rx = (!attaches).then(|| LossySubscriber::attach(ring, Start::At(at)).unwrap());
                let ring = ring.clone();
                Box::new(move |page: &Page| does(&ring, &mut rx, page, at)) as _
            };
            add(operation, name, pace_of(pace), Box::new(move || subscribing(child, before, waiting)));
        }
        add(
            "pause: broadcast try_recv",
            name,
            pace_of(Pace::Every),
            Box::new(move || paused_subscriber(before, waiting)),
        );
        add("pause: broadcast lossy", name, Pace::Long, Box::new(move || paused_lossy(before, waiting)));
    }
    cases
}

fn fail(error: Error) -> String {
    format!("a survivor got: {error}")
}

/// A ring, its publisher, and a subscriber that has received everything that was published.
fn ring(before: u64) -> (Ring, Publisher, Subscriber) {
    let ring = Ring::create_anonymous(&Options::broadcast(CAPACITY).participants(6)).unwrap();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Oldest).unwrap();
    for n in 0..before {
        tx.try_send(&payload(n)).unwrap();
        drop(rx.try_recv().unwrap());
    }
    (ring, tx, rx)
}

fn fill(tx: &mut Publisher, frames: u64) {
    (0..frames).for_each(|_| tx.try_send(&payload(tx.published())).unwrap());
}

/// A subscriber of each kind, and the number of the next frame that it expects.
struct Followers {
    reliable: Subscriber,
    lossy: LossySubscriber,
    /// `None` after an eviction, until it has received a frame.
    next: Option<u64>,
    next_lossy: u64,
}

impl Followers {
    /// Receives what is there. Returns whether the reliable one was evicted.
    fn drain(&mut self) -> Result<bool, String> {
        self.drain_lossy()?;
        loop {
            match self.reliable.try_recv() {
                Ok(view) => {
                    let n = Delivery::new(&view, false)?.number;
                    if self.next.is_some_and(|next| next != n) {
                        return Err(format!("expected {:?}, got {n}", self.next));
                    }
                    self.next = Some(n + 1);
                }
                Err(Error::Empty | Error::Closed | Error::PeerDead) => return Ok(false),
                Err(Error::Evicted) => return Ok(true),
                Err(e) => return Err(fail(e)),
            }
        }
    }

    fn drain_lossy(&mut self) -> Result<(), String> {
        let mut buffer = [0; LEN];
        loop {
            match self.lossy.try_recv_into(&mut buffer) {
                Ok(Received::Gap { missed }) => self.next_lossy += missed,
                Ok(Received::Frame(header)) => {
                    let n = Delivery::new(&buffer[..header.len as usize], false)?.number;
                    if n != self.next_lossy {
                        return Err(format!("lossy: expected {}, got {n}", self.next_lossy));
                    }
                    self.next_lossy += 1;
                }
                Err(Error::Empty | Error::Closed | Error::PeerDead) => return Ok(()),
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// Whether both have received everything up to `end`.
    fn have(&self, end: u64) -> Result<(), String> {
        let reliable = self.next.unwrap_or(end);
        if (reliable, self.next_lossy) == (end, end) {
            return Ok(());
        }
        Err(format!("{end} frames were published, received up to {reliable}, lossy {}", self.next_lossy))
    }

    /// Three laps go through the ring.
    fn follow(&mut self, tx: &mut Publisher) -> Result<(), String> {
        for _ in 0..3 * FULL {
            tx.send_deadline(&payload(tx.published()), SOON).map_err(fail)?;
            if self.drain()? {
                return Err("evicted without a cause".into());
            }
        }
        self.have(tx.published())
    }

    /// Everything is in order, and only the living are registered.
    fn end(self, ring: &Ring, tx: Publisher) -> Result<(), String> {
        let report = ring.verify().map_err(fail)?;
        // The publisher does not look for dead lossy subscribers.
        ring.reap_dead().map_err(fail)?;
        if !report.is_clean() || ring.subscribers().len() != 2 {
            return Err(format!("{report:?}, {:?}", ring.subscribers()));
        }
        crate::segment::only_the_living(ring, 3)?;
        drop((tx, self));
        crate::segment::only_the_living(ring, 0)
    }
}

fn followers(ring: &Ring, reliable: Subscriber, next: u64) -> Followers {
    let lossy = LossySubscriber::attach(ring, Start::At(reliable.position())).unwrap();
    Followers { reliable, lossy, next: Some(next), next_lossy: next }
}

/// The child is the publisher.
fn publishing(operation: &'static str, sends: u64, does: Publish, before: u64, waiting: u64) -> Scene {
    let (ring, mut tx, rx) = ring(before);
    let mut others = followers(&ring, rx, before);
    fill(&mut tx, waiting);
    drop(tx);
    let (attaches, evicts) = (operation.ends_with("attach publisher"), operation.ends_with("evicts"));
    let theirs = ring.clone();
    let next = before + waiting;
    let sends = if waiting + sends > FULL && !evicts { 0 } else { sends };
    Scene {
        child: Box::new(move |_| {
            let mut tx = (!attaches).then(|| Publisher::attach(&theirs).unwrap());
            if let (true, Some(tx)) = (evicts, &mut tx) {
                tx.set_policy(SlowPolicy::Evict { after: Duration::ZERO });
            }
            Box::new(move |_| does(&theirs, &mut tx, next))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            // The frames in the ring are told first, then the end.
            let was_evicted = others.drain()?;
            let mut tx = Publisher::attach(&ring).map_err(fail)?;
            let visible = tx.published() - next;
            let is_whole = visible == sends || (visible == 0 && !page.is_complete());
            if !is_whole {
                return Err(format!("{visible} of {sends} frames were published"));
            }
            if was_evicted {
                if !evicts {
                    return Err("evicted without such a policy".into());
                }
                drop(others.reliable);
                others.reliable = Subscriber::attach(&ring, Start::Oldest).map_err(fail)?;
                others.next = None;
                others.drain()?;
            } else if evicts && page.is_complete() {
                return Err("not evicted".into());
            }
            others.have(tx.published())?;
            others.follow(&mut tx)?;
            others.end(&ring, tx)?;
            Ok(visible)
        })),
    }
}

/// The child is a subscriber, which begins at the first waiting frame.
fn subscribing(
    child: impl Fn(&Ring, Position) -> crate::process::Operation + 'static,
    before: u64,
    waiting: u64,
) -> Scene {
    let (ring, mut tx, rx) = ring(before);
    let mut others = followers(&ring, rx, before);
    let at = others.reliable.position();
    fill(&mut tx, waiting);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| child(&theirs, at)),
        fate: Fate::Kill(Box::new(move |page| {
            let copy = Delivery::new(page.buffer(LEN), false);
            let strange = page.taken().iter().zip(before..).any(|(n, expected)| *n != expected);
            let torn = page.is_complete() && page.buffer(LEN)[..8] != [0; 8] && copy.is_err();
            if strange || torn || copy.is_ok_and(|copy| copy.number != before) {
                return Err(format!("the child got {:?} or a torn copy", page.taken()));
            }
            others.drain()?;
            others.have(before + waiting)?;
            others.follow(&mut tx)?;
            others.end(&ring, tx)?;
            Ok(0)
        })),
    }
}

/// The publisher stops for a while. Its role is not taken, and its subscribers are not told of an
/// end.
fn paused_publisher(before: u64, waiting: u64) -> Scene {
    let (ring, mut tx, rx) = ring(before);
    let mut others = followers(&ring, rx, before);
    let waiting = waiting.min(FULL - 1);
    fill(&mut tx, waiting);
    drop(tx);
    let theirs = ring.clone();
    let next = before + waiting;
    Scene {
        child: Box::new(move |_| {
            let mut tx = Publisher::attach(&theirs).unwrap();
            Box::new(move |_| tx.try_send(&payload(next)).unwrap())
        }),
        fate: Fate::Pause(Box::new(move |tracee| {
            others.drain()?;
            if !matches!(others.reliable.try_recv().map(drop), Err(Error::Empty)) {
                return Err("an end was told".into());
            }
            match Publisher::attach(&ring) {
                Err(Error::RoleTaken { .. }) => {}
                _ => return Err("the role of a stopped publisher was taken".into()),
            }
            tracee.finish();
            others.drain()?;
            others.have(next + 1)?;
            tracee.kill();
            let mut tx = Publisher::attach(&ring).map_err(fail)?;
            others.follow(&mut tx)?;
            others.end(&ring, tx)?;
            Ok(0)
        })),
    }
}

/// Publishes up to three laps beside a stopped subscriber, as far as that lets the publisher.
fn press(tx: &mut Publisher, others: &mut Followers) -> Result<(), String> {
    for _ in 0..3 * FULL {
        match tx.try_send(&payload(tx.published())) {
            Ok(()) => {}
            Err(Error::Full) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        if others.drain()? {
            return Err("the wrong one was evicted".into());
        }
    }
    Ok(())
}

fn ends_well(tracee: Tracee, ring: &Ring, mut tx: Publisher, mut others: Followers) -> Result<u64, String> {
    tracee.kill();
    others.follow(&mut tx)?;
    others.end(ring, tx)?;
    Ok(0)
}

/// A reliable subscriber stops in the middle of receiving, while the publisher wants to evict it:
/// it holds its frame, or it is told.
fn paused_subscriber(before: u64, waiting: u64) -> Scene {
    let (ring, mut tx, rx) = ring(before);
    let mut others = followers(&ring, rx, before);
    let at = others.reliable.position();
    fill(&mut tx, waiting);
    tx.set_policy(SlowPolicy::Evict { after: Duration::ZERO });
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut rx = Subscriber::attach(&theirs, Start::At(at)).unwrap();
            Box::new(move |page| {
                rx.try_recv().iter().for_each(|view| {
                    page.take(Delivery::new(view, false).map_or(TORN, |delivery| delivery.number));
                });
            })
        }),
        fate: Fate::Pause(Box::new(move |tracee| {
            others.drain()?;
            press(&mut tx, &mut others)?;
            tracee.finish();
            let taken = tracee.page().taken();
            if taken.iter().any(|n| *n != before) {
                return Err(format!("expected {before}, got {taken:?}"));
            }
            press(&mut tx, &mut others)?;
            ends_well(tracee, &ring, tx, others)
        })),
    }
}

/// A lossy subscriber stops in the middle of copying, and the publisher laps it.
fn paused_lossy(before: u64, waiting: u64) -> Scene {
    let (ring, mut tx, rx) = ring(before);
    let mut others = followers(&ring, rx, before);
    let at = others.reliable.position();
    fill(&mut tx, waiting);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut rx = LossySubscriber::attach(&theirs, Start::At(at)).unwrap();
            Box::new(move |page| {
                // Up to the first frame.
                let mut bytes = [0; LEN];
                for _ in 0..3 {
                    match rx.try_recv_into(&mut bytes) {
                        Ok(Received::Gap { missed }) => page.take(MISSED + missed),
                        Ok(Received::Frame(_)) => {
                            page.take(Delivery::new(&bytes, false).map_or(TORN, |delivery| delivery.number));
                            break;
                        }
                        Err(_) => break,
                    }
                }
            })
        }),
        fate: Fate::Pause(Box::new(move |tracee| {
            others.drain()?;
            press(&mut tx, &mut others)?;
            if tx.published() < before + waiting + 3 * FULL {
                return Err("a lossy subscriber held the publisher back".into());
            }
            tracee.finish();
            let mut next = before;
            for n in tracee.page().taken() {
                match n {
                    TORN => return Err("a torn copy".into()),
                    n if n >= MISSED => next += n - MISSED,
                    n if n != next => return Err(format!("expected {next}, got {n}")),
                    _ => {}
                }
            }
            ends_well(tracee, &ring, tx, others)
        })),
    }
}
