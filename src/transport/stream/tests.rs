//! The stream's ends with every split of the bytes, at every kind of end, and with bytes that no
//! correct peer sends. The conformance suite tests the transports built on it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::frame::{Event, Flags, Frame, Header, Hello, control, fragments};
use crate::os::poll::has_hung_up;
use crate::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe};

const SOCKET: Wire =
    Wire { capabilities: &pipe::CAPABILITIES, form: Form::Short, on_corrupt: OnCorrupt::Close, features: 0 };

fn app(seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::new(Header { seq, ..Header::PLAIN }, payload).unwrap().encode(Form::Short, &mut out).unwrap();
    out
}

fn hello(epoch: u64) -> Vec<u8> {
    let payload = Hello { epoch, ..Hello::new(1 << 20) }.encode();
    let mut out = Vec::new();
    let header = Header::control(control::HELLO, payload.len()).unwrap();
    Frame::new(header, &payload).unwrap().encode(Form::Short, &mut out).unwrap();
    out
}

fn bye(epoch: u64) -> Vec<u8> {
    let bye = Header::control(control::BYE, 0).unwrap();
    Frame::new(bye, b"").unwrap().head_from(epoch).unwrap().to_vec()
}

fn raw_pipe() -> (Receiver, std::fs::File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (pipe::receiver(reader, &Options::new()).unwrap(), writer.into())
}

fn raw_socket() -> (Receiver, Sender, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (tx, rx) = connection(ours.into(), SOCKET, &Options::new()).unwrap();
    (rx, tx, theirs)
}

