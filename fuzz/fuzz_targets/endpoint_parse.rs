//! The libFuzzer entry of `slipring_fuzz::endpoint_parse`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::endpoint_parse::run(data));
