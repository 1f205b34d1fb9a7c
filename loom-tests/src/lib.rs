//! Model checks: the sources of the algorithms, compiled against loom's atomics and explored exhaustively.
//!
//! The modules below *are* the library's files (`#[path]`), not copies; `build.rs` sets the cfg that makes `sync.rs`
//! hand out loom's types. Each model states what it would catch. `cargo test --workspace` runs them all.
#![allow(dead_code, unused_imports, reason = "each model uses a part of the floors it includes")]
#![allow(missing_docs, reason = "documented where the files live")]
#![allow(clippy::arc_with_non_send_sync, reason = "loom's types run on one thread")]

#[path = "../../src/error.rs"]
pub(crate) mod error;
#[path = "../../src/segment/mod.rs"]
pub(crate) mod segment;
#[path = "../../src/sync.rs"]
pub(crate) mod sync;
#[path = "../../src/wait/mod.rs"]
pub(crate) mod wait;

#[cfg(test)]
mod eventcount;
#[cfg(test)]
mod mutex;
#[cfg(test)]
mod participants;
#[cfg(test)]
mod semaphore;

/// Explores every execution of `model` with at most `preemptions` involuntary switches.
#[cfg(test)]
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
