//! The rings, and what they share: [`Ring`] and its [`Options`].
//!
//! | kind | for | producers, consumers | progress | a frame is |
//! |---|---|---|---|---|
//! | [`spsc`] | frames from one producer to one consumer | 1, 1 | wait-free | any size up to the ring |
//! | [`mpmc`] | work queues | many, many | lock-free | up to the size of a slot |
//! | [`mpsc`] | orders, logs: each producer has its lane | many, 1 | wait-free | any size up to the lane |
//! | [`broadcast`] | one to many: each subscriber gets every frame | 1, many | wait-free, lossy subscribers lock-free | any size up to the ring |
//! | [`stream`] | audio and other plain bytes | 1, 1 | wait-free | there are no frames |
//! | [`latest`] | values of which only the newest matters | 1, many | writing wait-free, reading lock-free | up to the size of a cell |
//!
//! Every kind has `try_…` calls that return at once, blocking calls, and `…_deadline` calls. The
//! progress guarantee is that of the `try_…` calls. A [`Ring`] is the mapping; a producer or
//! consumer attaches to it.

// Floor 3. `*/core.rs` has the algorithms, over memory and eventcounts; the other files have the
// handles.

mod attachment;
pub mod broadcast;
mod by_kind;
mod common_calls;
mod guards;
mod handle;
#[cfg(feature = "transports")]
mod holder;
pub mod latest;
mod level;
pub mod mpmc;
pub mod mpsc;
mod observe;
mod options;
pub(crate) mod position;
mod readiness;
mod receive;
mod send_calls;
pub mod spsc;
pub mod stream;
#[cfg(feature = "async")]
mod tasks;
#[cfg(feature = "zerocopy")]
mod typed;

pub use handle::Ring;
#[cfg(feature = "transports")]
pub(crate) use holder::Holder;
pub use observe::{Report, Stats};
pub use options::Options;
#[cfg(feature = "transports")]
pub(crate) use readiness::Watch;
