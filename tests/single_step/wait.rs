//! Every operation of the semaphores, the mutex and the event.

use std::os::fd::{AsFd, OwnedFd};

use slipring::{Event, Locked, Mutex, Semaphore, SignalSemaphore};

use crate::process::{NOW, Neighbour, Page, SOON};
use crate::{Case, Fate, Pace, Scene};

const PERMITS: usize = 3;
const BYTES: usize = 16;

/// The count of a signalling semaphore before an operation.
const POSTS: u32 = 3;

type OnSemaphore = fn(&Semaphore);
type OnSignals = fn(&SignalSemaphore);
type OnEvent = fn(&Event);
type OnMutex = fn(&Mutex);
type MakeScene = fn() -> Scene;

/// Name, permits that neighbours hold, whether they die, the operation.
const SEMAPHORE: [(&str, usize, bool, OnSemaphore); 7] = [
    ("semaphore acquire, release", 0, false, |s| drop(s.try_acquire().unwrap())),
    ("semaphore acquire, release", PERMITS - 1, false, |s| drop(s.acquire().unwrap())),
    ("semaphore acquire, release", PERMITS, false, |s| drop(s.acquire_deadline(NOW))),
    ("semaphore acquire, recovering", PERMITS, true, |s| drop(s.acquire().unwrap())),
    ("semaphore recover_dead", PERMITS, true, |s| _ = s.reap_dead().unwrap()),
    ("semaphore acquire, forget", 1, true, |s| std::mem::forget(s.try_acquire().unwrap())),
    ("semaphore attach, close", 2, true, |s| drop(attach_semaphore(s))),
];

/// Name, whether a neighbour holds it, whether that neighbour dies, the operation.
const MUTEX: [(&str, bool, bool, OnMutex); 6] = [
    ("mutex lock, unlock", false, false, |m| change(m.lock().unwrap())),
    ("mutex lock, unlock", true, false, |m| assert!(m.lock_deadline(NOW).is_err())),
    ("mutex lock, recovering", true, true, |m| change(m.lock().unwrap())),
    ("mutex recover_dead", true, true, |m| _ = m.reap_dead().unwrap()),
    ("mutex attach, close", true, true, |m| drop(attach_mutex(m))),
    ("mutex attach, close", false, false, |m| drop(attach_mutex(m))),
];

/// Name, how many it posts, how many it takes, the operation.
const SIGNALS: [(&str, u32, u32, OnSignals); 4] = [
    ("signal semaphore post", 1, 0, |s| s.post().unwrap()),
    ("signal semaphore post", 2, 0, |s| s.post_many(2).unwrap()),
    ("signal semaphore wait", 0, 1, |s| s.wait().unwrap()),
    ("signal semaphore attach, close", 0, 0, |s| drop(attach_signals(s))),
];

/// Name, state, whether it is set before, the operation.
const EVENT: [(&str, &str, bool, OnEvent); 4] = [
    ("event set", "reset", false, |e| e.set().unwrap()),
    ("event reset", "set", true, |e| _ = e.reset().unwrap()),
    ("event wait", "set", true, |e| e.wait().unwrap()),
    ("event attach, close", "set", true, |e| drop(attach_event(e))),
];

fn attach_signals(semaphore: &SignalSemaphore) -> SignalSemaphore {
    SignalSemaphore::from_fd(duplicate(semaphore.as_fd())).unwrap()
}

fn attach_event(event: &Event) -> Event {
    Event::from_fd(duplicate(event.as_fd())).unwrap()
}

fn attach_semaphore(semaphore: &Semaphore) -> Semaphore {
    Semaphore::from_fd(duplicate(semaphore.as_fd())).unwrap()
}

