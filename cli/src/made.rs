//! The ring or queue that opening an endpoint creates, and removing it again if nothing came of it.
//!
//! Used by `relay`, which opens its destination before its source.

use slipring::endpoint::Endpoint;
use slipring::transport::{mq, sysv};
use slipring::{Error, Ring};

use crate::{Context, target};

/// HELLO and BYE take at most so many bytes of a queue.
const OWN: u64 = 256;

/// An endpoint that is about to be opened.
pub(crate) struct Made<'a> {
    endpoint: &'a Endpoint,
    /// It did not exist before.
    is_new: bool,
}

impl<'a> Made<'a> {
    pub(crate) fn before_opening(endpoint: &'a Endpoint) -> Self {
        let is_new = match endpoint {
            Endpoint::Ring(ring) => matches!(ring.open(), Err(Error::NotFound)),
            Endpoint::Mq(queue) => matches!(mq::is_in_use(queue.name()), Err(Error::NotFound)),
            Endpoint::Sysv(queue) => queue
                .key()
                .is_ok_and(|key| sysv::list().is_ok_and(|queues| queues.iter().all(|queue| queue.key != key))),
            _ => false, // a socket goes with its listener, and a FIFO has a reader
        };
        Made { endpoint, is_new }
    }

    /// Removes what opening created, unless another process uses it, or has left frames there.
    pub(crate) fn remove(self, context: &Context) {
        if !self.is_new {
            return;
        }
        // What cannot be removed stays, as `slipring ls` and `gc` show.
        let _ = match self.endpoint {
            Endpoint::Ring(ring) => {
                let is_empty = |ring: &Ring| Ok(ring.stats().used() == 0);
                Ring::remove_if_unused(ring.name(), &target::anywhere(context), is_empty)
            }
            Endpoint::Mq(queue) => {
                let is_ours = |listed: &mq::Listed| listed.name == queue.name() && listed.bytes <= OWN;
                mq::remove_if_unused(queue.name(), || mq::list().is_ok_and(|queues| queues.iter().any(is_ours)))
            }
            Endpoint::Sysv(queue) => {
                let is_ours = |key| move |listed: &sysv::Listed| listed.key == key && listed.bytes <= OWN;
                queue.key().and_then(|key| {
                    sysv::remove_if_unused(key, |_| sysv::list().is_ok_and(|queues| queues.iter().any(is_ours(key))))
                })
            }
            _ => Ok(false),
        };
    }
}
