//! Which of the standard streams were closed when the program began.
//!
//! Used by whatever reads stdin or writes stdout. Before `main`, the Rust runtime opens `/dev/null` in place of a closed
//! standard stream, and a frame written there is lost. So the look comes earlier: from the program's `.init_array`, which the C
//! library runs before the runtime starts.

#![allow(unsafe_code, reason = "a function that runs before main has to be placed in a section of its own")]

use std::ffi::c_int;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::failure::{FAILED, Failure, Outcome, USAGE};

/// A bit for each number that was no open descriptor.
static CLOSED: AtomicU8 = AtomicU8::new(0);

extern "C" fn look() {
    for number in 0..3 as c_int {
        // SAFETY: fcntl(2) with F_GETFD takes and returns numbers only; one that is no descriptor gives -1.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
}

#[used]
// SAFETY: the C library calls each pointer in this section once before `main`, with arguments that a function of the C calling
// convention may ignore. `look` needs nothing of the Rust runtime: it makes system calls and changes one atomic.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// An error if stdin was closed.
pub(crate) fn check_input() -> Outcome {
    check(0, "stdin")
}

/// An error if stdout was closed.
pub(crate) fn check_output() -> Outcome {
    check(1, "stdout")
}

/// An error if stdout cannot take encoded frames: it was closed, or is a terminal.
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
