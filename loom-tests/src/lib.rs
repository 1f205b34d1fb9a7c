//! Model checks: the sources of the algorithms, compiled against loom's atomics and explored exhaustively.
//!
//! The modules below *are* the library's files (`#[path]`), not copies; `build.rs` sets the cfg that makes `sync.rs` hand
//! out loom's types. Each model states what it would catch. `cargo test --workspace` runs them all.
#![allow(dead_code, unused_imports, reason = "each model uses a part of the floors it includes")]
#![allow(missing_docs, reason = "documented where the files live")]

#[path = "../../src/error.rs"]
pub(crate) mod error;
#[path = "../../src/sync.rs"]
pub(crate) mod sync;

#[path = "../../src/segment/mod.rs"]
pub(crate) mod segment;

#[cfg(test)]
mod participants;
