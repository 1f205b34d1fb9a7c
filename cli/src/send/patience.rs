//! Waiting for room and for a receiver, and what to say when neither comes.
//!
//! Used by `mod.rs` and `sink.rs`.

use std::time::Duration;

use slipring::frame::Header;
use slipring::{Deadline, Error};

use super::no_receiver;
use crate::failure::{Failure, LOST, Outcome, TIMEOUT};
use crate::interrupt::{GRACE, Interrupt};
use crate::{Context, units};

/// How long to wait for room, and what to report meanwhile.
pub(super) struct Patience<'a> {
    pub(super) timeout: Option<Duration>,
    /// The name of what has no room.
    pub(super) what: &'static str,
    /// Does not wait for another receiver if the last one has left.
    pub(super) is_strict: bool,
    pub(super) interrupt: &'a Interrupt,
    pub(super) context: &'a Context,
}

impl Patience<'_> {
    /// Sends one frame into a ring, however long it takes to find room or a consumer. When an end
    /// was requested, and there is neither for [`GRACE`], it is not sent.
    pub(super) fn send_one(&self, sink: &mut (impl RingSink + ?Sized), header: Header, payload: &[u8]) -> Outcome {
        let mut rest = payload;
        loop {
            let how = match self.insist(|until| sink.send_now(header, &mut rest, until)) {
                Ok(()) => return Ok(()),
                Err(Unsent::Failed(failure)) => return Err(failure),
                Err(_) if self.is_strict => return Err(no_receiver()),
                Err(Unsent::Left) => "left",
                Err(Unsent::Died) => "died",
            };
            let what = self.what;
            self.context.note(format_args!("the {what} is full, and its consumer has {how}: waiting for another"));
            self.insist(|until| sink.wait_for_peer(until)).map_err(|unsent| self.without_peer(unsent))?;
        }
    }

    /// Calls `how` until it succeeds, the time is up, or an end was requested [`GRACE`] ago.
    pub(super) fn insist(&self, mut how: impl FnMut(Deadline) -> slipring::Result<()>) -> Result<(), Unsent> {
        let mut wait = self.interrupt.wait_for_room(self.timeout, GRACE);
        loop {
            return match how(wait.slice()) {
                Ok(()) => Ok(()),
                Err(Error::Timeout) if wait.goes_on() => continue,
                Err(Error::Timeout) => Err(Unsent::Failed(self.given_up())),
                Err(Error::Closed | Error::NoConsumer) => Err(Unsent::Left),
                Err(Error::PeerDead) => Err(Unsent::Died),
                Err(error) => Err(Unsent::Failed(error.into())),
            };
        }
    }

    /// The same for frames that the channel has collected, which cannot be sent by anything else.
    pub(super) fn collected(&self, unsent: Unsent) -> Failure {
        match unsent {
            Unsent::Failed(failure) if self.interrupt.asked() && failure.code() == self.interrupt.code() => {
                let what = self.what;
                Failure::new(LOST, format_args!("interrupted while the {what} was full: frames were not sent"))
            }
            unsent => self.without_peer(unsent),
        }
    }

    /// The failure to send to a peer that does not return.
    pub(super) fn without_peer(&self, unsent: Unsent) -> Failure {
        match unsent {
            Unsent::Failed(failure) => failure,
            Unsent::Left | Unsent::Died if self.is_strict => no_receiver(),
            Unsent::Left => Error::Closed.into(),
            Unsent::Died => Error::PeerDead.into(),
        }
    }

    fn given_up(&self) -> Failure {
        let what = self.what;
        if self.interrupt.asked() {
            let message = format_args!("interrupted while the {what} was full: the frame was not sent");
            return Failure::new(self.interrupt.code(), message);
        }
        let waited = units::nanoseconds(self.timeout.unwrap_or_default().as_nanos() as f64);
        Failure::new(TIMEOUT, format_args!("the {what} was full for {waited}, and no receiver made room"))
    }
}

/// Why a frame was not sent.
pub(super) enum Unsent {
    Left,
    Died,
    Failed(Failure),
}

/// The producing end of a ring of any kind, which outlives its consumers.
pub(super) trait RingSink {
    /// Sends one frame, or as much of it as possible. `rest` is what is left to send.
    fn send_now(&mut self, header: Header, rest: &mut &[u8], deadline: Deadline) -> slipring::Result<()>;
    fn wait_for_peer(&self, deadline: Deadline) -> slipring::Result<()>;
}
