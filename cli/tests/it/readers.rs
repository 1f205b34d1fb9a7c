//! What one receiver leaves for the next, and how `recv` and `send` treat the standard streams.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::{ioctl_fionbio, ioctl_fionread};
use slipring::frame::{Form, Frame, Header, Hello, control};

use crate::common::{Place, Process, Run, wait_until};

fn shell(place: &Place, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.env("SLIPRING_DIR", place.path()).env("S", env!("CARGO_BIN_EXE_slipring")).args(["-c", script]);
    command
}

fn run(place: &Place, script: &str) -> Run {
    Process::start(shell(place, script).stdin(Stdio::null())).finish()
}

#[test]
fn a_count_leaves_the_rest_in_a_fifo() {
    let place = Place::new();
    let fifo = format!("fifo:{}/fifo", place.path().display());
    let mut sender = place.start(&format!("send {fifo}"));
    sender.write(b"1\n2\n3\n4\n5\n6\n");
    for text in ["1\n", "2\n"] {
        assert_eq!(place.run(&format!("recv {fifo} --count 1")).succeeds().text(), text);
    }
    place.run(&format!("relay {fifo} ring:x --count 2")).succeeds();
    assert_eq!(place.run("recv ring:x").succeeds().text(), "3\n4\n");
    assert_eq!(place.run(&format!("recv {fifo} --count 2")).succeeds().text(), "5\n6\n");
    sender.finish().succeeds();
}

#[test]
fn a_count_leaves_the_rest_on_stdin() {
    let place = Place::new();
    place.feed("send ring:x", b"one\ntwo\nthree\nfour\n").succeeds();
    let script = "$S relay ring:x - | ($S recv - --count 1; $S relay - ring:y --count 2; $S recv -)";
    assert_eq!(run(&place, script).succeeds().text(), "one\nfour\n");
    assert_eq!(place.run("recv ring:y").succeeds().text(), "two\nthree\n");
}

#[test]
fn a_file_on_stdin_is_left_where_the_last_frame_ends() {
    let place = Place::new();
    std::fs::write(place.file("in"), b"one\ntwo\nthree\n").unwrap();
    let input = place.file("in").display().to_string();
    let got = run(&place, &format!("($S send ring:x --count 1; cat) < {input}")).succeeds().text();
    assert_eq!(got, "two\nthree\n");
}

