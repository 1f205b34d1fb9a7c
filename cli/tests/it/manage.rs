//! The verbs that inspect and clean up rings.

use crate::common::{Place, Process, run};
use slipring::{Event, Mutex, Options, Ring, Semaphore, SignalSemaphore, mpmc};

#[test]
fn ls_shows_every_state() {
    let place = Place::new();
    assert!(place.run("ls").succeeds().text().starts_with("NAME  KIND"));
    place.run("create ring:idle").succeeds();
    let _sender = place.start("send ring:live");
    place.wait_for_living("live", 1);
    let mut dead = place.start("send ring:stale?kind=mpmc");
    place.wait_for_living("stale", 1);
    dead.kill();
    std::fs::write(place.file("broken"), b"nonsense").unwrap();

    let text = place.run("ls --json").succeeds().text();
    let states: Vec<(String, String)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|ring| (ring["name"].as_str().unwrap().to_owned(), ring["state"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [("broken", "corrupt"), ("idle", "idle"), ("live", "live"), ("stale", "stale")];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state.to_owned())));
    let table = place.run("ls").succeeds();
    assert!(
        table.text().lines().any(|line| line.starts_with("stale") && line.contains("1024 slots")),
        "{}",
        table.text()
    );
    assert!(table.stderr.contains("ring:broken: corrupt"), "{}", table.stderr);
    assert_eq!(place.run("-q ls").succeeds().stderr, "");
}

/// They lie beside the rings, and the verbs say what they are.
#[test]
fn semaphores_mutexes_and_events_are_named() {
    let place = Place::new();
    let name = |kind: &str| format!("cli-{kind}-{}", std::process::id());
    let (semaphore, mutex) = (Semaphore::create(&name("semaphore"), 2), Mutex::create(&name("mutex"), 8));
    let (signals, event) = (SignalSemaphore::create(&name("signal-semaphore")), Event::create(&name("event")));
    for kind in ["semaphore", "mutex", "signal-semaphore", "event"] {
        let run = |verb: &str| {
            let mut command = place.command(&format!("{verb} {}", name(kind)));
            command.env_remove("SLIPRING_DIR");
            Process::start(&mut command).finish()
        };
        let info = run("info").succeeds().text();
        assert!(info.contains(&format!("kind           {kind}\n")), "{info}");
        run("send").fails(3, &format!("the ring is of kind {kind}"));
    }
    drop((semaphore.unwrap(), mutex.unwrap(), signals.unwrap(), event.unwrap()));
    Semaphore::remove(&name("semaphore")).unwrap();
    Mutex::remove(&name("mutex")).unwrap();
    SignalSemaphore::remove(&name("signal-semaphore")).unwrap();
    Event::remove(&name("event")).unwrap();
}

#[test]
fn info_shows_the_type_of_the_messages() {
    let place = Place::new();
    place.run("create ring:quotes").succeeds();
    assert!(place.run("info quotes").succeeds().text().contains("messages       of no stated type\n"));
    assert!(place.json("info quotes")["message_type"].is_null());
    let ring = Ring::open("quotes", &Options::any().directory(place.path())).unwrap();
    ring.agree_on_type("Quote { bid: i64 @ 0 } of 8 bytes, aligned to 8").unwrap();
    let info = place.run("info quotes").succeeds().text();
    assert!(info.contains("messages       Quote { bid: i64 @ 0 } of 8 bytes, aligned to 8\n"), "{info}");
    assert_eq!(place.json("info quotes")["message_type"], "Quote { bid: i64 @ 0 } of 8 bytes, aligned to 8");
}

#[test]
fn inspecting_verbs_create_nothing() {
    let place = Place::new();
    let missing = place.file("missing");
    for (verb, code) in [("ls", 0), ("gc", 0), ("info x", 5), ("stat x", 5), ("rm x", 5), ("rm -f x", 5), ("doctor", 0)]
    {
        let run = place.run(&format!("--dir {} {verb}", missing.display()));
        assert_eq!(run.code, code, "{verb}: {}", run.stderr);
        assert!(!missing.exists(), "{verb}");
    }
}

