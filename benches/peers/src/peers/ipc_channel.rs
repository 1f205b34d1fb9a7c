//! ipc-channel, between processes: its channel of plain bytes (no serialisation), blocking.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender, retry};
use crate::job::{Link, Result};

pub(crate) struct Bytes;

impl<const W: usize> Sender<W> for IpcBytesSender {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        IpcBytesSender::send(self, message.as_bytes()).expect("send");
    }
}

impl<const W: usize> Receiver<W> for IpcBytesReceiver {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        read(&IpcBytesReceiver::recv(self).expect("receive"));
    }
}

impl Peer for Bytes {
    type Sender<const W: usize> = IpcBytesSender;
    type Receiver<const W: usize> = IpcBytesReceiver;

    /// Waits for the receiver to pass the sending end.
    fn sender<const W: usize>(link: &Link) -> Result<IpcBytesSender> {
        let (server, name) = IpcOneShotServer::<IpcBytesSender>::new()?;
        let unfinished = link.path().with_extension("new");
        std::fs::write(&unfinished, name)?;
        std::fs::rename(&unfinished, link.path())?;
        Ok(server.accept()?.1)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<IpcBytesReceiver> {
        let name = retry(|| std::fs::read_to_string(link.path()))?;
        let (tx, rx) = ipc::bytes_channel()?;
        IpcSender::connect(name)?.send(tx)?;
        Ok(rx)
    }
}
