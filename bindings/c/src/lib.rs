//! The C interface of `slipring`: what `slipring.h` declares.
//!
//! For C programs and, through `include/slipring.hpp`, for C++ programs; Rust programs take the
//! crate `slipring`. The README beside this crate says how to install and use it.
//!
//! Floor 6. Relies on the public interface of `slipring` alone. `table.rs` says how a wrong handle
//! is recognised; no call panics, and a panic that a defect causes ends the process, because it
//! must not unwind into C.

#![allow(non_camel_case_types, reason = "the names of C")]

mod arguments;
mod consumer;
mod error;
mod frame;
mod handle;
mod latest;
mod lent;
mod named;
mod producer;
mod quick;
mod ringbuffer;
mod rpc;
mod set;
mod stream;
mod table;
mod thread;
mod words;

pub use arguments::*;
pub use consumer::*;
pub use error::*;
pub use frame::*;
pub use handle::*;
pub use latest::*;
pub use named::*;
pub use producer::*;
pub use ringbuffer::*;
pub use rpc::*;
pub use set::*;
pub use stream::*;
