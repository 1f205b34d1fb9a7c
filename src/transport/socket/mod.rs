//! The common part of the socket transports: paths, peers, listening and connecting, addresses, and
//! single messages.
//!
//! Used by `unix.rs`, `seqpacket.rs`, `dgram.rs`, `tcp/` and `udp.rs`. Relies on rustix and
//! `os/poll.rs`.

pub(super) mod accept;
pub(super) mod address;
pub(super) mod options;
pub(super) mod path;
pub(super) mod peer;
pub(super) mod send_recv;
pub(super) mod unix;

pub(crate) use accept::Wanted;
pub(crate) use path::check as check_path;
