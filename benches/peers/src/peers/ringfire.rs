//! ringfire, between processes, in its lossless mode (`LosslessBackpressure`, one reader): its ring
//! from one to many. Busy with `BusySpin`, asleep with `FutexWait` without spinning.
//!
//! `LatestWins` is its ring whose producer waits for no reader (`LossyLatestWins`).
//!
//! Its many-to-many queue drops messages when a slot stays busy for 10 ms, so it is not compared
//! with queues that do not.

use ringfire::{
    BusySpin, FlowControl, FutexWait, RecvStatus, RingConsumer, RingConsumerBuilder, RingProducer, RingProducerBuilder,
    YieldBackoff,
};
use zerocopy::IntoBytes;

use crate::ends::{Fan, Lossy, Peer, Poll, Receiver, Sender, WORDS, retry};
use crate::job::{Link, Result, Wait};

pub(crate) struct Lossless;

pub(crate) struct SenderEnd<const W: usize>(RingProducer<[u64; W]>);

pub(crate) struct ReceiverEnd<const W: usize> {
    rx: RingConsumer<[u64; W]>,
    wait: Wait,
    spin: BusySpin,
    backoff: YieldBackoff,
    futex: FutexWait,
}

impl<const W: usize> Sender<W> for SenderEnd<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        self.0.push(&message);
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let message = match self.wait {
            Wait::Spin => self.rx.recv_blocking(&mut self.spin),
            Wait::Yield => self.rx.recv_blocking(&mut self.backoff),
            Wait::Sleep => self.rx.recv_blocking(&mut self.futex),
        };
        read(message.as_bytes());
    }
}

impl Peer for Lossless {
    type Sender<const W: usize> = SenderEnd<W>;
    type Receiver<const W: usize> = ReceiverEnd<W>;

    fn sender<const W: usize>(link: &Link) -> Result<SenderEnd<W>> {
        let unfinished = link.path().with_extension("new");
        let builder = RingProducerBuilder::new(link.slots() as u64)
            .flow_control(FlowControl::LosslessBackpressure)
            .max_readers(1);
        let producer = builder.build(&unfinished)?;
        std::fs::rename(&unfinished, link.path())?;
        Ok(SenderEnd(producer))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<ReceiverEnd<W>> {
        let rx = retry(|| {
            std::fs::metadata(link.path())?;
            RingConsumerBuilder::new().start_from_oldest().attach(link.path()).map_err(std::io::Error::other)
        })?;
        let (spin, backoff, futex) = (BusySpin::new(), YieldBackoff::new(100), FutexWait::new(0, None));
        Ok(ReceiverEnd { rx, wait: link.wait, spin, backoff, futex })
    }
}

pub(crate) struct LatestWins;

/// A reader, and the message after one that it has missed.
pub(crate) struct LossyReader(RingConsumer<[u64; WORDS]>, Option<[u64; WORDS]>);

impl Lossy for LossyReader {
    #[inline(always)]
    fn poll(&mut self, mut read: impl FnMut(&[u8])) -> Poll {
        if let Some(message) = self.1.take() {
            read(message.as_bytes());
            return Poll::Message;
        }
        match self.0.recv_status() {
            RecvStatus::Ok(message) => {
                read(message.as_bytes());
                Poll::Message
            }
            RecvStatus::Lapped { item, .. } => {
                self.1 = Some(item);
                Poll::Missed(None)
            }
            RecvStatus::Empty => Poll::Nothing,
        }
    }
}

impl Fan for LatestWins {
    type Publisher = SenderEnd<WORDS>;
    type Subscriber = LossyReader;

    fn publisher(link: &Link) -> Result<SenderEnd<WORDS>> {
        let unfinished = link.path().with_extension("new");
        let producer = RingProducerBuilder::new(link.slots() as u64).build(&unfinished)?;
        std::fs::rename(&unfinished, link.path())?;
        Ok(SenderEnd(producer))
    }

    fn subscriber(link: &Link) -> Result<LossyReader> {
        let rx = retry(|| {
            std::fs::metadata(link.path())?;
            RingConsumerBuilder::new().start_from_oldest().attach(link.path()).map_err(std::io::Error::other)
        })?;
        Ok(LossyReader(rx, None))
    }
}