/// As with `sudo`, which may keep the variable of the other user.
#[test]
fn the_runtime_directory_of_another_user_is_left_alone() {
    let place = Place::new();
    if std::os::unix::fs::chown(place.path(), Some(12345), None).is_err() {
        eprintln!("skipped: only root can give directories away");
        return;
    }
    let name = format!("ring:foreign-{}", std::process::id());
    for verb in [["create", &name], ["rm", &name]] {
        let mut command = place.command("");
        command.env_remove("SLIPRING_DIR").env("XDG_RUNTIME_DIR", place.path()).args(verb);
        assert!(command.status().unwrap().success(), "{verb:?}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

/// A umask of 0177 removes the search permission of a new directory.
#[test]
fn a_directory_created_with_a_strict_umask_is_usable() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let dir = place.file("strict");
    let script =
        format!("umask 0177; exec '{}' --dir '{}' create ring:x", env!("CARGO_BIN_EXE_slipring"), dir.display());
    assert!(run("sh", &["-c", &script]));
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn info_and_stat_show_participants_and_counts() {
    let place = Place::new();
    place.feed("send ring:x?capacity=64KiB", b"12345678\n").succeeds();
    let info = place.json("info x");
    assert_eq!((&info["kind"], &info["capacity"], &info["name"]), (&"spsc".into(), &65536.into(), &"x".into()));
    let stat = place.json("stat ring:x");
    assert_eq!((&stat["sent"], &stat["used"], &stat["received"]), (&1.into(), &24.into(), &0.into()));
    assert!(place.run("info x").succeeds().text().contains("largest frame  65512 bytes"));
    assert!(place.run("stat x").succeeds().text().lines().any(|line| line.split_whitespace().eq(["sent", "1"])));
    let watched = place.run("stat x -d 10ms -n 3 --json").succeeds().text();
    assert_eq!(watched.lines().count(), 3);

    let sender = place.start("send ring:x");
    place.wait_for_living("x", 1);
    let info = place.json("info x");
    let who = &info["participants"][0];
    assert_eq!(
        (&who["role"], &who["state"], &who["command"]),
        (&"producer".into(), &"live".into(), &"slipring".into())
    );
    sender.finish().succeeds();
}

/// Not a test: a process that the next test starts. It receives two frames and holds them.
#[test]
fn holder_process() {
    let Ok(dir) = std::env::var("SLIPRING_TEST_HOLDER") else { return };
    let consumer = mpmc::Consumer::attach(&Ring::open("jobs", &Options::any().directory(dir)).unwrap()).unwrap();
    let _held = [consumer.recv().unwrap(), consumer.recv().unwrap()];
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]); // until the test ends and closes the pipe
}

#[test]
fn a_stopped_process_that_holds_slots_is_reported() {
    let place = Place::new();
    place.feed("send ring:jobs?kind=mpmc&slots=4&slot=64", b"1\n2\n3\n").succeeds();
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", "manage::holder_process"]).env("SLIPRING_TEST_HOLDER", place.path());
    let mut holder = Process::start(holder.stdin(std::process::Stdio::piped()));
    place.wait_for("stat jobs", |stat| stat["held"] == 2);
    let state = || place.json("ls")["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "live");

    let pid = holder.child().id().to_string();
    assert!(run("kill", &["-STOP", &pid]));
    place.wait_for("info jobs", |info| info["participants"][0]["process"] == "stopped");
    assert_eq!((state().as_str(), &place.json("ls")["used"]), ("stalled", &3.into()));
    let stat = place.json("stat jobs");
    assert_eq!((&stat["used"], &stat["held"], &stat["high_water"]), (&3.into(), &2.into(), &3.into()));
    let who = place.json("info jobs")["participants"][0].clone();
    assert_eq!((&who["reading"], &who["writing"], &who["lag"]), (&2.into(), &0.into(), &3.into()));
    assert_eq!((&who["pid"].to_string(), &who["state"], &who["alive"]), (&pid, &"live".into(), &true.into()));
    let text = place.run("info jobs").succeeds();
    assert!(text.text().lines().any(|line| line.contains("stopped")), "{}", text.text());
    let text = place.run("stat jobs").succeeds();
    assert!(text.text().lines().any(|line| line.split_whitespace().eq(["held", "2"])), "{}", text.text());

    // A process that continues stalls nothing, and a killed one is dead.
    assert!(run("kill", &["-CONT", &pid]));
    place.wait_for("ls", |ring| ring["state"] == "live");
    holder.kill();
    assert_eq!(state(), "stale");
    assert_eq!(place.json("info jobs")["participants"][0]["reading"], 2, "not recovered yet");
}

#[test]
fn a_stopped_end_of_a_byte_ring_stalls_it() {
    let place = Place::new();
    let mut receiver = place.start("recv ring:x");
    place.wait_for_living("x", 1);
    let pid = receiver.child().id().to_string();
    assert!(run("kill", &["-STOP", &pid]));
    place.wait_for("ls", |ring| ring["state"] == "stalled");
    assert!(run("kill", &["-CONT", &pid]));
    place.wait_for("ls", |ring| ring["state"] == "live");
}

#[test]
fn stopped_consumers_stall_a_slot_ring_unless_another_one_runs() {
    let place = Place::new();
    let mut receivers = [place.start("recv ring:q?kind=mpmc"), place.start("recv ring:q?kind=mpmc")];
    place.wait_for_living("q", 2);
    for (receiver, state) in receivers.iter_mut().zip(["live", "stalled"]) {
        let pid = receiver.child().id();
        assert!(run("kill", &["-STOP", &pid.to_string()]));
        place.wait_for("info q", |info| {
            let participants = info["participants"].as_array().unwrap();
            participants.iter().any(|who| who["pid"] == pid && who["process"] == "stopped")
        });
        assert_eq!(place.json("ls")["state"], state);
    }
}

#[test]
fn dump_shows_frames_and_receives_none() {
    let place = Place::new();
    for kind in ["spsc", "mpmc"] {
        place.feed(&format!("send ring:{kind}?kind={kind}"), b"first\nsecond\nthird\n").succeeds();
        assert_eq!(place.run(&format!("dump {kind} --raw")).succeeds().text(), "firstsecondthird");
        assert_eq!(place.run(&format!("dump {kind} --raw --limit 2")).succeeds().text(), "firstsecond");
        let text = place.run(&format!("dump {kind} --limit 1")).succeeds().text();
        assert!(text.contains("seq 0  kind 0x0100  stream 0  5 bytes") && text.contains("66 69 72 73 74"), "{text}");
        assert_eq!(place.run(&format!("dump {kind} --json")).succeeds().text().lines().count(), 3);
        assert_eq!(place.json(&format!("verify {kind}"))["frames"], 3);
        assert_eq!(place.run(&format!("recv ring:{kind}")).succeeds().text(), "first\nsecond\nthird\n");
    }
    place.run("create ring:bytes?kind=stream").succeeds();
    place.run("dump bytes").fails(2, "kind");
}

#[test]
fn rm_refuses_rings_in_use_unless_forced() {
    let place = Place::new();
    let receiver = place.start("recv ring:x");
    place.wait_for_living("x", 1);
    place.run("rm x").fails(1, "a process is attached");
    place.run("rm --force x").succeeds();
    place.run("rm x").fails(5, "ring:x: not found");
    drop(receiver);
    place.run("create ring:a").succeeds();
    place.run("create ring:b").succeeds();
    std::fs::write(place.file("broken"), b"nonsense").unwrap();
    place.run("rm a nothing ring:b").fails(5, "ring:nothing");
    place.run("rm broken").fails(3, "--force removes it anyway");
    assert_eq!(std::fs::read(place.file("broken")).unwrap(), b"nonsense");
    place.run("rm --force broken").succeeds();
    assert_eq!(place.run("ls --json").succeeds().text(), "", "the others were removed");
}

#[test]
fn gc_reaps_the_dead_and_keeps_waiting_frames() {
    let place = Place::new();
    let mut dead = place.start("send ring:full");
    dead.write(b"precious\n");
    place.wait_for("stat full", |stat| stat["sent"] == 1);
    dead.kill();
    let mut dead = place.start("send ring:left");
    place.wait_for_living("left", 1);
    dead.kill();
    place.run("create ring:empty?kind=mpmc").succeeds();
    place.feed("send ring:used", b"frame\n").succeeds();
    place.run("recv ring:used").succeeds();
    let receiver = place.start("recv ring:live");
    place.wait_for_living("live", 1);

    let dry = place.run("gc --dry-run").succeeds().text();
    assert_eq!(dry, "full: would reap 1 dead\nleft: would reap 1 dead\nleft: would remove\n");
    assert_eq!(place.run("ls --json").succeeds().text().lines().count(), 5);
    let text = place.run("gc").succeeds().text();
    assert_eq!(text, "full: reaped 1 dead\nleft: reaped 1 dead\nleft: removed\n");
    assert_eq!(place.run("dump full --raw").succeeds().text(), "precious");
    assert_eq!(place.json("info empty")["kind"], "mpmc", "an idle ring that no dead process left behind");
    assert_eq!(place.run("gc --idle").succeeds().text(), "empty: removed\nused: removed\n");
    assert!(
        place
            .run("gc --all --json")
            .succeeds()
            .text()
            .contains(r#"{"dead":0,"dry_run":false,"name":"full","removed":true}"#)
    );
    place.run("info full").fails(5, "not found");
    drop(receiver);
}

/// If `gc` removed the ring between a sender's open and attach, the sender's frame would be lost.
#[test]
fn no_frame_is_lost_beside_a_cleaner() {
    let place = Place::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    place.run("gc -q --idle");
                }
            });
        }
        let rounds = (0..100).map(|round| {
            let line = format!("{round}\n");
            let sent = place.feed("send -q ring:r", line.as_bytes());
            let received = place.run("recv -q ring:r --count 1 --timeout 20s");
            (sent.code, received.stdout == line.as_bytes())
        });
        let lost = rounds.filter(|round| *round != (0, true)).count();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(lost, 0, "of 100");
    });
}

