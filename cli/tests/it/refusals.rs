//! Bad input: a clear error, the right exit code, and nothing lost or changed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::common::{Place, run};

#[test]
fn invalid_names_and_options_are_refused() {
    let place = Place::new();
    let too_long = format!("create ring:{}", "n".repeat(129));
    for (arguments, saying) in [
        ("create ring:", "segment name"),
        ("create ring:a/b", "segment name"),
        ("create ring:..", "segment name"),
        ("create ring:.hidden", "segment name"),
        ("create ring:bell\x07", "segment name"),
        ("create ring:line\nbreak", "segment name"),
        (&too_long, "segment name"),
        ("create https:host:1", "known schemes: ring"),
        ("create ring:x?colour=red", "known for ring are kind, capacity"),
        ("create ring:x?kind=lifo", "spsc, mpmc, mpsc, stream, latest or broadcast"),
        ("create ring:x?capacity=0", "capacity"),
        ("create ring:x?capacity=9223372036854775808", "capacity"),
        ("create ring:x?capacity=many", "size"),
        ("create ring:x?slots=0", "slots"),
        ("create ring:x?slots=3&slot=2GiB", "slot size"),
        ("create ring:x?participants=0", "participants"),
        ("create ring:x?mode=0999", "mode"),
        ("create ring:x?slots=4&capacity=4KiB", "capacity is for byte rings"),
        ("send ring:x --framing words", "lines, nul, len32"),
        ("send ring:x --rate 0/s", "frames per second"),
        ("send ring:x --kind 7", "frame kind"),
        ("recv ring:x --timeout soon", "duration"),
        ("info ../x", "segment name"),
        ("rm a/b", "segment name"),
    ] {
        place.run(arguments).fails(2, saying);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was created");
}

#[test]
fn a_size_that_was_rounded_up_is_reported() {
    let place = Place::new();
    let run = place.run("create ring:x?capacity=5000").succeeds();
    assert!(run.stderr.contains("capacity of 8192 bytes (requested: 5000)"), "{}", run.stderr);
    let run = place.run("create ring:y?slots=1000").succeeds();
    assert!(run.stderr.contains("1024 slots (requested: 1000)"), "{}", run.stderr);
    assert_eq!(place.run("-q create ring:z?capacity=5000").succeeds().stderr, "");
}

#[test]
fn with_json_notes_are_json_too() {
    let place = Place::new();
    let run = place.run("create ring:x?capacity=5000 --json").succeeds();
    assert_eq!(
        run.stderr, "{\"note\":\"ring:x has a capacity of 8192 bytes (requested: 5000)\"}\n",
        "the note is the only line"
    );
    assert_eq!(place.run("create ring:y?capacity=5000 --json -q").succeeds().stderr, "");
    let run = place.run("rm nothing ring:also-nothing x --json");
    let lines = run.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let codes: Vec<_> = lines.map(|line| line["code"].as_u64()).collect();
    assert_eq!((codes, run.code), (vec![Some(5), Some(5)], 5));
}

#[test]
fn opening_a_ring_of_another_kind_is_refused() {
    let place = Place::new();
    place.feed("send ring:x", b"precious\n").succeeds();
    for arguments in ["recv ring:x?kind=mpmc", "send ring:x?slots=4", "info ring:x?kind=stream"] {
        let run = place.run(arguments);
        run.fails(3, "the ring is of kind spsc");
    }
    place.run("create ring:x").fails(1, "already exists");
    assert_eq!(place.run("recv ring:x").succeeds().text(), "precious\n");
    place.run("create ring:bytes?kind=stream").succeeds();
    place.run("recv ring:bytes --framing lines").fails(2, "raw");
    place.run("send ring:bytes --framing nul").fails(2, "raw");
}

#[test]
fn a_refused_command_creates_nothing() {
    let place = Place::new();
    let at = place.path().display().to_string();
    for (arguments, code, saying) in [
        ("send ring:x?kind=stream --framing lines", 2, "no frames: --framing raw, not lines"),
        ("send ring:x?kind=stream --kind 0x107", 2, "no frames: no --kind"),
        ("send ring:x?kind=stream --stream 7", 2, "no frames: no --stream"),
        ("recv ring:x?kind=stream --framing nul", 2, "no frames: --framing raw, not nul"),
        ("recv ring:x?kind=stream --json", 2, "no frames: no --json"),
        ("recv ring:x?kind=stream --kind 0x107", 2, "no frames: no --kind"),
        ("recv ring:x?kind=stream --stream 7", 2, "no frames: no --stream"),
        ("send ring:x --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("send ring:x --file /", 1, "/: is a directory"),
        ("send fifo:AT/f --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("send unix:AT/u?listen --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("recv ring:x --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("recv ring:x --file /", 1, "/: Is a directory"),
        ("recv fifo:AT/f --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("recv unix:AT/u?listen --file /does/not/exist", 1, "/does/not/exist: No such file"),
        ("recv fifo:AT/f?pipe_size=99TiB", 2, "pipe size"),
        ("send fifo:AT/f?pipe_size=99TiB", 2, "pipe size"),
        ("send fifo:AT/f --require-receiver", 5, "no receiver"),
        ("send ring:x --require-receiver", 5, "no receiver"),
        ("recv unix:AT/u?listen&capacity=64K", 2, "upgrade=ring"),
        ("recv unix:AT/u?listen&upgrade=ring&capacity=99TiB --timeout 9s", 2, "capacity"),
        ("recv dgram:AT/no/d --file AT/file", 2, "directory does not exist"),
        ("recv mq:ticks --file AT/file", 2, "queue name"),
        ("recv signal:1 --file AT/file", 2, "only its own signals"),
        ("recv mq:/slipring-none?create=no --file AT/file", 5, "not found"),
        ("recv unix:AT/u --timeout 10ms --file AT/file", 5, "not found"),
        ("relay ring:x?kind=stream ring:y", 1, "carries bytes, not frames"),
        ("relay ring:y ring:x?kind=stream", 1, "carries bytes, not frames"),
        ("relay ring:y fifo:AT/f?pipe_size=99TiB", 2, "pipe size"),
        ("relay fifo:AT/f?pipe_size=99TiB ring:y", 2, "pipe size"),
        ("relay signal:1 ring:y", 2, "only its own signals"),
        ("relay ring:y signal:", 2, "must name its receiver"),
        ("relay sysv:/does/not/exist ring:y", 2, "file that exists"),
        ("relay fd:99 ring:y", 2, "it is not open"),
        ("relay mq:ticks ring:y", 2, "queue name"),
        ("relay mq:/slipring-none?message_size=1 ring:y", 2, "limits of a queue"),
        ("relay udp:127.0.0.1:9?datagram=1 ring:y", 2, "datagram size"),
        ("relay unix:/does/not/exist ring:y", 2, "directory does not exist"),
        ("relay fifo:/does/not/exist ring:y", 2, "directory does not exist"),
        ("relay ring:y udp:127.0.0.1:9?listen", 2, "listen"),
        ("relay --duplex unix:AT/u?listen ring:y", 1, "both directions"),
    ] {
        let arguments = arguments.replace("AT", &at);
        place.run(&arguments).fails(code, saying);
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{arguments} left {left:?}");
    }
}

#[test]
fn an_output_file_keeps_its_contents_if_nothing_can_be_received() {
    let place = Place::new();
    let file = place.file("file");
    let (at, to) = (place.path().display(), format!("--file {}", file.display()));
    place.run("create ring:there").succeeds();
    fs::write(&file, b"precious").unwrap();
    for arguments in [
        "recv ring:there?kind=mpmc".to_owned(),
        "recv ring:x?kind=stream --json".to_owned(),
        "recv mq:/slipring-none?create=no".to_owned(),
        format!("recv unix:{at}/u --timeout 10ms"),
        format!("recv unix:{at}/u?listen --timeout 10ms"),
    ] {
        assert_ne!(place.run(&format!("{arguments} {to}")).code, 0, "{arguments}");
        assert_eq!(fs::read(&file).unwrap(), b"precious", "{arguments}");
    }
    place.feed("send ring:there", b"new\n").succeeds();
    place.run(&format!("recv ring:there {to}")).succeeds();
    assert_eq!(fs::read(&file).unwrap(), b"new\n");
    symlink(place.file("target"), place.file("link")).unwrap();
    place.feed("send ring:there", b"new\n").succeeds();
    place.run(&format!("recv ring:there --file {at}/link")).succeeds();
    assert_eq!(fs::read(place.file("target")).unwrap(), b"new\n");
}

#[test]
fn missing_rings_and_files_are_not_found() {
    let place = Place::new();
    for verb in ["info", "stat", "verify", "dump", "rm"] {
        place.run(&format!("{verb} nothing")).fails(5, "not found");
    }
    place.run("send ring:x --file /does/not/exist").fails(1, "/does/not/exist");
}

#[test]
fn frames_that_are_too_large_are_refused() {
    let place = Place::new();
    let text = [b"fits\n".to_vec(), b"x".repeat(300), b"\nfits\n".to_vec()].concat();
    let run = place.feed("send ring:x?kind=mpmc&slot=104", &text);
    run.fails(1, "line 2 is 300 bytes long, and a slot of the ring takes at most 104 (create it with a larger slot)");
    assert_eq!(place.run("recv ring:x").succeeds().text(), "fits\n");
    place
        .feed("send ring:y?capacity=4096 --framing fixed:5000", &text)
        .fails(1, "the ring takes at most 4072 (create it with a larger capacity)");
    place
        .feed("send -?max_payload=100 --timeout 9s", &text)
        .fails(1, "the channel takes at most 100 (raise max_payload");
    place.feed("send ring:z --framing len32", b"\x05\0\0\0abc").fails(1, "ends inside frame 1");
    assert_eq!(place.run("recv ring:z --timeout 10ms").code, 0, "the sender closed");
    place.feed("send ring:z", b"four\n").succeeds();
    place.run("recv ring:z --framing fixed:5").fails(1, "stays in the ring");
    assert_eq!(place.run("recv ring:z --framing fixed:4").succeeds().text(), "four");
}

#[test]
fn damaged_segments_are_refused_and_not_changed() {
    let place = Place::new();
    type Damage = fn(&File);
    let damages: [(&str, Damage); 6] = [
        ("empty", |file| file.set_len(0).unwrap()),
        ("short", |file| file.set_len(100).unwrap()),
        ("truncated", |file| file.set_len(8192).unwrap()),
        ("longer", |file| file.set_len(16 << 20).unwrap()),
        ("magic", |file| overwrite(file, 0, b"SLAPRING")),
        ("flipped", |file| overwrite(file, 40, b"\xA5\xA5")),
    ];
    for (name, damage) in damages {
        place.run(&format!("create ring:{name}")).succeeds();
        damage(&OpenOptions::new().write(true).open(place.file(name)).unwrap());
        let before = fs::read(place.file(name)).unwrap();
        for verb in ["info", "stat", "verify", "dump", "recv", "send"] {
            let run = place.run(&format!("{verb} ring:{name}"));
            run.fails(3, &format!("ring:{name}: "));
        }
        assert!(place.run("ls --json").succeeds().text().contains("\"state\":\"corrupt\""));
        place.run("gc --all").succeeds();
        assert!(fs::read(place.file(name)).unwrap() == before, "{name} was changed");
        place.run(&format!("rm --force {name}")).succeeds();
    }
}

fn overwrite(mut file: &File, at: u64, bytes: &[u8]) {
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn untrustworthy_files_are_refused() {
    let place = Place::new();
    place.run("create ring:real").succeeds();
    symlink(place.file("real"), place.file("link")).unwrap();
    assert!(run("mkfifo", &[place.file("fifo")]));
    fs::create_dir(place.file("directory")).unwrap();
    place.run("create ring:writable").succeeds();
    fs::set_permissions(place.file("writable"), Permissions::from_mode(0o620)).unwrap();
    place.run("create ring:twice").succeeds();
    fs::hard_link(place.file("twice"), place.file("again")).unwrap();
    for (name, saying) in [
        ("link", "symbolic link"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
        ("writable", "other users may write"),
        ("twice", "hard link"),
    ] {
        for verb in ["info", "recv", "send", "rm"] {
            place.run(&format!("{verb} ring:{name}")).fails(1, saying);
        }
    }
    assert!(place.file("link").exists() && place.file("fifo").exists());
}

#[test]
fn segments_of_another_user_are_refused() {
    let place = Place::new();
    place.run("create ring:theirs").succeeds();
    let is_root = run("chown", &["12345".as_ref(), place.file("theirs").as_os_str()]);
    if is_root {
        place.run("recv ring:theirs").fails(1, "belongs to another user");
        let directory = place.file("dir");
        fs::create_dir(&directory).unwrap();
        assert!(run("chown", &["12345".as_ref(), directory.as_os_str()]));
        place.run(&format!("--dir {} ls", directory.display())).fails(1, "belongs to another user");
    }
}

#[test]
fn untrustworthy_directories_are_refused() {
    let place = Place::new();
    let open = place.file("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    symlink(&open, place.file("link")).unwrap();
    File::create(place.file("file")).unwrap();
    for (name, saying) in [("open", "chmod go-rwx it"), ("link", "symbolic link"), ("file", "not a directory")] {
        for verb in ["ls", "create ring:x", "gc"] {
            place.run(&format!("--dir {} {verb}", place.file(name).display())).fails(1, saying);
        }
    }
    let doctor = place.run(&format!("--dir {} doctor", open.display()));
    assert_eq!(doctor.code, 1);
    assert!(doctor.text().contains("FAIL  directory"), "{}", doctor.text());
}

#[test]
fn no_room_is_an_error_at_creation() {
    let place = Place::new();
    let run = place.run("create ring:x?capacity=512GiB");
    run.fails(1, "ring:x: ");
    assert!(run.stderr.contains("bytes are needed") || run.stderr.contains("space"), "{}", run.stderr);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "a file was left behind");
}

#[test]
fn encoded_frames_are_not_written_to_a_terminal() {
    let place = Place::new();
    let on_a_terminal = "import os, pty, sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], lambda fd: os.read(fd, 999))))";
    for arguments in [["send", "-"].as_slice(), &["relay", "ring:x", "-", "--timeout", "1ms"]] {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", on_a_terminal, env!("CARGO_BIN_EXE_slipring")]).args(arguments);
        let done = python.env("SLIPRING_DIR", place.path()).stdin(std::process::Stdio::null()).output();
        let Ok(done) = done else { return eprintln!("SKIPPED: no python3") };
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.code() == Some(2) && said.contains("stdout is a terminal"), "{arguments:?}: {said}");
    }
}

#[test]
fn with_json_errors_are_json_too() {
    let place = Place::new();
    for (arguments, code, saying) in [
        ("info nothing --json", 5, "not found"),
        ("create ring:a/b --json", 2, "segment name"),
        ("send --json --framing", 2, "--framing"),
    ] {
        let run = place.run(arguments);
        run.fails(code, saying);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["error"].as_str().unwrap().contains(saying), "{error}");
    }
}

#[test]
fn an_unknown_host_is_named_in_the_error() {
    let place = Place::new();
    for scheme in ["tcp", "udp"] {
        let run = place.feed(&format!("send {scheme}:no.such.host.invalid:7 --timeout 5s"), b"x\n");
        run.fails(1, "look up the host: no.such.host.invalid: ");
    }
}

#[test]
fn listen_is_accepted_unless_it_contradicts() {
    let place = Place::new();
    let socket = place.file("socket");
    let fifo = place.file("fifo");
    place.feed("send ring:x?listen", b"one\n").succeeds();
    assert_eq!(place.run("recv ring:x?listen").succeeds().text(), "one\n");
    let receiver = place.start(&format!("recv fifo:{}?listen", fifo.display()));
    place.feed(&format!("send fifo:{}", fifo.display()), b"two\n").succeeds();
    assert_eq!(receiver.finish().succeeds().text(), "two\n");
    let receiver = place.start(&format!("recv dgram:{}?listen", socket.display()));
    place.feed(&format!("send dgram:{}", socket.display()), b"three\n").succeeds();
    assert_eq!(receiver.finish().succeeds().text(), "three\n");
    for endpoint in [format!("dgram:{}?listen", socket.display()), "udp:127.0.0.1:9?listen".to_owned()] {
        place.feed(&format!("send {endpoint}"), b"x\n").fails(2, "the receiver listens");
    }
}
