//! What every transport must do, tested between two threads of one process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slipring::frame::{Event, Header, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

use super::script::{Dice, Script};
use super::storm;
use super::subject::{PATIENCE, Subject, soon};

/// Longest payload of the mixed scripts.
pub const LONGEST: usize = 64 << 10;
/// Frames in flight where each end shall sometimes wait for the other.
const WINDOW: usize = 16;

const MOMENT: Duration = Duration::from_millis(20);

fn plain() -> Header {
    Header::PLAIN
}

/// Receives an event, and asserts that it is this frame.
#[track_caller]
fn expect(rx: &mut dyn FrameReceiver, payload: &[u8]) {
    match rx.recv_deadline(soon()) {
        Ok(Event::Frame(frame)) => {
            assert!(frame.payload == payload, "{} bytes, not {}", frame.payload.len(), payload.len())
        }
        other => panic!("{other:?} instead of a frame of {} bytes", payload.len()),
    }
}

/// Sends from another thread, and receives in this one.
fn run(subject: &Subject, script: Script) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    run_over(subject, tx.as_mut(), rx.as_mut(), script);
}

fn run_over(subject: &Subject, tx: &mut dyn FrameSender, rx: &mut dyn FrameReceiver, script: Script) {
    let seen = AtomicUsize::new(0);
    let mut expected = script.expect(subject.capabilities);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let keep_up = |n: usize| {
                while n >= seen.load(Ordering::Acquire).saturating_add(subject.in_flight()) {
                    std::thread::yield_now();
                }
            };
            script.send(tx, soon(), keep_up).unwrap();
        });
        while !expected.is_complete() {
            match rx.recv_deadline(soon()) {
                Ok(event) => expected.take(event),
                Err(error) => panic!("after {} frames: {error:?}", expected.seen),
            }
            seen.store(expected.seen, Ordering::Release);
        }
        sender.join().unwrap();
    });
    expected.check();
}

pub fn boundaries_and_order(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let max = tx.max_payload();
    let mut dice = Dice::new(1);
    for len in (0..=40).chain([63, 64, 65, 255, 256, 257, 1000]).filter(|len| *len <= max) {
        // Two at a time: a receiver that joins or splits frames fails here.
        let frames = [dice.bytes(len), dice.bytes(len / 2)];
        for some in frames.chunks(subject.in_flight()) {
            some.iter().for_each(|frame| tx.send_deadline(plain(), frame, soon()).unwrap());
            tx.flush(soon()).unwrap();
            some.iter().for_each(|frame| expect(rx.as_mut(), frame));
        }
    }
}

pub fn empty_one_byte_maximal_and_too_large(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let max = tx.max_payload();
    assert!(max >= 256, "{max}");
    let largest = Dice::new(2).bytes(max);
    let large = vec![0; max + 1];
    let mut send = |payload: &[u8]| {
        tx.send_deadline(plain(), payload, soon()).unwrap();
        let refused = tx.send_deadline(plain(), &large, soon());
        assert!(matches!(refused, Err(Error::TooLarge { max: said }) if said == max), "{refused:?}");
        assert!(matches!(tx.try_send(plain(), &large), Err(Error::TooLarge { .. })));
        if payload == b"behind it" || !subject.capabilities.lossless {
            tx.flush(soon()).unwrap();
        }
    };
    let payloads = [&[][..], b"1", &largest, b"behind it"];
    if !subject.capabilities.lossless {
        for payload in payloads {
            send(payload);
            expect(rx.as_mut(), payload);
        }
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| payloads.iter().for_each(|payload| send(payload)));
        payloads.iter().for_each(|payload| expect(rx.as_mut(), payload));
    });
}

pub fn around_the_message_size(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let max = tx.max_payload();
    let sizes = || subject.edges.iter().flat_map(|edge| edge - 40..=edge + 1).filter(|len| *len <= max);
    if !subject.capabilities.lossless {
        for len in sizes() {
            let payload = Dice::new(len as u64).bytes(len);
            tx.send_deadline(plain(), &payload, soon()).unwrap();
            expect(rx.as_mut(), &payload);
        }
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for len in sizes() {
                tx.send_deadline(plain(), &Dice::new(len as u64).bytes(len), soon()).unwrap();
            }
            tx.flush(soon()).unwrap();
        });
        for len in sizes() {
            expect(rx.as_mut(), &Dice::new(len as u64).bytes(len));
        }
    });
}

/// Sends until the transport is full and stays full, and returns the number of frames sent; 0 for a
/// transport that is never full. The kernel moves bytes of a TCP connection from one end's buffer
/// to the other's, so there may be room again after the first `Full`.
fn fill(tx: &mut dyn FrameSender, payload: &[u8]) -> usize {
    for sent in 0..200_000 {
        match tx.try_send(plain(), payload) {
            Ok(()) => continue,
            Err(Error::Full) => {}
            other => panic!("after {sent} frames: {other:?}"),
        }
        match tx.send_deadline(plain(), payload, MOMENT) {
            Ok(()) => {}
            Err(Error::Timeout) => return sent,
            other => panic!("after {sent} frames: {other:?}"),
        }
    }
    panic!("never full");
}

