//! Starts this test program again as a child process, also under an emulator.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// The emulator that runs this program, if there is one: `.ci/aarch64` names it. Tests that need
/// what an emulated process does not have return early, and print why.
pub fn emulator() -> Option<OsString> {
    std::env::var_os("SLIPRING_EMULATOR")
}

/// A command that starts this program. The kernel cannot start a program of another architecture by
/// itself, so under an emulator the command starts the emulator.
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

/// Copies this program to where all users may execute it.
///
/// By another process: the kernel executes no file that is open for writing, and a child that
/// another test is starting would have a copy of our descriptor until its `execve`.
#[allow(dead_code, reason = "not every test program that includes this file uses it")]
pub fn copy_program(to: &Path) {
    let from = std::env::current_exe().unwrap();
    let copied = Command::new("install").args(["-m", "755"]).args([from.as_path(), to]).status();
    assert!(copied.unwrap().success());
}
