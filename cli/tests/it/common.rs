//! Shared by the tests of the command line: a segment directory per test, and processes that are
//! killed at the end of a test.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A directory for rings, removed when dropped.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        // A shell that starts the tests in the background may let them ignore SIGINT, which
        // children inherit. SAFETY: sets the default action, which involves no handler.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        Place(tempfile::Builder::new().prefix("slipring-cli-").tempdir_in("/dev/shm").unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A command that runs the binary with `arguments` (separated by spaces) in this directory.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipring"));
        command.env("SLIPRING_DIR", self.path()).args(arguments.split(' ').filter(|argument| !argument.is_empty()));
        command
    }

    /// Runs it to the end without input.
    pub fn run(&self, arguments: &str) -> Run {
        self.feed(arguments, b"")
    }

    /// Runs it to the end with `input` on stdin.
    pub fn feed(&self, arguments: &str, input: &[u8]) -> Run {
        self.start(arguments).feed(input).finish()
    }

    /// Starts it, with pipes for all its streams. Its stdout is read only by [`Process::finish`]:
    /// when the pipe is full, the process blocks.
    pub fn start(&self, arguments: &str) -> Process {
        let mut command = self.command(arguments);
        Process::start(command.stdin(Stdio::piped()))
    }

    /// The object that it prints with `--json`.
    pub fn json(&self, arguments: &str) -> Value {
        let run = self.run(&format!("{arguments} --json"));
        assert_eq!(run.code, 0, "{arguments}: {}", run.stderr);
        serde_json::from_slice(&run.stdout).unwrap()
    }

    /// Waits until the JSON output has a value that `wanted` accepts.
    pub fn wait_for(&self, arguments: &str, what: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let run = self.run(&format!("{arguments} --json"));
            let value = serde_json::from_slice(&run.stdout).unwrap_or(Value::Null);
            if what(&value) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{arguments} timed out: {value} {}", run.stderr);
        }
    }

    /// Waits until `ring` has this many living participants.
    pub fn wait_for_living(&self, ring: &str, count: usize) {
        self.wait_for(&format!("info {ring}"), |info| living(info) == count);
    }
}

/// Waits until the condition holds.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn living(info: &Value) -> usize {
    let participants = info["participants"].as_array().map(Vec::as_slice).unwrap_or_default();
    participants.iter().filter(|participant| participant["alive"] == true && participant["state"] == "live").count()
}

/// How a process ended, and what it wrote.
pub struct Run {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Asserts the exit code, and that stderr contains `saying`.
    #[track_caller]
    pub fn fails(&self, code: i32, saying: &str) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.contains(saying), "{:?} does not say {saying:?}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Run { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr }
    }
}

/// A running process; killed when dropped.
pub struct Process(Option<Child>, Option<JoinHandle<Vec<u8>>>);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Process(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()), None)
    }

    /// Sends it the signal of this name, for example `TERM`.
    pub fn signal(&mut self, name: &str) {
        assert!(run("kill", &[format!("-{name}"), self.child().id().to_string()]));
    }

    /// Starts a thread that reads its stdout.
    pub fn reading(mut self) -> Self {
        let mut stdout = self.child().stdout.take().unwrap();
        self.1 = Some(std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        }));
        self
    }

    /// Waits for the first bytes of its stdout, and reads no more.
    pub fn first_bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 10];
        self.child().stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Writes to its stdin from a thread, and closes it.
    pub fn feed(mut self, input: &[u8]) -> Self {
        let mut stdin = self.child().stdin.take().unwrap();
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
        self
    }

    /// Writes to its stdin, which stays open.
    pub fn write(&mut self, input: &[u8]) {
        self.child().stdin.as_mut().unwrap().write_all(input).unwrap();
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }

    pub fn finish(mut self) -> Run {
        drop(self.child().stdin.take());
        let mut run = Run::from(self.0.take().unwrap().wait_with_output().unwrap());
        if let Some(reader) = self.1.take() {
            run.stdout = reader.join().unwrap();
        }
        run
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a program. Returns false if it is not installed.
pub fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// Pseudo-random bytes, the same each time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}
