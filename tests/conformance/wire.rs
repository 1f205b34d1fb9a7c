//! Bytes that no sender of the library would send: the receiver returns a typed error or reports
//! them, in bounded time, and never delivers a frame that was not sent.
//!
//! For transports whose receiver a program without the library can reach ([`Subject::wire`]).

use slipring::frame::{Event, Form, Frame, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt};
use slipring::{Deadline, Error};
use std::time::{Duration, Instant};

use super::script::Dice;
use super::subject::{Meeting, PATIENCE, Subject, Wire, soon};

/// A frame with the same bytes as a message and on a byte stream: its payload needs no padding.
fn good(payload: &[u8]) -> Vec<u8> {
    assert_eq!(payload.len() % 8, 0);
    let mut bytes = Vec::new();
    Frame::new(Header::PLAIN, payload).unwrap().encode(Form::Long, &mut bytes).unwrap();
    bytes
}

/// A receiver, and a stranger connected to it that has sent `first`.
fn stranger(subject: &Subject, first: &[u8]) -> Option<(Box<dyn FrameReceiver>, Wire, Meeting)> {
    let connect = subject.wire?;
    let meeting = (subject.meet)();
    let (rx, wire) = std::thread::scope(|scope| {
        let rx = scope.spawn(|| meeting.open_receiver().unwrap());
        let mut wire = connect(&meeting);
        // A listening receiver accepts a connection that sends; other receivers must be open before
        // the stranger sends.
        if subject.capabilities.duplex {
            wire(first);
            return (rx.join().unwrap(), wire);
        }
        let rx = rx.join().unwrap();
        wire(first);
        (rx, wire)
    });
    Some((rx, wire, meeting))
}

/// Sends `bad`, which is no frame. The receiver must report or refuse it, and then continue as
/// before.
#[track_caller]
fn refuses(subject: &Subject, bad: &[u8]) {
    let Some((mut rx, mut wire, _meeting)) = stranger(subject, bad) else { return };
    // A receiver that searches for the next frame finds this one; a receiver that refuses has done
    // so by then.
    wire(&good(b"all good"));
    let start = Instant::now();
    let mut said = None;
    loop {
        match rx.recv_deadline(Deadline::after(Duration::from_secs(1))) {
            Ok(Event::Frame(frame)) => {
                assert_eq!(frame.payload, b"all good", "a frame that was not sent");
                assert!(said.is_some(), "the bytes before it were not reported");
                break;
            }
            Ok(Event::Skipped { .. }) => said = Some("skipped"),
            Ok(other) => panic!("{other:?}"),
            Err(Error::Corrupt { .. } | Error::Incompatible { .. } | Error::TooLarge { .. }) => {
                if said.replace("refused").is_some() && !subject.capabilities.boundaries {
                    break; // for good
                }
            }
            Err(Error::Closed | Error::PeerDead) if said.is_some() => break,
            Err(Error::Timeout) => assert!(start.elapsed() < PATIENCE, "neither refused nor skipped"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub fn garbage(subject: &Subject) {
    for seed in 0..5 {
        let noise: Vec<u8> = Dice::new(seed).bytes(200).iter().map(|byte| byte & 0x7F).collect(); // no sync byte in it
        refuses(subject, &noise);
    }
}

pub fn an_absurd_length(subject: &Subject) {
    for len in [1u32 << 30, (1 << 30) + 1, u32::MAX] {
        let mut bytes = good(b"")[..16].to_vec();
        bytes[2] = 0x12; // short: no checksum protects the length
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        refuses(subject, &bytes);
    }
}

pub fn another_version(subject: &Subject) {
    let mut version = good(b"from the future!");
    version[2] = 0x24;
    refuses(subject, &version);
    let mut magic = good(b"not ours");
    magic[0] ^= 1;
    refuses(subject, &magic);
    let mut demanding = good(b"");
    demanding[3] |= 0x10;
    refuses(subject, &demanding);
}

/// Half a frame, then nothing: the frame is not delivered, and the end is reported if the transport
/// has ends.
pub fn half_a_frame(subject: &Subject) {
    let Some((mut rx, mut wire, _meeting)) = stranger(subject, &good(b"it whole")) else { return };
    match rx.recv_deadline(soon()) {
        Ok(Event::Frame(frame)) => assert_eq!(frame.payload, b"it whole"),
        other => panic!("{other:?}"),
    }
    let bytes = good(&[7; 104]);
    wire(&bytes[..60]);
    drop(wire);
    let deadline = Deadline::after(Duration::from_secs(if subject.capabilities.boundaries { 1 } else { 240 }));
    loop {
        match rx.recv_deadline(deadline) {
            Ok(Event::Skipped { .. }) => {}
            Err(Error::PeerDead) => break,
            Err(Error::Corrupt { .. }) => {
                if subject.capabilities.boundaries {
                    break; // a message that is no frame
                }
            }
            Err(Error::Timeout | Error::Closed) if subject.capabilities.boundaries => break,
            other => panic!("{other:?}"),
        }
    }
}

/// A byte stream has the same result for all sizes of the pieces in which it arrives.
pub fn pieces_of_every_size(subject: &Subject) {
    if subject.capabilities.boundaries {
        return;
    }
    let Some((mut rx, mut wire, _meeting)) = stranger(subject, &good(b"it whole")) else { return };
    assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Frame(frame)) if frame.payload == b"it whole"));
    let payload = Dice::new(9).bytes(80);
    let bytes = [good(&payload), good(b""), good(&[1; 8])].concat();
    for size in 1..=bytes.len() {
        let mut seen = Vec::new();
        for piece in bytes.chunks(size) {
            wire(piece);
            loop {
                match rx.try_recv() {
                    Ok(Event::Frame(frame)) => seen.push(frame.payload.to_vec()),
                    Ok(Event::Duplicate { frame, .. }) => seen.push(frame.payload.to_vec()), // all have seq 0
                    Err(Error::Empty) => break,
                    other => panic!("pieces of {size}: {other:?}"),
                }
            }
        }
        while seen.len() < 3 {
            match rx.recv_deadline(soon()).unwrap() {
                Event::Frame(frame) | Event::Duplicate { frame, .. } => seen.push(frame.payload.to_vec()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [payload.clone(), vec![], vec![1; 8]], "pieces of {size}");
    }
}
