//! slipring
#![allow(dead_code, unused_imports)]
pub mod error;
pub(crate) mod memory;
pub(crate) mod os;
pub(crate) mod segment;
pub(crate) mod sync;
