//! The libFuzzer entry of `slipring_fuzz::mpmc_ops`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::mpmc_ops::run(data));
