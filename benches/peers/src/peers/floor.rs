//! The costs of the machine itself, without a queue: the floors of the tables.
//!
//! - `line`: the round trip of a bare cache line, busy (`slipring::probe::PingPong`): with a PAUSE
//!   between two looks, without, and of two lines.
//! - `Blocks`: a bulk copy from one processor to the other: blocks of 64 KiB, written by one and
//!   read by the other, with one flag for each.
//! - `Lines`: messages stored into a ring by a sender that does not wait, and read by receivers as
//!   far as they come: what it costs that others read the lines which are written. Nothing says
//!   whether a message was overwritten while it was read, so it is not verified.
//! - `Futex`: one message in shared memory, a word that announces it, and a futex for each
//!   direction: the least that two sleeping ends need.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::thread::futex;
use slipring::probe::PingPong;
use zerocopy::IntoBytes;

use crate::ends::{Fan, Lossy, Peer, Poll, Receiver, Sender, WORDS};
use crate::job::{End, Job, Link, Report, Result};
use crate::part::Found;
use crate::shared::Shared;
use crate::{part, tasks};

pub(crate) fn create_line(_link: &Link) -> Result<Vec<OwnedFd>> {
    Ok(vec![PingPong::new()?.as_fd().try_clone_to_owned()?])
}

pub(crate) fn line(job: &Job) -> Result<Found> {
    part::pin(job.cpus.first());
    let line = PingPong::from_fd(job.links[0].inherited(0)?)?;
    let line = match job.peer.as_str() {
        "cache-line-busy" => line.without_pause(),
        "two-lines" => line.two_lines(),
        _ => line,
    };
    part::start()?;
    if job.end == End::Receiver(0) {
        line.pong(job.count)?;
        return Ok((vec![Report::default()], None));
    }
    let mut times = tasks::Times::new(job.count)?;
    line.ping(job.count, |ns| times.add(ns))?;
    Ok((vec![times.report()], None))
}

pub(crate) struct Blocks;

/// One end. Block n is free for the sender while its word is 2 × (laps so far), and belongs to the
/// receiver at one more.
pub(crate) struct BlockEnd {
    shared: Shared,
    next: usize,
    lap: u32,
}

impl BlockEnd {
    fn open(link: &Link) -> Result<Self> {
        Ok(BlockEnd { shared: Shared::open(link, 0, link.size, link.slots())?, next: 0, lap: 0 })
    }

    /// Waits until the next block is in `state` of this lap, and passes it on after `body`.
    #[inline(always)]
    fn turn(&mut self, state: u32, body: impl FnOnce(&Shared, usize)) {
        let word = self.shared.word(self.next);
        while word.load(Ordering::Acquire) != 2 * self.lap + state {
            std::hint::spin_loop();
        }
        body(&self.shared, self.next);
        word.store(2 * self.lap + state + 1, Ordering::Release);
        self.next += 1;
        if self.next == self.shared.blocks() {
            self.next = 0;
            self.lap += 1;
        }
    }
}

impl<const W: usize> Sender<W> for BlockEnd {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        self.turn(0, |shared, i| shared.write(i, write));
    }
}

impl<const W: usize> Receiver<W> for BlockEnd {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        self.turn(1, |shared, i| shared.read(i, &mut read));
    }
}

impl Peer for Blocks {
    type Sender<const W: usize> = BlockEnd;
    type Receiver<const W: usize> = BlockEnd;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        Shared::create(link.bytes)
    }

    fn sender<const W: usize>(link: &Link) -> Result<BlockEnd> {
        BlockEnd::open(link)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<BlockEnd> {
        BlockEnd::open(link)
    }
}

pub(crate) struct Lines;

/// An end of the bare lines, and how many messages it has written or read. The word
/// before a message is its number, from 1 on; it takes as many bytes as a frame of slipring.
pub(crate) struct LinesEnd {
    shared: Shared,
    slots: u32,
    next: u32,
}

const STRIDE: usize = WORDS + 2;

impl LinesEnd {
    fn open(link: &Link) -> Result<Self> {
        let slots = u32::try_from(link.bytes / (8 * STRIDE))?;
        let shared = Shared::open(link, 0, link.bytes, 1)?;
        Ok(LinesEnd { shared, slots, next: 0 })
    }

    #[inline(always)]
    fn first_word(&self) -> usize {
        (self.next % self.slots) as usize * STRIDE
    }
}

impl Sender<WORDS> for LinesEnd {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; WORDS];
        write(message.as_mut_bytes());
        let first = self.first_word();
        for (i, word) in message.into_iter().enumerate() {
            self.shared.data(first + 1 + i).store(word, Ordering::Relaxed);
        }
        self.next = self.next.wrapping_add(1);
        self.shared.data(first).store(self.next.into(), Ordering::Release);
    }
}

impl Lossy for LinesEnd {
    #[inline(always)]
    fn poll(&mut self, mut read: impl FnMut(&[u8])) -> Poll {
        let first = self.first_word();
        let there = self.shared.data(first).load(Ordering::Acquire) as u32;
        let ahead = there.wrapping_sub(self.next.wrapping_add(1)) as i32;
        if there == 0 || ahead < 0 {
            return Poll::Nothing;
        }
        let mut message = [0u64; WORDS];
        for (i, word) in message.iter_mut().enumerate() {
            *word = self.shared.data(first + 1 + i).load(Ordering::Relaxed);
        }
        std::hint::black_box(&message);
        self.next = there;
        // Numbers that are true: the message itself may be torn.
        crate::message::write::<WORDS>(message.as_mut_bytes(), u64::from(there) - 1);
        read(message.as_bytes());
        Poll::Message
    }
}

impl Fan for Lines {
    type Publisher = LinesEnd;
    type Subscriber = LinesEnd;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        Shared::create(link.bytes)
    }

    fn publisher(link: &Link) -> Result<LinesEnd> {
        LinesEnd::open(link)
    }

    fn subscriber(link: &Link) -> Result<LinesEnd> {
        LinesEnd::open(link)
    }
}

pub(crate) struct Futex;

/// One end of a single message, whose word is 0 (free) or 1 (present).
pub(crate) struct FutexEnd(Shared);

impl FutexEnd {
    fn turn(&self, state: u32, body: impl FnOnce(&Shared)) {
        let word = self.0.word(0);
        while word.load(Ordering::Acquire) != state {
            // The word has changed meanwhile, or a signal arrived: check again.
            let _ = futex::wait(word, futex::Flags::empty(), 1 - state, None);
        }
        body(&self.0);
        word.store(1 - state, Ordering::Release);
    }
}

impl<const W: usize> Sender<W> for FutexEnd {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        self.turn(0, |shared| shared.write(0, write));
        futex::wake(self.0.word(0), futex::Flags::empty(), 1).expect("wake");
    }
}

impl<const W: usize> Receiver<W> for FutexEnd {
    // In a ping-pong the sender never waits for room, so no wake-up is needed here.
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        self.turn(1, |shared| shared.read(0, &mut read));
    }
}

impl Peer for Futex {
    type Sender<const W: usize> = FutexEnd;
    type Receiver<const W: usize> = FutexEnd;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        Shared::create(link.size)
    }

    fn sender<const W: usize>(link: &Link) -> Result<FutexEnd> {
        Shared::open(link, 0, link.size, 1).map(FutexEnd)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<FutexEnd> {
        Shared::open(link, 0, link.size, 1).map(FutexEnd)
    }
}
