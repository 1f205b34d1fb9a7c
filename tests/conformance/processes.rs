//! The cases between processes: the other end is this test program, started again with a role in
//! its environment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use slipring::frame::Header;
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Error, endpoint::Endpoint};

use super::again::this_program;
use super::cases::LONGEST;
use super::script::Script;
use super::subject::{Meeting, PATIENCE, Subject, soon};

/// `role endpoint seed frames longest long_in_1000 streams parent`; `None` if this process is no
/// child.
const ROLE: &str = "SLIPRING_CONFORMANCE_ROLE";

/// The line that a child prints when it has opened its receiver. The test harness may have begun
/// the line.
const OPEN: &str = "receiver open";

/// Number of frames in the scripts between processes.
const FRAMES: usize = 1_000;

/// A child process; killed when dropped.
struct Other(Child);

impl Other {
    fn start(role: &str, meeting: &Meeting, endpoint: &str, script: Script) -> Self {
        let Script { seed, frames, longest, long_in_1000, streams } = script;
        let mut command = this_program();
        // A descriptor is passed as standard input for either end, because the harness writes to
        // standard output.
        let (stdin, endpoint) = match meeting.take(endpoint) {
            Some(fd) => (fd.into(), "fd:0"),
            None => (Stdio::null(), endpoint),
        };
        let endpoint = endpoint.replace("PID", &std::process::id().to_string());
        let [a, b, c] = streams;
        let parent = std::process::id();
        let role = format!("{role} {endpoint} {seed} {frames} {longest} {long_in_1000} {a} {b} {c} {parent}");
        command.args(["child", "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        Other(command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Returns when the child has opened its receiver. Killing it earlier would end nothing.
    #[track_caller]
    fn wait_until_open(&mut self) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(OPEN)), "the child ended before it had opened its receiver");
    }

    /// Asserts that the child succeeds.
    #[track_caller]
    fn join(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the child: {status}");
    }