fn payload(event: Event<'_>) -> Vec<u8> {
    match event {
        Event::Frame(frame) => frame.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_may_come_in_pieces_of_any_size() {
    let frames: Vec<Vec<u8>> = [0, 1, 7, 8, 100, 3000].iter().map(|len| vec![*len as u8; *len]).collect();
    let mut wire = hello(1);
    for (seq, frame) in frames.iter().enumerate() {
        wire.extend(app(seq as u32, frame));
    }
    wire.extend(bye(1));
    for piece in (1..70).chain([1000, wire.len()]) {
        let (mut rx, mut raw) = raw_pipe();
        let mut received = Vec::new();
        for piece in wire.chunks(piece) {
            raw.write_all(piece).unwrap();
            loop {
                match rx.try_recv() {
                    Ok(event) => received.push(payload(event)),
                    Err(Error::Empty | Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(received, frames, "pieces of {piece}");
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    }
}

#[test]
fn frames_larger_than_the_buffers_pass_and_grow_them_once() {
    let (mut tx, mut rx) = pipe::pair(&Options::new()).unwrap();
    let large: Vec<u8> = (0..1_000_003u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5 {
                tx.send(Header::PLAIN, &large).unwrap();
            }
        });
        for _ in 0..5 {
            assert!(payload(rx.recv().unwrap()) == large);
        }
    });
}

#[test]
fn a_frame_that_the_kernel_took_in_part_counts_as_sent_and_is_finished() {
    let (mut tx, mut rx) = pipe::pair(&Options::new()).unwrap();
    let large = vec![7; 200_000];
    tx.try_send(Header::PLAIN, &large).unwrap();
    assert!(matches!(tx.try_send(Header::PLAIN, b"later"), Err(Error::Full)));
    assert!(matches!(tx.flush(Duration::from_millis(1)), Err(Error::Timeout)));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    assert!(matches!(tx.flush(Duration::from_millis(1)), Err(Error::Timeout)));
    while tx.flush(Duration::ZERO).is_err() {
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    }
    tx.try_send(Header::PLAIN, b"later").unwrap();
    assert!(payload(rx.recv().unwrap()) == large);
    assert_eq!(payload(rx.recv().unwrap()), b"later");
}

#[test]
fn collected_frames_wait_for_a_flush_and_leave_together() {
    let (mut tx, mut rx) = pipe::pair(&Options::new().batch(true)).unwrap();
    for n in 0..100u8 {
        tx.try_send(Header::PLAIN, &[n]).unwrap();
    }
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    tx.flush(Deadline::never()).unwrap();
    for n in 0..100u8 {
        assert_eq!(payload(rx.try_recv().unwrap()), [n]);
    }
    tx.try_send(Header::PLAIN, b"before").unwrap();
    tx.try_send(Header::PLAIN, &vec![1; 70_000]).unwrap(); // sends the collected frames as well
    assert_eq!(payload(rx.recv().unwrap()), b"before");
}

#[test]
fn a_full_pipe_takes_nothing_of_a_refused_frame() {
    for batch in [false, true] {
        let (mut tx, mut rx) = pipe::pair(&Options::new().batch(batch)).unwrap();
        let mut sent = 0u32;
        while tx.try_send(Header::PLAIN, &[0; 500]).is_ok() {
            sent += 1;
        }
        assert!(matches!(tx.try_send(Header::PLAIN, &[0; 500]), Err(Error::Full)));
        let soon = Deadline::after(Duration::from_millis(5));
        assert!(matches!(tx.send_deadline(Header::PLAIN, &[0; 500], soon), Err(Error::Timeout)));
        std::thread::scope(|scope| {
            scope.spawn(|| tx.close(Deadline::never()).unwrap());
            for seq in 0..sent {
                let Event::Frame(frame) = rx.recv().unwrap() else { panic!("a gap") };
                assert_eq!(frame.header.seq, seq);
            }
            assert!(matches!(rx.recv(), Err(Error::Closed)));
        });
    }
}

#[test]
fn every_end_is_reported_as_what_it_was() {
    let closed = |wire: Vec<u8>| {
        let (mut rx, mut raw) = raw_pipe();
        raw.write_all(&wire).unwrap();
        drop(raw);
        let mut frames = 0;
        loop {
            match rx.recv() {
                Ok(Event::Frame(_)) => frames += 1,
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert_eq!(rx.recv().map(drop).unwrap_err().to_string(), error.to_string(), "every call says so");
                    return (frames, matches!(error, Error::Closed));
                }
            }
        }
    };
    let whole = app(0, b"frame");
    let half = &app(1, &[0xB7; 100])[..60];
    assert_eq!(closed(vec![]), (0, true));
    assert_eq!(closed(whole.clone()), (1, true)); // a foreign sender
    assert_eq!(closed([&whole, half].concat()), (1, false));
    assert_eq!(closed([&whole, &half[..3]].concat()), (1, false));
    assert_eq!(closed(hello(5)), (0, false));
    assert_eq!(closed([hello(5), whole.clone()].concat()), (1, false));
    assert_eq!(closed([hello(5), whole.clone(), bye(5)].concat()), (1, true));
    assert_eq!(closed([hello(5), hello(6), whole.clone(), bye(5)].concat()), (1, false));
    assert_eq!(closed([hello(5), bye(5), hello(6), whole, bye(6)].concat()), (1, true));
}

#[test]
fn frames_inside_the_frame_of_a_dead_sender_are_no_frames() {
    let inner = [app(0, b"payload, not frame"), app(1, b"nor this")].concat();
    let (mut rx, mut raw) = raw_pipe();
    raw.write_all(&hello(1)).unwrap();
    let outer = app(0, &[inner, vec![0; 1000]].concat());
    raw.write_all(&outer[..outer.len() - 8]).unwrap();
    drop(raw);
    assert!(matches!(rx.recv(), Err(Error::PeerDead)));
}

#[test]
fn garbage_in_a_pipe_is_skipped_and_on_a_socket_final() {
    let noise: Vec<u8> = (0..2000u32).map(|n| (n * 7) as u8).collect();
    let (mut rx, mut raw) = raw_pipe();
    raw.write_all(&[&noise[..], &app(0, b"found")].concat()).unwrap();
    assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes: 2000, .. }));
    assert_eq!(payload(rx.recv().unwrap()), b"found");
    raw.write_all(&noise).unwrap();
    drop(raw);
    assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes: 2000, .. }));
    assert!(matches!(rx.recv(), Err(Error::Closed)));

    // Less than a header: the sync bytes decide.
    for (wire, skipped) in [(&b"hi\n"[..], true), (&[0xB7, 0x53], true), (&[0xB7], false), (&app(0, b"")[..15], false)]
    {
        let (mut rx, mut raw) = raw_pipe();
        raw.write_all(wire).unwrap();
        drop(raw);
        if skipped {
            assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes, .. } if bytes == wire.len() as u64));
            assert!(matches!(rx.recv(), Err(Error::Closed)));
        } else {
            assert!(matches!(rx.recv(), Err(Error::PeerDead)));
        }
    }

    let (mut rx, _tx, mut raw) = raw_socket();
    raw.write_all(&[&noise[..], &app(0, b"not found")].concat()).unwrap();
    for _ in 0..3 {
        assert!(matches!(rx.recv(), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn a_length_in_a_header_is_not_trusted() {
    let huge = Header { len: 1 << 30, ..Header::PLAIN };
    let head = [huge.commit_word().to_le_bytes(), huge.tail_word().to_le_bytes()].concat();
    let (mut rx, _tx, mut raw) = raw_socket();
    raw.write_all(&head).unwrap();
    assert!(matches!(rx.recv(), Err(Error::TooLarge { .. })));
    assert!(matches!(rx.recv(), Err(Error::Corrupt { .. })));

    let (mut rx, mut raw) = raw_pipe();
    let within = Header { len: 16 << 20, ..Header::PLAIN };
    raw.write_all(&[within.commit_word().to_le_bytes(), within.tail_word().to_le_bytes()].concat()).unwrap();
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    assert!(rx.buffer_len() <= 128 << 10, "nothing has come yet");

    let (mut rx, _tx, mut raw) = raw_socket();
    let mut other = hello(1);
    other[2] = 0x22; // version 2
    raw.write_all(&other).unwrap();
    assert!(matches!(rx.recv(), Err(Error::Incompatible { expected: 1, found: 2, .. })));
    assert!(rx.recv().is_err());
}

#[test]
fn fragments_of_two_senders_come_together() {
    let (mut rx, mut raw) = raw_pipe();
    let parts = |epoch| {
        let parts = fragments(Header { stream: 9, ..Header::PLAIN }, b"in several parts", 5).unwrap();
        parts.map(move |(header, part)| {
            let frame = Frame::new(header, part).unwrap();
            [&frame.head_from(epoch).unwrap(), part, crate::frame::padding(part.len())].concat()
        })
    };
    rx.expect_many();
    for (one, other) in parts(1).zip(parts(2)) {
        raw.write_all(&[one, other].concat()).unwrap();
    }
    for _ in 0..2 {
        let Event::Frame(frame) = rx.recv().unwrap() else { panic!() };
        assert_eq!((frame.header.stream, frame.header.flags), (9, Flags::WHOLE));
        assert_eq!(frame.payload, b"in several parts");
    }
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
}

#[test]
fn a_ping_is_answered_between_frames_and_its_answer_delivered() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut tx, mut rx) = connection(ours.into(), SOCKET, &Options::new()).unwrap();
    let (mut tx2, mut rx2) = connection(theirs.into(), SOCKET, &Options::new().max_payload(1000)).unwrap();
    let ping = Header::control(control::PING, 4).unwrap();
    tx.send(ping, b"1234").unwrap();
    tx.send(Header::PLAIN, b"after").unwrap();
    assert_eq!(payload(rx2.recv().unwrap()), b"after");
    let Event::Frame(frame) = rx.recv().unwrap() else { panic!() };
    assert_eq!((frame.header.kind, frame.payload), (control::PONG, &b"1234"[..]));
    assert_eq!(tx.max_payload(), 1000, "what the other side's HELLO allows");
    assert!(matches!(tx.send(Header::PLAIN, &[0; 1001]), Err(Error::TooLarge { max: 1000 })));

    // A peer that sends PING without end and reads nothing uses no memory.
    tx2.send(Header::PLAIN, b"x").unwrap();
    for _ in 0..3000 {
        match tx.try_send(Header::control(control::PING, 900).unwrap(), &[0; 900]) {
            Ok(()) | Err(Error::Full) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(rx2.try_recv().is_err());
    }
    assert!(tx2.pending() <= 200 << 10);
}

#[test]
fn encoded_frames_are_sent_unchanged_and_parts_are_finished() {
    let (mut tx, mut rx) = pipe::pair(&Options::new()).unwrap();
    tx.send(Header::PLAIN, b"one's own").unwrap();
    assert_eq!(payload(rx.recv().unwrap()), b"one's own");
    let frames: Vec<u8> = (50..3050).flat_map(|seq| app(seq, &[1; 100])).collect();
    let mut sent = tx.send_encoded(&frames, Duration::ZERO).unwrap();
    assert!(sent < frames.len() && sent % 120 == 0, "{sent}");
    for seq in 50..3050 {
        let Event::Frame(frame) = rx.recv().unwrap() else { panic!("a gap before {seq}") };
        assert_eq!((frame.header.seq, frame.payload), (seq, &[1; 100][..]));
        if sent < frames.len() {
            sent += tx.send_encoded(&frames[sent..], Duration::ZERO).unwrap_or(0);
        } else {
            tx.flush(Duration::ZERO).unwrap_or(());
        }
    }
    tx.send(Header::PLAIN, b"one's own again").unwrap();
    let Event::Frame(frame) = rx.recv().unwrap() else { panic!("a gap") };
    assert_eq!(frame.header.seq, 3050);

    // In the long form they are encoded anew, and keep their numbers.
    for batch in [false, true] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wire = Wire { form: Form::Long, ..SOCKET };
        let (mut tx, _rx) = connection(ours.into(), wire, &Options::new().batch(batch)).unwrap();
        let (_tx, mut rx) = connection(theirs.into(), wire, &Options::new()).unwrap();
        assert_eq!(tx.send_encoded(&frames[..240], Deadline::never()).unwrap(), 240);
        tx.flush(Deadline::never()).unwrap();
        for seq in 50..52 {
            let Event::Frame(frame) = rx.recv().unwrap() else { panic!("a gap before {seq}") };
            assert_eq!((frame.header.seq, frame.payload), (seq, &[1; 100][..]));
        }
    }
    assert!(matches!(tx.send_encoded(&frames[..100], Deadline::never()), Err(Error::Corrupt { .. })));
}

#[test]
fn sending_to_an_ended_peer_fails() {
    let (mut tx, rx) = pipe::pair(&Options::new()).unwrap();
    drop(rx);
    wait_until_closed(&tx);
    assert!(matches!(tx.send(Header::PLAIN, b"x"), Err(Error::Closed)));
    assert!(matches!(tx.try_send(Header::PLAIN, b"x"), Err(Error::Closed)));
    tx.close(Deadline::never()).unwrap();

    let (mut rx, mut tx, mut raw) = raw_socket();
    tx.close(Deadline::never()).unwrap();
    assert!(matches!(tx.send(Header::PLAIN, b"x"), Err(Error::Closed)));
    let mut heard = Vec::new();
    raw.read_to_end(&mut heard).unwrap(); // the end of the stream comes with the BYE
    raw.write_all(&app(0, b"still open this way")).unwrap();
    assert_eq!(payload(rx.recv().unwrap()), b"still open this way");
}

/// Waits until the other end is closed. A child that another test is starting has a copy of it
/// until its `execve`.
fn wait_until_closed(tx: &impl FrameSender) {
    while !has_hung_up(tx.poll_fd().unwrap()).unwrap() {
        std::thread::yield_now();
    }
}

/// Whether `close` returns that sent frames did not arrive, also on a second call.
fn tells_of_loss(mut tx: impl FrameSender) -> bool {
    let closed = tx.close(Duration::from_secs(60));
    assert!(matches!(closed, Ok(()) | Err(Error::Closed | Error::PeerDead)), "{closed:?}");
    assert_eq!(tx.close(Duration::ZERO).is_err(), closed.is_err(), "the same answer again");
    closed.is_err()
}

#[test]
fn closing_reports_whether_everything_arrived() {
    for batch in [false, true] {
        let options = Options::new().batch(batch);
        let sockets = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (tx, _) = connection(ours.into(), SOCKET, &options).unwrap();
            let (_, rx) = connection(theirs.into(), SOCKET, &options).unwrap();
            (tx, rx)
        };
        for (mut tx, mut rx) in [pipe::pair(&options).unwrap(), sockets()] {
            // Everything was read, by a peer that then closed; or nothing was sent.
            tx.send(Header::PLAIN, b"arrives").unwrap();
            tx.flush(Deadline::never()).unwrap();
            assert_eq!(payload(rx.recv().unwrap()), b"arrives");
            drop(rx);
            assert!(!tells_of_loss(tx));
        }
        for (tx, rx) in [pipe::pair(&options).unwrap(), sockets()] {
            drop(rx);
            assert!(!tells_of_loss(tx));
        }
        for (mut tx, rx) in [pipe::pair(&options).unwrap(), sockets()] {
            // The peer leaves without reading it: before it has left here, or afterwards.
            tx.send(Header::PLAIN, b"is lost").unwrap();
            drop(rx);
            wait_until_closed(&tx);
            assert!(tells_of_loss(tx), "batch {batch}");
        }
        for (mut tx, rx) in [pipe::pair(&options).unwrap(), sockets()] {
            tx.send(Header::PLAIN, b"is lost").unwrap();
            drop(rx);
            wait_until_closed(&tx);
            assert_eq!(tx.flush(Deadline::never()).is_err(), batch);
            assert!(tells_of_loss(tx), "batch {batch}, flushed");
        }
    }
}

