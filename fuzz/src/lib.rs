//! What is fuzzed: one module per target, each with `run`, which turns bytes into a history and panics if it breaks a promise.
//!
//! Used by the targets in `fuzz_targets/` (libFuzzer, nightly), and by `tests/fuzzing/`,
//! which include this very file, so that every property is checked on stable as well. Relies on slipring's public face only.

mod draw;
mod killable;
#[path = "../../tests/common/shared.rs"]
pub mod shared;
mod watch;

pub mod endpoint_parse;
pub mod frame_decode;
pub mod mpmc_ops;
pub mod segment_attach;
pub mod spsc_ops;
pub mod untrusted_consumer;

/// What a target does with one input.
pub type Body = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Body); 6] = [
    ("endpoint_parse", endpoint_parse::run),
    ("frame_decode", frame_decode::run),
    ("mpmc_ops", mpmc_ops::run),
    ("segment_attach", segment_attach::run),
    ("spsc_ops", spsc_ops::run),
    ("untrusted_consumer", untrusted_consumer::run),
];
