//! Hot operations that stop in the middle for a while and then continue, as after SIGSTOP.
//! Meanwhile the others continue as documented: the stopped process is alive, so what it holds is
//! not taken from it. Afterwards no frame is torn, lost or doubled.

use std::os::fd::AsFd;
use std::time::Duration;

use slipring::{Error, Locked, Mutex, Options, Redelivery, Ring, mpmc, spsc};

use crate::frames::{Delivery, LEN, payload};
use crate::process::{NOW, Operation, Page, SOON, Tracee};
use crate::{Case, Fate, Pace, Scene, is_full, segment};

const SLOTS: u64 = 4;
const CAPACITY: usize = 4096;
/// A record and the empty header after it must fit.
const FRAMES: u64 = ((CAPACITY - 8) / (16 + LEN)) as u64;
/// Numbers of the frames that an operation sends, that the others send meanwhile, and that are sent
/// afterwards.
const OURS: u64 = 100;
const MEANWHILE: u64 = 1000;
const AFTERWARDS: u64 = 2000;
/// What an operation records for a torn frame.
const TORN: u64 = u64::MAX;

type OnProducer<T> = fn(&mut T, &Page);

/// Name, frames that it sends, the operation.
const SPSC_SENDS: [(&str, u64, OnProducer<spsc::Producer>); 3] = [
    ("pause: spsc try_send", 1, |tx, _| tx.try_send(&payload(OURS)).unwrap()),
    ("pause: spsc reserve, abort", 0, |tx, _| tx.try_reserve(LEN).unwrap().copy_from_slice(&payload(OURS))),
    ("pause: spsc batch of 3, commit", 3, |tx, _| {
        let mut batch = tx.batch();
        (0..3).for_each(|i| batch.push(&payload(OURS + i)).unwrap());
        batch.commit();
    }),
];

/// Name, the most frames that it receives, the operation.
const SPSC_RECEIVES: [(&str, u64, OnProducer<spsc::Consumer>); 2] = [
    ("pause: spsc try_recv", 1, |rx, page| rx.try_recv().iter().for_each(|view| page.take(whole(view)))),
    ("pause: spsc try_recv_batch", FRAMES, |rx, page| {
        rx.try_recv_batch(usize::MAX)
            .iter_mut()
            .for_each(|batch| batch.iter().for_each(|frame| page.take(whole(frame.payload))));
    }),
];

/// Name, the operation. It records what it has sent: less than a whole batch if the others filled
/// the ring meanwhile.
const MPMC_SENDS: [(&str, OnProducer<mpmc::Producer>); 3] = [
    ("pause: mpmc try_send", |tx, page| {
        tx.try_send(&payload(OURS)).unwrap();
        page.take(OURS);
    }),
    ("pause: mpmc reserve, abort", |tx, _| tx.try_reserve(LEN).unwrap().copy_from_slice(&payload(OURS))),
    ("pause: mpmc try_send_batch of 2", |tx, page| {
        let sent = tx.try_send_batch([&payload(OURS)[..], &payload(OURS + 1)]).unwrap();
        (0..sent as u64).for_each(|i| page.take(OURS + i));
    }),
];

const MPMC_RECEIVES: [(&str, u64, OnProducer<mpmc::Consumer>); 2] = [
    ("pause: mpmc try_recv", 1, |rx, page| rx.try_recv().iter().for_each(|view| page.take(whole(view)))),
    ("pause: mpmc try_recv_batch", SLOTS, |rx, page| {
        rx.try_recv_batch(SLOTS as usize).iter_mut().for_each(|batch| {
            batch.iter().for_each(|frame| page.take(whole(frame.payload)));
        });
    }),
];

fn whole(bytes: &[u8]) -> u64 {
    Delivery::new(bytes, false).map_or(TORN, |delivery| delivery.number)
}

