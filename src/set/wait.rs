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
use super::source::Source;
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

/// Waits in a row that may find a member idle before it no longer counts as recently ready.
const PATIENCE: u8 = 8;
/// The age of a member that has not been ready recently.
const OLD: u8 = u8::MAX;

pub(super) struct Waiter {
    shared: Arc<Shared>,
    /// What `Shared::changes` was when the members were read.
    changes: Option<u64>,
    members: Box<[Arc<Member>]>,
    descriptors: Option<Arc<Descriptors>>,
    looks: Looks,
    sleep: RefCell<Sleeping>,
    check: Checking,
    pace: Pace,
}

/// What the looks at the members have found.
#[derive(Default)]
struct Looks {
    ready: Vec<Token>,
    /// The indices of the members that were ready recently. A busy member is often found idle for a
    /// moment; it stays here, so that it is looked at first when it goes on.
    recent: Vec<usize>,
    /// For each member the number of waits since it was ready, up to [`PATIENCE`]: 0 if the last
    /// look found it ready, or [`OLD`].
    ages: Vec<u8>,
    /// The next member to be looked at in turn.
    cursor: usize,
    count: u32,
}

/// How many members a look includes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The first look of a wait: those that were ready recently, and one other.
    First,
    /// The same, later in the same wait.
    Again,
    All,
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

