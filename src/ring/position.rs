//! Positions: free-running numbers that wrap around 2^64.
//!
//! Used by the algorithms of all rings. Relies on nothing.

/// Whether position `a` is before `b`, for two that are less than 2^63 apart: also correct where
/// they wrap around.
#[inline(always)]
pub(crate) const fn is_before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

/// The later of two positions that are less than 2^63 apart.
#[inline(always)]
pub(crate) const fn later(a: u64, b: u64) -> u64 {
    if is_before(a, b) { b } else { a }
}
