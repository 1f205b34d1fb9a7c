use std::os::fd::AsFd;
use std::time::Duration;

use super::*;
use crate::frame::{Event, Form, Frame, Header};
use crate::os::poll::{self, Ready};
use crate::ring::broadcast::{self, LossySubscriber, SlowPolicy, Start};
use crate::ring::{Options, Ring, mpmc, mpsc, spsc};
use crate::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, Released, pipe, stream};
use crate::wait::deadline::Deadline;

#[test]
fn bytes_without_frames_are_refused() {
    let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
    assert!(matches!(Sender::attach(&ring), Err(Error::Unsupported { .. })));
    assert!(matches!(Receiver::attach(&ring), Err(Error::Unsupported { .. })));
}

#[test]
fn a_lossy_receiver_tells_of_gaps_and_a_reliable_one_has_none() {
    let ring = Ring::create_anonymous(&Options::broadcast(4096)).unwrap();
    let mut tx = Sender::attach(&ring).unwrap();
    let mut lossy = Receiver::from(LossySubscriber::attach(&ring, Start::Oldest).unwrap());
    assert!(!lossy.capabilities().lossless && tx.capabilities().lossless);
    (0..200u8).for_each(|n| tx.try_send(Header::PLAIN, &[n; 64]).unwrap());
    let Event::Gap { expected: 0, found, .. } = lossy.try_recv().unwrap() else { panic!("it was overrun") };
    let mut next = found;
    while let Ok(Event::Frame(frame)) = lossy.try_recv() {
        assert_eq!((frame.header.seq, frame.payload), (next, &[next as u8; 64][..]));
        next += 1;
    }
    assert_eq!(next, 200);
    let mut reliable = Receiver::attach(&ring).unwrap();
    assert!(matches!(reliable.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == found));
    let run = reliable.encoded().unwrap().len();
    assert_eq!(run, 80 * (200 - found as usize), "the held frame is the first of them");
    assert_eq!(reliable.release_encoded(run - 1).frames, u64::from(199 - found));
    assert!(reliable.try_recv().is_ok() && reliable.keep());
    assert!(matches!(reliable.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == 199));
    assert!(matches!(reliable.try_recv(), Err(Error::Empty)));
    let mut belled = reliable.with_doorbell().unwrap();
    assert!(matches!(belled.try_recv(), Err(Error::Empty)));
    tx.try_send(Header::PLAIN, b"rings").unwrap();
    let deadline = Duration::from_secs(20);
    assert!(matches!(belled.recv_deadline(deadline).unwrap(), Event::Frame(frame) if frame.payload == b"rings"));
}

#[test]
fn the_bell_of_a_publisher_rings_for_room_and_when_an_eviction_is_due() {
    let (tx, mut rx) = broadcast::pair(4096).unwrap();
    let mut tx = Sender::from(tx).with_doorbell().unwrap();
    let is_writable = |tx: &Sender, within| poll::wait(tx.poll_fd().unwrap(), Ready::Write, within).unwrap();
    let (now, soon) = (Duration::ZERO, Duration::from_secs(20));
    while tx.try_send(Header::PLAIN, &[7; 64]).is_ok() {}
    assert!(!is_writable(&tx, now));
    while rx.try_recv().is_ok() {}
    assert!(is_writable(&tx, soon), "room");
    let (mut tx, _slow) = broadcast::pair(4096).unwrap();
    tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(5) });
    let mut tx = Sender::from(tx).with_doorbell().unwrap();
    while tx.try_send(Header::PLAIN, &[7; 64]).is_ok() {}
    assert!(is_writable(&tx, soon), "an eviction is due");
    tx.try_send(Header::PLAIN, &[7; 64]).unwrap();
}

#[test]
fn a_receiver_of_any_ring_can_be_cancelled_while_it_waits() {
    let of = |options: Options| Ring::create_anonymous(&options).unwrap();
    for ring in [Options::spsc(4096), Options::mpmc(8, 64), Options::broadcast(4096), Options::latest(2, 8)].map(of) {
        let mut receivers = vec![Receiver::attach(&ring).unwrap()];
        if ring.kind() == Kind::Broadcast {
            receivers.push(LossySubscriber::attach(&ring, Start::Latest).unwrap().into());
        }
        for mut rx in receivers {
            let canceller = rx.canceller().unwrap();
            let waiting = std::thread::spawn(move || rx.recv().map(drop));
            canceller.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)), "{:?}", ring.kind());
        }
    }
    let ring = of(Options::spsc(4096));
    assert!(Receiver::attach(&ring).unwrap().with_doorbell().unwrap().canceller().is_none());
}