#[test]
fn a_reset_is_an_orderly_end_only_behind_a_bye() {
    let whole = app(0, b"frame");
    for (said, is_orderly) in [(whole.clone(), false), ([whole, bye(1)].concat(), true)] {
        let (mut rx, _tx, mut raw) = raw_socket(); // its HELLO is not read: closing `raw` resets the connection
        raw.write_all(&said).unwrap();
        drop(raw);
        assert_eq!(payload(rx.recv().unwrap()), b"frame");
        for _ in 0..2 {
            match rx.recv() {
                Err(Error::Closed) if is_orderly => {}
                Err(Error::PeerDead) if !is_orderly => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn hello_and_bye_are_the_transports() {
    let (mut tx, _rx) = pipe::pair(&Options::new()).unwrap();
    for kind in [control::HELLO, control::BYE] {
        assert!(matches!(tx.try_send(Header::control(kind, 0).unwrap(), b""), Err(Error::Invalid { .. })));
    }
    assert!(matches!(tx.try_send(Header::PLAIN, &vec![0; (16 << 20) + 1]), Err(Error::TooLarge { .. })));
}

#[test]
fn a_receiver_that_expects_few_frames_leaves_the_rest_in_the_pipe() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut raw = std::fs::File::from(writer);
    let lens = [0, 1, 8, 100, 3000, 5, 7, 20_000];
    let mut long = Vec::new();
    Frame::new(Header { seq: 8, ..Header::PLAIN }, b"long").unwrap().encode(Form::Long, &mut long).unwrap();
    raw.write_all(&hello(1)).unwrap();
    for (seq, len) in lens.iter().enumerate() {
        raw.write_all(&app(seq as u32, &vec![seq as u8; *len])).unwrap();
    }
    raw.write_all(&[&long, &b"noise that is no frame"[..], &app(9, b"last"), &bye(1)].concat()).unwrap();
    drop(raw);
    let mut next = 0;
    let mut skipped = 0;
    for few in [1, 1, 3, 2, 1, 2] {
        let mut rx = pipe::receiver(reader.try_clone().unwrap(), &Options::new()).unwrap();
        rx.expect_at_most(few);
        let mut left = few;
        while left > 0 {
            match rx.recv().unwrap() {
                Event::Frame(frame) => {
                    assert_eq!(frame.header.seq, next);
                    next += 1;
                    left -= 1;
                }
                Event::Skipped { bytes, .. } => skipped += bytes,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((next, skipped), (10, 22));
    let mut rx = pipe::receiver(reader, &Options::new()).unwrap();
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

#[test]
fn a_stopped_receiver_delivers_only_what_would_be_lost_with_it() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (fifo_reader, fifo_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let socket = connection(ours.into(), SOCKET, &Options::new()).unwrap();
    let mut ends: [(Box<dyn FrameReceiver>, std::fs::File); 2] = [
        (Box::new(socket.1), std::os::fd::OwnedFd::from(theirs).into()),
        (Box::new(pipe::receiver(fifo_reader, &Options::new()).unwrap()), fifo_writer.into()),
    ];
    for (rx, raw) in &mut ends {
        let frames: Vec<u8> = (1..600).flat_map(|seq| app(seq, &[3; 50])).collect();
        let (early, late) = frames.split_at(frames.len() / 2);
        let (late, rest) = late.split_at(late.len() - 20);
        raw.write_all(&[hello(1), app(0, b"first")].concat()).unwrap();
        assert_eq!(payload(rx.recv().unwrap()), b"first");
        raw.write_all(early).unwrap();
        assert_eq!(payload(rx.recv().unwrap()), [3; 50]); // reads ahead
        raw.write_all(late).unwrap(); // the kernel has it
        assert!(rx.stop());
        for _ in 2..599 {
            assert_eq!(payload(rx.try_recv().unwrap()), [3; 50]);
        }
        // What has begun is completed, if its sender can do so still; what follows is not taken.
        match raw.write_all(&[rest, &app(600, b"too late")].concat()) {
            Ok(()) => assert_eq!(payload(rx.recv().unwrap()), [3; 50]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe),
        }
        for _ in 0..2 {
            assert!(matches!(rx.recv(), Err(Error::Closed)));
        }
    }
}

#[test]
fn room_that_does_not_wake_the_sender_is_used_at_the_deadline() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut tx, _rx) = connection(ours.into(), SOCKET, &Options::new()).unwrap();
    while tx.try_send(Header::PLAIN, &[1; 1000]).is_ok() {}
    std::thread::scope(|scope| {
        // The kernel frees memory by the write. Less than three quarters of it do not end a poll.
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50)); // or the room is found at once, which is right as well
            theirs.read_exact(&mut [0; 8 << 10]).unwrap();
        });
        tx.send_deadline(Header::PLAIN, &[2; 1000], Duration::from_secs(2)).unwrap();
    });
}
