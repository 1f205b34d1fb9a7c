//! Floor 3: the rings. Algorithms (`*/core.rs`) over memory and eventcounts, and the handles that
//! users hold.
//!
//! | kind | for | producers, consumers | progress | a frame is |
//! |---|---|---|---|---|
//! | [`spsc`] | the fastest way from one to one | 1, 1 | wait-free | any size up to the ring |
//! | [`mpmc`] | work queues | many, many | lock-free | up to a slot |
//! | [`stream`] | audio and other plain bytes | 1, 1 | wait-free | there are none, only bytes |
//!
//! Every kind has `try_…` calls that return at once (and are what the progress guarantee is about),
//! blocking calls, and `…_deadline` calls. A [`Ring`] is the mapping; a producer or consumer
//! attaches to one.

mod attachment;
mod guards;
mod handle;
pub mod mpmc;
mod observe;
mod options;
pub(crate) mod position;
pub mod spsc;
pub mod stream;
#[cfg(feature = "zerocopy")]
mod typed;
#[cfg(feature = "transports")]
mod watch;

pub use handle::Ring;
pub use observe::{Report, Stats};
pub use options::Options;
#[cfg(feature = "transports")]
pub(crate) use watch::{Mark, Watch};
