//! Tests of the mpsc ring: the handles (`handles.rs`), ends and successors (`ends.rs`), and what
//! hostile or damaged segments do (`hostile.rs`). The algorithms under every interleaving:
//! `loom-tests`. Across processes: `tests/crash`.

#[cfg(not(miri))]
mod ends;
#[cfg(not(miri))]
mod handles;
#[cfg(not(miri))]
mod hostile;

use super::{Consumer, Producer, Received};
use crate::ring::{Options, Ring};

/// A ring of lanes of 4096 bytes.
fn ring(lanes: usize) -> Ring {
    Ring::create_anonymous(&Options::mpsc(4096, lanes)).unwrap()
}

/// A payload of `len` bytes that tells its number, and its length, in every byte.
fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(payload: &[u8]) -> u64 {
    let number = u64::from_le_bytes(payload[..8].try_into().unwrap());
    assert!(payload[8..].iter().all(|byte| *byte == number as u8), "torn: {payload:?}");
    number
}

/// What a consumer received: the lane and the number of a frame, or the lane of an end, and whether
/// its producer died.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Frame(u16, u64),
    Ended(u16, bool),
}

fn try_recv(rx: &mut Consumer) -> crate::Result<Seen> {
    Ok(match rx.try_recv()? {
        Received::Frame(view) => Seen::Frame(view.source().lane, number(&view)),
        Received::Ended(end) => Seen::Ended(end.lane, end.died),
    })
}

/// Receives everything that is there.
fn drain(rx: &mut Consumer) -> Vec<Seen> {
    std::iter::from_fn(|| try_recv(rx).ok()).collect()
}
