//! Numbered frames, and the check of what the survivors received of them.

use slipring::Redelivery;

use crate::process::Page;

/// All frames have one size, so that every ring holds the same number of them.
pub const LEN: usize = 40;

/// The bytes of frame `number`: the number, then bytes derived from it.
pub fn payload(number: u64) -> [u8; LEN] {
    let mut word = number;
    let mut bytes = [0; LEN];
    for unit in bytes.chunks_exact_mut(8) {
        unit.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0xD1B5_4A32_D192_ED03);
    }
    bytes
}

/// The number of a frame, unchecked: what an operation records.
pub fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

/// A frame that a survivor received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub number: u64,
    pub marked: bool,
}

impl Delivery {
    /// Checks that every byte is as it was sent.
    pub fn new(bytes: &[u8], marked: bool) -> Result<Self, String> {
        let number = if bytes.len() == LEN { number(bytes) } else { return Err(format!("torn: {bytes:?}")) };
        if payload(number) != bytes {
            return Err(format!("torn frame {number}: {bytes:?}"));
        }
        Ok(Delivery { number, marked })
    }
}

/// The contents of a ring when the operation began, and what the operation may have changed.
#[derive(Clone)]
pub struct Ledger {
    pub policy: Redelivery,
    /// Committed, and not held by a consumer.
    pub waiting: Vec<u64>,
    /// Committed, and held by a consumer that has died.
    pub orphaned: Vec<u64>,
    /// Frames that the operation sends.
    pub sends: Vec<u64>,
    /// Whether it sends all of them or none.
    pub at_once: bool,
    /// The most frames that it receives.
    pub takes: usize,
}

impl Ledger {
    pub fn new(policy: Redelivery) -> Self {
        Ledger { policy, waiting: vec![], orphaned: vec![], sends: vec![], at_once: false, takes: 0 }
    }

    /// Checks the frames that the survivors received, and how many were counted as lost. Returns
    /// how many of the operation's frames arrived.
    pub fn judge(&self, child: &Page, deliveries: &[Delivery], lost: u64) -> Result<u64, String> {
        let is_known = |n: &u64| [&self.waiting, &self.orphaned, &self.sends].into_iter().any(|all| all.contains(n));
        if let Some(stranger) = deliveries.iter().find(|d| !is_known(&d.number)) {
            return Err(format!("frame {} was not sent", stranger.number));
        }
        let sent = self.judge_sends(child, deliveries)?;
        let mut held = child.taken();
        // A frame of which the child finished a copy was held as well.
        held.extend(Delivery::new(child.buffer(LEN), false).map(|copy| copy.number));
        let (mut missing, mut unaccounted) = (0, 0);
        for number in self.orphaned.iter().chain(&self.waiting).copied() {
            let copies: Vec<_> = deliveries.iter().filter(|d| d.number == number).collect();
            let was_held = held.contains(&number);
            let was_orphaned = self.orphaned.contains(&number);
            let wrong = |what: &str| Err(format!("frame {number} {what}"));
            match (copies.as_slice(), self.policy) {
                ([], _) if was_held => missing += 1,
                ([], Redelivery::AtMostOnce) => (missing, unaccounted) = (missing + 1, unaccounted + 1),
                ([], _) => return wrong("is lost"),
                ([_], _) if was_held && child.is_complete() => return wrong("was released, and came again"),
                ([_], Redelivery::AtMostOnce) if was_held || was_orphaned => return wrong("came twice"),
                ([copy], _) if !copy.marked && (was_held || was_orphaned) => return wrong("came again, unmarked"),
                ([copy], _) if copy.marked && !was_orphaned && self.takes == 0 => {
                    return wrong("is marked, but was not held");
                }
                ([_], _) => {}
                _ => return wrong("came twice"),
            }
        }
        // A child killed between the two steps has freed a frame, and not yet counted it.
        let uncounted = u64::from(!child.is_complete());
        if unaccounted > self.takes + self.orphaned.len() || lost + uncounted < unaccounted as u64 || lost > missing {
            return Err(format!("{missing} frames are missing, {unaccounted} unseen; {lost} are counted as lost"));
        }
        let in_order: Vec<_> = deliveries.iter().filter(|d| !d.marked).map(|d| d.number).collect();
        if !in_order.is_sorted() {
            return Err(format!("out of order: {in_order:?}"));
        }
        Ok(sent)
    }

    fn judge_sends(&self, child: &Page, deliveries: &[Delivery]) -> Result<u64, String> {
        let of_ours: Vec<_> = deliveries.iter().filter(|d| self.sends.contains(&d.number)).collect();
        let sent = of_ours.len();
        let numbers: Vec<_> = of_ours.iter().map(|d| d.number).collect();
        if of_ours.iter().any(|d| d.marked) || !self.sends.starts_with(&numbers) {
            return Err(format!("sent {:?}, received {of_ours:?}", self.sends));
        }
        if sent < self.sends.len() && (child.is_complete() || (self.at_once && sent > 0)) {
            return Err(format!("only {sent} of the {} frames sent were received", self.sends.len()));
        }
        Ok(sent as u64)
    }
}
