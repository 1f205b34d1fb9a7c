//! Connects the main process of `bench transports` to another side, by one mechanism.
//!
//! Used by `transports.rs`. Relies on `wires.rs` for both sides' ends.

use std::sync::{Mutex, PoisonError};

use super::crew::Peer;
use super::tasks::{Answer, Task};
use super::wires::{Form, Mechanism, Meeting, Names, Talk};
use crate::failure::{FAILED, Failure, Outcome};

/// Connects to the peer.
pub(super) fn meet(
    peer: &mut Peer,
    mechanism: Mechanism,
    form: Form,
    size: usize,
    names: &Mutex<Names>,
) -> Outcome<Talk> {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let (meeting, begun) = Meeting::begin(mechanism, form, size, &mut names)?;
    peer.tell(&Task::Meet(meeting.clone()))?;
    let Answer::Met { out, pid } = peer.answer()? else {
        return Err(Failure::new(FAILED, "the other side answered something else"));
    };
    let talk = meeting.finish(begun, &out, pid)?;
    names.remove_early();
    Ok(talk)
}