pub fn empty_full_and_empty_again(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    if !subject.capabilities.lossless {
        return; // a lossy transport drops and reports what does not fit: it is never full
    }
    let payload = Dice::new(3).bytes(1000.min(tx.max_payload()));
    for _ in 0..3 {
        let accepted = fill(tx.as_mut(), &payload);
        assert!(accepted > 0);
        // A part of the frame may have been queued in the sender: it arrives while the receiver
        // reads.
        for _ in 0..accepted {
            let _ = tx.flush(Deadline::after(Duration::ZERO));
            expect(rx.as_mut(), &payload);
        }
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    }
    tx.send_deadline(plain(), b"room again", soon()).unwrap();
    expect(rx.as_mut(), b"room again");
}

/// The descriptor of a sender polls writable when a frame can be sent, and not while it is full.
pub fn room_is_polled(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    room_is_polled_over(tx.as_mut(), rx.as_mut(), subject.capabilities.lossless);
}

pub fn room_is_polled_over(tx: &mut dyn FrameSender, rx: &mut dyn FrameReceiver, lossless: bool) {
    let is_writable = |tx: &dyn FrameSender, within: Duration| {
        let Some(fd) = tx.poll_fd() else { return true };
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
        poll(&mut polled, Some(&within)).unwrap();
        polled[0].revents().contains(PollFlags::OUT)
    };
    if tx.poll_fd().is_none() {
        return println!("no descriptor to poll");
    }
    assert!(is_writable(tx, PATIENCE), "empty");
    if !lossless {
        return; // never full
    }
    let payload = Dice::new(4).bytes(1000.min(tx.max_payload()));
    for round in 0..3 {
        let accepted = fill(tx, &payload);
        assert!(accepted > 0);
        // A loop that sends whenever it polls writable does not run in circles.
        let full = (0..5).any(|_| !is_writable(tx, Duration::ZERO) || tx.try_send(plain(), &payload).is_ok());
        assert!(full, "round {round}: polls writable, and is full");
        let mut received = 0;
        while received < accepted {
            match rx.try_recv() {
                Ok(_) => received += 1,
                // What the sender keeps, and what is on its way.
                Err(Error::Empty) => drop(tx.flush(Deadline::after(Duration::from_millis(1)))),
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        rx.release();
        assert!(is_writable(tx, PATIENCE), "round {round}: not writable after everything was received");
        tx.try_send(plain(), &payload).unwrap();
        tx.flush(soon()).unwrap();
        while rx.recv_deadline(MOMENT).is_ok() {}
    }
}

pub fn deadlines(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    for wait in [Duration::ZERO, MOMENT] {
        let start = Instant::now();
        assert!(matches!(rx.recv_deadline(wait), Err(Error::Timeout)));
        assert!(start.elapsed() >= wait, "{:?}", start.elapsed());
    }
    if !subject.capabilities.lossless {
        return;
    }
    let payload = Dice::new(4).bytes(500.min(tx.max_payload()));
    let mut accepted = fill(tx.as_mut(), &payload);
    for wait in [Duration::ZERO, MOMENT] {
        loop {
            let start = Instant::now();
            match tx.send_deadline(plain(), &payload, wait) {
                Ok(()) => accepted += 1, // room that came late
                Err(Error::Timeout) => {
                    assert!(start.elapsed() >= wait, "{:?}", start.elapsed());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // No frame that timed out has been sent.
    for _ in 0..accepted {
        let _ = tx.flush(Deadline::after(Duration::ZERO));
        expect(rx.as_mut(), &payload);
    }
    assert!(matches!(rx.recv_deadline(MOMENT), Err(Error::Timeout)));
    // A waiting receiver is woken by the next frame.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::yield_now();
            tx.send_deadline(plain(), b"at last", soon()).unwrap();
            tx.flush(soon()).unwrap();
        });
        expect(rx.as_mut(), b"at last");
    });
}

pub fn streams_kinds_and_control(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let longest = 3000.min(tx.max_payload());
    let script = Script::mixed(5, 200, longest, subject.streams());
    run_over(subject, tx.as_mut(), rx.as_mut(), script);
    // Kinds for which no header can be made.
    for reserved in [Header { kind: 0, ..plain() }, Header { kind: control::DOORBELL, ..plain() }] {
        assert!(matches!(tx.try_send(reserved, b"no"), Err(Error::Invalid { .. })), "{reserved:?}");
        assert!(matches!(tx.send_deadline(reserved, b"no", soon()), Err(Error::Invalid { .. })), "{reserved:?}");
    }
    // A control frame of a kind that the transport does not use itself is delivered; it may
    // overtake data.
    let doorbell = Header::control(control::DOORBELL, 0).unwrap();
    tx.send_deadline(doorbell, b"bell", soon()).unwrap();
    tx.send_deadline(Header { stream: 1, ..Header::new(0x0177, 0).unwrap() }, b"data", soon()).unwrap();
    tx.flush(soon()).unwrap();
    let mut seen = [false; 2];
    for _ in 0..2 {
        match rx.recv_deadline(soon()).unwrap() {
            Event::Frame(frame) if frame.header.is_control() => {
                assert_eq!((frame.header.kind, frame.payload), (control::DOORBELL, &b"bell"[..]));
                seen[0] = true;
            }
            Event::Frame(frame) => {
                assert_eq!((frame.header.kind, frame.header.stream, frame.payload), (0x0177, 1, &b"data"[..]));
                seen[1] = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [true; 2]);
}

pub fn ten_thousand_random_frames(subject: &Subject) {
    let longest = LONGEST.min(subject.longest);
    run(subject, Script::mixed(6, 10_000, longest, subject.streams()));
}

pub fn an_orderly_end(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let words: &[&[u8]] = if subject.in_flight() > 1 { &[b"one", b"two"] } else { &[b"one"] };
    words.iter().for_each(|word| tx.send_deadline(plain(), word, soon()).unwrap());
    tx.close(soon()).unwrap();
    assert!(matches!(tx.try_send(plain(), b"three"), Err(Error::Closed)));
    assert!(matches!(tx.send_deadline(plain(), b"three", soon()), Err(Error::Closed)));
    words.iter().for_each(|word| expect(rx.as_mut(), word));
    // No deadline is too short to report an end.
    let begun = Instant::now();
    let told = loop {
        match rx.recv_deadline(Duration::ZERO) {
            Err(Error::Timeout) => assert!(begun.elapsed() < PATIENCE, "the end was not reported"),
            told => break told.map(drop),
        }
    };
    assert!(matches!(told, Err(Error::Closed)), "{told:?}");
    for _ in 0..2 {
        assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    }
    drop(tx);
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)), "closing twice causes one end");
    if !subject.capabilities.survives_restart {
        return;
    }
    // A new sender to the same receiver; it is dropped, which closes it. (Until the new sender's
    // first frame, the receiver may report the old end once more, or nothing.)
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| meeting.open_sender().unwrap().send_deadline(plain(), b"again", soon()));
        loop {
            match rx.recv_deadline(MOMENT) {
                Ok(Event::Frame(frame)) => break assert_eq!(frame.payload, b"again"),
                Err(Error::Closed | Error::Timeout) => std::thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
        sender.join().unwrap()
    });
    sent.unwrap();
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
}

