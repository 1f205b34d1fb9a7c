//! Tests of the broadcast ring: the handles, also when they are misused (`handles.rs`), and what
//! hostile or dead participants leave behind (`hostile.rs`). The algorithms under every
//! interleaving: `loom-tests`. Across processes: `tests/crash`.

#[cfg(not(miri))]
mod handles;
#[cfg(not(miri))]
mod hostile;

use super::{LossySubscriber, Publisher, Received, Start, Subscriber};
use crate::ring::{Options, Ring};

/// A ring of 4096 bytes: chunks of 256.
fn ring() -> Ring {
    Ring::create_anonymous(&Options::broadcast(4096)).unwrap()
}

/// A payload that tells its number and its length in every byte.
fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    let prefix = number.to_le_bytes();
    let len = len.min(8);
    bytes[..len].copy_from_slice(&prefix[..len]);
    bytes
}

fn number(payload: &[u8]) -> u64 {
    let number = u64::from_le_bytes(payload[..8].try_into().unwrap());
    assert!(payload[8..].iter().all(|byte| *byte == number as u8), "torn: {payload:?}");
    number
}

/// Receives everything that is there; returns the numbers, and how many were missed before each.
fn drain(rx: &mut LossySubscriber) -> Vec<(u64, u64)> {
    let (mut buffer, mut missed, mut seen) = (vec![0; rx.max_payload()], 0, Vec::new());
    while let Ok(received) = rx.try_recv_into(&mut buffer) {
        match received {
            Received::Gap { missed: frames } => missed += frames,
            Received::Frame(header) => seen.push((number(&buffer[..header.len as usize]), std::mem::take(&mut missed))),
        }
    }
    seen
}

fn recv(rx: &mut Subscriber) -> u64 {
    number(&rx.try_recv().unwrap())
}
