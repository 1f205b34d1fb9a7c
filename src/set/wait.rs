//! The waiting thread's side of a set: looking at the members, checking their peers, sleeping.
//!
//! Used by `set/mod.rs`. Relies on `block.rs` for the loop of attempts, checks and sleeps.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Token;
use super::descriptors::Descriptors;
use super::helper::Helper;
use super::member::{Member, Shared};
use crate::error::{Error, Result};
use crate::os::clock::monotonic_ns;
use crate::wait::barrier::LONGEST_SLEEP;
use crate::wait::block::{Check, block_on};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{SLEEP_CAP, Sleep};
use crate::wait::idle::{Idle, Pace};
use crate::wait::several::{Pass, Sleeper};

/// Waits that find other members ready between two looks at the descriptors, and attempts between
/// two looks by a wait that spins.
const BUSY_WAITS: u32 = 32;

pub(super) struct Waiter {
    shared: Arc<Shared>,
    view: View,
    sleep: RefCell<Sleeping>,
    check: Checking,
    pace: Pace,
}

/// The members as this thread knows them, and what it found ready.
struct View {
    /// What `Shared::changes` was when the members were read.
    changes: Option<u64>,
    members: Arc<[Arc<Member>]>,
    descriptors: Option<Arc<Descriptors>>,
    ready: Vec<Token>,
    /// The indices of the members that were ready last.
    hot: Vec<usize>,
    /// The next member to be looked at in turn.
    cursor: usize,
    looks: u32,
}

/// What a sleep needs.
struct Sleeping {
    sleeper: Sleeper,
    /// The indices of the members whose words this thread sleeps on; the helpers have the others.
    own: Vec<usize>,
    /// Those of them that are not paused.
    active: Vec<usize>,
    helpers: Vec<Helper>,
    failure: Option<Error>,
}

/// When peers are checked.
#[derive(Default)]
struct Checking {
    /// Of members whose peers' deaths are no events.
    by_clock: Round,
    /// Of all members: also for peers whose end is no exit of their process.
    of_all: Round,
}

#[derive(Default)]
struct Round {
    next_ns: u64,
}

impl Round {
    /// Makes a round if it is due, and the next one after `pause`, or later, so that rounds take at
    /// most one part in `share` of the time.
    fn make(&mut self, now_ns: u64, pause: Duration, share: u64, round: impl FnOnce()) {
        if now_ns >= self.next_ns {
            round();
            let took = monotonic_ns().saturating_sub(now_ns);
            self.next_ns = now_ns + took + (pause.as_nanos() as u64).max(took.saturating_mul(share));
        }
    }

    fn left(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.next_ns.saturating_sub(now_ns))
    }
}

/// The pause between two checks of all members.
const SELDOM: Duration = Duration::from_secs(2);