fn attach_mutex(mutex: &Mutex) -> Mutex {
    Mutex::from_fd(duplicate(mutex.as_fd())).unwrap()
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

/// Both halves are equal, except during a change. Repairs what a dead holder left.
fn change(locked: Locked<'_>) {
    let died = locked.owner_died();
    let mut bytes = locked.into_guard();
    let next = bytes[0].wrapping_add(1);
    bytes[..8].fill(next);
    bytes[8..].fill(next);
    if died {
        bytes.mark_consistent();
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (operation, held, dies, does) in SEMAPHORE {
        let state = format!("{held} permits held{}", if dies { " by the dead" } else { "" });
        let scene = Box::new(move || semaphore(held, dies, does));
        cases.push(Case { operation, state, pace: Pace::Sample, scene });
    }
    for (operation, held, dies, does) in MUTEX {
        let state = match (held, dies) {
            (false, _) => "free",
            (true, false) => "held",
            (true, true) => "held by the dead",
        };
        let scene = Box::new(move || mutex(held, dies, does));
        cases.push(Case { operation, state: state.into(), pace: Pace::Sample, scene });
    }
    for (operation, posts, taken, does) in SIGNALS {
        let state = format!("a count of {POSTS}");
        let scene = Box::new(move || signals(posts, taken, does));
        cases.push(Case { operation, state, pace: Pace::Sample, scene });
    }
    for (operation, state, is_set, does) in EVENT {
        let scene = Box::new(move || event(is_set, does));
        cases.push(Case { operation, state: state.into(), pace: Pace::Sample, scene });
    }
    let slow: [(_, _, MakeScene); 8] = [
        ("semaphore release, waking", "a waiter sleeps", waking_acquirer),
        ("mutex unlock, waking", "a waiter sleeps", waking_locker),
        ("semaphore acquire, asleep", "1 permit held", sleeping_acquirer),
        ("mutex lock, asleep", "held", sleeping_locker),
        ("signal semaphore post, waking", "a waiter sleeps", waking_poster),
        ("signal semaphore wait, asleep", "a count of 0", sleeping_taker),
        ("event set, waking", "a waiter sleeps", waking_setter),
        ("event wait, asleep", "reset", sleeping_for_event),
    ];
    for (operation, state, scene) in slow {
        cases.push(Case { operation, state: state.into(), pace: Pace::Slow, scene: Box::new(scene) });
    }
    cases
}

fn hold_permits(semaphore: &Semaphore, held: usize, page: &Page) {
    let theirs = attach_semaphore(semaphore);
    let _permits: Vec<_> = (0..held).map(|_| theirs.try_acquire().unwrap().unwrap()).collect();
    page.arrive_and_wait();
}

fn semaphore(held: usize, dies: bool, does: fn(&Semaphore)) -> Scene {
    let ours = Semaphore::create_anonymous(PERMITS).unwrap();
    let neighbour = (!dies && held > 0).then(|| Neighbour::start(|page| hold_permits(&ours, held, page)));
    let fd = duplicate(ours.as_fd());
    Scene {
        child: Box::new(move |_| {
            let theirs = Semaphore::from_fd(fd).unwrap();
            if dies {
                Neighbour::start(|page| hold_permits(&theirs, held, page)).kill();
            }
            Box::new(move |_| does(&theirs))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            let kept = if dies { 0 } else { held };
            let mut permits = Vec::new();
            for _ in kept..PERMITS {
                permits.push(ours.acquire_deadline(SOON).map_err(|e| format!("a permit is lost: {e}"))?);
            }
            only_so_many(&ours)?;
            if let Some(neighbour) = neighbour {
                neighbour.finish()?;
                for _ in 0..kept {
                    permits.push(ours.acquire_deadline(SOON).map_err(|e| format!("a permit is lost: {e}"))?);
                }
                only_so_many(&ours)?;
            }
            drop(permits);
            ours.reap_dead().map_err(|e| e.to_string())?;
            match (ours.available(), ours.reap_dead()) {
                (PERMITS, Ok(0)) => Ok(0),
                other => Err(format!("available, still dead: {other:?}")),
            }
        })),
    }
}

fn only_so_many(semaphore: &Semaphore) -> Result<(), String> {
    match semaphore.try_acquire() {
        Ok(None) => Ok(()),
        other => Err(format!("a permit too many: {other:?}")),
    }
}

fn mutex(held: bool, dies: bool, does: fn(&Mutex)) -> Scene {
    let ours = Mutex::create_anonymous(BYTES).unwrap();
    let hold = |mutex: &Mutex, page: &Page| {
        let theirs = attach_mutex(mutex);
        let mut guard = theirs.try_lock().unwrap().unwrap().into_guard();
        guard[..8].fill(1);
        page.arrive_and_wait();
        guard[8..].fill(1);
    };
    let neighbour = (held && !dies).then(|| Neighbour::start(|page| hold(&ours, page)));
    let fd = duplicate(ours.as_fd());
    Scene {
        child: Box::new(move |_| {
            let theirs = Mutex::from_fd(fd).unwrap();
            if dies {
                Neighbour::start(|page| hold(&theirs, page)).kill();
            }
            Box::new(move |_| does(&theirs))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            if let Some(neighbour) = neighbour {
                if !matches!(ours.try_lock(), Ok(None)) {
                    return Err("the mutex was taken from a living holder".into());
                }
                neighbour.finish()?;
            }
            whole_or_told(&ours)?;
            ours.reap_dead().map_err(|e| e.to_string())?;
            match (ours.reap_dead(), ours.try_lock().map(|locked| locked.map(|l| l.owner_died()))) {
                (Ok(0), Ok(Some(false))) => Ok(0),
                other => Err(format!("still dead, then: {other:?}")),
            }
        })),
    }
}