#[test]
fn the_held_frame_keeps_its_place_until_the_next_call() {
    let (mut tx, rx) = mpmc::pair(2, 8).map(|(tx, rx)| (Sender::from(tx), Receiver::from(rx))).unwrap();
    let mut rx = rx;
    tx.try_send(Header::PLAIN, b"1").unwrap();
    tx.try_send(Header::PLAIN, b"2").unwrap();
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == b"1"));
    assert!(matches!(tx.try_send(Header::PLAIN, b"3"), Err(Error::Full)));
    rx.release();
    tx.try_send(Header::PLAIN, b"3").unwrap();
    tx.close(Deadline::never()).unwrap();
    assert!(matches!(tx.try_send(Header::PLAIN, b"4"), Err(Error::Closed)));
    for expected in [b"2", b"3"] {
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == expected));
    }
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

#[test]
fn the_end_of_many_senders_says_whether_one_has_died() {
    let ring = Ring::create_anonymous(&Options::mpsc(4096, 3)).unwrap();
    let mut rx = Receiver::attach(&ring).unwrap();
    for (dies, ends) in [(false, Error::Closed), (true, Error::PeerDead), (false, Error::Closed)] {
        let [mut one, mut two] = [(); 2].map(|()| mpsc::Producer::attach(&ring).unwrap());
        one.send(b"one").unwrap();
        two.send(b"two").unwrap();
        if dies {
            one.kill_for_test()
        } else {
            one.close()
        }
        ring.reap_dead().unwrap();
        for _ in 0..2 {
            assert!(matches!(rx.try_recv(), Ok(Event::Frame(_))));
        }
        assert!(matches!(rx.try_recv(), Err(Error::Empty)), "the other one is there");
        two.send(b"more").unwrap();
        assert!(matches!(rx.recv(), Ok(Event::Frame(frame)) if frame.payload == b"more"));
        assert!(rx.keep());
        assert!(matches!(rx.recv(), Ok(Event::Frame(frame)) if frame.payload == b"more"));
        assert!(rx.encoded().is_none(), "each lane numbers its frames for itself");
        rx.release();
        drop(two);
        for _ in 0..2 {
            let end = rx.try_recv().unwrap_err();
            assert_eq!(std::mem::discriminant(&end), std::mem::discriminant(&ends), "{end:?}");
        }
    }
}

#[test]
fn frames_leave_for_a_pipe_as_they_lie_around_the_end_of_the_ring() {
    let (tx, rx) = spsc::pair(4096).unwrap();
    let (mut tx, mut rx) = (Sender::from(tx), Receiver::from(rx));
    let (mut into, mut out) = pipe::pair(&stream::Options::new()).unwrap();
    let (mut filled, mut drained) = (0u32, 0u32);
    for size in [0, 1, 100, 7, 1000, 64, 333].into_iter().cycle().take(700) {
        while let Ok(()) = tx.try_send(Header::PLAIN, &vec![filled as u8; size]) {
            filled += 1;
        }
        let run = rx.encoded().unwrap();
        let part = run.len() - 9; // in the middle of the last frame, at least
        let sent = into.send_encoded(run, Deadline::never()).unwrap();
        assert_eq!(sent, run.len());
        let one_less = rx.release_encoded(part);
        let all = rx.release_encoded(sent);
        assert_eq!(all.frames, 1, "the one that was not released before");
        for _ in 0..one_less.frames + all.frames {
            let Event::Frame(frame) = out.recv().unwrap() else { panic!("a gap before {drained}") };
            assert_eq!(frame.header.seq, drained);
            assert!(frame.payload.iter().all(|byte| *byte == drained as u8));
            drained += 1;
        }
    }
    // The held frame is one of them.
    tx.try_send(Header::PLAIN, b"1").unwrap();
    tx.try_send(Header::PLAIN, b"2").unwrap();
    rx.try_recv().unwrap();
    assert_eq!(rx.encoded().map(<[u8]>::len), Some(48));
    assert_eq!(rx.release_encoded(48), Released { frames: 2, payload: 2 });
    assert_eq!(rx.encoded(), Some(&[][..]));
    assert!(filled >= 700 && drained == filled, "{drained} of {filled}");
    assert_eq!(rx.release_encoded(100), Released::default());
}

