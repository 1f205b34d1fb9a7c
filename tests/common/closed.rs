//! What a call returns once the other end of a pipe or socket is closed.

use slipring::{Error, Result};

/// Repeats `call` until it fails. A child that another test is starting has a copy of the other end
/// until its `execve`.
pub fn until_closed<T>(mut call: impl FnMut() -> Result<T>) -> Error {
    loop {
        match call() {
            Ok(_) => std::thread::yield_now(),
            Err(error) => return error,
        }
    }
}
