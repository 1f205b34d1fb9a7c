//! Runs the fuzz targets (`fuzz/`) on stable for some seconds, and every input that fuzzing has
//! found.

#[path = "../../fuzz/src/lib.rs"]
mod fuzzing;
mod regressions;
mod smoke;
