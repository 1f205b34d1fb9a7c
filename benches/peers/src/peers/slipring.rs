//! slipring itself: memfd rings, prefaulted, default wake mode (so either side could sleep),
//! blocking calls.
//!
//! - `Spsc`: one frame at a time with `send` and `recv`; spins or yields where the measurement
//!   demands it, else parks.
//! - `SpscPark`: the same calls with the default strategy throughout.
//! - `SpscBatch`: sends in batches of 16, receives runs of all frames that are there.
//! - `InPlace`: `reserve` and `commit`: the message is written where it is read.
//! - `Mpmc`: slots of one message. `Mpsc`: a lane for each sender, each as large as the ring of an
//!   SPSC pair. `Lanes`: an SPSC ring for each sender and its receiver instead.

use std::os::fd::{AsFd, OwnedFd};

use slipring::{Idle, Options, Ring, mpmc, mpsc, spsc};
use zerocopy::IntoBytes;

use crate::ends::{Ends, Local, Peer, Receiver, Sender};
use crate::job::{Link, Result, Wait};

pub(super) fn idle(wait: Wait) -> Idle {
    match wait {
        Wait::Spin => Idle::Spin,
        Wait::Yield => Idle::Yield,
        Wait::Sleep => Idle::Park,
    }
}

pub(super) fn memfd(options: Options) -> Result<Vec<OwnedFd>> {
    let ring = Ring::create_anonymous(&options.prefault(true))?;
    Ok(vec![ring.as_fd().try_clone_to_owned()?])
}

fn spsc_options(link: &Link) -> Options {
    Options::spsc(link.bytes)
}

fn mpmc_options(link: &Link) -> Options {
    Options::mpmc(link.slots(), link.size)
}

/// The ring behind the inherited descriptor.
pub(super) fn inherited(link: &Link, idle: Idle) -> Result<Ring> {
    nth(link, 0, idle)
}

fn nth(link: &Link, i: usize, idle: Idle) -> Result<Ring> {
    Ok(Ring::from_fd(link.inherited(i)?, &Options::any().idle(idle).prefault(true))?)
}

pub(crate) struct Spsc;
pub(crate) struct SpscPark;
pub(crate) struct SpscBatch;
pub(crate) struct InPlace;
pub(crate) struct Mpmc;
pub(crate) struct Lanes;

impl<const W: usize> Sender<W> for spsc::Producer {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        spsc::Producer::send(self, message.as_bytes()).expect("send");
    }
}

impl<const W: usize> Receiver<W> for spsc::Consumer {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(&spsc::Consumer::recv(self).expect("receive"));
    }
}