/// Locks within a second. The bytes are whole, or the lock reports that they may be torn, and they
/// are repaired.
fn whole_or_told(mutex: &Mutex) -> Result<(), String> {
    match mutex.lock_deadline(SOON).map_err(|e| format!("the dead keep the mutex: {e}"))? {
        Locked::Consistent(bytes) if bytes.iter().any(|b| *b != bytes[0]) => Err(format!("not told: {:?}", &*bytes)),
        Locked::Consistent(_) => Ok(()),
        Locked::OwnerDied(mut bytes) => {
            bytes.fill(0);
            bytes.mark_consistent();
            Ok(())
        }
    }
}

/// The child releases the only permit, for which a waiter sleeps.
fn waking_acquirer() -> Scene {
    let ours = Semaphore::create_anonymous(1).unwrap();
    let sleeper = Neighbour::start(|page| {
        let theirs = attach_semaphore(&ours);
        page.arrive();
        until(|| theirs.available() == 0);
        drop(theirs.acquire().unwrap());
    });
    let (fd, until_asleep) = (duplicate(ours.as_fd()), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let theirs: &'static Semaphore = Box::leak(Box::new(Semaphore::from_fd(fd).unwrap()));
            let mut permit = theirs.try_acquire().unwrap();
            until_asleep();
            Box::new(move |_| drop(permit.take()))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            sleeper.finish()?;
            drop(ours.acquire_deadline(SOON).map_err(|e| format!("a permit is lost: {e}"))?);
            Ok(0)
        })),
    }
}

/// The child unlocks a mutex for which a waiter sleeps.
fn waking_locker() -> Scene {
    let ours = Mutex::create_anonymous(BYTES).unwrap();
    let sleeper = Neighbour::start(|page| {
        let theirs = attach_mutex(&ours);
        page.arrive();
        until(|| theirs.try_lock().unwrap().is_none());
        drop(theirs.lock().unwrap());
    });
    let (fd, until_asleep) = (duplicate(ours.as_fd()), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let theirs: &'static Mutex = Box::leak(Box::new(Mutex::from_fd(fd).unwrap()));
            let mut guard = Some(theirs.lock().unwrap().into_guard());
            until_asleep();
            Box::new(move |_| drop(guard.take()))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            sleeper.finish()?;
            whole_or_told(&ours)?;
            Ok(0)
        })),
    }
}

/// The child sleeps until the only permit is released.
fn sleeping_acquirer() -> Scene {
    let ours = Semaphore::create_anonymous(1).unwrap();
    let holder = Neighbour::start(|page| {
        let theirs = attach_semaphore(&ours);
        let permit = theirs.try_acquire().unwrap();
        page.await_sleeper();
        drop(permit);
    });
    let (fd, expect_me) = (duplicate(ours.as_fd()), holder.expect_me());
    Scene {
        child: Box::new(move |_| {
            let theirs = Semaphore::from_fd(fd).unwrap();
            expect_me();
            Box::new(move |_| drop(theirs.acquire().unwrap()))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            holder.finish()?;
            drop(ours.acquire_deadline(SOON).map_err(|e| format!("a permit is lost: {e}"))?);
            Ok(0)
        })),
    }
}

/// The child sleeps until the mutex is unlocked.
fn sleeping_locker() -> Scene {
    let ours = Mutex::create_anonymous(BYTES).unwrap();
    let holder = Neighbour::start(|page| {
        let theirs = attach_mutex(&ours);
        let guard = theirs.lock().unwrap();
        page.await_sleeper();
        drop(guard);
    });
    let (fd, expect_me) = (duplicate(ours.as_fd()), holder.expect_me());
    Scene {
        child: Box::new(move |_| {
            let theirs = Mutex::from_fd(fd).unwrap();
            expect_me();
            Box::new(move |_| change(theirs.lock().unwrap()))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            holder.finish()?;
            whole_or_told(&ours)?;
            Ok(0)
        })),
    }
}

/// All of a post is there, or nothing; a wait has taken one, or nothing.
fn signals(posts: u32, taken: u32, does: OnSignals) -> Scene {
    let ours = SignalSemaphore::create_anonymous().unwrap();
    ours.post_many(POSTS).unwrap();
    let fd = duplicate(ours.as_fd());
    Scene {
        child: Box::new(move |_| {
            let theirs = SignalSemaphore::from_fd(fd).unwrap();
            Box::new(move |_| does(&theirs))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            let count = ours.count();
            if count != POSTS && count != POSTS + posts - taken {
                return Err(format!("{count} after {POSTS}"));
            }
            for _ in 0..count {
                ours.wait_deadline(SOON).map_err(|e| format!("a post is lost: {e}"))?;
            }
            match ours.try_wait() {
                Ok(false) => Ok(0),
                other => Err(format!("a post too many: {other:?}")),
            }
        })),
    }
}

