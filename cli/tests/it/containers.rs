//! The command line in containers: what observers are told about processes of another one, and what
//! `doctor` says where something is wrong.
//!
//! A container here is a command under `unshare(1)`. Where a namespace is not allowed, the test
//! prints SKIPPED and why.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use crate::common::{Place, Process, Run};

/// As a container engine starts a container by default.
const PLAIN: &[&str] = &["--pid", "--mount-proc", "--ipc"];

/// `command` in these namespaces, after `setup`, commands of a shell. `None`, with a message, where
/// that is not allowed.
fn inside(namespaces: &[&str], setup: &str, command: &Command) -> Option<Command> {
    let start = |namespaces: &[&str]| {
        let mut outer = Command::new("unshare");
        outer.args(namespaces).args(["--fork", "--kill-child", "sh", "-ec"]);
        outer.arg(format!("{setup}\nexec \"$@\"")).arg("sh");
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer
    };
    let rootless = [namespaces, &["--user", "--map-root-user"]].concat();
    let mut message = String::new();
    for namespaces in [namespaces, &rootless] {
        match start(namespaces).arg("true").output() {
            Ok(output) if output.status.success() => {
                let mut outer = start(namespaces);
                outer.arg(command.get_program()).args(command.get_args());
                return Some(outer);
            }
            Ok(output) => message = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => message = error.to_string(),
        }
    }
    println!("SKIPPED: unshare {}: not allowed here: {message}", namespaces.join(" "));
    None
}

/// Runs a verb in a container of its own, to its end.
fn run(place: &Place, arguments: &str) -> Option<Run> {
    let mut command = inside(PLAIN, "true", &place.command(arguments))?;
    Some(Run::from(command.output().unwrap()))
}

fn json(place: &Place, arguments: &str) -> Option<Value> {
    let run = run(place, &format!("{arguments} --json"))?.succeeds();
    Some(serde_json::from_slice(&run.stdout).unwrap())
}

/// A receiver in one container, which has the pid 1 there; the verbs run in others, each with the
/// pid 1, and outside of all.
#[test]
fn the_life_of_a_process_in_another_container_is_known_and_its_pid_is_marked() {
    let place = Place::new();
    place.run("create ring:x?capacity=4096").succeeds();
    let Some(mut command) = inside(PLAIN, "true", &place.command("recv ring:x")) else { return };
    let mut receiver = Process::start(command.stdin(std::process::Stdio::null()));
    place.wait_for_living("x", 1);
    for info in [place.json("info x"), json(&place, "info x").unwrap()] {
        let participant = &info["participants"][0];
        assert_eq!((&participant["alive"], &participant["state"]), (&true.into(), &"live".into()), "{info}");
        assert_eq!((&participant["pid"], &participant["pid_namespace"]), (&1.into(), &"other".into()), "{info}");
        assert_eq!((&participant["command"], &participant["process"]), (&Value::Null, &Value::Null), "{info}");
    }
    for run in [place.run("info x"), run(&place, "info x").unwrap()] {
        let text = run.succeeds().text();
        assert!(text.contains(" 1*") && text.contains("* in another pid namespace"), "{text}");
    }
    assert_eq!(json(&place, "ls").unwrap()["state"], "live");
    assert_eq!(json(&place, "stat x").unwrap()["consumers"], 1);
    for verb in ["gc --all", "gc --idle", "gc"] {
        assert_eq!(run(&place, verb).unwrap().succeeds().text(), "", "{verb}");
        assert_eq!(place.run(verb).succeeds().text(), "", "{verb}");
    }
    place.wait_for_living("x", 1);
    receiver.kill();
    assert_eq!(json(&place, "ls").unwrap()["state"], "stale");
    assert_eq!(json(&place, "info x").unwrap()["participants"][0]["state"], "dead");
    let removed = run(&place, "gc").unwrap().succeeds().text();
    assert_eq!(removed, "x: reaped 1 dead\nx: removed\n");
}

