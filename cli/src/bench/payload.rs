//! The messages of a bench: every word follows from the message's number and its own position, and
//! is compared.
//!
//! A message that is missing, old, torn or another one differs somewhere, so reading it is checking
//! it.

/// Difference between successive words of a message; odd, so that all of them differ.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number of the message that ends a run.
pub(super) const STOP: u64 = u64::MAX;

/// The least size of a message: its number has to fit.
pub(super) const LEAST: usize = 8;

/// Writes message `seq`.
#[inline]
pub(super) fn fill(message: &mut [u8], seq: u64) {
    // For the common small sizes, a constant length lets the compiler generate a few instructions.
    match message.len() {
        8 => fill_any(<&mut [u8; 8]>::try_from(message).unwrap_or(&mut [0; 8]), seq),
        64 => fill_any(<&mut [u8; 64]>::try_from(message).unwrap_or(&mut [0; 64]), seq),
        _ => fill_any(message, seq),
    }
}

/// Reads all of a message. Returns whether it is message `seq`.
#[inline]
pub(super) fn check(message: &[u8], seq: u64) -> bool {
    match message.len() {
        8 => <&[u8; 8]>::try_from(message).is_ok_and(|message| check_any(message, seq)),
        64 => <&[u8; 64]>::try_from(message).is_ok_and(|message| check_any(message, seq)),
        _ => check_any(message, seq),
    }
}

/// The number in a message, unchecked.
#[inline]
pub(super) fn number(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn fill_any(message: &mut [u8], seq: u64) {
    let (words, rest) = message.as_chunks_mut::<8>();
    let mut value = seq;
    for word in words {
        *word = value.to_le_bytes();
        value = value.wrapping_add(STEP);
    }
    let len = rest.len();
    rest.copy_from_slice(&value.to_le_bytes()[..len]);
}

#[inline(always)]
fn check_any(message: &[u8], seq: u64) -> bool {
    let (words, rest) = message.as_chunks::<8>();
    let mut value = seq;
    let mut wrong = 0;
    for word in words {
        wrong |= u64::from_le_bytes(*word) ^ value;
        value = value.wrapping_add(STEP);
    }
    wrong == 0 && *rest == value.to_le_bytes()[..rest.len()]
}

/// Mixes a number, so that two different sets of numbers have the same sum only with negligible
/// probability: for messages that arrive in any order.
#[inline]
pub(super) fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(STEP);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_byte_is_detected() {
        for len in [8, 13, 64, 100, 4096] {
            let mut message = vec![0; len];
            fill(&mut message, 77);
            assert!(check(&message, 77) && !check(&message, 78), "{len}");
            assert_eq!(number(&message), Some(77));
            for at in 0..len {
                message[at] ^= 0x10;
                assert!(!check(&message, 77), "byte {at} of {len}");
                message[at] ^= 0x10;
            }
        }
    }
}
