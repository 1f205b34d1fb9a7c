//! The type of a segment's messages: two participants agree on one, and an observer sees a whole
//! text or none.

use std::sync::Arc;

use loom::thread;

use crate::explore;
use crate::memory::Area;
use crate::segment::message_type::MessageType;

/// Catches: a length that is visible before its text.
#[test]
fn the_text_of_a_type_is_whole() {
    explore(3, || {
        let area = Arc::new(Area::model(32));
        let agree = |text: &'static str, fingerprint| {
            let area = Arc::clone(&area);
            thread::spawn(move || MessageType::new(area.part(0, 32)).agree(fingerprint, text))
        };
        let (one, other) = (agree("0123456789", 1), agree("abcdefghij", 2));
        if let Some((fingerprint, text)) = MessageType::new(area.part(0, 32)).text() {
            assert!(text.is_empty() || text == ["0123456789", "abcdefghij"][fingerprint as usize - 1], "{text}");
        }
        assert!(one.join().unwrap() != other.join().unwrap(), "exactly one decides");
    });
}
