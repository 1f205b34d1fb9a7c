//! Users: containers whose processes have different uids, in one group or in none, and user
//! namespaces that do not map them. Needs root, to act as several users; without it the tests print
//! SKIPPED.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use slipring::{Error, Options, Ring, Semaphore, spsc};

use super::{DIR, Member, ROLE, SOON, questions, say};
use crate::common::again::copy_program;
use crate::common::dir::TestDir;
use crate::common::this_test::arguments;

const ALICE: u32 = 51_001;
const BOB: u32 = 51_002;
const TEAM: u32 = 52_000;
const STRANGER: u32 = 53_000;
/// What a user looks like who is not mapped.
const OVERFLOW: u32 = 65_534;

/// A directory that all may enter, with this program in it, and a directory for rings.
struct Ground(TestDir);

impl Ground {
    /// The owner, group and mode of the directory for rings. `None`, with a message, without root.
    fn new(uid: u32, gid: u32, mode: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can act as several users");
            return None;
        }
        let ground = Ground(TestDir::with_mode("containers-users", 0o755));
        copy_program(&ground.0.file("program"));
        fs::create_dir(ground.rings()).unwrap();
        chown(ground.rings(), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(ground.rings(), Permissions::from_mode(mode)).unwrap();
        Some(ground)
    }

    fn rings(&self) -> std::path::PathBuf {
        self.0.file("rings")
    }

    /// This program in a role, as a user with a first group, and further ones. `before` is a command
    /// in front of it, such as `unshare`.
    fn program(&self, role: &str, [uid, gid]: [u32; 2], groups: &[u32], before: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        command.arg(if groups.is_empty() { "--clear-groups".into() } else { format!("--groups={}", groups.join(",")) });
        command.args(before).arg(self.0.file("program"));
        arguments(&mut command, super::module(), super::MEMBER);
        command.current_dir("/").env(ROLE, format!("users {role}")).env(DIR, self.rings());
        command
    }

    fn run(&self, role: &str, user: [u32; 2], groups: &[u32], before: &[&str]) {
        let output = self.program(role, user, groups, before).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&text));
    }

    /// One user sends to another, and is killed.
    fn exchange(&self, alice: ([u32; 2], &[u32]), bob: ([u32; 2], &[u32])) {
        let mut tx = Member::start(&mut self.program("send", alice.0, alice.1, &[]));
        let mut rx = Member::start(&mut self.program("recv", bob.0, bob.1, &[]));
        assert_eq!(rx.answer(), "received");
        tx.kill();
        assert_eq!(rx.answer(), "dead");
        let ring = fs::metadata(self.rings().join("ring")).unwrap();
        assert_eq!((ring.uid(), ring.gid(), ring.mode() & 0o7777), (ALICE, TEAM, 0o660));
    }
}

fn shared() -> Options {
    Options::spsc(4096).mode(0o660).trust_group(true)
}

#[track_caller]
fn assert_says<T>(result: slipring::Result<T>, words: &[&str]) {
    let text = result.err().expect("it is refused").to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say {words:?}");
}

pub fn member(role: &str) {
    match role {
        "send" => {
            let mut tx = spsc::Producer::open("ring", &shared()).unwrap();
            say("ready");
            tx.send(b"frame").unwrap();
            questions().for_each(drop);
        }
        "recv" => {
            let mut rx = spsc::Consumer::open("ring", &shared()).unwrap();
            say("ready");
            assert_eq!(&*rx.recv_deadline(SOON).unwrap(), b"frame");
            say("received");
            assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
            say("dead");
        }
        // A member of the group who does not say that it trusts it.
        "distrust" => {
            let advice = ["another user", "trust_group"];
            assert_says(Ring::open("ring", &Options::any()), &advice);
            assert_says(Semaphore::open_or_create("other", 1), &advice);
        }
        "private file" => {
            assert_says(Ring::open("private", &shared()), &["permission denied", "uid 51001", "0600", "0660"])
        }
        "stranger" => {
            let advice = ["permission denied", "rings", "gid 52000", "uid 53000", "0660"];
            assert_says(Ring::open("ring", &shared()), &advice);
            assert_says(Ring::create("new", &shared()), &advice);
        }
        "no member" => assert_says(Ring::open("ring", &shared()), &["another user", "no member"]),
        "unmapped" => {
            let uid = rustix::process::geteuid().as_raw();
            assert_eq!(uid, OVERFLOW, "not mapped");
            let found = fs::metadata(std::env::var(DIR).unwrap()).unwrap();
            assert_eq!((found.uid(), found.gid()), (OVERFLOW, OVERFLOW), "nor is the owner of the directory");
            for options in [Options::any(), Options::any().trust_group(true)] {
                assert!(matches!(Ring::list(&options), Err(Error::Untrusted { .. })), "another user's directory");
            }
            // What is ours is ours, under whatever number.
            let path = std::env::var("SLIPRING_OURS").unwrap();
            let ours = Options::spsc(4096).directory(&path);
            spsc::Producer::open("ring", &ours).unwrap().send(b"frame").unwrap();
            assert_eq!(&*spsc::Consumer::open("ring", &ours).unwrap().recv().unwrap(), b"frame");
            // A peer with our number may be any user.
            let path = Path::new(&path).join("socket");
            let _listener = UnixListener::bind(&path).unwrap();
            let connected = slipring::transport::unix::connect(&path, &Default::default(), SOON);
            assert!(matches!(connected, Err(Error::Untrusted { .. })), "{:?}", connected.err());
        }
        other => panic!("{other}"),
    }
}

