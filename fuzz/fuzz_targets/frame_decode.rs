//! The libFuzzer entry of `slipring_fuzz::frame_decode`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::frame_decode::run(data));
