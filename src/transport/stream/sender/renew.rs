//! How a sender goes on over the next socket: what it says again, and what it sends again.
//!
//! Used by `reconnect.rs`, and by the sender where it keeps frames for that: then `out` begins with
//! the beginning of a frame, of the long form or the short one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Broken, Core, Wait};
use crate::error::{Error, Result};
use crate::frame::{Header, control, padded};
use crate::os::bytes::ByteFd;

impl Core {
    /// How many bytes of `out` are frames that the kernel has taken whole.
    pub(super) fn taken_whole(&self) -> usize {
        let ends = frames(&self.out).scan(0, |end, (_, frame)| {
            *end += frame.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= self.at).last().unwrap_or(0)
    }

    /// This socket is gone, if it is still the one in use.
    pub(super) fn lose(&mut self, fd: &Arc<ByteFd>) {
        if self.fd.as_ref().is_some_and(|own| Arc::ptr_eq(own, fd)) {
            self.broken = Some(Broken::PeerDead);
        }
    }

    /// Goes on over another socket: says for every stream which number comes next, and repeats what
    /// the last one did not take whole.
    pub(in crate::transport::stream) fn renew(&mut self, fd: Arc<ByteFd>) -> Result<()> {
        let is_closed = self.fd.is_none();
        let whole = self.taken_whole();
        let rest = std::mem::take(&mut self.out);
        let mut firsts: HashMap<u16, u32> = self.sequencer.streams().collect();
        let mut repeated = Vec::new();
        for (header, frame) in frames(&rest[whole..]) {
            // HELLO said what came next over the last socket, PONG answered the peer there.
            if !(header.is_control() && matches!(header.kind, control::HELLO | control::PONG)) {
                repeated.push((header, frame));
            }
        }
        for (header, _) in repeated.iter().rev().filter(|(header, _)| !header.is_control()) {
            firsts.insert(header.stream, header.seq);
        }
        for (stream, first) in firsts {
            self.say_hello(stream, first)?;
        }
        for (_, frame) in &repeated {
            self.out.extend_from_slice(frame);
        }
        // Nothing follows BYE, so if it has been said and anything is repeated, it is in there.
        if (is_closed && !self.said_bye) || (self.said_bye && repeated.is_empty()) {
            self.say_bye()?;
            self.said_bye = true;
        }
        (self.fd, self.broken, self.at) = (Some(fd), None, 0);
        self.link.was_reset.store(false, Ordering::Relaxed);
        self.settled = repeated.is_empty();
        // Without waiting: what finds no room goes ahead of the next frame.
        match self.drain(Wait::No) {
            Ok(()) | Err(Error::Full | Error::Closed | Error::PeerDead) => {}
            Err(error) => return Err(error),
        }
        if is_closed {
            self.hang_up();
        }
        Ok(())
    }
}

/// The frames that lie one behind the other in `bytes`, which are ours.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let (header, head) = Header::from_bytes(bytes.first_chunk()?).ok()?;
        let (frame, rest) = bytes.split_at_checked(head + padded(header.len as usize))?;
        bytes = rest;
        Some((header, frame))
    })
}