/// The event is set or reset, and works.
fn event(is_set: bool, does: OnEvent) -> Scene {
    let ours = Event::create_anonymous().unwrap();
    if is_set {
        ours.set().unwrap();
    }
    let fd = duplicate(ours.as_fd());
    Scene {
        child: Box::new(move |_| {
            let theirs = Event::from_fd(fd).unwrap();
            Box::new(move |_| does(&theirs))
        }),
        fate: Fate::Kill(Box::new(move |_| {
            ours.reset().unwrap();
            if ours.is_set() || ours.wait_deadline(NOW).is_ok() {
                return Err("set after a reset".into());
            }
            ours.set().unwrap();
            ours.wait_deadline(SOON).map_err(|e| format!("a set event: {e}"))?;
            Ok(0)
        })),
    }
}

/// The child posts, for a waiter that sleeps. If it is killed before, the parent posts.
fn waking_poster() -> Scene {
    let ours = SignalSemaphore::create_anonymous().unwrap();
    let sleeper = Neighbour::start(|page| {
        let theirs = attach_signals(&ours);
        page.arrive();
        theirs.wait().unwrap();
    });
    let (fd, until_asleep) = (duplicate(ours.as_fd()), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let theirs = SignalSemaphore::from_fd(fd).unwrap();
            until_asleep();
            Box::new(move |_| theirs.post().unwrap())
        }),
        fate: Fate::Kill(Box::new(move |_| {
            // One is for the sleeper: the child's, or this one. The other, if there is one, is left.
            ours.post().unwrap();
            sleeper.finish()?;
            match ours.count() {
                0 | 1 => Ok(0),
                count => Err(format!("{count} posts are left of two")),
            }
        })),
    }
}

/// The child sleeps until there is a post.
fn sleeping_taker() -> Scene {
    let ours = SignalSemaphore::create_anonymous().unwrap();
    let poster = Neighbour::start(|page| {
        let theirs = attach_signals(&ours);
        page.await_sleeper();
        theirs.post_many(2).unwrap();
    });
    let (fd, expect_me) = (duplicate(ours.as_fd()), poster.expect_me());
    Scene {
        child: Box::new(move |_| {
            let theirs = SignalSemaphore::from_fd(fd).unwrap();
            expect_me();
            Box::new(move |_| theirs.wait().unwrap())
        }),
        fate: Fate::Kill(Box::new(move |_| {
            poster.finish()?;
            ours.wait_deadline(SOON).map_err(|e| format!("a dead waiter took two posts: {e}"))?;
            Ok(0)
        })),
    }
}

/// The child sets an event for which a waiter sleeps. If it is killed before, the parent sets it.
fn waking_setter() -> Scene {
    let ours = Event::create_anonymous().unwrap();
    let sleeper = Neighbour::start(|page| {
        let theirs = attach_event(&ours);
        page.arrive();
        theirs.wait().unwrap();
    });
    let (fd, until_asleep) = (duplicate(ours.as_fd()), sleeper.until_asleep());
    Scene {
        child: Box::new(move |_| {
            let theirs = Event::from_fd(fd).unwrap();
            until_asleep();
            Box::new(move |_| theirs.set().unwrap())
        }),
        fate: Fate::Kill(Box::new(move |_| {
            if !ours.is_set() {
                ours.set().unwrap();
            }
            sleeper.finish()?;
            Ok(0)
        })),
    }
}

/// The child sleeps until the event is set.
fn sleeping_for_event() -> Scene {
    let ours = Event::create_anonymous().unwrap();
    let setter = Neighbour::start(|page| {
        let theirs = attach_event(&ours);
        page.await_sleeper();
        theirs.set().unwrap();
    });
    let (fd, expect_me) = (duplicate(ours.as_fd()), setter.expect_me());
    Scene {
        child: Box::new(move |_| {
            let theirs = Event::from_fd(fd).unwrap();
            expect_me();
            Box::new(move |_| theirs.wait().unwrap())
        }),
        fate: Fate::Kill(Box::new(move |_| {
            setter.finish()?;
            if ours.reset().unwrap() { Ok(0) } else { Err("reset after a set".into()) }
        })),
    }
}

/// Polls until the condition holds, without sleeping.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}
