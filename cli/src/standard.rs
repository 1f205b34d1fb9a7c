//! Detects standard streams that were closed when the program started.
//!
//! Used by verbs that read stdin or write stdout. Before `main`, the Rust runtime opens `/dev/null`
//! in place of a closed standard stream, and a frame written there is lost. So the check runs
//! earlier: from the program's `.init_array`, which the C library runs before the runtime starts.

#![allow(unsafe_code, reason = "a function that runs before main has to be placed in a section of its own")]

use std::ffi::c_int;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::failure::{FAILED, Failure, Outcome, USAGE};

/// A bit for each number that was not an open descriptor.
static CLOSED: AtomicU8 = AtomicU8::new(0);

extern "C" fn detect_closed() {
    for number in 0..3 as c_int {
        // SAFETY: fcntl(2) with F_GETFD takes and returns numbers only; it returns -1 for a number
        // that is no descriptor.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
}

#[used]
// SAFETY: the C library calls each pointer in this section once before `main`, with arguments that
// a function of the C calling convention may ignore. `detect_closed` needs nothing of the Rust
// runtime: it makes system calls and changes one atomic.
#[unsafe(link_section = ".init_array")]
static DETECT_CLOSED: extern "C" fn() = detect_closed;

/// Fails if stdin was closed.
pub(crate) fn check_input() -> Outcome {
    check(0, "stdin")
}

/// Fails if stdout was closed.
pub(crate) fn check_output() -> Outcome {
    check(1, "stdout")
}

/// Fails if stdout cannot take encoded frames: it was closed, or is a terminal.
pub(crate) fn check_output_of_frames() -> Outcome {
    check_output()?;
    if io::stdout().is_terminal() {
        return Err(Failure::new(USAGE, "stdout is a terminal, and frames are binary: redirect it"));
    }
    Ok(())
}

fn check(number: u8, name: &str) -> Outcome {
    match CLOSED.load(Ordering::Relaxed) & (1 << number) {
        0 => Ok(()),
        _ => Err(Failure::new(FAILED, format_args!("{name} is closed"))),
    }
}
