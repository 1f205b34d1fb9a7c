//! No wake-up is lost: a sleeper that is not woken shows as a deadlock.

use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::sync::{AtomicU64, Ordering::*};
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{ALL, Many, One, Sleep};

/// Sleeps until `ready`. (Models have no time.)
fn sleep_until(event: &impl Sleep, mut ready: impl FnMut() -> bool) {
    while !ready() && event.sleep(Duration::MAX, &mut ready) {}
}

/// An eventcount's line and the words that its users publish.
fn memory() -> (Area, Area) {
    let all = Area::model(LINE + 16);
    (all.part(0, LINE), all.part(LINE, 16))
}

fn take(word: &AtomicU64) -> bool {
    word.load(Relaxed) == 1 && word.compare_exchange(1, 2, Acquire, Relaxed).is_ok()
}

#[test]
fn one_sleeper_one_notifier_twice() {
    explore(4, || {
        let (line, words) = memory();
        let (event, published) = (One::attach(line.clone(), Barrier::Fenced), words.clone());
        let notifier = thread::spawn(move || {
            for item in 1..=2 {
                published.word(0).store(item, Release);
                event.notify();
            }
        });
        let event = One::attach(line, Barrier::Fenced);
        for item in 1..=2 {
            sleep_until(&event, || words.word(0).load(Acquire) >= item);
        }
        notifier.join().unwrap();
    });
}

#[test]
fn one_sleeper_two_notifiers() {
    explore(3, || {
        let (line, words) = memory();
        let notifiers = [0, 8].map(|at| {
            let (event, published) = (One::attach(line.clone(), Barrier::Fenced), words.clone());
            thread::spawn(move || {
                published.word(at).store(1, Release);
                event.notify();
            })
        });
        let event = One::attach(line, Barrier::Fenced);
        sleep_until(&event, || words.word(0).load(Acquire) == 1);
        sleep_until(&event, || words.word(8).load(Acquire) == 1);
        notifiers.into_iter().for_each(|notifier| notifier.join().unwrap());
    });
}

#[test]
fn many_two_sleepers_one_notifier() {
    explore(3, || {
        let (line, words) = memory();
        let sleeper = |line: Area, words: Area| {
            let event = Many::attach(line, Barrier::Fenced);
            sleep_until(&event, || take(words.word(0)) || take(words.word(8)));
        };
        let others = [0, 1].map(|_| {
            let (line, words) = (line.clone(), words.clone());
            thread::spawn(move || sleeper(line, words))
        });
        let event = Many::attach(line, Barrier::Fenced);
        for at in [0, 8] {
            words.word(at).store(1, Release);
            event.notify(1);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn many_two_sleepers_one_broadcast() {
    explore(3, || {
        let (line, words) = memory();
        let sleepers = [0, 1].map(|_| {
            let (event, words) = (Many::attach(line.clone(), Barrier::Fenced), words.clone());
            thread::spawn(move || sleep_until(&event, || words.word(0).load(Acquire) == 1))
        });
        words.word(0).store(1, Release);
        Many::attach(line, Barrier::Fenced).notify(ALL);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}

#[test]
fn many_one_sleeper_two_notifiers() {
    explore(3, || {
        let (line, words) = memory();
        let notifiers = [0, 8].map(|at| {
            let (event, published) = (Many::attach(line.clone(), Barrier::Fenced), words.clone());
            thread::spawn(move || {
                published.word(at).store(1, Release);
                event.notify(1);
            })
        });
        let event = Many::attach(line, Barrier::Fenced);
        sleep_until(&event, || words.word(0).load(Acquire) == 1);
        sleep_until(&event, || words.word(8).load(Acquire) == 1);
        notifiers.into_iter().for_each(|notifier| notifier.join().unwrap());
    });
}