impl Waiter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let view = View {
            changes: None,
            members: Arc::new([]),
            descriptors: None,
            ready: Vec::new(),
            hot: Vec::new(),
            cursor: 0,
            looks: 0,
        };
        let sleep = Sleeping {
            sleeper: Sleeper::default(),
            own: Vec::new(),
            active: Vec::new(),
            helpers: Vec::new(),
            failure: None,
        };
        let pace = Pace::new(Idle::default());
        Waiter { shared, view, sleep: RefCell::new(sleep), check: Checking::default(), pace }
    }

    pub(super) fn set_idle(&mut self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    pub(super) fn ready(&self) -> &[Token] {
        &self.view.ready
    }

    /// Finds the members that are ready now.
    pub(super) fn look_at_all(&mut self) -> Result<()> {
        self.begin()?;
        self.refresh()?;
        self.view.look(true);
        Ok(())
    }

    /// Waits until a member is ready.
    pub(super) fn wait(&mut self, deadline: Deadline) -> Result<()> {
        self.begin()?;
        loop {
            self.refresh()?;
            if self.view.look(false) || self.block(deadline)? == Outcome::Found {
                return Ok(());
            }
        }
    }

    /// Passes on the wake-ups that the last wait may have got instead of another waiter.
    fn begin(&mut self) -> Result<()> {
        self.shared.check_fork()?;
        self.shared.pass_on_owed();
        Ok(())
    }

    /// Reads the list of members again if it has changed.
    #[inline]
    fn refresh(&mut self) -> Result<()> {
        let changes = self.shared.changes.load(Ordering::Relaxed);
        if self.view.changes == Some(changes) { Ok(()) } else { self.read_members(changes) }
    }

    #[cold]
    fn read_members(&mut self, changes: u64) -> Result<()> {
        let View { members, hot, cursor, .. } = &mut self.view;
        *members = self.shared.members().values().cloned().collect();
        hot.clear();
        *cursor = 0;
        self.view.descriptors = self.shared.descriptors().clone();
        self.sleep.get_mut().assign(&self.shared, &self.view.members)?;
        self.view.changes = Some(changes);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn block(&mut self, deadline: Deadline) -> Result<Outcome> {
        let Waiter { shared, view, sleep, check, pace } = self;
        // Whether the next attempt looks at all members.
        let deep = Cell::new(false);
        let slept = Cell::new(false);
        let members = Arc::clone(&view.members);
        let descriptors = view.descriptors.clone();
        let attempt = || {
            if view.changes != Some(shared.changes.load(Ordering::Relaxed)) {
                return Ok(Some(Outcome::Changed));
            }
            // SYNC(rung): pairs with `ring`.
            let deep = deep.take() | shared.rung.swap(false, Ordering::Acquire);
            Ok(view.look(deep).then_some(Outcome::Found))
        };
        let look_closely = |kind| {
            deep.set(true);
            match kind {
                Check::Quick => Ok(SLEEP_CAP),
                Check::Thorough => Ok(check.check(shared, &members)),
            }
        };
        let event =
            Place { shared, members: &members, descriptors: descriptors.as_deref(), sleep, deep: &deep, slept: &slept };
        let outcome = block_on(&event, pace, deadline, attempt, look_closely);
        if let Some(failure) = sleep.borrow_mut().failure.take() {
            return Err(failure);
        }
        if slept.get() {
            for &index in &self.view.hot {
                self.shared.owe(&self.view.members[index]);
            }
        }
        outcome
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.shared.check_fork().is_ok() {
            self.shared.pass_on_owed();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Found,
    /// The members have changed.
    Changed,
}

impl View {
    /// Looks for members that are ready: `deep`ly at all of them, else at those that were ready
    /// last and at one other. Says whether there is any.
    #[inline]
    fn look(&mut self, deep: bool) -> bool {
        self.ready.clear();
        self.looks = self.looks.wrapping_add(1);
        if deep {
            self.look_at_all();
        } else {
            let members = &self.members;
            let ready = &mut self.ready;
            self.hot.retain(|&index| {
                let is_ready = members[index].is_ready(true);
                if is_ready {
                    ready.push(members[index].token);
                }
                is_ready
            });
            self.look_at_next();
        }
        if let Some(descriptors) = &self.descriptors {
            if deep || self.looks % BUSY_WAITS == 0 || descriptors.has_fired() {
                let ready = &mut self.ready;
                descriptors.look(|token| ready.push(token));
            }
        }
        !self.ready.is_empty()
    }

    /// Looks at one member, in turn.
    #[inline]
    fn look_at_next(&mut self) {
        let index = self.cursor;
        let Some(member) = self.members.get(index) else {
            self.cursor = 0;
            return;
        };
        self.cursor = index + 1;
        if !self.hot.contains(&index) && member.is_ready(true) {
            self.ready.push(member.token);
            self.hot.push(index);
        }
    }

    fn look_at_all(&mut self) {
        self.hot.clear();
        let count = self.members.len();
        // Not always the same one first, for users that take only the first.
        for index in (self.cursor..count).chain(0..self.cursor.min(count)) {
            if self.members[index].is_ready(true) {
                self.ready.push(self.members[index].token);
                self.hot.push(index);
            }
        }
        self.cursor = if count == 0 { 0 } else { (self.cursor + 1) % count };
    }
}

impl Checking {
    /// Checks the peers as far as it is time for that, and says how long a sleep may be.
    fn check(&mut self, shared: &Shared, members: &[Arc<Member>]) -> Duration {
        let now = monotonic_ns();
        let (mut by_clock, mut told_late, mut abandoned) = (Vec::new(), false, false);
        let mut any = false;
        for member in members {
            let Some(source) = member.source() else { continue };
            any = true;
            abandoned |= source.is_abandoned();
            told_late |= source.is_told_late();
            if !member.watch.as_ref().is_some_and(|watch| watch.refresh()) {
                by_clock.push(source);
            }
        }
        if abandoned {
            shared.remove_abandoned();
        }
        if !any {
            return LONGEST_SLEEP;
        }
        self.of_all.make(now, SELDOM, 1000, || members.iter().filter_map(|m| m.source()).for_each(|s| s.reap()));
        let mut longest = self.of_all.left(now).min(LONGEST_SLEEP);
        if !by_clock.is_empty() {
            self.by_clock.make(now, SLEEP_CAP, 100, || by_clock.iter().for_each(|source| source.reap()));
            longest = longest.min(self.by_clock.left(now));
        }
        if told_late { longest.min(SLEEP_CAP) } else { longest }
    }
}

impl Sleeping {
    /// Divides the members among this thread and helpers, of which there are as many as it takes.
    fn assign(&mut self, shared: &Arc<Shared>, members: &[Arc<Member>]) -> Result<()> {
        // One word is the bell's. Without the call this thread sleeps on that alone.
        let most = shared.words - 1;
        let sources: Vec<_> = (0..members.len()).filter(|&index| members[index].source().is_some()).collect();
        let (own, others) = sources.split_at(most.min(sources.len()));
        self.own = own.to_vec();
        let mut groups = others.chunks(most.max(1));
        self.helpers.truncate(groups.len());
        for number in 0..groups.len() {
            if number == self.helpers.len() {
                self.helpers.push(Helper::start(shared)?);
            }
            let group = groups.next().unwrap_or_default();
            self.helpers[number].assign(group.iter().map(|&index| Arc::clone(&members[index])).collect());
        }
        Ok(())
    }
}

/// What the waiting thread sleeps on.
struct Place<'a> {
    shared: &'a Shared,
    members: &'a [Arc<Member>],
    descriptors: Option<&'a Descriptors>,
    sleep: &'a RefCell<Sleeping>,
    deep: &'a Cell<bool>,
    slept: &'a Cell<bool>,
}

impl Sleep for Place<'_> {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        let sleep = &mut *self.sleep.borrow_mut();
        let Sleeping { sleeper, own, active, helpers, failure } = sleep;
        if let Some(Err(error)) = self.descriptors.map(Descriptors::arm) {
            *failure = Some(error);
        }
        helpers.iter().for_each(Helper::tell);
        active.clear();
        active.extend(own.iter().filter(|&&index| self.members[index].is_active()));
        let event = |i: usize| match active.get(i).and_then(|&index| self.members[index].source()) {
            Some(source) => source.event(),
            None => self.shared.bell.event(),
        };
        let pass = sleeper.pass(active.len() + 1, event, timeout, &mut || {
            self.deep.set(true);
            ready()
        });
        self.deep.set(true);
        self.slept.set(true);
        pass != Pass::Ready
    }
}
