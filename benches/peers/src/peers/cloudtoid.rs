//! cloudtoid-interprocess, between processes: `try_send`, repeated until there is room;
//! `try_recv_into` an own buffer (no allocation) while busy, `recv` asleep.

use cloudtoid_interprocess::{Options, Publisher, Subscriber};
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct Queue;

pub(crate) struct SenderEnd(Publisher, Wait);
pub(crate) struct ReceiverEnd(Subscriber, Wait);

/// Room for as many messages as in the other rings: each message has 16 bytes of overhead.
fn options(link: &Link) -> Options {
    Options::new(&link.name, link.slots() * (link.size + 16)).with_path(&link.dir)
}

impl<const W: usize> Sender<W> for SenderEnd {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        until(self.1, || match self.0.try_send(message.as_bytes()) {
            Err(error) if error.is_full() => None,
            sent => {
                sent.expect("send");
                Some(())
            }
        });
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        if self.1 == Wait::Sleep {
            return read(&self.0.recv().expect("receive"));
        }
        let mut message = [0u64; W];
        let n = until(self.1, || self.0.try_recv_into(message.as_mut_bytes()).expect("receive"));
        read(&message.as_bytes()[..n]);
    }
}

impl Peer for Queue {
    type Sender<const W: usize> = SenderEnd;
    type Receiver<const W: usize> = ReceiverEnd;

    fn sender<const W: usize>(link: &Link) -> Result<SenderEnd> {
        Ok(SenderEnd(Publisher::open(&options(link))?, link.wait))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<ReceiverEnd> {
        Ok(ReceiverEnd(Subscriber::open(&options(link))?, link.wait))
    }
}