/// How long the child stays stopped, at least: several sleep caps, so that waiters check for dead
/// participants more than once.
fn pause() -> Duration {
    if is_full() { Duration::from_millis(120) } else { NOW }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |operation, state: &str, scene: Box<dyn Fn() -> Scene>| {
        let pace = if operation == "pause: spsc try_recv_batch" { Pace::Long } else { Pace::Every };
        cases.push(Case { operation, state: state.into(), pace, scene });
    };
    for (operation, sends, does) in SPSC_SENDS {
        for waiting in [0, FRAMES - 3] {
            let scene = move || spsc_producer(waiting, sends, does);
            add(operation, &format!("{waiting} frames"), Box::new(scene));
        }
    }
    for (operation, takes, does) in SPSC_RECEIVES {
        for waiting in [0, 3, FRAMES] {
            let scene = move || spsc_consumer(waiting, takes, does);
            add(operation, &format!("{waiting} frames"), Box::new(scene));
        }
    }
    for (operation, does) in MPMC_SENDS {
        for waiting in [0, 2] {
            let scene = move || mpmc_producer(waiting, does);
            add(operation, &format!("{waiting} frames"), Box::new(scene));
        }
    }
    for (operation, takes, does) in MPMC_RECEIVES {
        for waiting in [0, 2, SLOTS] {
            let scene = move || mpmc_consumer(waiting, takes, does);
            add(operation, &format!("{waiting} frames"), Box::new(scene));
        }
    }
    add("pause: mutex lock, unlock", "free", Box::new(mutex));
    cases
}

fn operation<T: 'static>(mut handle: T, does: OnProducer<T>) -> Operation {
    Box::new(move |page| does(&mut handle, page))
}

fn fail(error: Error) -> String {
    format!("while one is stopped: {error}")
}

/// Checks that no participant counts as dead, and that the ring is in order.
fn all_live(ring: &Ring) -> Result<(), String> {
    let (reaped, report) = (ring.reap_dead().map_err(fail)?, ring.verify().map_err(fail)?);
    let dead: Vec<_> = ring.participants().map_err(fail)?.into_iter().filter(|one| !one.alive).collect();
    if reaped == 0 && dead.is_empty() && report.is_clean() {
        Ok(())
    } else {
        Err(format!("{reaped} were reaped, {dead:?} are taken for dead: {report:?}"))
    }
}

fn is_taken<T>(attached: slipring::Result<T>) -> Result<(), String> {
    match attached {
        Err(Error::RoleTaken { .. }) => Ok(()),
        Ok(_) => Err("the role of a stopped process was taken".into()),
        Err(e) => Err(fail(e)),
    }
}

/// Checks that the numbers are these, in this order.
fn expect(found: &[u64], expected: impl IntoIterator<Item = u64>) -> Result<(), String> {
    let expected: Vec<_> = expected.into_iter().collect();
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, got {found:?}")) }
}

/// All frames were released, and the stopped process may continue.
fn end(tracee: Tracee, ring: &Ring) -> Result<u64, String> {
    tracee.kill();
    segment::only_the_living(ring, 2)?;
    Ok(0)
}

fn byte_ring(waiting: u64) -> (Ring, spsc::Producer, spsc::Consumer) {
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY).participants(4)).unwrap();
    let (mut tx, mut rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
    // Not at the start: the next frames wrap around the end.
    for _ in 0..FRAMES {
        tx.try_send(&payload(0)).unwrap();
        drop(rx.try_recv().unwrap());
    }
    (0..waiting).for_each(|n| tx.try_send(&payload(n)).unwrap());
    (ring, tx, rx)
}

fn drain_bytes(rx: &mut spsc::Consumer, into: &mut Vec<u64>) -> Result<(), String> {
    loop {
        match rx.try_recv() {
            Ok(view) => into.push(Delivery::new(&view, false)?.number),
            Err(Error::Empty) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
    }
}

/// The child that stops is the producer.
fn spsc_producer(waiting: u64, sends: u64, does: OnProducer<spsc::Producer>) -> Scene {
    let (ring, tx, mut rx) = byte_ring(waiting);
    drop(tx);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| operation(spsc::Producer::attach(&theirs).unwrap(), does)),
        fate: Fate::Pause(Box::new(move |tracee| {
            let mut found = Vec::new();
            drain_bytes(&mut rx, &mut found)?;
            if found.len() as u64 != waiting && found.len() as u64 != waiting + sends {
                return Err(format!("a part of an atomic batch: {found:?}"));
            }
            match rx.recv_deadline(pause()).map(|view| view.len()) {
                Err(Error::Timeout) => {}
                other => return Err(format!("nothing was sent, but: {other:?}")),
            }
            is_taken(spsc::Producer::attach(&ring))?;
            all_live(&ring)?;
            tracee.finish();
            drain_bytes(&mut rx, &mut found)?;
            expect(&found, (0..waiting).chain(OURS..OURS + sends))?;
            tracee.kill();
            let mut tx = spsc::Producer::attach(&ring).map_err(fail)?;
            (0..FRAMES).try_for_each(|n| tx.try_send(&payload(AFTERWARDS + n))).map_err(fail)?;
            found.clear();
            drain_bytes(&mut rx, &mut found)?;
            expect(&found, AFTERWARDS..AFTERWARDS + FRAMES)?;
            segment::only_the_living(&ring, 2)?;
            Ok(0)
        })),
    }
}

