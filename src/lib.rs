//! slipring
pub mod error;
pub(crate) mod sync;
pub(crate) mod os;