#[test]
fn frames_of_a_slot_ring_are_released_once_sent_and_redelivered_otherwise() {
    let ring = Ring::create_anonymous(&Options::mpmc(16, 64)).unwrap();
    let tx = mpmc::Producer::attach(&ring).unwrap();
    let mut rx = Receiver::attach(&ring).unwrap();
    let (mut into, mut out) = pipe::pair(&stream::Options::new()).unwrap();
    (0..10u8).for_each(|n| tx.try_send(&[n]).unwrap());
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [0]));
    let run = rx.encoded().unwrap();
    assert_eq!(run.len(), 4 * 24, "a quarter of the ring, the frame that is held among them");
    assert_eq!(into.send_encoded(&run[..48], Deadline::never()).unwrap(), 48);
    assert_eq!(rx.release_encoded(47), Released { frames: 1, payload: 1 });
    assert_eq!(rx.release_encoded(24), Released { frames: 1, payload: 1 });
    // Frame by frame, reception continues where the run began.
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [2]));
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [3]));
    assert!(rx.keep());
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [3]));
    // The numbers in the run have no gap, although other consumers take frames in between.
    let other = mpmc::Consumer::attach(&ring).unwrap();
    assert_eq!(&*other.try_recv().unwrap(), [4]);
    assert_eq!(rx.encoded().unwrap().len(), 4 * 24, "3, 5, 6, 7");
    let sent = into.send_encoded(&rx.encoded().unwrap()[..24], Deadline::never()).unwrap();
    assert_eq!(rx.release_encoded(sent).frames, 1);
    for expected in [0u8, 1, 3] {
        assert!(matches!(out.recv().unwrap(), Event::Frame(frame) if frame.payload == [expected]), "{expected}");
    }
    drop(rx);
    let left: Vec<_> = std::iter::from_fn(|| other.try_recv().ok()).map(|frame| frame[0]).collect();
    assert_eq!(left, [5, 6, 7, 8, 9]);
    assert_eq!(ring.stats().counts.redelivered, 3);
}

#[test]
fn a_strangers_frames_are_checked_for_gaps() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let passed = ring.as_fd().try_clone_to_owned().unwrap();
    let mut rx = Receiver::from(spsc::UntrustedConsumer::from_fd(passed).unwrap());
    spsc::Producer::attach(&ring).unwrap().try_send(b"a").unwrap(); // seq 0
    assert!(matches!(rx.try_recv().unwrap(), Event::Frame(_)));
    spsc::Producer::attach(&ring).unwrap().try_send(b"b").unwrap(); // seq 0 again
    assert!(matches!(rx.try_recv().unwrap(), Event::Duplicate { expected: 1, .. }));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    assert!(matches!(rx.recv_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
    assert!(rx.with_doorbell().is_err());
}

#[test]
fn encoded_frames_keep_their_numbers_in_byte_rings_and_those_without_room_are_not_sent() {
    let mut frames = Vec::new();
    let header = |stream, seq| Header { stream, seq, ..Header::new(0x0107, 64).unwrap() };
    let headers = [header(0, 7), header(3, 90), header(0, 9), header(3, 91)];
    headers.iter().for_each(|header| Frame::new(*header, &[3; 64]).unwrap().encode(Form::Short, &mut frames).unwrap());
    let now = Duration::ZERO;
    for options in [Options::spsc(4096), Options::mpsc(4096, 2), Options::broadcast(4096)] {
        let ring = Ring::create_anonymous(&options).unwrap();
        let mut rx = Receiver::attach(&ring).unwrap();
        let mut tx = Sender::attach(&ring).unwrap();
        assert!(tx.takes_encoded());
        assert_eq!(tx.send_encoded(&frames, now).unwrap(), 4 * 80);
        tx.send(header(3, 0), b"").unwrap();
        for expected in headers {
            let Event::Frame(frame) = rx.recv_deadline(now).unwrap() else { panic!("{:?}", ring.kind()) };
            assert_eq!((frame.header, frame.payload), (expected, &[3; 64][..]));
        }
        let Event::Frame(frame) = rx.recv_deadline(now).unwrap() else { panic!("{:?}", ring.kind()) };
        assert_eq!(frame.header.seq, 92, "the numbers continue");
        rx.release();
        // A frame of 4000 bytes leaves room for one more.
        tx.try_send(header(0, 0), &[0; 3920]).unwrap();
        assert_eq!(tx.send_encoded(&frames, now).unwrap(), 80);
        assert!(matches!(tx.send_encoded(&frames[80..], now), Err(Error::Timeout)));
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == 10));
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == 7));
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        // What is no frame ends what is sent.
        assert_eq!(tx.send_encoded(&frames[..2 * 80 + 7], now).unwrap(), 2 * 80);
        assert!(matches!(tx.send_encoded(&frames[..79], now), Err(Error::Corrupt { .. })));
        let reserved = [&frames[..8], &[1, 0], &frames[10..80]].concat();
        assert!(matches!(tx.send_encoded(&reserved, now), Err(Error::Invalid { .. })));
    }
    for options in [Options::mpmc(8, 64), Options::latest(2, 64)] {
        let mut tx = Sender::attach(&Ring::create_anonymous(&options).unwrap()).unwrap();
        assert!(!tx.takes_encoded());
        assert_eq!(tx.send_encoded(&frames, now).unwrap(), 0);
    }
}