/// The child that stops is the consumer.
fn spsc_consumer(waiting: u64, takes: u64, does: OnProducer<spsc::Consumer>) -> Scene {
    let (ring, mut tx, rx) = byte_ring(waiting);
    drop(rx);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| operation(spsc::Consumer::attach(&theirs).unwrap(), does)),
        fate: Fate::Pause(Box::new(move |tracee| {
            let mut sent = 0;
            let full = loop {
                match tx.send_deadline(&payload(MEANWHILE + sent), NOW) {
                    Ok(()) => sent += 1,
                    Err(e) => break e,
                }
            };
            if !matches!(full, Error::Timeout) || sent > FRAMES {
                return Err(format!("{sent} frames fitted, then: {full}"));
            }
            match tx.send_deadline(&payload(0), pause()) {
                Err(Error::Timeout) => {}
                other => return Err(format!("a full ring took a frame: {other:?}")),
            }
            is_taken(spsc::Consumer::attach(&ring))?;
            all_live(&ring)?;
            tracee.finish();
            let mut found = tracee.page().taken();
            if found.len() as u64 > takes {
                return Err(format!("took too much: {found:?}"));
            }
            tracee.kill();
            let mut rx = spsc::Consumer::attach(&ring).map_err(fail)?;
            drain_bytes(&mut rx, &mut found)?;
            expect(&found, (0..waiting).chain(MEANWHILE..MEANWHILE + sent))?;
            (0..FRAMES).try_for_each(|n| tx.try_send(&payload(AFTERWARDS + n))).map_err(fail)?;
            found.clear();
            drain_bytes(&mut rx, &mut found)?;
            expect(&found, AFTERWARDS..AFTERWARDS + FRAMES)?;
            segment::only_the_living(&ring, 2)?;
            Ok(0)
        })),
    }
}

/// The frames that were sent and received through a slot ring while a process was stopped.
struct Others {
    ring: Ring,
    tx: mpmc::Producer,
    rx: mpmc::Consumer,
    sent: u64,
    found: Vec<u64>,
}

impl Others {
    fn new(waiting: u64) -> Self {
        let policy = Redelivery::AtLeastOnce;
        let ring =
            Ring::create_anonymous(&Options::mpmc(SLOTS as usize, 64).participants(4).redelivery(policy)).unwrap();
        let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
        for _ in 0..SLOTS - 1 {
            tx.try_send(&payload(0)).unwrap();
            drop(rx.try_recv().unwrap());
        }
        (0..waiting).for_each(|n| tx.try_send(&payload(n)).unwrap());
        Others { ring, tx, rx, sent: 0, found: Vec::new() }
    }

    fn receive(&mut self) -> Result<bool, String> {
        match self.rx.try_recv() {
            Ok(view) => self.found.push(Delivery::new(&view, false)?.number),
            Err(Error::Empty) => return Ok(false),
            Err(e) => return Err(fail(e)),
        }
        Ok(true)
    }

    /// Sends three laps, or as many frames as the stopped process permits.
    fn go_round(&mut self) -> Result<(), String> {
        while self.receive()? {}
        let mut is_held_up = false;
        for _ in 0..3 * SLOTS {
            match self.tx.try_send(&payload(MEANWHILE + self.sent)) {
                Ok(()) => self.sent += 1,
                Err(Error::Full) => is_held_up = true,
                Err(e) => return Err(fail(e)),
            }
            self.receive()?;
        }
        while self.receive()? {}
        let report = self.ring.verify().map_err(fail)?;
        if is_held_up && report.writing + report.reading == 0 {
            return Err(format!("the ring is full without frames: {report:?}"));
        }
        match self.rx.recv_deadline(pause()).map(|view| view.len()) {
            Err(Error::Timeout) => all_live(&self.ring),
            other => Err(format!("nothing was there, but: {other:?}")),
        }
    }

