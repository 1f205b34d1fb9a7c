//! A hostile writer: arbitrary words written to the segment between two calls of the untrusting
//! receiver.
//!
//! The oracle reads the same memory independently, and knows the receiver's position: every result
//! is predicted, and after the first violation nothing is read.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use slipring::frame::{Header, padded};
use slipring::{Error, Options, Ring, spsc};

use super::draw::Draw;
use super::shared::{CONSUMER_PAGE, LINE, PAGE, Shared, len_of, sealed};

const CAPACITY: usize = 4096;
const MAX_PAYLOAD: usize = CAPACITY - 24;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY).participants(4)).unwrap();
    let own = ring.as_fd();
    let (image, len) = (Shared::map(own).to_vec(), len_of(own));
    let memfd = sealed(&image, len);
    let memory = Shared::map(memfd.as_fd());
    let start = draw.one_of(&[0, 8, 4088, u64::MAX - 7, u64::MAX - 4095, 1 << 63, 4]);
    memory.set_word(CONSUMER_PAGE + LINE, start);
    let passed = memfd.try_clone().unwrap();
    let rx = match spsc::UntrustedConsumer::from_fd(passed) {
        Ok(rx) => rx,
        Err(Error::Corrupt { .. }) if start % 8 != 0 => return,
        Err(e) => panic!("{e}"),
    };
    assert_eq!(rx.max_payload(), MAX_PAYLOAD);
    let mut world = World { rx, memory, data: len - CAPACITY, position: start, detached: false };
    while draw.more() {
        match draw.below(10) {
            0..=2 => world.write_frame(&mut draw),
            3 => {
                let at = world.data + 8 * draw.below(CAPACITY / 8);
                world.memory.set_word(at, draw.nasty());
            }
            4 => {
                let at = 8 * draw.below(world.data / 8);
                world.memory.set_word(at, draw.nasty());
            }
            5 => {
                let bytes = draw.bytes(64);
                world.memory.write(world.data + draw.below(CAPACITY - 64), bytes);
            }
            6 if draw.below(8) == 7 => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&memfd, flags, (PAGE * draw.below(len / PAGE)) as u64, PAGE as u64).unwrap();
            }
            _ => world.receive(&mut draw),
        }
    }
    world.receive(&mut draw);
}

struct World {
    rx: spsc::UntrustedConsumer,
    memory: Shared,
    data: usize,
    position: u64,
    detached: bool,
}

impl World {
    fn at(&self, position: u64) -> usize {
        self.data + (position as usize & (CAPACITY - 1))
    }

    /// A frame, correct or almost, where the receiver will read next.
    fn write_frame(&mut self, draw: &mut Draw<'_>) {
        let len = match draw.below(4) {
            0 => MAX_PAYLOAD + 2 - draw.below(12),
            _ => draw.below(100),
        };
        let mut header = Header { len: len as u32, ..Header::PLAIN };
        header.seq = draw.byte().into();
        let mut first = header.commit_word();
        if draw.below(8) == 7 {
            first ^= 1 << draw.below(64);
        }
        let payload = draw.payload(len);
        for (i, byte) in (16..).zip(&payload) {
            self.memory.write(self.at(self.position.wrapping_add(i)), &[*byte]);
        }
        self.memory.set_word(self.at(self.position.wrapping_add(8)), header.tail_word());
        self.memory.set_word(self.at(self.position), first);
    }

    fn receive(&mut self, draw: &mut Draw<'_>) {
        let mut buffer = vec![0xEE; draw.one_of(&[MAX_PAYLOAD, 0, 64, 100, 2 * CAPACITY])];
        let first = self.memory.word(self.at(self.position));
        let second = self.memory.word(self.at(self.position.wrapping_add(8)));
        let outcome = match draw.below(4) {
            0 => self.rx.recv_into_deadline(&mut buffer, Duration::ZERO),
            _ => self.rx.try_recv_into(&mut buffer),
        };
        if self.detached {
            assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?} after a violation");
            return;
        }
        if first == 0 {
            assert!(matches!(outcome, Err(Error::Empty | Error::Timeout)), "{outcome:?}");
            return;
        }
        let expected = match Header::from_words(first, second) {
            Ok(header) if header.len as usize <= MAX_PAYLOAD => header,
            _ => {
                assert!(matches!(outcome, Err(Error::Corrupt { .. } | Error::Incompatible { .. })), "{outcome:?}");
                self.detached = true;
                return;
            }
        };
        let len = expected.len as usize;
        if len > buffer.len() {
            assert!(matches!(outcome, Err(Error::TooLarge { max }) if max == len), "{outcome:?}");
            assert!(buffer.iter().all(|byte| *byte == 0xEE));
            return;
        }
        assert_eq!(outcome.unwrap(), expected);
        let payload = self.position.wrapping_add(16);
        for (i, byte) in buffer.iter().enumerate() {
            let mut there = [0xEE];
            if i < len {
                self.memory.read(self.at(payload.wrapping_add(i as u64)), &mut there);
            }
            assert_eq!(*byte, there[0], "byte {i} of {len}");
        }
        self.position = self.position.wrapping_add(padded(16 + len) as u64);
        assert_eq!(self.memory.word(CONSUMER_PAGE + LINE), self.position, "the exact position is published");
    }
}
