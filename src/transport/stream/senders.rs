//! Who has said HELLO and not BYE on a stream into which several may write.
//!
//! Used by the receiver. Relies on nothing.

/// More senders than this at once are not remembered: the eldest is taken for gone.
const MAX_SENDERS: usize = 4096;

/// The epochs of those who have begun and not ended, the eldest first.
#[derive(Debug, Default)]
pub(super) struct Senders {
    epochs: Vec<u64>,
}

impl Senders {
    /// Says whether it is a new one.
    pub(super) fn begin(&mut self, epoch: u64) -> bool {
        if self.epochs.contains(&epoch) {
            return false;
        }
        if self.epochs.len() == MAX_SENDERS {
            self.epochs.remove(0);
        }
        self.epochs.push(epoch);
        true
    }

    /// A BYE that names nobody ends the eldest.
    pub(super) fn end(&mut self, epoch: Option<u64>) {
        let at = match epoch {
            Some(epoch) => self.epochs.iter().position(|known| *known == epoch),
            None => (!self.epochs.is_empty()).then_some(0),
        };
        if let Some(at) = at {
            self.epochs.remove(at);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// All of them are gone.
    pub(super) fn take(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.epochs.drain(..)
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
        assert_eq!(senders.epochs, [1]);
        senders.end(None);
        assert!(senders.is_empty());
        senders.end(None);
        for epoch in 0..=MAX_SENDERS as u64 {
            senders.begin(epoch);
        }
        assert_eq!((senders.epochs.len(), senders.epochs[0]), (MAX_SENDERS, 1));
    }
}
