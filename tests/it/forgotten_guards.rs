//! Guards that are leaked with `mem::forget` instead of dropped. A leaked write guard (grant, batch
//! or chunk) is aborted; what a leaked read guard (view, batch or chunk) held is delivered again.
//! In both cases the handle continues to work. One test damages the memory of an open batch.
//!
//! One process is enough: the other end of each ring sees what another process would see.

#![allow(clippy::forget_non_drop, reason = "the test holds whether or not a guard has a destructor")]

use std::mem::forget;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use slipring::frame::{Event, Flags, Header, Order, Tracker};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, ring};
use slipring::{Deadline, Error, Options, Ring, mpmc, spsc, stream};

use crate::common::shared::Shared;

const CAPACITY: usize = 4096;
const SOON: Duration = Duration::from_secs(20);

fn on(stream: u16) -> Header {
    Header { stream, ..Header::PLAIN }
}

/// Leaks one guard of each kind, in turn.
fn forget_one(tx: &mut spsc::Producer, turn: usize) {
    match turn % 5 {
        0 => {
            let mut batch = tx.batch();
            batch.push(b"forgotten").unwrap();
            batch.push_frame(on(7), b"forgotten").unwrap();
            forget(batch);
        }
        1 => {
            let mut grant = tx.try_reserve(100).unwrap();
            grant.fill(0xFF);
            forget(grant);
        }
        2 => {
            let mut grant = tx.try_reserve(32).unwrap();
            *grant.value_mut::<[u64; 4]>().unwrap() = [u64::MAX; 4];
            forget(grant);
        }
        3 => {
            // As many bytes as fit.
            let mut batch = tx.batch();
            while batch.push(&[0xFF; 40]).is_ok() {}
            assert!(!batch.is_empty());
            forget(batch);
        }
        _ => {
            let mut grant = tx.reserve(tx.max_payload() / 2).unwrap();
            grant.fill(0xFF);
            forget(grant);
        }
    }
}

/// Sends one frame, by a method that depends on `turn`.
fn send_one(tx: &mut spsc::Producer, turn: usize, payload: &[u8]) {
    match turn % 3 {
        0 => tx.try_send(payload).unwrap(),
        1 => {
            let mut grant = tx.try_reserve(payload.len() + turn % 20).unwrap();
            grant[..payload.len()].copy_from_slice(payload);
            grant.commit(payload.len());
        }
        _ => {
            let mut batch = tx.batch();
            batch.push(payload).unwrap();
            batch.push_frame(on(7), payload).unwrap();
            assert_eq!(batch.len(), 2);
            batch.commit();
        }
    }
}

/// Receives what [`send_one`] sent.
fn expect(rx: &mut spsc::Consumer, tracker: &mut Tracker, turn: usize, payload: &[u8]) {
    for stream in [0, 7].into_iter().take(1 + usize::from(turn % 3 == 2)) {
        let view = rx.try_recv().unwrap();
        assert_eq!((&*view, view.header().stream), (payload, stream), "turn {turn}");
        assert_eq!(tracker.check(view.header()), Order::Next, "a forgotten frame took a sequence number: turn {turn}");
    }
    assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)), "a forgotten frame was sent: turn {turn}");
}

#[test]
fn spsc_a_forgotten_grant_or_batch_is_aborted() {
    let (mut tx, mut rx) = spsc::pair(CAPACITY).unwrap();
    let mut tracker = Tracker::new();
    for turn in 0..2000 {
        forget_one(&mut tx, turn / 3);
        let payload = vec![turn as u8; turn % 90];
        send_one(&mut tx, turn, &payload);
        expect(&mut rx, &mut tracker, turn, &payload);
    }
    let counts = tx.ring().stats().counts;
    assert_eq!(counts.sent, counts.received);
    assert!(tx.ring().verify().unwrap().is_clean());
}

