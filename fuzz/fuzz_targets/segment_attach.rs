//! The libFuzzer entry of `slipring_fuzz::segment_attach`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::segment_attach::run(data));
