//! Rings between containers: processes with pid, mount, IPC, user and time namespaces of their own,
//! as Docker, Podman and Kubernetes give them, which share one directory or pass descriptors.
//!
//! A container here is this test program, started by `unshare(1)` as the first process of its
//! namespaces, so several of them have the pid 1 at a time. Where a namespace is not allowed, the
//! test prints SKIPPED and why.

mod kinds;
mod limits;
mod users;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::this_test::this_test;

/// Longer than anything takes on a loaded machine.
const SOON: Duration = Duration::from_secs(60);
const ROLE: &str = "SLIPRING_CONTAINER_ROLE";
const DIR: &str = "SLIPRING_DIR";

/// As a container engine starts a container by default.
const PLAIN: &[&str] = &["--pid", "--mount-proc", "--ipc", "--uts"];
/// With a user namespace that maps root alone, as an engine without root does.
const ROOTLESS: &[&str] = &["--pid", "--mount-proc", "--ipc", "--uts", "--user", "--map-root-user"];
/// With a monotonic clock and a boot time that are days ahead.
const TIME: &[&str] =
    &["--pid", "--mount-proc", "--ipc", "--uts", "--time", "--monotonic", "1000000", "--boottime", "2000000"];

/// Namespaces, and what is done in them before the program starts.
#[derive(Clone, Copy)]
struct Container<'a> {
    namespaces: &'a [&'a str],
    /// Shell commands; `$SLIPRING_DIR` is the shared directory.
    setup: &'a str,
}

impl Container<'_> {
    const fn of<'a>(namespaces: &'a [&'a str]) -> Container<'a> {
        Container { namespaces, setup: "true" }
    }

    /// A command that runs `program` in it. `None`, with a message, where that is not allowed.
    fn command(&self, program: &Command, dir: &Path) -> Option<Command> {
        let start = |namespaces: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(namespaces).args(["--fork", "--kill-child", "sh", "-ec"]);
            command.arg(format!("{}\nexec \"$@\"", self.setup)).arg("sh").env(DIR, dir);
            command
        };
        let rootless = [self.namespaces, &["--user", "--map-root-user"]].concat();
        let mut message = String::new();
        for namespaces in [self.namespaces, &rootless] {
            match start(namespaces).arg("true").output() {
                Ok(output) if output.status.success() => {
                    let mut command = start(namespaces);
                    command.arg(program.get_program()).args(program.get_args());
                    let variables = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
                    command.envs(variables);
                    return Some(command);
                }
                Ok(output) => message = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => message = error.to_string(),
            }
        }
        println!("SKIPPED: unshare {}: not allowed here: {message}", self.namespaces.join(" "));
        None
    }

    /// Starts this program in it, in this role.
    fn start(&self, role: &str, dir: &Path) -> Option<Member> {
        let mut command = self.command(&member(role), dir)?;
        Some(Member::start(&mut command))
    }

    /// Runs the role to its end.
    fn run(&self, role: &str, dir: &Path) -> Option<()> {
        let output = self.command(&member(role), dir)?.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&text));
        Some(())
    }
}

/// The test that is the process in a container.
const MEMBER: &str = "member_of_a_container";

fn module() -> &'static str {
    module_path!()
}

/// This program, in this role.
fn member(role: &str) -> Command {
    let mut command = this_test(module(), MEMBER);
    command.env(ROLE, role);
    command
}

/// A process in a role, which is asked by lines. Killed when dropped.
struct Member {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts it, and waits until it prints "ready".
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut member = Member { child, input, output };
        assert_eq!(member.answer(), "ready");
        member
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
    }

    /// The next line for us; the test harness prints others.
    fn answer(&mut self) -> String {
        let lines = self.output.by_ref().map(Result::unwrap);
        let mut answers = lines.filter_map(|line| Some(line.split_once("=> ")?.1.to_owned()));
        answers.next().expect("the member has ended")
    }

    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }

    /// As `kill -9` from outside of its container.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("=> {what}");
}

/// The lines that a member is asked.
fn questions() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map(Result::unwrap)
}

/// Not a test: the process in a container, if this is one.
#[test]
fn member_of_a_container() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (part, role) = role.split_once(' ').unwrap_or((&role, ""));
    match part {
        "kinds" => kinds::member(role),
        "limits" => limits::member(role),
        "users" => users::member(role),
        other => panic!("{other}"),
    }
}
