//! Frames in signals, and signals as frames. It has no test harness, because the harness's threads
//! would have to block the signals before any code of this program runs. So `main` blocks them
//! first, and runs the cases one after the other.

use std::process::{Command, Stdio};
use std::time::Duration;

use slipring::frame::{Event, Header, control};
use slipring::transport::signal::{self, Bell, Notifier, Options, Receiver, Sender, Signo};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

#[path = "common/asleep.rs"]
mod asleep;

const ROLE: &str = "SLIPRING_TEST_SIGNAL";
const PID: &str = "SLIPRING_TEST_SIGNAL_PID";

fn soon() -> Deadline {
    Duration::from_secs(60).into()
}

fn now() -> Deadline {
    Duration::ZERO.into()
}

fn me() -> u32 {
    std::process::id()
}

fn options(n: u32) -> Options {
    Options::default().signo(Signo::realtime(n).unwrap())
}

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("send") => return send_and_stay(),
        Ok("unblocked") => return std::thread::sleep(Duration::from_secs(600)), // a process that blocks no signals
        _ => {}
    }
    // Before the first thread, as a program should do.
    let all: Vec<_> = (1..=8).map(|n| Signo::realtime(n).unwrap()).chain([Signo::USR1]).collect();
    signal::block(&all).unwrap();
    let cases: [(&str, fn()); 9] = [
        ("frames_of_every_size", frames_of_every_size),
        ("doorbells_are_one_signal", doorbells_are_one_signal),
        ("two_senders_of_one_process", two_senders_of_one_process),
        ("a_sender_killed", a_sender_killed),
        ("a_process_that_is_no_receiver_gets_no_signal", a_process_that_is_no_receiver_gets_no_signal),
        ("too_many_pending_signals_are_full", too_many_pending_signals_are_full),
        ("signals_without_a_payload_are_reported", signals_without_a_payload_are_reported),
        ("received_signals_and_ends_are_reported", received_signals_and_ends_are_reported),
        ("a_thread_that_does_not_block_the_signal_is_detected", a_thread_that_does_not_block_the_signal_is_detected), // last, because it leaves such a thread
    ];
    for (name, case) in cases {
        case();
        println!("test {name} ... ok");
    }
}

#[track_caller]
fn expect(rx: &mut dyn FrameReceiver, payload: &[u8]) {
    match rx.recv_deadline(soon()) {
        Ok(Event::Frame(frame)) => assert!(frame.payload == payload, "{} bytes", frame.payload.len()),
        other => panic!("{other:?}"),
    }
}

fn frames_of_every_size() {
    let mut rx = Receiver::open(&options(1)).unwrap();
    let mut tx = Sender::open(me(), &options(1), now()).unwrap();
    for len in [0, 1, 2, 3, 5, 6, 7, 100, 4095, 4096] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        tx.send(Header::PLAIN, &payload).unwrap();
        expect(&mut rx, &payload);
    }
    assert!(matches!(tx.send(Header::PLAIN, &[0; 4097]), Err(Error::TooLarge { max: 4096 })));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    tx.close(now()).unwrap();
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

fn doorbells_are_one_signal() {
    let mut rx = Receiver::open(&options(2)).unwrap();
    let mut tx = Sender::open(me(), &options(2), now()).unwrap();
    let bell = Bell::new(7, u32::MAX).unwrap();
    tx.send(Header::control(control::DOORBELL, 8).unwrap(), &bell.payload()).unwrap();
    match rx.recv().unwrap() {
        Event::Frame(frame) => {
            assert_eq!((frame.header.kind, frame.header.is_control()), (control::DOORBELL, true));
            assert_eq!(Bell::from_payload(frame.payload), Some(bell));
        }
        other => panic!("{other:?}"),
    }
    tx.send(Header::control(control::DOORBELL, 3).unwrap(), b"???").unwrap(); // another form: sent in chunks
    expect(&mut rx, b"???");
}