pub fn a_receiver_that_leaves(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    tx.send_deadline(plain(), b"one", soon()).unwrap();
    expect(rx.as_mut(), b"one");
    drop(rx);
    let payload = vec![7; 1000.min(tx.max_payload())];
    let mut outcome = Ok(());
    for _ in 0..200_000 {
        let patience = if subject.sees_receiver_go { soon() } else { MOMENT.into() };
        outcome = tx.send_deadline(plain(), &payload, patience);
        if outcome.is_err() || !subject.capabilities.lossless {
            break;
        }
    }
    match outcome {
        Err(Error::Closed | Error::PeerDead) => {}
        Err(Error::Timeout) | Ok(()) if !subject.sees_receiver_go => {}
        other => panic!("{other:?}"),
    }
    // Neither closing nor dropping waits for a peer that has left.
    let _ = tx.close(MOMENT);
}

pub fn signals_at_a_thousand_hertz(subject: &Subject) {
    let longest = LONGEST.min(subject.longest);
    let script = Script { long_in_1000: 100, ..Script::mixed(7, 1_000, longest, subject.streams()) };
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    let seen = AtomicUsize::new(0);
    let mut expected = script.expect(subject.capabilities);
    let interrupted = std::thread::scope(|scope| {
        let here = storm::Storm::here();
        let sender = scope.spawn(|| {
            let there = storm::Storm::here();
            let keep_up = |n: usize| {
                // Each end sometimes waits for the other, so that both are interrupted asleep.
                while n >= seen.load(Ordering::Acquire) + WINDOW.min(subject.in_flight()) {
                    std::thread::yield_now();
                }
            };
            script.send(tx.as_mut(), soon(), keep_up).unwrap();
            there.calm()
        });
        while !expected.is_complete() {
            match rx.recv_deadline(soon()) {
                Ok(event) => expected.take(event),
                Err(error) => panic!("after {} frames: {error:?}", expected.seen),
            }
            seen.store(expected.seen, Ordering::Release);
        }
        assert!(matches!(rx.recv_deadline(MOMENT), Err(Error::Timeout)));
        here.calm() + sender.join().unwrap()
    });
    expected.check();
    assert!(interrupted > 0, "no signal came");
}