#[test]
fn a_process_outside_is_alive_for_observers_in_a_container() {
    let place = Place::new();
    place.run("create ring:x?capacity=4096").succeeds();
    let mut receiver = place.start("recv ring:x");
    place.wait_for_living("x", 1);
    let Some(info) = json(&place, "info x") else { return };
    let participant = &info["participants"][0];
    let pid = receiver.child().id();
    assert_eq!((&participant["alive"], &participant["pid"]), (&true.into(), &pid.into()), "{info}");
    assert_eq!(participant["pid_namespace"], "other", "{info}");
    assert_eq!(place.json("info x")["participants"][0]["pid_namespace"], "own");
    assert_eq!(run(&place, "gc --all").unwrap().succeeds().text(), "");
    receiver.kill();
    assert_eq!(json(&place, "ls").unwrap()["state"], "stale");
}

/// In a read-only directory, observers work; nothing can be attached.
#[test]
fn rings_in_a_read_only_directory_are_observed() {
    let place = Place::new();
    place.feed("send ring:x?capacity=4096", b"one\ntwo\n").succeeds();
    let setup = "mount --bind $SLIPRING_DIR $SLIPRING_DIR; mount -o remount,bind,ro $SLIPRING_DIR";
    let read =
        |arguments: &str| Some(Run::from(inside(&["--mount"], setup, &place.command(arguments))?.output().unwrap()));
    let Some(info) = read("info x --json") else { return };
    assert!(info.succeeds().text().contains("\"name\":\"x\""));
    let stat: Value = serde_json::from_slice(&read("stat x --json").unwrap().succeeds().stdout).unwrap();
    assert_eq!(stat["sent"], 2);
    let ls: Value = serde_json::from_slice(&read("ls --json").unwrap().succeeds().stdout).unwrap();
    assert_eq!(ls["state"], "idle");
    assert!(read("verify x").unwrap().succeeds().text().contains('2'));
    read("recv ring:x").unwrap().fails(1, "mounted read-only");
    read("create ring:y").unwrap().fails(1, "mounted read-only");
}

/// The checks of `doctor`, by name.
fn doctor(command: &mut Command) -> impl Fn(&str) -> (String, String, String) + use<> {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let checks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = checks.iter().any(|check| check["verdict"] == "FAIL");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{text}{}", String::from_utf8_lossy(&output.stderr));
    move |name| {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {text}"));
        let field = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
        (field("verdict"), field("found"), field("fix"))
    }
}

#[track_caller]
fn says((verdict, found, fix): (String, String, String), expected: &str, finding: &str, flags: &[&str]) {
    assert_eq!(verdict, expected, "{found}");
    assert!(found.contains(finding), "{found:?} does not say {finding:?}");
    assert!(flags.iter().all(|flag| fix.contains(flag)), "{fix:?} does not name {flags:?}");
}

/// `doctor` in namespaces, after `setup`, without a directory of its own if `setup` unsets it.
fn diagnose(
    place: &Place,
    namespaces: &[&str],
    setup: &str,
) -> Option<impl Fn(&str) -> (String, String, String) + use<>> {
    inside(namespaces, setup, &place.command("doctor --json")).map(|mut command| doctor(&mut command))
}

#[test]
fn doctor_finds_nothing_wrong_in_namespaces_that_share_the_directory() {
    let place = Place::new();
    let Some(check) = diagnose(&place, PLAIN, "true") else { return };
    says(check("container"), "OK", "ipc", &[]);
    says(check("container"), "OK", "pids of other ones mean nothing here", &[]);
    for name in ["proc", "directory", "file system", "allocation", "memfd"] {
        assert_eq!(check(name).0, "OK", "{name}: {}", check(name).1);
    }
}

#[test]
fn doctor_says_how_to_get_more_than_64_mib_and_to_share_them() {
    let place = Place::new();
    let setup = "mount -t tmpfs -o size=64m shm /dev/shm; unset SLIPRING_DIR XDG_RUNTIME_DIR";
    let Some(check) = diagnose(&place, PLAIN, setup) else { return };
    says(check("space"), "WARN", "64 MiB in all", &["--shm-size=1g", "sizeLimit: 1Gi"]);
    let flags = ["-v /dev/shm/slipring:/dev/shm/slipring", "--ipc=shareable", "--ipc=container:", "emptyDir"];
    says(check("file system"), "WARN", "made for this container", &flags);
}