impl Peer for Spsc {
    type Sender<const W: usize> = spsc::Producer;
    type Receiver<const W: usize> = spsc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(spsc_options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<spsc::Producer> {
        Ok(spsc::Producer::attach(&inherited(link, idle(link.wait))?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<spsc::Consumer> {
        Ok(spsc::Consumer::attach(&inherited(link, idle(link.wait))?)?)
    }
}

impl Local for Spsc {
    type Sender<const W: usize> = spsc::Producer;
    type Receiver<const W: usize> = spsc::Consumer;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<spsc::Producer, spsc::Consumer>> {
        let ring = Ring::create_anonymous(&spsc_options(link).idle(idle(link.wait)).prefault(true))?;
        Ok((vec![spsc::Producer::attach(&ring)?], vec![spsc::Consumer::attach(&ring)?]))
    }
}

impl Peer for SpscPark {
    type Sender<const W: usize> = spsc::Producer;
    type Receiver<const W: usize> = spsc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(spsc_options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<spsc::Producer> {
        Ok(spsc::Producer::attach(&inherited(link, Idle::Park)?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<spsc::Consumer> {
        Ok(spsc::Consumer::attach(&inherited(link, Idle::Park)?)?)
    }
}

/// Frames in a batch.
const BATCH: usize = 16;

pub(crate) struct BatchSender<const W: usize> {
    tx: spsc::Producer,
    batch: [[u64; W]; BATCH],
    len: usize,
}

impl<const W: usize> Sender<W> for BatchSender<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        write(self.batch[self.len].as_mut_bytes());
        self.len += 1;
        if self.len == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.len {
            let mut batch = self.tx.batch();
            let fitted = self.batch[sent..self.len].iter().take_while(|m| batch.push(m.as_bytes()).is_ok()).count();
            batch.commit();
            sent += fitted;
            if fitted == 0 {
                std::hint::spin_loop();
            }
        }
        self.len = 0;
    }
}

pub(crate) struct BatchReceiver(spsc::Consumer);

impl<const W: usize> Receiver<W> for BatchReceiver {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        self.0.recv_batch(usize::MAX).expect("receive").iter().for_each(|frame| read(frame.payload));
    }
}

impl Peer for SpscBatch {
    type Sender<const W: usize> = BatchSender<W>;
    type Receiver<const W: usize> = BatchReceiver;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(spsc_options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<BatchSender<W>> {
        Ok(BatchSender { tx: <Spsc as Peer>::sender::<W>(link)?, batch: [[0; W]; BATCH], len: 0 })
    }

    fn receiver<const W: usize>(link: &Link) -> Result<BatchReceiver> {
        <Spsc as Peer>::receiver::<W>(link).map(BatchReceiver)
    }
}

pub(crate) struct InPlaceSender(spsc::Producer);

impl<const W: usize> Sender<W> for InPlaceSender {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut grant = self.0.reserve(8 * W).expect("reserve");
        write(&mut grant);
        grant.commit(8 * W);
    }
}

impl Peer for InPlace {
    type Sender<const W: usize> = InPlaceSender;
    type Receiver<const W: usize> = spsc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(spsc_options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<InPlaceSender> {
        <Spsc as Peer>::sender::<W>(link).map(InPlaceSender)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<spsc::Consumer> {
        <Spsc as Peer>::receiver::<W>(link)
    }
}

impl<const W: usize> Sender<W> for mpmc::Producer {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        mpmc::Producer::send(self, message.as_bytes()).expect("send");
    }
}

impl<const W: usize> Receiver<W> for mpmc::Consumer {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(&mpmc::Consumer::recv(self).expect("receive"));
    }
}

impl Peer for Mpmc {
    type Sender<const W: usize> = mpmc::Producer;
    type Receiver<const W: usize> = mpmc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(mpmc_options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<mpmc::Producer> {
        Ok(mpmc::Producer::attach(&inherited(link, idle(link.wait))?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<mpmc::Consumer> {
        Ok(mpmc::Consumer::attach(&inherited(link, idle(link.wait))?)?)
    }
}

impl Local for Mpmc {
    type Sender<const W: usize> = mpmc::Producer;
    type Receiver<const W: usize> = mpmc::Consumer;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<mpmc::Producer, mpmc::Consumer>> {
        let ring = Ring::create_anonymous(&mpmc_options(link).idle(idle(link.wait)).prefault(true))?;
        let senders = (0..link.pairs).map(|_| mpmc::Producer::attach(&ring)).collect::<Result<_, _>>()?;
        let receivers = (0..link.pairs).map(|_| mpmc::Consumer::attach(&ring)).collect::<Result<_, _>>()?;
        Ok((senders, receivers))
    }
}

pub(crate) struct Mpsc;

impl<const W: usize> Sender<W> for mpsc::Producer {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        mpsc::Producer::send(self, message.as_bytes()).expect("send");
    }
}

impl<const W: usize> Receiver<W> for mpsc::Consumer {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        while match mpsc::Consumer::recv(self).expect("receive") {
            mpsc::Received::Frame(frame) => {
                read(&frame);
                false
            }
            mpsc::Received::Ended(_) => true,
        } {}
    }
}

impl Peer for Mpsc {
    type Sender<const W: usize> = mpsc::Producer;
    type Receiver<const W: usize> = mpsc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(Options::mpsc(link.bytes, link.pairs))
    }

    fn sender<const W: usize>(link: &Link) -> Result<mpsc::Producer> {
        Ok(mpsc::Producer::attach(&inherited(link, idle(link.wait))?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<mpsc::Consumer> {
        Ok(mpsc::Consumer::attach(&inherited(link, idle(link.wait))?)?)
    }
}

impl Peer for Lanes {
    type Sender<const W: usize> = spsc::Producer;
    type Receiver<const W: usize> = spsc::Consumer;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        let lanes = (0..link.pairs).map(|_| memfd(spsc_options(link))).collect::<Result<Vec<_>>>()?;
        Ok(lanes.into_iter().flatten().collect())
    }

    fn sender<const W: usize>(link: &Link) -> Result<spsc::Producer> {
        Ok(spsc::Producer::attach(&nth(link, link.lane, idle(link.wait))?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<spsc::Consumer> {
        Ok(spsc::Consumer::attach(&nth(link, link.lane, idle(link.wait))?)?)
    }
}
