//! The messages: `W` words, each of which depends on the message's number, so that a reader can
//! tell that it got all of this message and nothing else. Every peer's messages are written and
//! checked in full, outside the peer's own code.

/// Marks the end of a producer. No message has this number.
pub(crate) const END: u64 = u64::MAX;

/// Writes message number `seq` to `bytes`.
#[inline(always)]
pub(crate) fn write<const W: usize>(bytes: &mut [u8], seq: u64) {
    let (words, rest) = bytes.as_chunks_mut::<8>();
    assert!(words.len() == W && rest.is_empty(), "the peer made a message of another size");
    for (i, word) in words.iter_mut().enumerate().take(W) {
        *word = (seq ^ i as u64).to_le_bytes();
    }
}

/// The number of the message in `bytes`, if it is intact.
#[inline(always)]
pub(crate) fn read<const W: usize>(bytes: &[u8]) -> Option<u64> {
    let words: &[[u8; 8]; W] = bytes.as_chunks::<8>().0.try_into().ok().filter(|_| bytes.len() == 8 * W)?;
    let seq = u64::from_le_bytes(words[0]);
    let differences =
        words.iter().enumerate().fold(0, |all, (i, word)| all | (u64::from_le_bytes(*word) ^ seq ^ i as u64));
    (differences == 0).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_identifies_a_message() {
        let mut bytes = [0; 64];
        write::<8>(&mut bytes, 77);
        assert_eq!(read::<8>(&bytes), Some(77));
        assert_eq!(read::<8>(&bytes[..56]), None, "too short");
        for i in 8..64 {
            let mut torn = bytes;
            torn[i] ^= 1;
            assert_eq!(read::<8>(&torn), None, "byte {i}");
        }
    }
}