impl Waiter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let sleep = Sleeping {
            sleeper: Sleeper::default(),
            own: Vec::new(),
            active: Vec::new(),
            helpers: Vec::new(),
            failure: None,
        };
        Waiter {
            shared,
            changes: None,
            members: Box::default(),
            descriptors: None,
            looks: Looks::default(),
            sleep: RefCell::new(sleep),
            check: Checking::default(),
            pace: Pace::new(Idle::default()),
        }
    }

    pub(super) fn set_idle(&mut self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    pub(super) fn ready(&self) -> &[Token] {
        &self.looks.ready
    }

    /// Finds the members that are ready now.
    pub(super) fn look_at_all(&mut self) -> Result<()> {
        self.begin()?;
        self.refresh()?;
        self.looks.look(Look::All, &self.members, self.descriptors.as_deref());
        Ok(())
    }

    /// Waits until a member is ready.
    pub(super) fn wait(&mut self, deadline: Deadline) -> Result<()> {
        self.begin()?;
        loop {
            self.refresh()?;
            let found = self.looks.look(Look::First, &self.members, self.descriptors.as_deref());
            if found || self.block(deadline)? == Outcome::Found {
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
        if self.changes == Some(changes) { Ok(()) } else { self.read_members(changes) }
    }

    #[cold]
    fn read_members(&mut self, changes: u64) -> Result<()> {
        self.members = self.shared.members().values().cloned().collect();
        self.descriptors = self.shared.descriptors().clone();
        self.looks.forget(self.members.len());
        self.sleep.get_mut().assign(&self.shared, &self.members)?;
        self.changes = Some(changes);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn block(&mut self, deadline: Deadline) -> Result<Outcome> {
        let Waiter { shared, changes, members, descriptors, looks, sleep, check, pace } = self;
        let (members, descriptors) = (&**members, descriptors.as_deref());
        // Whether the next attempt looks at all members.
        let deep = Cell::new(false);
        let slept = Cell::new(false);
        let attempt = || {
            if *changes != Some(shared.changes.load(Ordering::Relaxed)) {
                return Ok(Some(Outcome::Changed));
            }
            // SYNC(rung): pairs with `ring`.
            let rung = shared.rung.load(Ordering::Relaxed) && shared.rung.swap(false, Ordering::Acquire);
            let look = if deep.take() | rung { Look::All } else { Look::Again };
            Ok(looks.look(look, members, descriptors).then_some(Outcome::Found))
        };
        let look_closely = |kind| {
            deep.set(true);
            match kind {
                Check::Quick => Ok(SLEEP_CAP),
                Check::Thorough => Ok(check.check(shared, members)),
            }
        };
        let event = Place { shared, members, descriptors, sleep, deep: &deep, slept: &slept };
        let outcome = block_on(&event, pace, deadline, attempt, look_closely);
        if let Some(failure) = sleep.borrow_mut().failure.take() {
            return Err(failure);
        }
        if slept.get() {
            let found = self.looks.recent.iter().filter(|&&index| self.looks.ages[index] == 0);
            found.for_each(|&index| self.shared.owe(&self.members[index]));
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

impl Looks {
    /// Begins anew, with so many members.
    fn forget(&mut self, count: usize) {
        self.recent.clear();
        self.ages.clear();
        self.ages.resize(count, OLD);
        self.cursor = 0;
    }

    /// Looks for members that are ready, and says whether there is any.
    #[inline]
    fn look(&mut self, look: Look, members: &[Arc<Member>], descriptors: Option<&Descriptors>) -> bool {
        self.ready.clear();
        self.count = self.count.wrapping_add(1);
        if look == Look::All {
            self.look_at_all(members);
        } else {
            self.look_at_recent(look, members);
            self.look_at_next(members);
        }
        if let Some(descriptors) = descriptors {
            if look == Look::All || self.count % BUSY_WAITS == 0 || descriptors.has_fired() {
                descriptors.look(|token| self.ready.push(token));
            }
        }
        !self.ready.is_empty()
    }

    #[inline]
    fn look_at_recent(&mut self, look: Look, members: &[Arc<Member>]) {
        let Looks { ready, recent, ages, .. } = self;
        if recent.len() > 1 {
            recent.rotate_left(1); // for users that take only the first
        }
        recent.retain(|&index| {
            let (member, age) = (&members[index], &mut ages[index]);
            if member.is_ready(true) {
                ready.push(member.token);
                *age = 0;
                return true;
            }
            *age = if look == Look::First { *age + 1 } else { (*age).max(1) };
            let stays = *age <= PATIENCE;
            if !stays {
                *age = OLD;
            }
            stays
        });
    }

    /// Looks at one member, in turn.
    #[inline]
    fn look_at_next(&mut self, members: &[Arc<Member>]) {
        let index = self.cursor;
        let Some(member) = members.get(index) else {
            self.cursor = 0;
            return;
        };
        self.cursor = index + 1;
        if self.ages[index] == OLD && member.is_ready(true) {
            self.found(index, member);
        }
    }

    fn look_at_all(&mut self, members: &[Arc<Member>]) {
        for &index in &self.recent {
            self.ages[index] = self.ages[index].max(1);
        }
        let count = members.len();
        for index in (self.cursor..count).chain(0..self.cursor.min(count)) {
            if members[index].is_ready(true) {
                self.found(index, &members[index]);
            }
        }
        self.cursor = if count == 0 { 0 } else { (self.cursor + 1) % count };
    }

    #[inline]
    fn found(&mut self, index: usize, member: &Member) {
        self.ready.push(member.token);
        if self.ages[index] == OLD {
            self.recent.push(index);
        }
        self.ages[index] = 0;
    }
}

impl Checking {
    /// Checks the peers as far as it is time for that, and returns the longest sleep.
    fn check(&mut self, shared: &Shared, members: &[Arc<Member>]) -> Duration {
        let now = monotonic_ns();
        let (mut by_clock, mut abandoned) = (Vec::new(), false);
        let mut longest = shared.longest_sleep(members.len());
        let (mut any, mut many) = (false, false);
        for member in members {
            let Some(source) = member.source() else { continue };
            any = true;
            abandoned |= source.is_abandoned();
            // A paused member rings the set when it goes on.
            if member.is_active() {
                longest = source.longest_sleep().map_or(longest, |sleep| longest.min(sleep));
            }
            many |= !source.segment().table().checks().are_few();
            if !member.watch.as_ref().is_some_and(|watch| watch.refresh()) {
                by_clock.push(source);
            }
        }
        if abandoned {
            shared.remove_abandoned();
        }
        if !any {
            return longest;
        }
        let reap = |source: &Arc<dyn Source>| {
            let membership = || source.segment().table().lifecycle().membership();
            let before = membership();
            source.reap();
            if membership() != before {
                shared.rearm.store(true, Ordering::Relaxed);
            }
        };
        self.of_all.make(now, shared.pause(), 10_000, || members.iter().filter_map(|m| m.source()).for_each(reap));
        longest = longest.min(self.of_all.left(now));
        if many {
            longest = longest.min(LONGEST_SLEEP); // joins wake no sleepers there
        }
        if !by_clock.is_empty() {
            self.by_clock.make(now, SLEEP_CAP, 100, || by_clock.iter().copied().for_each(reap));
            longest = longest.min(self.by_clock.left(now));
        }
        longest
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
            let group = group.iter().map(|&index| Arc::clone(&members[index])).collect();
            self.helpers[number].assign(group, shared.longest_sleep(members.len()));
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
        if self.shared.rearm.load(Ordering::Relaxed) && self.shared.rearm.swap(false, Ordering::Relaxed) {
            helpers.iter().for_each(Helper::recall);
        }
        helpers.iter().for_each(Helper::watch);
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

#[cfg(all(test, feature = "transports", not(miri)))]
mod tests {
    use super::*;
    use crate::os::futex::MOST_WORDS;
    use crate::ring::{Options, Ring, spsc};
    use crate::set::WaitSet;

    #[test]
    fn a_producers_room_shortens_the_sleep_only_while_it_is_waited_for() {
        let set = WaitSet::with_limits(MOST_WORDS, Duration::from_secs(3600)).unwrap();
        let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
        let tx = spsc::Producer::attach(&ring).unwrap();
        let membership = set.registry.add_paused(Token(0), tx.writable(1)).unwrap();
        let members: Vec<_> = set.registry.0.members().values().cloned().collect();
        let longest = || Checking::default().check(&set.registry.0, &members);
        assert!(longest() > SLEEP_CAP);
        membership.resume().unwrap();
        assert!(longest() <= SLEEP_CAP);
        membership.pause();
        assert!(longest() > SLEEP_CAP);
    }
}
