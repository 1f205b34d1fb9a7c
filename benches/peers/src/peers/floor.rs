//! The costs of the machine itself, without a queue: the floors of the tables.
//!
//! - `line`: the round trip of a bare cache line, busy (`slipring::probe::PingPong`): with a PAUSE
//!   between two looks, without, and of two lines.
//! - `Blocks`: a bulk copy from one processor to the other: blocks of 64 KiB, written by one and
//!   read by the other, with one flag for each.
//! - `Futex`: one message in shared memory, a word that announces it, and a futex for each
//!   direction: the least that two sleeping ends need.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::thread::futex;
use slipring::probe::PingPong;

use crate::ends::{Peer, Receiver, Sender};
use crate::job::{End, Job, Link, Report, Result};
use crate::part::Found;
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

/// Bytes before the first block, for the flags, each on a line of its own.
const FLAGS: usize = 4096;
const LINE: usize = 128;

/// Shared memory: some words, each on lines of its own, and some blocks.
struct Shared {
    map: MmapRaw,
    block: usize,
    blocks: usize,
}

impl Shared {
    fn create(len: usize) -> Result<Vec<OwnedFd>> {
        let memfd = memfd_create("slipring-peers", MemfdFlags::CLOEXEC)?;
        ftruncate(&memfd, (FLAGS + len) as u64)?;
        Ok(vec![memfd])
    }

    fn open(link: &Link, block: usize, blocks: usize) -> Result<Self> {
        assert!(blocks <= FLAGS / LINE);
        let memfd = link.inherited(0)?;
        let len = FLAGS + block * blocks;
        if usize::try_from(rustix::fs::fstat(memfd.as_fd())?.st_size)? < len {
            return Err("the shared memory is too small".into());
        }
        let map = memmap2::MmapOptions::new().len(len).populate().map_raw(&memfd)?;
        Ok(Shared { map, block, blocks })
    }

    #[inline(always)]
    fn word(&self, i: usize) -> &AtomicU32 {
        assert!(i < self.blocks);
        // SAFETY: at most FLAGS / LINE words, so the offset is inside the mapping, which has at
        // least FLAGS bytes.
        let word = unsafe { self.map.as_mut_ptr().add(i * LINE) };
        // SAFETY: aligned to 128 bytes within a mapping that lives as long as `self`, and accessed
        // only as this atomic.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// Block `i`, whose word shows whether it belongs to the sender or to the receiver.
    #[inline(always)]
    fn block(&self, i: usize) -> *mut [u8] {
        assert!(i < self.blocks);
        // SAFETY: `open` has mapped FLAGS bytes and all blocks.
        let start = unsafe { self.map.as_mut_ptr().add(FLAGS + i * self.block) };
        std::ptr::slice_from_raw_parts_mut(start, self.block)
    }

    /// Writes a block that this end owns.
    #[inline(always)]
    fn write(&self, i: usize, write: impl FnOnce(&mut [u8])) {
        // SAFETY: within the mapping. The caller has read from the block's word, with acquire, that
        // this end owns it, and the other end touches it only after this end has stored to the
        // word, with release; neither end has two threads.
        write(unsafe { &mut *self.block(i) });
    }

    /// Reads a block that this end owns.
    #[inline(always)]
    fn read(&self, i: usize, read: impl FnOnce(&[u8])) {
        // SAFETY: as in `write`.
        read(unsafe { &*self.block(i) });
    }
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
        Ok(BlockEnd { shared: Shared::open(link, link.size, link.slots())?, next: 0, lap: 0 })
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
        if self.next == self.shared.blocks {
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
        Shared::open(link, link.size, 1).map(FutexEnd)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<FutexEnd> {
        Shared::open(link, link.size, 1).map(FutexEnd)
    }
}
