//! slipring's broadcast ring: memfd rings, prefaulted, default wake mode.
//!
//! - `Reliable`: one subscriber that misses nothing, and reads in place; `send` and `recv`.
//! - `Overwriting`: lossy subscribers, which copy frames out; a publisher that waits for none.

use std::os::fd::OwnedFd;

use slipring::broadcast::{LossySubscriber, Publisher, Received, Start, Subscriber};
use slipring::{Error, Options};
use zerocopy::IntoBytes;

use super::slipring::{idle, inherited, memfd};
use crate::ends::{Fan, Lossy, Peer, Poll, Receiver, Sender, WORDS};
use crate::job::{Link, Result};

pub(crate) struct Reliable;
pub(crate) struct Overwriting;

fn options(link: &Link) -> Options {
    Options::broadcast(link.bytes)
}

impl<const W: usize> Sender<W> for Publisher {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        Publisher::send(self, message.as_bytes()).expect("send");
    }
}

impl<const W: usize> Receiver<W> for Subscriber {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(&Subscriber::recv(self).expect("receive"));
    }
}

impl Peer for Reliable {
    type Sender<const W: usize> = Publisher;
    type Receiver<const W: usize> = Subscriber;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(options(link))
    }

    fn sender<const W: usize>(link: &Link) -> Result<Publisher> {
        Ok(Publisher::attach(&inherited(link, idle(link.wait))?)?)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Subscriber> {
        Ok(Subscriber::attach(&inherited(link, idle(link.wait))?, Start::Latest)?)
    }
}

impl Lossy for LossySubscriber {
    #[inline(always)]
    fn poll(&mut self, mut read: impl FnMut(&[u8])) -> Poll {
        let mut message = [0u64; WORDS];
        match self.try_recv_into(message.as_mut_bytes()) {
            Ok(Received::Frame(header)) => {
                read(&message.as_bytes()[..header.len as usize]);
                Poll::Message
            }
            Ok(Received::Gap { missed }) => Poll::Missed(Some(missed)),
            Err(Error::Empty) => Poll::Nothing,
            Err(error) => panic!("receive: {error}"),
        }
    }
}

impl Fan for Overwriting {
    type Publisher = Publisher;
    type Subscriber = LossySubscriber;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        memfd(options(link))
    }

    fn publisher(link: &Link) -> Result<Publisher> {
        Ok(Publisher::attach(&inherited(link, idle(link.wait))?)?)
    }

    fn subscriber(link: &Link) -> Result<LossySubscriber> {
        Ok(LossySubscriber::attach(&inherited(link, idle(link.wait))?, Start::Latest)?)
    }
}