#[test]
fn spsc_a_forgotten_guard_keeps_the_frames_before_it() {
    let (mut tx, mut rx) = spsc::pair(CAPACITY).unwrap();
    for turn in 0..200u8 {
        tx.try_send(&[turn; 33]).unwrap();
        forget_one(&mut tx, turn.into());
        tx.try_send(&[!turn; 21]).unwrap();
        forget_one(&mut tx, usize::from(turn) + 1);
        assert_eq!(*rx.try_recv().unwrap(), [turn; 33]);
        assert_eq!(*rx.try_recv().unwrap(), [!turn; 21]);
    }
    // The ring is full to the byte, so no guard can be had, and nothing is lost.
    while tx.try_send(&[5; 100]).is_ok() {}
    forget(tx.batch());
    let waiting = rx.try_recv_batch(usize::MAX).unwrap().iter().filter(|frame| frame.payload == [5; 100]).count();
    assert_eq!(waiting, (CAPACITY - 8) / 120);
}

#[test]
fn spsc_a_new_producer_sees_no_forgotten_frame() {
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY)).unwrap();
    let mut rx = spsc::Consumer::attach(&ring).unwrap();
    for turn in 0..50u8 {
        let mut tx = spsc::Producer::attach(&ring).unwrap();
        forget_one(&mut tx, turn.into());
        drop(tx);
        spsc::Producer::attach(&ring).unwrap().try_send(&[turn; 9]).unwrap();
        assert_eq!(*rx.try_recv().unwrap(), [turn; 9]);
        assert!(rx.try_recv().is_err());
    }
}

#[test]
fn spsc_the_frames_of_a_forgotten_view_or_batch_are_delivered_again() {
    let (mut tx, mut rx) = spsc::pair(CAPACITY).unwrap();
    for turn in 0..100u64 {
        for i in 0..3 {
            tx.try_send_value(&(turn + i)).unwrap();
        }
        forget(rx.try_recv().unwrap());
        let view = rx.recv().unwrap();
        assert_eq!(view.value::<u64>().unwrap(), &turn);
        forget(view);
        let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
        assert_eq!(batch.iter().count(), 3);
        forget(batch);
        let mut batch = rx.recv_batch(usize::MAX).unwrap();
        forget(batch.iter());
        assert_eq!(batch.iter().next().unwrap().payload, turn.to_le_bytes());
        drop(batch);
        forget(rx.try_recv().unwrap());
        let mut buffer = [0; 8];
        for i in 1..3 {
            let header = rx.try_recv_into(&mut buffer).unwrap();
            assert_eq!((u64::from_le_bytes(buffer), header.flags), (turn + i, Flags::WHOLE));
        }
        assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)));
    }
}

#[test]
fn spsc_an_untrusting_consumer_sees_no_forgotten_frame() {
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY)).unwrap();
    let mut tx = spsc::Producer::attach(&ring).unwrap();
    let passed = ring.as_fd().try_clone_to_owned().unwrap();
    let mut rx = spsc::UntrustedConsumer::from_fd(passed).unwrap();
    let mut buffer = [0; CAPACITY];
    let mut tracker = Tracker::new();
    for turn in 0..500 {
        forget_one(&mut tx, turn);
        assert!(matches!(rx.try_recv_into(&mut buffer), Err(Error::Empty)));
        tx.try_send(&[turn as u8; 50]).unwrap();
        let header = rx.try_recv_into(&mut buffer).unwrap();
        assert_eq!(buffer[..header.len as usize], [turn as u8; 50]);
        assert_eq!(tracker.check(header), Order::Next);
    }
}

#[test]
fn transport_a_received_frame_is_held_until_the_next_call() {
    let (tx, rx) = spsc::pair(CAPACITY).unwrap();
    let (mut tx, mut rx) = (ring::Sender::from(tx), ring::Receiver::from(rx));
    for turn in 0..100u8 {
        tx.try_send(Header::PLAIN, &[turn; 30]).unwrap();
        tx.try_send(Header::PLAIN, &[!turn; 30]).unwrap();
        // Events and runs are plain borrows without a destructor.
        let _ = rx.try_recv().unwrap();
        assert_eq!(rx.encoded().unwrap().len(), 2 * 48);
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [turn; 30]));
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [!turn; 30]));
        assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)));
    }
    tx.close(Deadline::never()).unwrap();
    assert!(matches!(rx.try_recv().map(drop), Err(Error::Closed)));
}

