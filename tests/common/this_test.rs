//! Runs one test of this program alone in a child process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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

/// Starts `command` with pipes for input and output, and waits until it prints "ready".
pub fn start_until_ready(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.ends_with("ready")), "{command:?} ended early");
    child
}
