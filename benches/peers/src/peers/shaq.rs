//! shaq, between processes, over a file in `/dev/shm`: `Spsc`, `Mpmc`, and `Fan`, its broadcast
//! queue with one producer and one consumer, which holds the producer back; one item at a time by
//! `try_write` and `try_read`; asleep by `read_timeout`, which is what it has for that.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::time::Duration;

use shaq::broadcast::{self, Broadcast, BroadcastConfig, ProducerId};
use shaq::{mpmc, spsc};
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender, retry, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct Spsc;
pub(crate) struct Mpmc;

/// An end, and how it waits.
pub(crate) struct End<E>(E, Wait);

/// Opens the queue's file. The first process creates it, and names it when it is complete.
fn open<E>(
    link: &Link,
    size: usize,
    create: impl FnOnce(&File, usize) -> Result<E, shaq::error::Error>,
    join: impl FnOnce(&File) -> Result<E, shaq::error::Error>,
) -> Result<E> {
    let (path, unfinished) = (link.path(), link.path().with_extension("new"));
    match OpenOptions::new().read(true).write(true).create_new(true).open(&unfinished) {
        Ok(file) => {
            let end = create(&file, size.next_multiple_of(4096))?;
            std::fs::rename(&unfinished, &path)?;
            // So that no other process creates another one.
            File::create_new(&unfinished)?;
            Ok(end)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = retry(|| OpenOptions::new().read(true).write(true).open(&path))?;
            Ok(join(&file)?)
        }
        Err(error) => Err(error.into()),
    }
}

impl<const W: usize> Sender<W> for End<spsc::Producer<[u64; W]>> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.try_write(message).ok());
    }
}

impl<const W: usize> Receiver<W> for End<spsc::Consumer<[u64; W]>> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let message = match self.1 {
            Wait::Sleep => until(self.1, || self.0.read_timeout(Duration::from_secs(1)).ok()),
            _ => until(self.1, || self.0.try_read()),
        };
        read(message.as_bytes());
    }
}

impl Peer for Spsc {
    type Sender<const W: usize> = End<spsc::Producer<[u64; W]>>;
    type Receiver<const W: usize> = End<spsc::Consumer<[u64; W]>>;

    fn sender<const W: usize>(link: &Link) -> Result<Self::Sender<W>> {
        let size = spsc::minimum_file_size::<[u64; W]>(link.slots());
        // SAFETY: `open` has the file created once; each link has one sender; both ends have the
        // same `W`, and all words are valid values.
        let producer = open(
            link,
            size,
            |f, n| unsafe { spsc::Producer::create(f, n) },
            |f| {
                // SAFETY: as above.
                unsafe { spsc::Producer::join(f) }
            },
        )?;
        Ok(End(producer, link.wait))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Self::Receiver<W>> {
        let size = spsc::minimum_file_size::<[u64; W]>(link.slots());
        // SAFETY: as in `sender`: each link has one receiver.
        let consumer = open(
            link,
            size,
            |f, n| unsafe { spsc::Consumer::create(f, n) },
            |f| {
                // SAFETY: as above.
                unsafe { spsc::Consumer::join(f) }
            },
        )?;
        Ok(End(consumer, link.wait))
    }
}

impl<const W: usize> Sender<W> for End<mpmc::Producer<[u64; W]>> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.try_write(message).ok());
    }
}

impl<const W: usize> Receiver<W> for End<mpmc::Consumer<[u64; W]>> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let message = match self.1 {
            Wait::Sleep => until(self.1, || self.0.read_timeout(Duration::from_secs(1)).ok()),
            _ => until(self.1, || self.0.try_read()),
        };
        read(message.as_bytes());
    }
}

impl Peer for Mpmc {
    type Sender<const W: usize> = End<mpmc::Producer<[u64; W]>>;
    type Receiver<const W: usize> = End<mpmc::Consumer<[u64; W]>>;

    fn sender<const W: usize>(link: &Link) -> Result<Self::Sender<W>> {
        let size = mpmc::minimum_file_size::<[u64; W]>(link.slots());
        // SAFETY: `open` has the file created once; all ends have the same `W`, and all words are
        // valid values.
        let producer = open(
            link,
            size,
            |f, n| unsafe { mpmc::Producer::create(f, n) },
            |f| {
                // SAFETY: as above.
                unsafe { mpmc::Producer::join(f) }
            },
        )?;
        Ok(End(producer, link.wait))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Self::Receiver<W>> {
        let size = mpmc::minimum_file_size::<[u64; W]>(link.slots());
        // SAFETY: as in `sender`.
        let consumer = open(
            link,
            size,
            |f, n| unsafe { mpmc::Consumer::create(f, n) },
            |f| {
                // SAFETY: as above.
                unsafe { mpmc::Consumer::join(f) }
            },
        )?;
        Ok(End(consumer, link.wait))
    }
}

pub(crate) struct Fan;

/// The queue's file: the end that comes first creates it.
fn broadcast<const W: usize>(link: &Link) -> Result<Broadcast<[u64; W]>> {
    let config = BroadcastConfig { capacity: link.slots(), producer_slots: 1, consumer_slots: 1 };
    // SAFETY: `open` has the file created once; both ends have the same `W`, and all words are
    // valid values.
    open(
        link,
        0,
        |f, _| unsafe { Broadcast::create(f, config) },
        |f| {
            // SAFETY: as above.
            unsafe { Broadcast::join(f) }
        },
    )
}

impl<const W: usize> Sender<W> for End<broadcast::Producer<[u64; W]>> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.try_write(message).ok());
    }
}

impl<const W: usize> Receiver<W> for End<broadcast::Consumer<[u64; W]>> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(until(self.1, || self.0.try_read()).as_bytes());
    }
}

impl Peer for Fan {
    type Sender<const W: usize> = End<broadcast::Producer<[u64; W]>>;
    type Receiver<const W: usize> = End<broadcast::Consumer<[u64; W]>>;

    fn sender<const W: usize>(link: &Link) -> Result<Self::Sender<W>> {
        Ok(End(broadcast::<W>(link)?.producer(ProducerId::new(1))?, link.wait))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Self::Receiver<W>> {
        Ok(End(broadcast::<W>(link)?.consumer()?, link.wait))
    }
}
