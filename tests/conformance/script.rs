//! Scripts: frames made from a seed and a number, so that both ends know them without
//! communication.

use slipring::frame::{Event, Frame, Header};
use slipring::transport::{Capabilities, DeliveryOrder, FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error, Result};

/// xorshift64*.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.word() >> 16) as usize % n
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.word().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

/// A sequence of frames.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub seed: u64,
    pub frames: usize,
    /// The longest payload.
    pub longest: usize,
    /// How many of a thousand frames may be longer than 300 bytes.
    pub long_in_1000: usize,
    /// The streams of the frames.
    pub streams: [u16; 3],
}

impl Script {
    /// Mostly small frames, sometimes a longer one.
    pub fn mixed(seed: u64, frames: usize, longest: usize, streams: [u16; 3]) -> Self {
        Script { seed, frames, longest, long_in_1000: 10, streams }
    }

    /// Large frames only.
    pub fn large(seed: u64, frames: usize, longest: usize, streams: [u16; 3]) -> Self {
        Script { long_in_1000: 1000, ..Script::mixed(seed, frames, longest, streams) }
    }

    /// Frame number `n`. The first 8 bytes of its payload are the number, if it is that long.
    pub fn frame(&self, n: usize) -> (Header, Vec<u8>) {
        let mut dice = Dice::new(self.seed ^ (n as u64) << 20);
        let long = dice.below(1000) < self.long_in_1000;
        let limit = if long { self.longest } else { self.longest.min(300) };
        let mut len = dice.below(limit + 1);
        if self.long_in_1000 == 1000 {
            len = len.max(limit / 2);
        }
        let mut payload = dice.bytes(len);
        for (to, from) in payload.iter_mut().zip((n as u64).to_le_bytes()) {
            *to = from;
        }
        let header = Header::new(0x0100 + (dice.word() % 5) as u16, 0).unwrap();
        (Header { stream: self.streams[dice.below(3)], ..header }, payload)
    }

    /// Sends all frames. Calls `pause(n)` before frame `n`.
    pub fn send(&self, tx: &mut dyn FrameSender, deadline: Deadline, mut pause: impl FnMut(usize)) -> Result<()> {
        for n in 0..self.frames {
            pause(n);
            let (header, payload) = self.frame(n);
            tx.send_deadline(header, &payload, deadline)?;
        }
        tx.flush(deadline)
    }

    /// What a receiver of the script still expects.
    pub fn expect(self, capabilities: &Capabilities) -> Expected {
        Expected {
            script: self,
            order: capabilities.order,
            lossless: capabilities.lossless,
            next: [0; 3],
            seen: 0,
            gaps: 0,
            sender_died: false,
        }
    }
}

/// Checks frames as they arrive.
pub struct Expected {
    script: Script,
    order: DeliveryOrder,
    lossless: bool,
    /// The next number of each stream.
    next: [usize; 3],
    pub seen: usize,
    gaps: usize,
    /// Set if the sender may end inside a frame, whose beginning may then be reported.
    pub sender_died: bool,
}

impl Expected {
    /// Checks one event.
    #[track_caller]
    pub fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Frame(frame) => self.take_frame(frame),
            Event::Gap { .. } if !self.lossless => self.gaps += 1,
            Event::Skipped { .. } if self.sender_died => {}
            other => panic!("after {} frames: {other:?}", self.seen),
        }
    }

    #[track_caller]
    fn take_frame(&mut self, frame: Frame<'_>) {
        let lane = self.script.streams.iter().position(|stream| *stream == frame.header.stream);
        let lane = lane.expect("a stream that was sent");
        loop {
            let n = self.advance(lane);
            let (header, payload) = self.script.frame(n);
            let same = header.kind == frame.header.kind && payload == frame.payload;
            if same {
                break;
            }
            assert!(
                !self.lossless,
                "frame {n} came as another: {:?}, sent {header:?}, {} bytes",
                frame.header,
                payload.len()
            );
        }
        assert!(frame.header.is_whole(), "{:?}", frame.header);
        assert_eq!(frame.header.len as usize, frame.payload.len());
        self.seen += 1;
        if matches!(self.order, DeliveryOrder::Fifo | DeliveryOrder::PerSender) {
            // In one order across streams: no frame with a higher number came before.
            let furthest = self.next.iter().copied().max().unwrap_or(0);
            assert_eq!(furthest, self.next[lane], "stream {} came late", frame.header.stream);
        }
    }

    /// The number of the next frame on a lane.
    #[track_caller]
    fn advance(&mut self, lane: usize) -> usize {
        let found =
            (self.next[lane]..self.script.frames).find(|n| self.script.frame(*n).0.stream == self.script.streams[lane]);
        let n = found.expect("more frames came than were sent");
        self.next[lane] = n + 1;
        n
    }

    pub fn is_complete(&self) -> bool {
        self.seen == self.script.frames
    }

    /// Asserts that every frame was received or its loss was reported.
    #[track_caller]
    pub fn check(&self) {
        let missing = self.script.frames - self.seen;
        assert!(
            missing == 0 || (!self.lossless && self.gaps > 0),
            "{missing} frames are missing, {} gaps reported",
            self.gaps
        );
    }

    /// Receives until the end, and returns the error that ended it.
    #[track_caller]
    pub fn receive_to_the_end(&mut self, rx: &mut dyn FrameReceiver, deadline: Deadline) -> Error {
        loop {
            match rx.recv_deadline(deadline) {
                Ok(event) => self.take(event),
                Err(error) => return error,
            }
        }
    }
}
