//! This very test program once more, as a child process; and whether it runs under an emulator.

use std::ffi::OsString;
use std::process::Command;

/// The emulator that runs this program, if one does: `.ci/aarch64` names it. A test that asks for
/// what an emulated process does not have returns early, and says why.
pub fn emulator() -> Option<OsString> {
    std::env::var_os("SLIPRING_EMULATOR")
}

/// A command that starts this program. The kernel cannot start a program of another architecture
/// by itself, so under an emulator the emulator is what it starts.
pub fn this_program() -> Command {
    let program = std::env::current_exe().unwrap();
    match emulator() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}
