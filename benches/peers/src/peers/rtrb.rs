//! rtrb, between threads: `Single` pushes and pops one message at a time, `Chunks` 16 at a time by
//! slices, as its documentation recommends for throughput.

use zerocopy::IntoBytes;

use crate::ends::{Ends, Local, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct Single;
pub(crate) struct Chunks;

pub(crate) struct SingleSender<const W: usize>(rtrb::Producer<[u64; W]>, Wait);
pub(crate) struct SingleReceiver<const W: usize>(rtrb::Consumer<[u64; W]>, Wait);

impl<const W: usize> Sender<W> for SingleSender<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.push(message).ok());
    }
}

impl<const W: usize> Receiver<W> for SingleReceiver<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(until(self.1, || self.0.pop().ok()).as_bytes());
    }
}

impl Local for Single {
    type Sender<const W: usize> = SingleSender<W>;
    type Receiver<const W: usize> = SingleReceiver<W>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<SingleSender<W>, SingleReceiver<W>>> {
        let (tx, rx) = rtrb::RingBuffer::new(link.slots());
        Ok((vec![SingleSender(tx, link.wait)], vec![SingleReceiver(rx, link.wait)]))
    }
}

/// Messages in a chunk.
const CHUNK: usize = 16;

pub(crate) struct ChunkSender<const W: usize> {
    tx: rtrb::Producer<[u64; W]>,
    chunk: [[u64; W]; CHUNK],
    len: usize,
    wait: Wait,
}

impl<const W: usize> Sender<W> for ChunkSender<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        write(self.chunk[self.len].as_mut_bytes());
        self.len += 1;
        if self.len == CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let chunk = &self.chunk[..self.len];
        until(self.wait, || self.tx.push_entire_slice(chunk).ok());
        self.len = 0;
    }
}

pub(crate) struct ChunkReceiver<const W: usize>(rtrb::Consumer<[u64; W]>, Wait);

impl<const W: usize> Receiver<W> for ChunkReceiver<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let slots = until(self.1, || Some(self.0.slots()).filter(|slots| *slots > 0));
        let chunk = self.0.read_chunk(slots.min(CHUNK)).expect("so many slots are there");
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(|message| read(message.as_bytes()));
        chunk.commit_all();
    }
}

impl Local for Chunks {
    type Sender<const W: usize> = ChunkSender<W>;
    type Receiver<const W: usize> = ChunkReceiver<W>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<ChunkSender<W>, ChunkReceiver<W>>> {
        let (tx, rx) = rtrb::RingBuffer::new(link.slots());
        let sender = ChunkSender { tx, chunk: [[0; W]; CHUNK], len: 0, wait: link.wait };
        Ok((vec![sender], vec![ChunkReceiver(rx, link.wait)]))
    }
}