fn two_senders_of_one_process() {
    let mut rx = Receiver::open(&options(3)).unwrap();
    let mut senders = [(); 2].map(|()| Sender::open(me(), &options(3), now()).unwrap());
    std::thread::scope(|scope| {
        for (number, tx) in senders.iter_mut().enumerate() {
            scope.spawn(move || (0..50).for_each(|_| tx.send(Header::PLAIN, &[number as u8; 500]).unwrap()));
        }
        let mut seen = [0; 2];
        while seen != [50, 50] {
            match rx.recv_deadline(soon()).unwrap() {
                Event::Frame(frame) => {
                    assert!(frame.payload.len() == 500 && frame.payload.iter().all(|byte| *byte == frame.payload[0]));
                    seen[usize::from(frame.payload[0])] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    });
    drop(senders);
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
}

fn child(role: &str) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).env(PID, me().to_string()).stdout(Stdio::null()).spawn().unwrap()
}

fn send_and_stay() {
    let pid = std::env::var(PID).unwrap().parse().unwrap();
    let mut tx = Sender::open(pid, &options(4), soon()).unwrap();
    tx.send(Header::PLAIN, b"whole").unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

fn a_sender_killed() {
    let mut rx = Receiver::open(&options(4)).unwrap();
    let mut sender = child("send");
    expect(&mut rx, b"whole");
    sender.kill().unwrap();
    sender.wait().unwrap();
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::PeerDead)));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));
    let mut tx = Sender::open(me(), &options(4), now()).unwrap();
    tx.send(Header::PLAIN, b"next").unwrap();
    expect(&mut rx, b"next");
}

fn a_process_that_is_no_receiver_gets_no_signal() {
    let unblocked = Signo::realtime(20).unwrap();
    let mut bystander = child("unblocked");
    asleep::wait_until_asleep(&bystander);
    let refused = Sender::open(bystander.id(), &Options::default().signo(unblocked), Duration::from_millis(20));
    assert!(matches!(refused.err(), Some(Error::Untrusted { .. })));
    assert!(bystander.try_wait().unwrap().is_none(), "the process is alive");

    // This process inherits the blocked signals, so it could be a receiver.
    let mut tx = Sender::open(bystander.id(), &options(5), now()).unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(matches!(tx.send(Header::PLAIN, b"late"), Err(Error::PeerDead)));
    assert!(matches!(Sender::open(bystander.id(), &options(5), now()).err(), Some(Error::NotFound)));
    assert!(matches!(Sender::open(0, &options(5), now()).err(), Some(Error::Invalid { .. })));
}

fn too_many_pending_signals_are_full() {
    let mut rx = Receiver::open(&options(6)).unwrap();
    let mut tx = Sender::open(me(), &options(6), now()).unwrap();
    let payload = [9; 4096];
    let mut sent = 0;
    loop {
        match tx.try_send(Header::PLAIN, &payload) {
            Ok(()) => sent += 1,
            Err(Error::Full) => break,
            other => panic!("{other:?}"),
        }
        if sent == 2000 {
            println!("this system has no limit of pending signals");
            break;
        }
    }
    if sent < 2000 {
        let late = tx.send_deadline(Header::PLAIN, &payload, Duration::from_millis(10));
        assert!(matches!(late, Err(Error::Timeout)));
    }
    for _ in 0..sent {
        let _ = tx.flush(now());
        expect(&mut rx, &payload);
    }
    tx.send(Header::PLAIN, b"room again").unwrap();
    expect(&mut rx, b"room again");
}

fn signals_without_a_payload_are_reported() {
    let mut rx = Receiver::open(&options(7)).unwrap();
    let number = Signo::realtime(7).unwrap().get().to_string();
    assert!(Command::new("kill").args(["-s", &number, &me().to_string()]).status().unwrap().success());
    assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Skipped { .. })));
    assert!(matches!(Receiver::open(&Options::default().signo(Signo::INT)).err(), Some(Error::Invalid { .. })));
}

fn received_signals_and_ends_are_reported() {
    let mut notifier = Notifier::new().unwrap();
    notifier.on_signals(&[Signo::USR1]).unwrap();
    assert!(matches!(notifier.try_recv(), Err(Error::Empty)));
    assert!(matches!(notifier.recv_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
    assert!(Command::new("kill").args(["-s", "USR1", &me().to_string()]).status().unwrap().success());
    expect(&mut notifier, &Bell::new(Bell::SIGNALLED, Signo::USR1.get() as u32).unwrap().payload());

    let mut process = child("unblocked");
    notifier.on_end(process.id()).unwrap();
    assert!(matches!(notifier.try_recv(), Err(Error::Empty)));
    process.kill().unwrap();
    expect(&mut notifier, &Bell::new(Bell::ENDED, process.id()).unwrap().payload());
    process.wait().unwrap();
    assert!(matches!(notifier.on_end(process.id()), Err(Error::NotFound)));
    assert!(matches!(notifier.try_recv(), Err(Error::Empty)), "there is still a signal to wait for");
}

fn a_thread_that_does_not_block_the_signal_is_detected() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tell.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
    });
    told.recv().unwrap();
    let unblocked = Options::default().signo(Signo::realtime(9).unwrap());
    match Receiver::open(&unblocked).err() {
        Some(Error::Unsupported { what }) => assert!(what.contains("before any thread"), "{what}"),
        other => panic!("{other:?}"),
    }
}
