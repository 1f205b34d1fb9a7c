//! The type of the messages in a segment, which its participants agree on: a fingerprint and a text
//! in the header page, behind the header.
//!
//! Used by [`Ring::agree_on_type`](crate::Ring::agree_on_type) and by typed handles. Relies on
//! `memory/` and `frame/`. All words are zero in a new segment, and in a segment of an older version.
//!
//! ```text
//! 0 fingerprint 8 (0: no type yet) | 8 length of the text 8 (0: not written yet) | 16 text
//! ```
//!
//! The first participant that agrees decides by one CAS of the fingerprint. Then each participant
//! that agrees writes the text, if it is not there: all of them write the same bytes, so it does not
//! matter who dies in between.

use crate::frame::Header;
use crate::memory::Area;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

const FINGERPRINT: usize = 0;
const LEN: usize = 8;
const TEXT: usize = 16;

/// The words of a segment that state the type of its messages.
pub(crate) struct MessageType {
    area: Area,
}

impl MessageType {
    /// The words in `area`, whose end is the end of the text.
    pub(crate) fn new(area: Area) -> Self {
        MessageType { area }
    }

    /// Agrees on a type; the text ends where the area ends. Returns false if the messages have
    /// another type. Wait-free.
    pub(crate) fn agree(&self, fingerprint: u64, text: &str) -> bool {
        let word = self.area.word(FINGERPRINT);
        // Relaxed: the fingerprint alone decides, and the text has an ordering of its own.
        if let Err(found) = word.compare_exchange(0, fingerprint, Relaxed, Relaxed) {
            if found != fingerprint {
                return false;
            }
        }
        if self.area.word(LEN).load(Relaxed) == 0 {
            let text = &text.as_bytes()[..text.len().min(self.area.len() - TEXT)];
            self.area.store_words(TEXT, text);
            // SYNC(type): pairs with the load in `text`.
            self.area.word(LEN).store(text.len() as u64, Release);
        }
        true
    }

    /// The fingerprint and the text; `None` before a participant has agreed. The text is empty if
    /// the first participant died before it was written.
    pub(crate) fn text(&self) -> Option<(u64, String)> {
        // SYNC(type): pairs with the store in `agree`.
        let len = self.area.word(LEN).load(Acquire) as usize;
        let fingerprint = self.area.word(FINGERPRINT).load(Relaxed);
        let mut text = vec![0; len.min(self.area.len() - TEXT)];
        self.area.load_words(TEXT, &mut text);
        (fingerprint != 0).then(|| (fingerprint, String::from_utf8_lossy(&text).into_owned()))
    }
}

/// The fingerprint of a description: FNV-1a, 64 bits, never 0.
pub(crate) fn fingerprint(text: &str) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    hash.max(1)
}

/// The kind of the frames with messages of this description: neither reserved nor the default.
pub(crate) fn kind_of_frames(description: &str) -> u16 {
    let first = u64::from(Header::DEFAULT_KIND) + 1;
    (first + fingerprint(description) % (0x1_0000 - first)) as u16
}

#[cfg(all(test, not(slipring_loom), not(miri)))]
mod tests {
    use super::*;
    use crate::memory::heap;

    #[test]
    fn the_first_type_stays() {
        let memory = heap(4096, 4096).unwrap();
        let ours = MessageType::new(memory.control.part(128, 80));
        assert_eq!(ours.text(), None);
        assert!(ours.agree(7, "Quote"));
        assert!(ours.agree(7, "Quote"));
        assert!(!ours.agree(8, "Trade"));
        assert_eq!(ours.text(), Some((7, "Quote".to_owned())));
    }

    #[test]
    fn a_text_that_its_writer_did_not_finish_is_written_by_the_next() {
        let memory = heap(4096, 4096).unwrap();
        let ours = MessageType::new(memory.control.part(128, 80));
        ours.area.word(FINGERPRINT).store(7, Relaxed);
        assert!(!ours.agree(8, "Trade"));
        assert_eq!(ours.text(), Some((7, String::new())));
        assert!(ours.agree(7, "Quote"));
        assert_eq!(ours.text(), Some((7, "Quote".to_owned())));
    }

    #[test]
    fn a_long_text_and_a_forged_length_stay_inside() {
        let memory = heap(4096, 4096).unwrap();
        let ours = MessageType::new(memory.control.part(128, 80));
        assert!(ours.agree(7, &"long ".repeat(100)));
        assert_eq!(ours.text().unwrap().1.len(), 64);
        ours.area.word(LEN).store(u64::MAX, Relaxed);
        assert_eq!(ours.text().unwrap().1.len(), 64);
    }
}
