//! Where no thread can be started, a command prints that and fails; it does not panic.
//!
//! Each command drops root, to which no limit applies. It becomes a user that no other process has,
//! with a limit of one process or thread. Where that cannot be done, the test prints why and is
//! skipped.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::common::{Process, run};
use tempfile::TempDir;

/// A directory with a copy of the binary, owned by a user outside the ranges that are assigned.
struct Limited {
    directory: TempDir,
    user: u32,
}

impl Limited {
    fn new() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("slipring-cli-").tempdir()?;
        let user = 1_600_000_000 + std::process::id();
        let binary = directory.path().join("slipring");
        // By another process: the kernel executes no file that is open for writing, and a child
        // that another test is starting would have a copy of our descriptor until its `execve`.
        assert!(run(
            "install",
            &["-m".as_ref(), "755".as_ref(), env!("CARGO_BIN_EXE_slipring").as_ref(), binary.as_os_str()]
        ));
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700))?;
        chown(directory.path(), Some(user), Some(user))?;
        Ok(Limited { directory, user })
    }

    /// A command that runs the binary as that user.
    fn command(&self, arguments: &str) -> Command {
        let user = self.user;
        let mut command = Command::new(self.directory.path().join("slipring"));
        command.current_dir(self.directory.path()).env("SLIPRING_DIR", self.directory.path());
        command.args(arguments.split(' ')).stdin(Stdio::piped());
        let become_limited = move || {
            let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
            // SAFETY: a valid limit.
            if unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const one) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: a plain number.
            if unsafe { libc::setuid(user) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(become_limited) };
        command
    }
}

#[test]
fn commands_that_need_a_thread_report_that_none_can_be_started() {
    let limited = match Limited::new() {
        Ok(limited) => limited,
        Err(error) => return println!("SKIPPED: no directory of another user: {error}"),
    };
    // A command without threads works, so the failures of the others are due to the limit.
    match limited.command("create ring:there").output() {
        Ok(created) => assert!(created.status.success(), "{created:?}"),
        Err(error) => return println!("SKIPPED: cannot run as another user: {error}"),
    }
    for arguments in [
        "recv unix:socket --count 1",
        "send unix:socket",
        "recv fifo:fifo --count 1",
        "send fifo:fifo",
        "recv tcp:127.0.0.1:0?listen --count 1",
        "relay unix:socket ring:there",
        "relay ring:there unix:socket",
        "relay --duplex unix:one unix:two",
    ] {
        let mut command = limited.command(&format!("{arguments} --timeout 20s"));
        Process::start(&mut command).feed(b"one\n").finish().fails(1, "a thread");
    }
}
