//! ringbuf, between threads: a heap ring in its `Caching` form, which `split` gives; one message at
//! a time.

use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use zerocopy::IntoBytes;

use crate::ends::{Ends, Local, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct Single;

pub(crate) struct SingleSender<const W: usize>(HeapProd<[u64; W]>, Wait);
pub(crate) struct SingleReceiver<const W: usize>(HeapCons<[u64; W]>, Wait);

impl<const W: usize> Sender<W> for SingleSender<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.try_push(message).ok());
    }
}

impl<const W: usize> Receiver<W> for SingleReceiver<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(until(self.1, || self.0.try_pop()).as_bytes());
    }
}

impl Local for Single {
    type Sender<const W: usize> = SingleSender<W>;
    type Receiver<const W: usize> = SingleReceiver<W>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<SingleSender<W>, SingleReceiver<W>>> {
        let (tx, rx) = HeapRb::new(link.slots()).split();
        Ok((vec![SingleSender(tx, link.wait)], vec![SingleReceiver(rx, link.wait)]))
    }
}
