//! A flag that ends other threads of a test, also when the test fails.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets the flag when dropped.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