#[test]
fn stream_a_forgotten_guard_is_neither_written_nor_read() {
    let (mut tx, mut rx) = stream::pair(CAPACITY).unwrap();
    for turn in 0..200u8 {
        let mut grant = tx.try_reserve(CAPACITY).unwrap();
        grant.fill(0xFF);
        forget(grant);
        let mut grant = tx.try_reserve(64).unwrap();
        grant.as_values_mut::<u32>().unwrap().fill(u32::MAX);
        forget(grant);
        tx.write_all(&[turn; 300]).unwrap();
        forget(rx.try_read_view(300).unwrap());
        assert_eq!(rx.len(), 300);
        let view = rx.try_read_view(300).unwrap();
        assert_eq!(*view, [turn; 300]);
        view.release(300);
    }
}

/// With several producers, a forgotten claim looks like one that is still being written. So it is
/// aborted only when the last clone of its handle is dropped. The same holds for slots that are
/// being read.
#[test]
fn mpmc_forgotten_slots_are_returned_with_the_last_clone_of_their_handle() {
    let ring = Ring::create_anonymous(&Options::mpmc(16, 64)).unwrap();
    let rx = mpmc::Consumer::attach(&ring).unwrap();
    for turn in 0..100u8 {
        let tx = mpmc::Producer::attach(&ring).unwrap();
        let clone = tx.clone();
        let mut grant = tx.try_reserve(64).unwrap();
        grant.fill(0xFF);
        forget(grant);
        let mut grant = clone.try_reserve(32).unwrap();
        *grant.value_mut::<[u64; 4]>().unwrap() = [u64::MAX; 4];
        forget(grant);
        for i in 0..3 {
            tx.try_send(&[turn, i]).unwrap();
        }
        drop(tx);
        assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)), "a clone lives, and may still be writing");
        drop(clone);
        let reader = mpmc::Consumer::attach(&ring).unwrap();
        forget(reader.try_recv().unwrap());
        forget(reader.try_recv_batch(1).unwrap());
        assert_eq!(*rx.try_recv().unwrap(), [turn, 2], "the other slots are still held");
        drop(reader);
        let mut again = [(); 2].map(|()| {
            let view = rx.try_recv().unwrap();
            assert!(view.header().flags.contains(Flags::REDELIVERED));
            view.to_vec()
        });
        again.sort();
        assert_eq!(again, [[turn, 0], [turn, 1]]);
        assert!(rx.try_recv().is_err());
    }
    let report = ring.verify().unwrap();
    assert!(report.is_clean() && report.writing + report.reading == 0, "{report:?}");
}

/// A member overwrites one word of an open batch, which is then dropped, forgotten or committed.
/// Every call must return.
#[test]
fn every_call_returns_after_a_word_of_an_open_batch_was_damaged() {
    for damage in [0, 1, 8, u64::MAX, u64::MAX << 32, Header { len: u32::MAX >> 2, ..Header::PLAIN }.commit_word()] {
        for word in 0..12 {
            for end in ["drop", "forget", "commit"] {
                let ring = Ring::create_anonymous(&Options::spsc(CAPACITY)).unwrap();
                let memory = Shared::map(ring.as_fd());
                let mut tx = spsc::Producer::attach(&ring).unwrap();
                let (done, finished) = mpsc::channel();
                std::thread::spawn(move || {
                    let mut batch = tx.batch();
                    for payload in [b"12345678".as_slice(), b"123456789012", b"x"] {
                        batch.push(payload).unwrap();
                    }
                    memory.set_word(memory.len() - CAPACITY + 8 * word, damage);
                    match end {
                        "drop" => drop(batch),
                        "forget" => forget(batch),
                        _ => batch.commit(),
                    }
                    if end != "commit" {
                        // The damaged word was in free space, so the next frame is intact.
                        tx.try_send(b"next").unwrap();
                    }
                    drop(tx);
                    done.send(()).unwrap();
                });
                finished.recv_timeout(SOON).unwrap_or_else(|_| panic!("{end} does not return: {damage:#x} in {word}"));
                let mut rx = spsc::Consumer::attach(&ring).unwrap();
                if end != "commit" {
                    let view = rx.try_recv().unwrap();
                    assert_eq!((&*view, view.header().seq), (b"next".as_slice(), 0));
                } else {
                    while rx.try_recv().is_ok() {}
                }
            }
        }
    }
}
