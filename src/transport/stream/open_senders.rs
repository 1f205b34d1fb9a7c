//! The senders that have sent HELLO and not BYE, on a stream with several writers.
//!
//! Used by the receiver.
//!
//! A sender that named itself in its HELLO (TLV SENDER) does so in its BYE, too. So a BYE without a
//! name comes from a sender whose HELLO had no name. If there are several, it is unknown which, and
//! the oldest of them is ended.

use std::collections::{BTreeMap, HashMap};

/// Beyond this number, open senders are counted, but not remembered.
const MAX_SENDERS: usize = 65_536;

/// The epochs of the open senders.
#[derive(Debug, Default)]
pub(super) struct OpenSenders {
    epochs: HashMap<u64, Entry>,
    /// The same in the order in which they began.
    named: BTreeMap<u64, u64>,
    unnamed: BTreeMap<u64, u64>,
    begun: u64,
    /// The number of open senders beyond the bound.
    beyond: u64,
}

#[derive(Debug)]
struct Entry {
    begun: u64,
    is_named: bool,
}

impl OpenSenders {
    /// Returns whether it is a new one. `is_named`: its frames name their sender.
    pub(super) fn begin(&mut self, epoch: u64, is_named: bool) -> bool {
        if self.epochs.contains_key(&epoch) {
            return false;
        }
        if self.epochs.len() == MAX_SENDERS {
            self.beyond += 1;
            return true;
        }
        self.begun += 1;
        self.epochs.insert(epoch, Entry { begun: self.begun, is_named });
        if is_named { &mut self.named } else { &mut self.unnamed }.insert(self.begun, epoch);
        true
    }

    /// A BYE without a name ends the oldest sender without a name; that of an unknown sender ends
    /// one of those beyond the bound. Returns whether there was such a sender.
    pub(super) fn end(&mut self, epoch: Option<u64>) -> bool {
        let epoch = epoch.or_else(|| self.unnamed.first_key_value().map(|(_, epoch)| *epoch));
        match epoch.and_then(|epoch| self.epochs.remove(&epoch)) {
            Some(Entry { begun, is_named }) => {
                if is_named { &mut self.named } else { &mut self.unnamed }.remove(&begun);
                true
            }
            None => {
                let was_beyond = self.beyond > 0;
                self.beyond -= u64::from(was_beyond);
                was_beyond
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epochs.is_empty() && self.beyond == 0
    }

    /// Whether one of them names itself.
    pub(super) fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Removes all of them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = u64> + use<> {
        self.beyond = 0;
        self.epochs.clear();
        let mut all = std::mem::take(&mut self.named);
        all.append(&mut self.unnamed);
        all.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bye_ends_its_own_sender() {
        let mut senders = OpenSenders::default();
        assert!(senders.begin(1, false) && senders.begin(2, false) && !senders.begin(1, true));
        assert!(!senders.end(Some(7)) && senders.end(Some(2)));
        assert_eq!(senders.epochs.keys().collect::<Vec<_>>(), [&1]);
        assert!(senders.end(None) && senders.is_empty() && !senders.end(None));
        let all = MAX_SENDERS as u64 + 1;
        assert!((0..all).all(|epoch| senders.begin(epoch, true)));
        assert!((0..all - 1).all(|epoch| senders.end(Some(epoch))));
        assert!(!senders.is_empty(), "one that is not remembered has not ended");
        assert!(senders.end(Some(all - 1)) && senders.is_empty());
        assert!([9, 3, 7].into_iter().all(|epoch| senders.begin(epoch, epoch == 3)));
        assert_eq!(senders.take().collect::<Vec<_>>(), [9, 3, 7]);
        assert!(senders.is_empty());
    }

    #[test]
    fn a_bye_without_a_name_ends_none_that_has_one() {
        let mut senders = OpenSenders::default();
        assert!(
            [(1, true), (2, false), (3, true), (4, false)].map(|(epoch, named)| senders.begin(epoch, named))
                == [true; 4]
        );
        assert!(senders.has_named() && senders.end(None));
        assert!(!senders.epochs.contains_key(&2), "the oldest of those without a name");
        assert!(senders.end(None) && !senders.end(None));
        assert!(senders.end(Some(1)) && senders.end(Some(3)));
        assert!(senders.is_empty() && !senders.has_named());
    }
}
