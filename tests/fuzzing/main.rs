//! The fuzz targets (`fuzz/`) on stable, in seconds; and what fuzzing has found, once and for all.

#[path = "../../fuzz/src/lib.rs"]
mod fuzzing;
mod regressions;
mod smoke;
