//! crossbeam's `ArrayQueue` (retried with its `Backoff` while full or empty) and bounded channel,
//! and the standard library's `sync_channel`, all between threads.
//!
//! The channels are used with their blocking calls, which is their intended and fastest use: they
//! spin for a while before they park.

use std::sync::Arc;
use std::sync::mpsc;

use crossbeam_queue::ArrayQueue;
use zerocopy::IntoBytes;

use crate::ends::{Ends, Local, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct Array;
pub(crate) struct Channel;
pub(crate) struct Std;

pub(crate) struct ArrayEnd<const W: usize>(Arc<ArrayQueue<[u64; W]>>, Wait);

impl<const W: usize> Sender<W> for ArrayEnd<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        until(self.1, || self.0.push(message).ok());
    }
}

impl<const W: usize> Receiver<W> for ArrayEnd<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(until(self.1, || self.0.pop()).as_bytes());
    }
}

impl Local for Array {
    type Sender<const W: usize> = ArrayEnd<W>;
    type Receiver<const W: usize> = ArrayEnd<W>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<ArrayEnd<W>, ArrayEnd<W>>> {
        let queue = Arc::new(ArrayQueue::new(link.slots()));
        let ends = || (0..link.pairs).map(|_| ArrayEnd(Arc::clone(&queue), link.wait)).collect();
        Ok((ends(), ends()))
    }
}

impl<const W: usize> Sender<W> for crossbeam_channel::Sender<[u64; W]> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        crossbeam_channel::Sender::send(self, message).expect("send");
    }
}

impl<const W: usize> Receiver<W> for crossbeam_channel::Receiver<[u64; W]> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(crossbeam_channel::Receiver::recv(self).expect("receive").as_bytes());
    }
}

impl Local for Channel {
    type Sender<const W: usize> = crossbeam_channel::Sender<[u64; W]>;
    type Receiver<const W: usize> = crossbeam_channel::Receiver<[u64; W]>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<Self::Sender<W>, Self::Receiver<W>>> {
        let (tx, rx) = crossbeam_channel::bounded(link.slots());
        Ok((vec![tx; link.pairs], vec![rx; link.pairs]))
    }
}

impl<const W: usize> Sender<W> for mpsc::SyncSender<[u64; W]> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0; W];
        write(message.as_mut_bytes());
        mpsc::SyncSender::send(self, message).expect("send");
    }
}

impl<const W: usize> Receiver<W> for mpsc::Receiver<[u64; W]> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(mpsc::Receiver::recv(self).expect("receive").as_bytes());
    }
}

impl Local for Std {
    type Sender<const W: usize> = mpsc::SyncSender<[u64; W]>;
    type Receiver<const W: usize> = mpsc::Receiver<[u64; W]>;

    fn ends<const W: usize>(link: &Link) -> Result<Ends<Self::Sender<W>, Self::Receiver<W>>> {
        let (tx, rx) = mpsc::sync_channel(link.slots());
        Ok((vec![tx], vec![rx]))
    }
}
