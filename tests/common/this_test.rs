//! Runs one test of this program alone in a child process.

use std::process::Command;

use super::again::this_program;

/// A command that runs the test `name` of this program alone, in a child process. `module` is the
/// `module_path!()` of the test.
pub fn this_test(module: &str, name: &str) -> Command {
    let mut command = this_program();
    arguments(&mut command, module, name);
    command
}

/// Makes `command`, which starts a copy of this program, run one test of it.
pub fn arguments<'a>(command: &'a mut Command, module: &str, name: &str) -> &'a mut Command {
    let path = module.split_once("::").map_or(name.to_owned(), |(_, inner)| format!("{inner}::{name}"));
    command.args(["--exact", &path, "--nocapture", "--test-threads=1"])
}