/// With a directory as an administrator makes it, or Kubernetes with `fsGroup`.
#[test]
fn users_of_a_group_share_a_ring() {
    for (mode, alice, bob) in [
        (0o2770, ([ALICE, ALICE], &[TEAM][..]), ([BOB, BOB], &[TEAM][..])),
        // Without a set-group-id bit, and whatever the first group is.
        (0o770, ([ALICE, ALICE], &[TEAM]), ([BOB, TEAM], &[])),
        (0o770, ([ALICE, TEAM], &[]), ([BOB, BOB], &[7, TEAM])),
    ] {
        let Some(ground) = Ground::new(0, TEAM, mode) else { return };
        ground.exchange(alice, bob);
        ground.run("distrust", bob.0, bob.1, &[]);
        ground.run("stranger", [STRANGER, STRANGER], &[7], &[]);
    }
}

/// The first to come makes the directory, in one that all may write to.
#[test]
fn a_directory_for_the_group_is_made_by_the_first_user() {
    let Some(ground) = Ground::new(0, TEAM, 0o2777) else { return };
    let inner = ground.rings().join("team");
    let at = |mut command: Command| {
        command.env(DIR, &inner);
        command
    };
    let mut tx = Member::start(&mut at(ground.program("send", [ALICE, ALICE], &[TEAM], &[])));
    let mut rx = Member::start(&mut at(ground.program("recv", [BOB, BOB], &[TEAM], &[])));
    assert_eq!(rx.answer(), "received");
    tx.kill();
    let made = fs::metadata(&inner).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (ALICE, TEAM, 0o2770));
    // A directory that all may write to is trusted by none.
    fs::set_permissions(&inner, Permissions::from_mode(0o777)).unwrap();
    let refused = at(ground.program("recv", [BOB, BOB], &[TEAM], &[])).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chmod o-rwx"), "{refused:?}");
}

#[test]
fn those_who_are_in_no_common_group_are_told_what_to_do() {
    // All may enter, none but the owner may write: only the members may trust the group.
    let Some(ground) = Ground::new(ALICE, TEAM, 0o2775) else { return };
    let mut tx = Member::start(&mut ground.program("send", [ALICE, ALICE], &[TEAM], &[]));
    fs::set_permissions(ground.rings(), Permissions::from_mode(0o2755)).unwrap();
    ground.run("no member", [STRANGER, STRANGER], &[], &[]);
    let private = ground.rings().join("private");
    fs::copy(ground.rings().join("ring"), &private).unwrap();
    chown(&private, Some(ALICE), Some(TEAM)).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o600)).unwrap();
    ground.run("private file", [BOB, BOB], &[TEAM], &[]);
    tx.kill();
}

/// In a user namespace that maps neither of them, two users look the same.
#[test]
fn an_unmapped_user_is_not_taken_for_another_one() {
    let Some(ground) = Ground::new(ALICE, ALICE, 0o755) else { return };
    let probe = Command::new("setpriv")
        .args(["--reuid=51002", "--regid=51002", "--clear-groups", "unshare", "--user", "true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("SKIPPED: users may not make user namespaces here");
        return;
    }
    let ours = ground.0.file("ours");
    fs::create_dir(&ours).unwrap();
    fs::set_permissions(&ours, Permissions::from_mode(0o700)).unwrap();
    chown(&ours, Some(BOB), Some(BOB)).unwrap();
    let mut command = ground.program("unmapped", [BOB, BOB], &[], &["unshare", "--user"]);
    let output = command.env("SLIPRING_OURS", &ours).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
