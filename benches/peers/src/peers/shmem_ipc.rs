//! shmem-ipc, between processes: its shared ring of words, `send_raw` with one message at a time,
//! `receive_raw` with all that are there; asleep on its eventfds.

use std::os::fd::{AsFd, OwnedFd};

use shmem_ipc::sharedring;
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct SharedRing;

pub(crate) struct SenderEnd(sharedring::Sender<u64>, Wait);

pub(crate) struct ReceiverEnd<const W: usize> {
    ring: sharedring::Receiver<u64>,
    wait: Wait,
    /// The first part of a message, whose rest is elsewhere or has not arrived yet.
    message: [u64; W],
    have: usize,
}

impl<const W: usize> Sender<W> for SenderEnd {
    /// In two pieces where the ring ends inside the message: its size is no multiple of a
    /// message's.
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        let mut rest = &message[..];
        while !rest.is_empty() {
            let sent = until(self.1, || {
                if self.1 == Wait::Sleep {
                    self.0.block_until_writable().expect("wait");
                }
                let mut sent = None;
                let status = self.0.send_raw(|to, room| {
                    let words = room.min(rest.len());
                    // SAFETY: there is room for this many words, which belong to this end until the
                    // closure returns.
                    unsafe { to.copy_from_nonoverlapping(rest.as_ptr(), words) };
                    sent = Some(words);
                    words
                });
                status.expect("send");
                sent
            });
            rest = &rest[sent..];
        }
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd<W> {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let Self { ring, wait, message, have } = self;
        until(*wait, || {
            if *wait == Wait::Sleep {
                ring.block_until_readable().expect("wait");
            }
            let mut received = None;
            let status = ring.receive_raw(|from, words| {
                let mut at = 0;
                while at < words {
                    let part = (W - *have).min(words - at);
                    // SAFETY: `at` is at most `words`, all of which are present, and belong to this
                    // end until the closure returns.
                    let start = unsafe { from.add(at) };
                    // SAFETY: as above, for the next `part` words; the message has room for that
                    // many.
                    unsafe { start.copy_to_nonoverlapping(message[*have..].as_mut_ptr(), part) };
                    (at, *have) = (at + part, *have + part);
                    if *have == W {
                        read(message.as_bytes());
                        (received, *have) = (Some(()), 0);
                    }
                }
                words
            });
            status.expect("receive");
            received
        });
    }
}

impl Peer for SharedRing {
    type Sender<const W: usize> = SenderEnd;
    type Receiver<const W: usize> = ReceiverEnd<W>;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        let ring = sharedring::Sender::<u64>::new(link.bytes / 8)?;
        let fds = [ring.memfd().as_file().as_fd(), ring.empty_signal().as_fd(), ring.full_signal().as_fd()];
        Ok(fds.into_iter().map(|fd| fd.try_clone_to_owned()).collect::<Result<_, _>>()?)
    }

    fn sender<const W: usize>(link: &Link) -> Result<SenderEnd> {
        let [memfd, empty, full] = [link.inherited(0)?, link.inherited(1)?, link.inherited(2)?].map(Into::into);
        Ok(SenderEnd(sharedring::Sender::open(link.bytes / 8, memfd, empty, full)?, link.wait))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<ReceiverEnd<W>> {
        let [memfd, empty, full] = [link.inherited(0)?, link.inherited(1)?, link.inherited(2)?].map(Into::into);
        let ring = sharedring::Receiver::open(link.bytes / 8, memfd, empty, full)?;
        Ok(ReceiverEnd { ring, wait: link.wait, message: [0; W], have: 0 })
    }
}
