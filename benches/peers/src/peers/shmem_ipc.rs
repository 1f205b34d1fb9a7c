//! shmem-ipc, between processes: its shared ring of words, `send_raw` a message at a time, `receive_raw` whatever is there;
//! asleep on its eventfds.

use std::os::fd::{AsFd, OwnedFd};

use shmem_ipc::sharedring;
use zerocopy::IntoBytes;

use super::{Peer, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct SharedRing;

pub(crate) struct SenderEnd(sharedring::Sender<u64>, Wait);
pub(crate) struct ReceiverEnd<const W: usize>(sharedring::Receiver<u64>, Wait);

impl<const W: usize> Sender<W> for SenderEnd {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        until(self.1, || {
            if self.1 == Wait::Sleep {
                self.0.block_until_writable().expect("wait");
            }
            let mut sent = None;
            let status = self.0.send_raw(|to, room| {
                if room < W {
                    return 0;
                }
                // SAFETY: there is room for so many words, which are ours until the closure returns.
                unsafe { to.copy_from_nonoverlapping(message.as_ptr(), W) };
                sent = Some(());
                W
            });
            status.expect("send");
            sent
        });
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd<W> {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        until(self.1, || {
            if self.1 == Wait::Sleep {
                self.0.block_until_readable().expect("wait");
            }
            let mut received = None;
            let status = self.0.receive_raw(|from, words| {
                for i in 0..words / W {
                    let mut message = [0u64; W];
                    // SAFETY: message number i lies inside of the words that are there, and ours until the closure returns.
                    let start = unsafe { from.add(i * W) };
                    // SAFETY: as above; W words fit into the message.
                    unsafe { start.copy_to_nonoverlapping(message.as_mut_ptr(), W) };
                    read(message.as_bytes());
                    received = Some(());
                }
                words / W * W
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
        Ok(ReceiverEnd(sharedring::Receiver::open(link.bytes / 8, memfd, empty, full)?, link.wait))
    }
}
