//! The libFuzzer entry of `slipring_fuzz::spsc_ops`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::spsc_ops::run(data));
