//! Tasks that wait for the same thing: their wakers, and the reactor's place for all of them.
//!
//! Used by the `Async…` handles of rings, transports and `named/`. Relies on the reactor. An
//! attempt that succeeds does not come here: no lock, no allocation, no system call.
//!
//! ```text
//! task                                         reactor
//! T1  attempt; nothing?                        R1  waits for the places that are armed
//! T2  its waker into the queue; armed := yes;  R2  finds something; stops waiting for the place
//!     if it was not, resume the place          R3  armed := no; takes the first waker
//! T3  attempt; nothing? Pending                R4  wakes it
//! ```
//!
//! **No wake-up is lost.** T2 and R3 hold the lock. If T2 comes first, R3 finds the waker. If R3
//! comes first, T2 finds the place not armed, and resumes it; R2 came before R3, so nothing undoes
//! that. An armed place is one that the reactor looks at before it sleeps and after it was woken,
//! and its look finds what is there, not what is new: so what is published before T2 rings as well.
//! T3 saves the hop. It is needed for an end that was told between T1 and T2: an end rings once.
//!
//! **One waker for each ring, where several tasks wait.** The task that was woken resumes the place
//! for the others when it has what it waited for, and registers again if it finds nothing. If it is
//! dropped, it wakes the next one; if it is told of an end, all of them. If it does none of these,
//! because its executor does not poll it, the reactor wakes the next one after [`STALL`]. So one
//! frame does not wake all of them, and no task depends on another one for long.
//!
//! **What concerns all of them**, as a set event does, wakes all of them by one ring: the place
//! does not find it again if it is over meanwhile.
//!
//! **A dropped future** takes its waker with it, and passes on a wake-up that it got. What may
//! remain is an armed place without wakers: one ring for nothing.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Membership;
use super::reactor::{Place, Target};
use super::source::Readiness;
use crate::error::{Error, Result};
use crate::os::{cpu, fork};
use crate::sync::spin_loop;
use crate::wait::block::QUICK_LOOKS;
use crate::wait::eventcount::SLEEP_CAP;

/// How long other tasks wait for one that was woken, and is not polled.
const STALL: Duration = SLEEP_CAP;
/// Waits in a row in which looking several times did not help, after which it is not done.
const VAIN: u32 = 4;
/// One in so many waits it is done all the same.
const PROBE: u32 = 64;

/// What a task tries again and again.
pub(crate) trait Attempt {
    /// What it waits for. The poll that finds it hands it on.
    type Found;

    /// Succeeds, fails, or has no effect and says [`Error::Empty`] or [`Error::Full`].
    fn attempt(&mut self) -> Result<Self::Found>;

    /// Whether an attempt is likely to succeed. Loads only.
    fn is_likely(&mut self) -> bool {
        false
    }

    /// What the reactor waits for, on behalf of this attempt and of all others with the same
    /// [`Tasks`].
    fn readiness(&mut self) -> Result<Readiness>;

    /// Called after an attempt in vain, and before the place is resumed for the next one.
    fn prepare(&mut self) {}
}

/// The tasks that wait for one thing.
pub(crate) struct Tasks {
    queue: Arc<Queue>,
    /// From the first wait on.
    place: OnceLock<Place>,
    /// Waits in which looking several times did not help. Relaxed: statistics.
    vain: AtomicU32,
    born: u32,
}

#[derive(Default)]
struct Queue(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    armed: bool,
    /// Whether one ring is for all of them.
    for_all: bool,
    tickets: u64,
    wakers: VecDeque<(u64, Waker)>,
    /// The ticket of the one that was woken last, until it is polled or dropped.
    woken: Option<u64>,
}

impl Target for Queue {
    fn ring(&self, _: &Membership) -> Option<Duration> {
        let mut waiters = self.lock();
        waiters.armed = false;
        if waiters.for_all {
            drop(waiters);
            self.wake_all();
            return None;
        }
        Self::wake_next(waiters)
    }

