//! slipring
#![allow(dead_code, unused_imports, reason = "the floors above come later")]
pub mod endpoint;
pub mod error;
pub mod frame;
pub(crate) mod memory;
pub(crate) mod os;
pub mod probe;
pub mod ring;
pub(crate) mod segment;
pub(crate) mod sync;
pub(crate) mod wait;

pub use error::{Error, Result};
pub use memory::Downgrade;
pub use ring::{Options, Report, Ring, Stats, mpmc, spsc, stream};
pub use segment::{Counts, Kind, ParticipantInfo, Redelivery, Role, State, WakeMode};
pub use wait::{deadline::Deadline, idle::Idle};