/// In an IPC namespace of its own, since other tests use queues, too.
#[test]
fn gc_lists_queues_and_removes_them_on_request() {
    let apart = |command: &str| std::process::Command::new("unshare").args(["--ipc", "sh", "-ec", command]).output();
    if !apart("true").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: an IPC namespace cannot be created");
        return;
    }
    let place = Place::new();
    let script = format!(
        "slipring() {{ '{}' --dir '{}' \"$@\"; }}
         echo one | slipring send sysv:81
         slipring gc
         echo '--'
         slipring gc --queues
         echo '--'
         slipring gc --queues --all --dry-run
         slipring gc --queues --all --json
         echo '--'
         slipring gc --queues --all
         slipring recv 'sysv:81?create=no' --timeout 1s || echo code $?",
        env!("CARGO_BIN_EXE_slipring"),
        place.path().display()
    );
    let output = apart(&script).unwrap();
    let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let removed = "sysv:0x51: would remove\n{\"dry_run\":false,\"name\":\"sysv:0x51\",\"removed\":true}\n";
    assert_eq!(out, format!("--\n--\n{removed}--\ncode 5\n"), "{told}");
    assert!(told.contains("sysv:0x51: unused, 3 messages") && told.contains("--queues or"), "{told}");
    assert!(told.contains("--all or `slipring rm sysv:0x51`"), "{told}");
}

