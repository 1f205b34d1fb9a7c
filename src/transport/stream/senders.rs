//! Who has said HELLO and not BYE on a stream into which several may write.
//!
//! Used by the receiver. Relies on nothing.

use std::collections::{BTreeMap, HashMap};

/// More senders than this at once are counted, and not remembered.
const MAX_SENDERS: usize = 65_536;

/// The epochs of those that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Senders {
    epochs: HashMap<u64, u64>,
    /// The same in the order in which they began.
    order: BTreeMap<u64, u64>,
    begun: u64,
    /// How many more there are.
    beyond: u64,
}

impl Senders {
    /// Says whether it is a new one.
    pub(super) fn begin(&mut self, epoch: u64) -> bool {
        if self.epochs.contains_key(&epoch) {
            return false;
        }
        if self.epochs.len() == MAX_SENDERS {
            self.beyond += 1;
            return true;
        }
        self.begun += 1;
        self.epochs.insert(epoch, self.begun);
        self.order.insert(self.begun, epoch);
        true
    }

    /// A BYE that names no sender ends the oldest; one of an unknown sender ends one of those beyond the bound.
    pub(super) fn end(&mut self, epoch: Option<u64>) {
        let epoch = epoch.or_else(|| self.order.first_key_value().map(|(_, epoch)| *epoch));
        match epoch.and_then(|epoch| self.epochs.remove(&epoch)) {
            Some(begun) => drop(self.order.remove(&begun)),
            None => self.beyond = self.beyond.saturating_sub(1),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epochs.is_empty() && self.beyond == 0
    }

    /// All of them are gone.
    pub(super) fn take(&mut self) -> impl Iterator<Item = u64> + use<> {
        self.beyond = 0;
        self.epochs.clear();
        std::mem::take(&mut self.order).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bye_ends_its_own_sender() {
        let mut senders = Senders::default();
        assert!(senders.begin(1) && senders.begin(2) && !senders.begin(1));
        senders.end(Some(7));
        senders.end(Some(2));
        assert_eq!(senders.epochs.keys().collect::<Vec<_>>(), [&1]);
        senders.end(None);
        assert!(senders.is_empty());
        senders.end(None);
        let all = MAX_SENDERS as u64 + 1;
        assert!((0..all).all(|epoch| senders.begin(epoch)));
        (0..all - 1).for_each(|epoch| senders.end(Some(epoch)));
        assert!(!senders.is_empty(), "one that is not remembered has not ended");
        senders.end(Some(all - 1));
        assert!(senders.is_empty());
        assert!([9, 3, 7].into_iter().all(|epoch| senders.begin(epoch)));
        assert_eq!(senders.take().collect::<Vec<_>>(), [9, 3, 7]);
        assert!(senders.is_empty());
    }
}
