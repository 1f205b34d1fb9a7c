//! The list of a receiver's known senders.
//!
//! Used by `inbox.rs`. Relies on the sequence tracker.
//!
//! Two bounds keep foreign senders from filling the memory: [`MAX_OPEN`] senders for whose end the
//! receiver waits, and [`MAX_PASSING`] others: those that have not sent HELLO, and those that have
//! sent BYE. Beyond the first bound, a HELLO does not open a sender: its frames are received, but
//! the receiver does not wait for its end. Beyond the second, the older half is forgotten, senders
//! that have sent BYE first.

use std::collections::HashMap;
use std::hash::Hash;

use crate::frame::Tracker;

/// Senders that are open at once.
pub(super) const MAX_OPEN: usize = 65_536;
/// Senders that are not open, and are remembered.
pub(super) const MAX_PASSING: usize = 4096;

/// A known sender.
pub(super) struct Talker<S> {
    /// `None`: all senders that cannot be told apart.
    pub(super) source: Option<S>,
    /// Its number for the reassembler.
    pub(super) number: u64,
    pub(super) tracker: Tracker,
    standing: Standing,
}

impl<S> Talker<S> {
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It sends, and has not sent HELLO.
    Foreign,
    /// It has sent HELLO with this epoch, and not BYE.
    Open(u64),
    /// It has sent BYE.
    Left,
}

/// All of them, in no particular order.
pub(super) struct Talkers<S> {
    list: Vec<Talker<S>>,
    /// The index of each in `list`.
    places: HashMap<Option<S>, usize>,
    /// The number of open ones.
    open: usize,
    /// Numbers given to talkers; 0 is for frames of unknown senders.
    numbers: u64,
    /// Where the next check for dead senders begins.
    next: usize,
}

impl<S: Clone + Eq + Hash> Talkers<S> {
    pub(super) fn new() -> Self {
        Talkers { list: Vec::new(), places: HashMap::new(), open: 0, numbers: 0, next: 0 }
    }

    pub(super) fn position(&self, source: &Option<S>) -> Option<usize> {
        match &self.list[..] {
            [only] => (only.source == *source).then_some(0),
            _ => self.places.get(source).copied(),
        }
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut Talker<S> {
        &mut self.list[at]
    }

    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Whether another sender may be opened.
    pub(super) fn may_open(&self) -> bool {
        self.open < MAX_OPEN
    }

    /// Adds a talker that is not in the list yet. Passes those that had to make room for it to
    /// `forgotten`.
    pub(super) fn admit(
        &mut self,
        source: Option<S>,
        standing: Standing,
        forgotten: impl FnMut(Talker<S>),
    ) -> &mut Talker<S> {
        if self.list.len() - self.open >= MAX_PASSING {
            self.forget_half(forgotten);
        }
        self.numbers += 1;
        self.places.insert(source.clone(), self.list.len());
        self.open += usize::from(matches!(standing, Standing::Open(_)));
        self.list.push(Talker { source, number: self.numbers, standing, tracker: Tracker::new() });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    pub(super) fn set_standing(&mut self, at: usize, standing: Standing) {
        let is_open = |standing| usize::from(matches!(standing, Standing::Open(_)));
        let former = std::mem::replace(&mut self.list[at].standing, standing);
        self.open = self.open + is_open(standing) - is_open(former);
    }

    pub(super) fn remove(&mut self, at: usize) -> Talker<S> {
        self.set_standing(at, Standing::Left);
        let talker = self.list.swap_remove(at);
        self.places.remove(&talker.source);
        if let Some(moved) = self.list.get(at) {
            if let Some(place) = self.places.get_mut(&moved.source) {
                *place = at;
            }
        }
        talker
    }

    /// Empties the list, and returns its talkers.
    pub(super) fn take(&mut self) -> Vec<Talker<S>> {
        self.places.clear();
        (self.open, self.next) = (0, 0);
        std::mem::take(&mut self.list)
    }

    /// The sources of the next open talkers, at most `count`, in rotation.
    pub(super) fn next_open(&mut self, count: usize) -> Vec<S> {
        let mut sources = Vec::new();
        for _ in 0..self.list.len() {
            let talker = &self.list[self.next % self.list.len()];
            self.next = (self.next + 1) % self.list.len();
            if let (Standing::Open(_), Some(source)) = (talker.standing, &talker.source) {
                sources.push(source.clone());
                if sources.len() == count {
                    break;
                }
            }
        }
        sources
    }

    fn forget_half(&mut self, mut forgotten: impl FnMut(Talker<S>)) {
        let mut passing: Vec<_> = self
            .list
            .iter()
            .filter(|talker| !matches!(talker.standing, Standing::Open(_)))
            .map(|talker| (talker.standing != Standing::Left, talker.number, talker.source.clone()))
            .collect();
        passing.sort_unstable_by_key(|(is_foreign, number, _)| (*is_foreign, *number));
        for (_, _, source) in &passing[..passing.len() / 2] {
            if let Some(at) = self.places.get(source).copied() {
                forgotten(self.remove(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_its_index_agree() {
        let mut talkers = Talkers::new();
        for source in 0..100 {
            let standing = if source % 3 == 0 { Standing::Open(7) } else { Standing::Foreign };
            talkers.admit(Some(source), standing, |_| unreachable!());
        }
        for source in (0..100).step_by(2) {
            let at = talkers.position(&Some(source)).unwrap();
            assert_eq!(talkers.remove(at).source, Some(source));
            assert_eq!(talkers.position(&Some(source)), None);
        }
        let expected: Vec<_> = (0..100).filter(|source| source % 2 == 1).collect();
        for source in &expected {
            let at = talkers.position(&Some(*source)).unwrap();
            assert_eq!(talkers.get_mut(at).source, Some(*source));
        }
        let mut open = [talkers.next_open(10), talkers.next_open(7)].concat();
        open.sort_unstable();
        assert_eq!(open, expected.iter().copied().filter(|source| source % 3 == 0).collect::<Vec<_>>());
        for source in &expected {
            let at = talkers.position(&Some(*source)).unwrap();
            talkers.set_standing(at, Standing::Left);
        }
        assert!(!talkers.is_open() && talkers.next_open(10).is_empty());
    }

    #[test]
    fn senders_that_have_ended_make_room() {
        let mut talkers = Talkers::new();
        talkers.admit(Some(0), Standing::Open(1), |_| unreachable!());
        for source in 1..=MAX_PASSING {
            let standing = if source % 4 == 0 { Standing::Left } else { Standing::Foreign };
            talkers.admit(Some(source), standing, |_| unreachable!());
        }
        let (mut left, mut foreign) = (0, 0);
        talkers.admit(Some(MAX_PASSING + 1), Standing::Foreign, |gone| match gone.source {
            Some(source) if source % 4 == 0 => left += 1,
            _ => foreign += 1,
        });
        assert_eq!((left, foreign), (MAX_PASSING / 4, MAX_PASSING / 4));
        assert!(talkers.is_open() && talkers.position(&Some(0)).is_some());
        assert!(talkers.position(&Some(MAX_PASSING)).is_none() && talkers.position(&Some(MAX_PASSING - 1)).is_some());
    }
}