#[test]
fn doctor_says_that_a_directory_is_read_only() {
    let place = Place::new();
    let setup = "mount --bind $SLIPRING_DIR $SLIPRING_DIR; mount -o remount,bind,ro $SLIPRING_DIR";
    let Some(check) = diagnose(&place, PLAIN, setup) else { return };
    says(check("file system"), "FAIL", "read-only", &[":ro", "readOnly", "--tmpfs"]);
    assert_eq!(check("allocation").0, "FAIL");
}

#[test]
fn doctor_says_who_the_user_is_outside() {
    let place = Place::new();
    let Some(check) = diagnose(&place, &["--user", "--map-user=1234"], "true") else { return };
    says(check("user"), "WARN", "uid 1234 here is uid ", &["--userns=host", "--userns=keep-id", "--user"]);
    says(check("container"), "OK", "user", &[]);
    let Some(check) = diagnose(&place, &["--user"], "true") else { return };
    says(check("user"), "FAIL", "uid 65534 is what every unmapped user looks like", &["--user", "uid_map"]);
    assert_eq!(check("directory").0, "OK", "its own nevertheless");
}

#[test]
fn doctor_says_whose_directory_it_is() {
    let place = Place::new();
    if chown(place.path(), Some(12_345), None).is_err() {
        println!("SKIPPED: only root can give a directory away");
        return;
    }
    let check = doctor(&mut place.command("doctor --json"));
    says(check("directory"), "FAIL", "belongs to another user", &["--user UID:GID", "runAsUser", "SLIPRING_DIR"]);
    let fix = place.run("doctor").text();
    assert!(fix.contains("FAIL  directory"), "{fix}");
}

#[test]
fn doctor_says_that_proc_is_missing_or_another_ones() {
    let place = Place::new();
    let Some(check) = diagnose(&place, PLAIN, "mount -t tmpfs none /proc") else { return };
    says(check("proc"), "FAIL", "/proc is not mounted", &["mount -t proc proc /proc"]);
    let Some(check) = diagnose(&place, &["--pid"], "true") else { return };
    says(check("proc"), "WARN", "another pid namespace", &["mount -t proc proc /proc"]);
}

#[test]
fn doctor_says_that_the_clock_is_ahead() {
    let place = Place::new();
    let Some(check) = diagnose(&place, &["--time", "--monotonic", "1000000"], "true") else { return };
    says(check("time"), "WARN", "1000000 s ahead", &["time namespace"]);
}

#[test]
fn doctor_says_what_may_not_be_locked() {
    let place = Place::new();
    let Some(check) = diagnose(&place, &["--user", "--map-root-user"], "ulimit -l 64") else { return };
    says(check("memlock"), "WARN", "64 KiB", &["--ulimit memlock=-1"]);
}

#[test]
fn doctor_says_which_calls_a_filter_forbids() {
    let place = Place::new();
    let mut command = place.command("doctor --json");
    // SAFETY: `forbid` makes two system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(forbid) };
    let check = doctor(&mut command);
    says(check("seccomp"), "OK", "a filter of system calls", &[]);
    for name in ["memfd", "membarrier", "futex_waitv", "pidfd"] {
        says(check(name), "WARN", "", &["seccomp profile", "--security-opt seccomp=FILE"]);
    }
}

/// Puts this process under a filter that forbids what rings can do without.
fn forbid() -> std::io::Result<()> {
    const CALLS: [libc::c_long; 4] =
        [libc::SYS_memfd_create, libc::SYS_membarrier, libc::SYS_futex_waitv, libc::SYS_pidfd_open];
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0); CALLS.len() + 3];
    for (n, call) in CALLS.iter().enumerate() {
        let jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32);
        program[n + 1] = libc::sock_filter { jt: (CALLS.len() - n) as u8, ..jump };
    }
    program[CALLS.len() + 1] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    program[CALLS.len() + 2] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: sets a flag of this thread.
    let flag = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the filter is a whole program, which the kernel copies.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if flag == 0 && set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
