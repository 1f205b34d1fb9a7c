//! The options of `seqpacket.rs` and `dgram.rs`.

use crate::frame::DEFAULT_MAX_PAYLOAD;

/// How to open a Unix message socket: start from [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    pub(in crate::transport) max_payload: usize,
    pub(in crate::transport) uids: Vec<u32>,
}

impl Default for Options {
    /// Payloads up to 16 MiB; peers are processes of this user or of root.
    fn default() -> Self {
        Options { max_payload: DEFAULT_MAX_PAYLOAD, uids: Vec::new() }
    }
}

impl Options {
    /// The largest payload that is sent or accepted, in bytes. A frame that does not fit into a
    /// message (64 KiB, or half of the socket's buffer) is sent in fragments.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Allows the processes of another user, too. The socket has mode 0600, so change its mode or
    /// group as well.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }
}