    fn is_late(&self) -> Option<Duration> {
        let waiters = self.lock();
        if waiters.woken.is_some() { Self::wake_next(waiters) } else { None }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how long the others wait for it, if there are others.
    fn wake_next(mut waiters: MutexGuard<'_, Waiters>) -> Option<Duration> {
        let (ticket, waker) = waiters.wakers.pop_front()?;
        waiters.woken = Some(ticket);
        let others = !waiters.wakers.is_empty();
        drop(waiters); // the waker may come back here
        waker.wake();
        others.then_some(STALL)
    }

    /// Wakes all tasks: each finds out itself what it is.
    #[cold]
    fn wake_all(&self) {
        let mut waiters = self.lock();
        waiters.armed = false;
        let wakers = std::mem::take(&mut waiters.wakers);
        drop(waiters);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Tasks { queue: Arc::default(), place: OnceLock::new(), vain: AtomicU32::new(0), born: fork::generation() }
    }

    /// Tasks that one thing concerns all, so that each ring wakes all of them.
    pub(crate) fn for_all() -> Self {
        let tasks = Tasks::new();
        tasks.queue.lock().for_all = true;
        tasks
    }

    fn place(&self, attempt: &mut impl Attempt) -> Result<&Place> {
        if self.place.get().is_none() {
            // If another task is faster, this place is dropped again.
            let _ = self.place.set(Place::new(attempt.readiness()?, Arc::clone(&self.queue) as Arc<dyn Target>)?);
        }
        self.place.get().ok_or(Error::Closed)
    }

    /// T2.
    fn register(&self, ticket: &mut Option<u64>, waker: &Waker, attempt: &mut impl Attempt) -> Result<()> {
        if fork::is_child_of(self.born) {
            return Err(Error::Forked); // the lock may be held by a thread of the parent
        }
        let place = self.place(attempt)?;
        attempt.prepare();
        let mut waiters = self.queue.lock();
        let ticket = *ticket.get_or_insert_with(|| {
            waiters.tickets += 1;
            waiters.tickets
        });
        if waiters.woken == Some(ticket) {
            waiters.woken = None;
        }
        let known = waiters.wakers.iter_mut().find(|(known, _)| *known == ticket);
        let replaced = match known {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
            None => {
                waiters.wakers.push_back((ticket, waker.clone()));
                None
            }
        };
        let resume = !std::mem::replace(&mut waiters.armed, true);
        drop(waiters);
        drop(replaced); // foreign code: with no lock held
        if resume { place.resume().inspect_err(|_| self.queue.wake_all()) } else { Ok(()) }
    }

    /// The task waits no more. If it was woken, it leaves what remains to the others: it has
    /// `found` something, or did not look.
    #[cold]
    fn withdraw(&self, ticket: u64, found: bool) {
        if fork::is_child_of(self.born) {
            return;
        }
        let mut waiters = self.queue.lock();
        let at = waiters.wakers.iter().position(|(known, _)| *known == ticket);
        let waker = at.and_then(|at| waiters.wakers.remove(at));
        if waiters.woken == Some(ticket) {
            waiters.woken = None;
            if !found {
                Queue::wake_next(waiters);
            } else if !waiters.wakers.is_empty() && !std::mem::replace(&mut waiters.armed, true) {
                drop(waiters);
                if self.place.get().is_some_and(|place| place.resume().is_err()) {
                    self.queue.wake_all();
                }
            }
        } else {
            drop(waiters);
        }
        drop(waker); // foreign code: with no lock held
    }

    /// A task was told of an end, or of damage: so are the others.
    #[cold]
    fn tell_all(&self) {
        if self.place.get().is_some() && !fork::is_child_of(self.born) {
            self.queue.wake_all();
        }
    }

    /// Looks several times, unless that has not helped lately.
    fn look(&self, attempt: &mut impl Attempt) -> bool {
        let vain = self.vain.load(Relaxed);
        let is_worth_it = cpu::available() > 1 && (vain < VAIN || vain % PROBE == 0);
        let found = is_worth_it
            && (0..QUICK_LOOKS).any(|_| {
                spin_loop();
                attempt.is_likely()
            });
        self.vain.store(if found { 0 } else { vain.wrapping_add(1).max(1) }, Relaxed);
        found
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("place", &self.place).finish_non_exhaustive()
    }
}

/// One wait of a task. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiting<T: Deref<Target = Tasks>> {
    tasks: T,
    ticket: Option<u64>,
}

impl<T: Deref<Target = Tasks>> Waiting<T> {
    pub(crate) fn new(tasks: T) -> Self {
        Waiting { tasks, ticket: None }
    }

    pub(crate) fn tasks(&self) -> &T {
        &self.tasks
    }

    /// Polls the wait, which is over when this is ready.
    #[inline]
    pub(crate) fn poll<A: Attempt>(&mut self, cx: &mut Context<'_>, attempt: &mut A) -> Poll<Result<A::Found>> {
        match attempt.attempt() {
            Err(Error::Empty | Error::Full) => self.wait(cx, attempt),
            outcome => Poll::Ready(self.over(outcome)),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait<A: Attempt>(&mut self, cx: &mut Context<'_>, attempt: &mut A) -> Poll<Result<A::Found>> {
        let mut outcome = Err(Error::Empty);
        if self.tasks.look(attempt) {
            outcome = attempt.attempt();
        }
        if matches!(outcome, Err(Error::Empty | Error::Full)) {
            outcome = match self.tasks.register(&mut self.ticket, cx.waker(), attempt) {
                Ok(()) => attempt.attempt(),
                Err(error) => Err(error),
            };
        }
        match outcome {
            Err(Error::Empty | Error::Full) => Poll::Pending,
            outcome => Poll::Ready(self.over(outcome)),
        }
    }

    #[inline]
    fn over<V>(&mut self, outcome: Result<V>) -> Result<V> {
        if let Some(ticket) = self.ticket.take() {
            self.tasks.withdraw(ticket, true);
        }
        if outcome.is_err() {
            self.tasks.tell_all();
        }
        outcome
    }

    /// Gives the wait up, if there is one.
    #[inline]
    pub(crate) fn end(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.tasks.withdraw(ticket, false);
        }
    }
}

impl<T: Deref<Target = Tasks>> Drop for Waiting<T> {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}