    /// Checks that each frame was received once, and each producer's frames in order.
    fn settle(mut self, tracee: Tracee, waiting: u64, sends: u64, taken: Vec<u64>) -> Result<u64, String> {
        while self.receive()? {}
        for (from, count) in [(0, waiting), (OURS, sends), (MEANWHILE, self.sent)] {
            let of_one = |numbers: &[u64]| -> Vec<u64> {
                numbers.iter().copied().filter(|n| (from..from + count).contains(n)).collect()
            };
            // Each consumer gets a producer's frames in order; across two consumers there is no
            // order.
            let (ours, theirs) = (of_one(&self.found), of_one(&taken));
            let mut all = [&ours[..], &theirs].concat();
            all.sort_unstable();
            if !ours.is_sorted() || !theirs.is_sorted() {
                return Err(format!("out of order: {ours:?}, {theirs:?}"));
            }
            expect(&all, from..from + count)?;
        }
        if self.found.len() + taken.len() != (waiting + sends + self.sent) as usize {
            return Err(format!("more than was sent: {:?}, {taken:?}", self.found));
        }
        (0..SLOTS).try_for_each(|n| self.tx.try_send(&payload(AFTERWARDS + n))).map_err(fail)?;
        self.found.clear();
        while self.receive()? {}
        expect(&self.found, AFTERWARDS..AFTERWARDS + SLOTS)?;
        all_live(&self.ring)?;
        end(tracee, &self.ring)
    }
}

/// The child that stops is one of two producers.
fn mpmc_producer(waiting: u64, does: OnProducer<mpmc::Producer>) -> Scene {
    let mut others = Others::new(waiting);
    let theirs = others.ring.clone();
    Scene {
        child: Box::new(move |_| operation(mpmc::Producer::attach(&theirs).unwrap(), does)),
        fate: Fate::Pause(Box::new(move |tracee| {
            others.go_round()?;
            tracee.finish();
            let sent = tracee.page().taken();
            others.settle(tracee, waiting, sent.len() as u64, vec![])
        })),
    }
}

/// The child that stops is one of two consumers.
fn mpmc_consumer(waiting: u64, takes: u64, does: OnProducer<mpmc::Consumer>) -> Scene {
    let mut others = Others::new(waiting);
    let theirs = others.ring.clone();
    Scene {
        child: Box::new(move |_| operation(mpmc::Consumer::attach(&theirs).unwrap(), does)),
        fate: Fate::Pause(Box::new(move |tracee| {
            others.go_round()?;
            tracee.finish();
            let taken = tracee.page().taken();
            if taken.len() as u64 > takes {
                return Err(format!("took too much: {taken:?}"));
            }
            others.settle(tracee, waiting, 0, taken)
        })),
    }
}

/// A process that stops while it holds the mutex keeps it.
fn mutex() -> Scene {
    let ours = Mutex::create_anonymous(16).unwrap();
    let fd = ours.as_fd().try_clone_to_owned().unwrap();
    Scene {
        child: Box::new(move |_| {
            let theirs = Mutex::from_fd(fd).unwrap();
            Box::new(move |_| {
                let mut bytes = theirs.lock().unwrap().into_guard();
                bytes[..8].fill(1);
                bytes[8..].fill(1);
            })
        }),
        fate: Fate::Pause(Box::new(move |tracee| {
            match ours.lock_deadline(pause()) {
                Err(Error::Timeout) => {}
                Ok(Locked::Consistent(bytes)) if bytes.iter().all(|b| *b == bytes[0]) => {}
                other => return Err(format!("while one is stopped: {other:?}")),
            }
            tracee.finish();
            let locked = ours.lock_deadline(SOON).map_err(|e| format!("the mutex is not unlocked: {e}"))?;
            if locked.owner_died() || locked.into_guard()[..] != [1; 16] {
                return Err("torn".into());
            }
            tracee.kill();
            Ok(0)
        })),
    }
}