    /// Asserts that the child has not ended.
    #[track_caller]
    fn assert_runs(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "the child: {ended:?}");
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits until the child sleeps, which is probable inside a frame for which there is no room.
    /// Gives up after two seconds, because the child may also be between two steps.
    fn wait_until_asleep(&self) {
        let start = Instant::now();
        let mut asleep = 0;
        while asleep < 3 && start.elapsed() < Duration::from_secs(2) {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            asleep = if state == Some('S') { asleep + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this process is a child.
#[allow(dead_code, reason = "asked only where there is no test harness")]
pub fn is_a_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// The child's program, if this process is one.
pub fn live() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let [role, endpoint, seed, frames, longest, long_in_1000, a, b, c, parent] = words[..] else { panic!("{role:?}") };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let is_there = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get().to_string() == parent);
    assert!(is_there, "the parent has ended already");
    let [frames, longest, long_in_1000] = [frames, longest, long_in_1000].map(|n| n.parse().unwrap());
    let streams = [a, b, c].map(|stream| stream.parse().unwrap());
    let script = Script { seed: seed.parse().unwrap(), frames, longest, long_in_1000, streams };
    let endpoint = Endpoint::parse(endpoint).unwrap();
    match role {
        "send" => {
            let mut tx = endpoint.open_sender(soon()).unwrap();
            let lossless = tx.capabilities().lossless;
            // A sender of lossy frames does not know how far the receiver is: it gives it time.
            let pause = |n: usize| match n % 8 {
                0 if !lossless => std::thread::sleep(Duration::from_millis(1)),
                _ => {}
            };
            script.send(tx.as_mut(), soon(), pause).unwrap();
            tx.close(soon()).unwrap();
        }
        "receive" => {
            let mut rx = endpoint.open_receiver(soon()).unwrap();
            say_open();
            let mut expected = script.expect(rx.capabilities());
            let end = expected.receive_to_the_end(rx.as_mut(), soon());
            assert!(matches!(end, Error::Closed), "{end:?}");
            expected.check();
        }
        "take" => {
            let mut rx = endpoint.open_receiver(soon()).unwrap();
            say_open();
            loop {
                rx.recv_deadline(soon()).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

/// The harness may have begun a line.
fn say_open() {
    println!("{OPEN}");
    std::io::stdout().flush().unwrap();
}

fn longest(subject: &Subject) -> usize {
    LONGEST.min(subject.longest)
}

pub fn a_child_sends(subject: &Subject) {
    let meeting = (subject.meet)();
    let script = Script::mixed(11, FRAMES, longest(subject), subject.streams());
    let (child, mut rx) = open_receiver_from(subject, &meeting, script);
    let mut expected = script.expect(subject.capabilities);
    let end = receive_to_the_end(&mut expected, rx.as_mut());
    assert!(matches!(end, Error::Closed), "{end:?}");
    expected.check();
    child.join();
}

/// A receiver that opened first reports `Empty` or a time-out until a sender attaches.
#[track_caller]
fn receive_to_the_end(expected: &mut super::script::Expected, rx: &mut dyn FrameReceiver) -> Error {
    let start = Instant::now();
    loop {
        match expected.receive_to_the_end(rx, soon()) {
            Error::Closed if expected.seen == 0 && start.elapsed() < PATIENCE => std::thread::yield_now(),
            end => return end,
        }
    }
}

/// Starts a child that sends, and opens the receiver: first, if it would miss frames otherwise.
/// Where both ends have to be there, opening waits for the other one.
fn open_receiver_from(subject: &Subject, meeting: &Meeting, script: Script) -> (Other, Box<dyn FrameReceiver>) {
    let first = subject.opens_receiver_first().then(|| meeting.open_receiver().unwrap());
    let child = Other::start("send", meeting, &meeting.sender, script);
    (child, first.unwrap_or_else(|| meeting.open_receiver().unwrap()))
}

pub fn a_child_receives(subject: &Subject) {
    let meeting = (subject.meet)();
    let script = Script::mixed(12, FRAMES, longest(subject), subject.streams());
    let mut child = Other::start("receive", &meeting, &meeting.receiver, script);
    let mut tx = open_sender_to(&mut child, &meeting);
    if subject.opens_receiver_first() {
        child.wait_until_open();
    }
    let pause = |n: usize| match n % 8 {
        0 if !subject.capabilities.lossless => std::thread::sleep(Duration::from_millis(1)),
        _ => {}
    };
    script.send(tx.as_mut(), soon(), pause).unwrap();
    tx.close(soon()).unwrap();
    child.join();
}

/// Retries while the child has not opened its receiver.
#[track_caller]
fn open_sender_to(child: &mut Other, meeting: &Meeting) -> Box<dyn FrameSender> {
    loop {
        match meeting.open_sender_to(child.0.id()) {
            Ok(tx) => return tx,
            Err(Error::NotFound) => child.assert_runs(),
            Err(error) => panic!("{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn a_sender_killed_in_mid_frame(subject: &Subject) {
    sender_killed(subject, true);
    sender_killed(subject, false);
}

/// The end is reported to a receiver that waits (`patient`), or that polls.
fn sender_killed(subject: &Subject, patient: bool) {
    let meeting = (subject.meet)();
    // Larger than the kernel's buffers, where frames may be: the sender blocks inside a frame.
    let largest = (1 << 20).min(subject.longest);
    let script = Script::large(13, 1_000_000, largest, subject.streams());
    let (mut child, mut rx) = open_receiver_from(subject, &meeting, script);
    let mut expected = script.expect(subject.capabilities);
    while expected.seen < 5 {
        match rx.recv_deadline(soon()) {
            Ok(event) => expected.take(event),
            Err(Error::Closed) if expected.seen == 0 => child.assert_runs(),
            Err(error) => panic!("{error:?}"),
        }
    }
    child.wait_until_asleep();
    child.kill();
    expected.sender_died = true;
    let patience = if subject.capabilities.reports_death { PATIENCE } else { Duration::from_millis(300) };
    let begun = Instant::now();
    let end = loop {
        let deadline = if patient { patience } else { Duration::ZERO };
        match expected.receive_to_the_end(rx.as_mut(), deadline.into()) {
            Error::Timeout if !patient && begun.elapsed() < patience => {}
            end => break end,
        }
    };
    match end {
        Error::PeerDead if subject.capabilities.reports_death => {
            assert!(matches!(rx.try_recv(), Err(Error::PeerDead)), "every call reports it");
        }
        Error::Timeout if !subject.capabilities.reports_death => {}
        other => panic!("{other:?}"),
    }
    if subject.capabilities.survives_restart {
        // The next sender's frames are received, from its first one on.
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| meeting.open_sender().unwrap().send_deadline(Header::PLAIN, b"next", soon()));
            let start = Instant::now();
            loop {
                match rx.recv_deadline(soon()) {
                    Ok(slipring::frame::Event::Frame(frame)) => break assert_eq!(frame.payload, b"next"),
                    Ok(event) => assert!(!subject.capabilities.lossless, "{event:?}"),
                    Err(Error::PeerDead) => std::thread::yield_now(),
                    other => panic!("{other:?}"),
                }
                assert!(start.elapsed() < PATIENCE);
            }
            sender.join().unwrap()
        });
        sent.unwrap();
    }
}

pub fn a_receiver_killed(subject: &Subject) {
    receiver_killed(subject, true);
    receiver_killed(subject, false);
}

/// The end is reported to a sender that waits (`patient`), or that polls.
fn receiver_killed(subject: &Subject, patient: bool) {
    let meeting = (subject.meet)();
    let script = Script::large(14, 100_000, 1000.min(subject.longest), subject.streams());
    let mut child = Other::start("take", &meeting, &meeting.receiver, script);
    let mut tx = open_sender_to(&mut child, &meeting);
    for n in 0..20 {
        let (header, payload) = script.frame(n);
        tx.send_deadline(header, &payload, soon()).unwrap();
    }
    tx.flush(soon()).unwrap();
    child.wait_until_open();
    child.wait_until_asleep();
    child.kill();
    // This process survives (no SIGPIPE), and gets an error or finds no room.
    let patience = if subject.sees_receiver_go { PATIENCE } else { Duration::from_millis(50) };
    let mut outcome = Ok(());
    for n in 20..if subject.capabilities.lossless { script.frames } else { 100 } {
        let (header, payload) = script.frame(n);
        let begun = Instant::now();
        outcome = loop {
            let deadline = if patient { patience } else { Duration::ZERO };
            match tx.send_deadline(header, &payload, deadline) {
                Err(Error::Timeout) if !patient && begun.elapsed() < patience => {}
                other => break other,
            }
        };
        if outcome.is_err() {
            break;
        }
    }
    match outcome {
        Err(Error::Closed | Error::PeerDead) => {}
        Err(Error::Timeout) | Ok(()) if !subject.sees_receiver_go => {}
        other => panic!("{other:?}"),
    }
}
