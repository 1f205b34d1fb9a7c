//! slipring
pub mod error;
pub mod frame;
pub(crate) mod os;
pub(crate) mod sync;

pub use error::{Error, Result};
