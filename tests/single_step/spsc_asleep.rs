//! Operations on an SPSC ring that sleep, or that wake a peer that sleeps in another process.
//!
//! Uses the ring and the survivors of `spsc.rs`.

use slipring::spsc::{Consumer, Producer};
use slipring::{Error, Redelivery, Ring, Token, WaitSet};

use crate::frames::{Delivery, Ledger, number, payload};
use crate::process::{Neighbour, Page};
use crate::spsc::{FULL, OURS, drain, fail, fill, forever, go_on, ring};
use crate::{Case, Fate, Outcome, Pace, Scene};

pub fn cases() -> Vec<Case> {
    vec![
        case("spsc send, waking", "the peer sleeps", waking_consumer),
        case("spsc batch received, waking", "the peer sleeps", waking_producer),
        case("spsc recv, asleep", "empty", sleeping_consumer),
        case("spsc send, asleep", "full", sleeping_producer),
        case("set wait, asleep", "two rings, empty", sleeping_set),
    ]
}

fn case(operation: &'static str, state: &str, scene: fn() -> Scene) -> Case {
    Case { operation, state: state.to_owned(), pace: Pace::Slow, scene: Box::new(scene) }
}

/// Drains the ring, after the frames that the neighbour received, and checks that it works. Returns
/// how many of the child's frames were there.
fn survive(ring: &Ring, ledger: &Ledger, page: &Page, got: Vec<u64>) -> Outcome {
    let mut deliveries: Vec<_> = got.into_iter().map(|number| Delivery { number, marked: false }).collect();
    let mut rx = Consumer::attach(ring).map_err(fail)?;
    deliveries.extend(drain(&mut rx)?);
    let visible = ledger.judge(page, &deliveries, 0)?;
    let tx = Producer::attach(ring).map_err(fail)?;
    go_on(ring, tx, rx)?;
    Ok(visible)
}

/// The child wakes a consumer that sleeps in another process.
fn waking_consumer() -> Scene {
    let ring = ring(0, Redelivery::AtLeastOnce);
    let sleeper = Neighbour::start(|page| {
        let mut rx = Consumer::attach(&ring).unwrap();
        page.arrive();
        match rx.recv() {
            Ok(view) => page.take(number(&view)),
            Err(Error::PeerDead) => {}
            Err(e) => panic!("{e}"),
        }
    });
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.sends = vec![OURS];
    let (theirs, until_asleep) = (ring.clone(), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let tx = Producer::attach(&theirs).unwrap();
            until_asleep();
            forever(Some(tx), |tx, _| tx.as_mut().unwrap().send(&payload(OURS)).unwrap())
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let got = sleeper.finish()?;
            survive(&ring, &ledger, page, got)
        })),
    }
}

/// The child wakes a producer that sleeps in another process, because the ring is full.
fn waking_producer() -> Scene {
    let ring = ring(0, Redelivery::AtLeastOnce);
    let sleeper = Neighbour::start(|page| {
        let mut tx = Producer::attach(&ring).unwrap();
        fill(&mut tx, FULL);
        page.arrive();
        match tx.send(&payload(OURS)) {
            Ok(()) => page.take(OURS),
            Err(Error::PeerDead) => {}
            Err(e) => panic!("{e}"),
        }
    });
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.waiting = (0..FULL).collect();
    ledger.takes = 20;
    let (theirs, until_asleep) = (ring.clone(), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let rx = Consumer::attach(&theirs).unwrap();
            until_asleep();
            forever(Some(rx), |rx, page| {
                let mut batch = rx.as_mut().unwrap().try_recv_batch(usize::MAX).unwrap();
                batch.iter().take(20).for_each(|frame| page.take(number(frame.payload)));
            })
        }),
        fate: Fate::Kill(Box::new(move |page| {
            ledger.waiting.extend(sleeper.finish()?);
            survive(&ring, &ledger, page, Vec::new()).map(|_| 0)
        })),
    }
}

/// The child sleeps until a producer in another process has sent something.
fn sleeping_consumer() -> Scene {
    let ring = ring(0, Redelivery::AtLeastOnce);
    let waker = Neighbour::start(|page| {
        let mut tx = Producer::attach(&ring).unwrap();
        page.await_sleeper();
        tx.try_send(&payload(OURS)).unwrap();
    });
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.waiting = vec![OURS];
    ledger.takes = 1;
    let (theirs, expect_me) = (ring.clone(), waker.expect_me());
    Scene {
        child: Box::new(move |_| {
            let rx = Consumer::attach(&theirs).unwrap();
            expect_me();
            forever(Some(rx), |rx, page| page.take(number(&rx.as_mut().unwrap().recv().unwrap())))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            waker.finish()?;
            survive(&ring, &ledger, page, Vec::new()).map(|_| 0)
        })),
    }
}

/// The child sleeps until a consumer in another process has made room.
fn sleeping_producer() -> Scene {
    let ring = ring(0, Redelivery::AtLeastOnce);
    let waker = Neighbour::start(|page| {
        let mut rx = Consumer::attach(&ring).unwrap();
        page.await_sleeper();
        let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
        batch.iter().take(20).for_each(|frame| page.take(number(frame.payload)));
    });
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.waiting = (0..FULL).collect();
    ledger.sends = vec![OURS];
    let (theirs, expect_me) = (ring.clone(), waker.expect_me());
    Scene {
        child: Box::new(move |_| {
            let mut tx = Producer::attach(&theirs).unwrap();
            fill(&mut tx, FULL);
            expect_me();
            forever(Some(tx), |tx, _| tx.as_mut().unwrap().send(&payload(OURS)).unwrap())
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let got = waker.finish()?;
            survive(&ring, &ledger, page, got)
        })),
    }
}

/// The child sleeps in a set of two rings until a producer in another process has sent something.
fn sleeping_set() -> Scene {
    let [ring, beside] = [(), ()].map(|()| ring(0, Redelivery::AtLeastOnce));
    let waker = Neighbour::start(|page| {
        let mut tx = Producer::attach(&ring).unwrap();
        page.await_sleeper();
        tx.try_send(&payload(OURS)).unwrap();
    });
    let mut ledger = Ledger::new(Redelivery::AtLeastOnce);
    ledger.waiting = vec![OURS];
    ledger.takes = 1;
    let (theirs, expect_me) = ([ring.clone(), beside.clone()], waker.expect_me());
    Scene {
        child: Box::new(move |_| {
            let receivers = theirs.map(|ring| Consumer::attach(&ring).unwrap());
            let mut set = WaitSet::new().unwrap();
            for (number, rx) in receivers.iter().enumerate() {
                set.add(Token(number), rx.readable()).unwrap();
            }
            // Without a descriptor there is no watcher, whose thread would run untraced.
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `none` is alive for the call.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) };
            expect_me();
            forever(Some((set, receivers)), |state, page| {
                let (set, receivers) = state.as_mut().unwrap();
                let Token(ready) = set.wait().unwrap().next().unwrap();
                page.take(number(&receivers[ready].try_recv().unwrap()));
            })
        }),
        fate: Fate::Kill(Box::new(move |page| {
            waker.finish()?;
            survive(&beside, &Ledger::new(Redelivery::AtLeastOnce), page, Vec::new())?;
            survive(&ring, &ledger, page, Vec::new()).map(|_| 0)
        })),
    }
}
