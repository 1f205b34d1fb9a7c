//! Choices drawn from the fuzzer's bytes. When the bytes are used up, every choice is the first
//! one.
//!
//! Used by every target. Relies on `arbitrary`.

use arbitrary::Unstructured;

pub struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Draw(Unstructured::new(data))
    }

    /// Whether there are bytes left.
    pub fn more(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn word(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number from 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n - 1).unwrap_or_default()
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// At most `n` bytes, unchanged.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        self.0.bytes(n.min(self.0.len())).unwrap_or_default()
    }

    /// `len` bytes that are all derived from one byte of the input.
    pub fn payload(&mut self, len: usize) -> Vec<u8> {
        let first = self.byte();
        (0..len).map(|i| first.wrapping_add(i as u8)).collect()
    }

    /// A word likely to cause trouble: extreme, near a boundary, or any.
    pub fn nasty(&mut self) -> u64 {
        match self.below(6) {
            0 => self.byte().into(),
            1 => u64::MAX - u64::from(self.byte()),
            2 => 1 << self.below(64),
            3 => 8 * u64::from(self.byte()),
            4 => u64::MAX << 3,
            _ => self.word(),
        }
    }
}
