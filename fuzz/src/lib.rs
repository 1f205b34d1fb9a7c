//! The fuzz targets: one module each, with a function `run` that turns bytes into a history and
//! panics if a promise is broken.
//!
//! Used by `fuzz_targets/` (libFuzzer, nightly), and by `tests/fuzzing/`, which includes this file,
//! so that every property is checked on stable as well. Relies on slipring's public API only.

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

/// Runs one input.
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