#[test]
fn gc_recovers_frames_held_by_a_dead_consumer() {
    let place = Place::new();
    let line = [b"x".repeat(200).as_slice(), b"\n"].concat();
    place.feed("send ring:x?kind=mpmc&slots=4096", &line.repeat(2000)).succeeds();
    let mut receiver = place.start("recv ring:x");
    place.wait_for("verify x", |verify| verify["reading"].as_u64() > Some(0));
    receiver.kill();
    place.wait_for("ls", |ls| ls["state"] == "stale");
    let before = place.json("verify x");
    place.run("gc").succeeds();
    let after = place.json("verify x");
    assert_eq!((&after["reading"], &after["redeliver"]), (&0.into(), &before["reading"]), "{before} {after}");
}

#[test]
fn doctor_completions_and_man_print_something() {
    let place = Place::new();
    let doctor = place.run("doctor");
    assert_eq!(doctor.code, 0, "{}", doctor.text());
    assert!(doctor.text().lines().any(|line| line.starts_with("OK    directory")), "{}", doctor.text());
    for line in place.run("doctor --json").text().lines() {
        let check: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(["OK", "WARN", "FAIL"].contains(&check["verdict"].as_str().unwrap()), "{line}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.run(&format!("completions {shell}")).succeeds().text().contains("slipring"));
    }
    assert!(place.run("man").succeeds().text().contains(".TH slipring"));
    let pages = place.file("pages");
    std::fs::create_dir(&pages).unwrap();
    place.run(&format!("man --out {}", pages.display())).succeeds();
    assert!(pages.join("slipring-send.1").is_file());
    assert!(run("test", &["-d", pages.to_str().unwrap()]));
}

#[test]
fn every_verb_has_help() {
    let place = Place::new();
    assert!(place.run("--help").succeeds().text().contains("slipring demo"));
    assert_eq!(place.run("").code, 2);
    for verb in [
        "demo",
        "create",
        "ls",
        "info",
        "send",
        "recv",
        "stat",
        "verify",
        "dump",
        "rm",
        "gc",
        "doctor",
        "completions",
        "man",
    ] {
        let help = place.run(&format!("{verb} --help")).succeeds().text();
        assert!(help.contains("Usage: slipring") && help.len() > 300, "{verb}: {help}");
    }
}
