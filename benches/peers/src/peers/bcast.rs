//! bcast, between processes, over files in `/dev/shm`: `send`, and `receive_next` into a buffer.
//!
//! - `HeldBack`: a stream of which nothing is missed. bcast has no way to wait for a reader, so the
//!   harness adds what an application would: a word that tells how far the reader is, stored every
//!   eighth of the ring; the writer looks at it when a ring full could be missing.
//! - `Overwriting`: readers that may be overrun. After `Overrun` they go on at the newest message.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use bcast::{Error, HEADER_SIZE, MappedReader, MappedWriter, MmapMutStorage, MmapStorage, Reader, StorageExt};
use zerocopy::IntoBytes;

use crate::ends::{Fan, Lossy, Peer, Poll, Receiver, Sender, WORDS};
use crate::job::{Link, Result};
use crate::shared::Shared;

pub(crate) struct HeldBack;
pub(crate) struct Overwriting;

/// Makes the file, complete with an empty ring.
fn create(link: &Link) -> Result<()> {
    drop(MmapMutStorage::new(link.path(), HEADER_SIZE + link.bytes)?.into_writer());
    Ok(())
}

fn writer(link: &Link) -> Result<MappedWriter> {
    Ok(MmapMutStorage::attach(link.path())?.join_writer())
}

fn reader(link: &Link) -> Result<MappedReader> {
    Ok(Reader::new(MmapStorage::attach(link.path())?).with_initial_position(0))
}

/// Messages between two looks at the reader, or two stores of how far it is. Frames have a header
/// of 8 bytes, and the writer keeps some room free.
fn eighth(link: &Link) -> u32 {
    (link.bytes / (link.size + 16) / 8) as u32
}

pub(crate) struct SenderEnd {
    tx: MappedWriter,
    read: Shared,
    eighth: u32,
    sent: u32,
    /// May be sent without a look.
    limit: u32,
}

pub(crate) struct ReceiverEnd {
    rx: MappedReader,
    read: Shared,
    eighth: u32,
    received: u32,
}

impl<const W: usize> Sender<W> for SenderEnd {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        while self.sent == self.limit {
            self.limit = self.read.word(0).load(Ordering::Acquire).wrapping_add(7 * self.eighth);
            std::hint::spin_loop();
        }
        self.tx.publish(8 * W, true, write);
        self.sent = self.sent.wrapping_add(1);
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let mut message = [0u64; W];
        let len = loop {
            match self.rx.receive_next(message.as_mut_bytes()) {
                Some(message) => break message.expect("receive").payload.len(),
                None => std::hint::spin_loop(),
            }
        };
        self.received = self.received.wrapping_add(1);
        if self.received % self.eighth == 0 {
            self.read.word(0).store(self.received, Ordering::Release);
        }
        read(&message.as_bytes()[..len]);
    }
}

impl Peer for HeldBack {
    type Sender<const W: usize> = SenderEnd;
    type Receiver<const W: usize> = ReceiverEnd;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        create(link)?;
        Shared::create(0)
    }

    fn sender<const W: usize>(link: &Link) -> Result<SenderEnd> {
        let (read, eighth) = (Shared::open(link, 0, 0, 1)?, eighth(link));
        Ok(SenderEnd { tx: writer(link)?, read, eighth, sent: 0, limit: 7 * eighth })
    }

    fn receiver<const W: usize>(link: &Link) -> Result<ReceiverEnd> {
        let (read, eighth) = (Shared::open(link, 0, 0, 1)?, eighth(link));
        Ok(ReceiverEnd { rx: reader(link)?, read, eighth, received: 0 })
    }
}

pub(crate) struct Writer(MappedWriter);

pub(crate) struct LossyReader(MappedReader);

impl Sender<WORDS> for Writer {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        self.0.publish(8 * WORDS, true, write);
    }
}

impl Lossy for LossyReader {
    #[inline(always)]
    fn poll(&mut self, mut read: impl FnMut(&[u8])) -> Poll {
        let mut message = [0u64; WORDS];
        let len = match self.0.receive_next(message.as_mut_bytes()) {
            Some(Ok(message)) => message.payload.len(),
            Some(Err(Error::Overrun(_))) => {
                self.0.reset();
                return Poll::Missed(None);
            }
            Some(Err(error)) => panic!("receive: {error}"),
            None => return Poll::Nothing,
        };
        read(&message.as_bytes()[..len]);
        Poll::Message
    }
}

impl Fan for Overwriting {
    type Publisher = Writer;
    type Subscriber = LossyReader;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        create(link)?;
        Ok(Vec::new())
    }

    fn publisher(link: &Link) -> Result<Writer> {
        writer(link).map(Writer)
    }

    fn subscriber(link: &Link) -> Result<LossyReader> {
        reader(link).map(LossyReader)
    }
}
