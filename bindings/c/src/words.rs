//! Bytes that begin at a multiple of 8, as the payloads of rings do.
//!
//! Used by `producer.rs` and `consumer.rs` for frames that are not in a ring.

/// Zeroed bytes.
pub(crate) struct Words {
    words: Vec<u64>,
    len: usize,
}

impl Words {
    pub(crate) fn new(len: usize) -> Self {
        Words { words: vec![0; len.div_ceil(size_of::<u64>())], len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the words are initialised and have at least `len` bytes (`new`), which are borrowed
        // as long as the slice is; a byte needs no alignment, and any bytes are words.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }
}