#[test]
fn a_nonblocking_stdout_is_waited_for() {
    let place = Place::new();
    let text: Vec<u8> = (0..20_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    for verb in ["recv ring:x", "relay ring:x -"] {
        place.feed("send ring:x", &text).succeeds();
        let (mut reader, writer) = pipe().unwrap();
        ioctl_fionbio(&writer, true).unwrap();
        let mut child = place.command(verb).stdout(writer).spawn().unwrap();
        // The command fills the pipe before the test reads from it.
        place.wait_for("stat x", |stat| stat["received"].as_u64() > Some(0) || stat["used"].as_u64() > Some(0));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(child.wait().unwrap().success(), "{verb}");
        assert!(if verb.starts_with("recv") { got == text } else { got.len() > text.len() }, "{verb}");
    }
}

#[test]
fn a_nonblocking_stdin_is_waited_for() {
    let place = Place::new();
    let (reader, mut writer) = pipe().unwrap();
    ioctl_fionbio(&reader, true).unwrap();
    let mut child = place.command("send ring:x").stdin(reader).spawn().unwrap();
    for text in ["one\n", "two\n"] {
        writer.write_all(text.as_bytes()).unwrap();
        assert_eq!(place.run("recv ring:x --count 1").succeeds().text(), text);
    }
    drop(writer);
    assert!(child.wait().unwrap().success());
}

#[test]
fn closed_standard_streams_are_errors_and_no_frame_is_received() {
    let place = Place::new();
    place.feed("send ring:x", b"precious\n").succeeds();
    for script in ["$S recv ring:x >&-", "$S relay ring:x - >&-", "$S ls >&-", "$S send - < /dev/null >&-"] {
        run(&place, script).fails(1, "stdout is closed");
    }
    for script in ["$S send ring:x <&-", "$S recv - <&-", "$S relay - ring:x <&-"] {
        run(&place, script).fails(1, "stdin is closed");
    }
    assert_eq!(run(&place, "$S recv ring:x 2>&-").succeeds().text(), "precious\n");
    File::create(place.file("out")).unwrap();
    let out = place.file("out").display().to_string();
    place.feed("send ring:x", b"to a file\n").succeeds();
    run(&place, &format!("$S recv ring:x --file {out} >&-")).succeeds();
    assert_eq!(std::fs::read(out).unwrap(), b"to a file\n");
}

#[test]
fn recv_follow_waits_for_the_next_sender() {
    let place = Place::new();
    let at = place.path().display().to_string();
    for (from, to) in [
        ("ring:s".to_owned(), "ring:s".to_owned()),
        ("ring:m?kind=mpmc".to_owned(), "ring:m?kind=mpmc".to_owned()),
        (format!("fifo:{at}/fifo"), format!("fifo:{at}/fifo")),
        (format!("unix:{at}/unix?listen"), format!("unix:{at}/unix")),
        (format!("dgram:{at}/dgram"), format!("dgram:{at}/dgram")),
    ] {
        let receiver = place.start(&format!("recv {from} --follow --count 3")).reading();
        for text in ["one\n", "two\n"] {
            place.feed(&format!("send {to}"), text.as_bytes()).succeeds();
        }
        // The receiver may be gone before the sender has said that it closes.
        place.feed(&format!("send {to}"), b"three\n");
        assert_eq!(receiver.finish().succeeds().text(), "one\ntwo\nthree\n", "{from}");
    }
    place.run("recv ring:s --follow --timeout 50ms").fails(124, "nothing arrived");
    place.run("recv - --follow").fails(2, "no next sender");
}

/// The dead sender's last frame waits for the output while the next sender begins.
#[test]
fn a_death_after_the_last_frame_is_reported_though_another_sender_has_begun() {
    let place = Place::new();
    let path = place.file("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let keeper = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path).unwrap();
    let hello = Hello { epoch: 7, ..Hello::new(64) }.encode();
    let mut dead = File::options().write(true).open(&path).unwrap();
    let mut bytes = Vec::new();
    Frame::new(Header::control(control::HELLO, hello.len()).unwrap(), &hello)
        .unwrap()
        .encode(Form::Short, &mut bytes)
        .unwrap();
    Frame::new(Header::PLAIN, b"the last").unwrap().encode(Form::Short, &mut bytes).unwrap();
    dead.write_all(&bytes).unwrap();
    drop(dead);

    let (mut reader, mut writer) = pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    let mut receiver = place.command(&format!("recv fifo:{}", path.display())).stdout(writer).spawn().unwrap();
    wait_until("the FIFO is read", || ioctl_fionread(&keeper).unwrap() == 0);
    let stat = format!("/proc/{}/stat", receiver.id());
    wait_until("it waits for its output", || std::fs::read_to_string(&stat).unwrap().contains(") S "));
    let next = place.start(&format!("send fifo:{}", path.display())).feed(b"of the next sender\n");
    wait_until("the next one has begun", || ioctl_fionread(&keeper).unwrap() > 0);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.trim_start_matches('.'), "the last\n");
    assert_eq!(receiver.wait().unwrap().code(), Some(1));
    drop(keeper);
    next.finish();
}

#[test]
fn a_relay_into_itself_is_refused() {
    let place = Place::new();
    let at = place.path().display().to_string();
    let directory = place.path().file_name().unwrap().to_str().unwrap();
    std::os::unix::fs::symlink(&at, place.file("link")).unwrap();
    File::create(place.file("there")).unwrap();
    std::fs::hard_link(place.file("there"), place.file("hard")).unwrap();
    for (one, other) in [
        ("ring:x".to_owned(), "x".to_owned()),
        ("ring:x?kind=mpmc".to_owned(), "ring:x".to_owned()),
        (format!("fifo:{at}/f"), format!("fifo:{at}/f?pipe_size=8KiB")),
        (format!("fifo:{at}/f"), format!("fifo:{at}/link/f")),
        (format!("fifo:{at}/there"), format!("fifo:{at}/hard")),
        (format!("dgram:{at}/f"), format!("dgram:{at}/../{directory}/./f")),
        (format!("unix:{at}/f?listen"), format!("unix:{at}/link/f")),
        ("fifo:f".to_owned(), "fifo:./f".to_owned()),
        ("mq:/x".to_owned(), "mq:/x".to_owned()),
        ("sysv:9991".to_owned(), "sysv:0x2707".to_owned()),
        (format!("sysv:{at}"), format!("sysv:{at}/link")),
        ("udp:127.0.0.1:7".to_owned(), "udp:127.0.0.1:7".to_owned()),
        ("udp:localhost:7".to_owned(), "udp:127.0.0.1:7".to_owned()),
        ("udp:127.0.0.1:07".to_owned(), "udp:127.1:7".to_owned()),
        ("udp:0.0.0.0:7?remote".to_owned(), "udp:127.0.0.1:7".to_owned()),
        ("tcp:localhost:7?listen".to_owned(), "tcp:127.0.0.1:7".to_owned()),
        ("tcp:127.0.0.1:7?listen".to_owned(), "tcp:[::ffff:127.0.0.1]:7?remote".to_owned()),
    ] {
        place.run(&format!("relay {one} {other} --timeout 10s")).fails(2, "itself");
    }
    for (one, other) in [
        (format!("dgram:{at}/a"), format!("dgram:{at}/b")),
        ("udp:127.0.0.1:7".to_owned(), "udp:127.0.0.2:7".to_owned()),
        ("udp:127.0.0.1:7".to_owned(), "udp:127.0.0.1:8".to_owned()),
    ] {
        let run = place.run(&format!("relay {one} {other} --timeout 1ms"));
        assert!(!run.stderr.contains("itself"), "{one} {other}: {}", run.stderr);
    }
    assert!(!place.file("x").exists() && !place.file("f").exists());
}

#[test]
fn a_required_receiver_that_left_frames_unread_is_an_error_at_the_end() {
    let place = Place::new();
    for to in ["ring:s", "ring:m?kind=mpmc", "ring:b?kind=stream"] {
        let name = &to[5..6];
        let mut receiver = place.start(&format!("recv {to} --rate 0.001/s"));
        place.wait_for_living(name, 1);
        let mut sender = place.start(&format!("send {to} --require-receiver"));
        sender.write(b"012345678\n");
        receiver.first_bytes(); // and nothing more for a long time
        sender.write(b"two\n");
        place.wait_for(&format!("stat {name}"), |stat| stat["sent"].as_u64() > Some(1));
        drop(receiver);
        // No further frame follows whose sending could fail.
        sender.finish().fails(5, "did not take");
    }
}

#[test]
fn a_missing_required_receiver_is_an_error_at_once() {
    let place = Place::new();
    let at = place.path().display().to_string();
    for to in ["ring:s", "ring:m?kind=mpmc", "ring:b?kind=stream"] {
        place.feed(&format!("send {to} --require-receiver"), b"x\n").fails(5, "no receiver");
        let name = &to[5..6];
        assert!(!place.file(name).exists(), "{to}");
        let receiver = place.start(&format!("recv {to}")).reading();
        place.wait_for_living(name, 1);
        let mut sender = place.start(&format!("send {to} --require-receiver"));
        sender.write(b"there\n");
        place.wait_for(&format!("stat {name}"), |stat| stat["received"].as_u64() > Some(0));
        drop(receiver);
        // At the next frame, or soon after: the ring is far from full.
        let mut stdin = sender.child().stdin.take().unwrap();
        let mut lines = 0;
        while stdin.write_all(b"0123456789\n").is_ok() {
            lines += 1;
            assert!(lines < 10_000, "{to}: the receiver's death is not noticed");
            std::thread::sleep(Duration::from_millis(2));
        }
        sender.finish().fails(5, "no receiver");
        assert!(lines < 1000, "{to}: {lines} lines before the receiver's death was noticed");
    }
    for to in [format!("unix:{at}/u"), format!("seqpacket:{at}/q"), format!("dgram:{at}/d"), format!("fifo:{at}/f")] {
        place.feed(&format!("send {to} --require-receiver"), b"x\n").fails(5, "no receiver");
    }
    place.run("send mq:/unread --require-receiver").fails(2, "does not tell");
}
