//! Targets that are counted instead of timed: instructions and system calls per frame.
//!
//! Two tests of the library count them, under valgrind and strace; this module starts the tests and
//! parses their output.

use std::process::{Command, Stdio};

use crate::job::Result;

/// A count, and its limit.
pub(crate) struct Counted {
    pub(crate) what: String,
    pub(crate) at_most: f64,
    pub(crate) got: f64,
}

/// The counts of the rings' first layout. A system call in a thousand frames is noise of the
/// machine.
const LIMITS: [(&str, f64); 6] = [
    ("spsc send", 69.0),
    ("spsc recv", 69.0),
    ("mpmc send", 95.0),
    ("mpmc recv", 171.0),
    ("spsc", 0.001),
    ("mpmc", 0.001),
];

/// Counts. Tests that cannot count on this machine print the reason on stderr.
pub(crate) fn run() -> Result<Vec<Counted>> {
    let tests = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--release", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")])
        .args(["-p", "slipring", "--test", "instructions", "--test", "it", "--no-fail-fast"])
        .args(["--", "--nocapture", "--test-threads=1", "a_frame_takes", "syscalls::"])
        .stderr(Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&tests.stdout);
    let counted: Vec<Counted> = said.lines().filter_map(read).collect();
    said.lines().filter(|line| line.starts_with("SKIPPED")).for_each(|line| eprintln!("{line}"));
    Ok(counted)
}

/// "spsc send, 64 bytes: 69.0 instructions, …" or "spsc: … system calls …: 0.000012 a frame".
///
/// A test's first line follows "test NAME ... ".
fn read(line: &str) -> Option<Counted> {
    let line = line.rsplit(" ... ").next()?;
    let (subject, unit, got) = if let Some((subject, rest)) = line.split_once(", 64 bytes: ") {
        (subject, "instructions", rest.split_once(" instructions")?.0)
    } else {
        let (subject, rest) = line.split_once(": ")?;
        (subject, "system calls of a stream", rest.strip_suffix(" a frame")?.rsplit_once(": ")?.1)
    };
    let (_, at_most) = LIMITS.into_iter().find(|(name, _)| *name == subject)?;
    Some(Counted { what: format!("{subject}, 64 B: {unit} a frame"), at_most, got: got.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_output_of_the_tests_is_parsed() {
        let line = "spsc send, 64 bytes: 70.0 instructions, 69.0 recorded";
        assert_eq!(read(line).map(|it| (it.got, it.at_most)), Some((70.0, 69.0)));
        let line = "test mpmc_streams_without_system_calls ... mpmc: 312 system calls for 1000000 frames, 300 for none: 0.000012 a frame";
        assert_eq!(read(line).map(|it| (it.got, it.at_most)), Some((0.000_012, 0.001)));
        assert!(read("test result: ok. 2 passed; 0 failed").is_none());
    }
}
