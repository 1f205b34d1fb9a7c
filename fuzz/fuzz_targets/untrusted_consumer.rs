//! The libFuzzer entry of `slipring_fuzz::untrusted_consumer`, where the property is described.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slipring_fuzz::untrusted_consumer::run(data));
