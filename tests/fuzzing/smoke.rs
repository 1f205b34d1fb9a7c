//! Checks every fuzz target's property on stable for a few seconds: with the seeds, and with random
//! bytes from fixed seeds.
//!
//! `SLIPRING_FUZZ_INPUTS` sets how many random inputs each target gets. The targets themselves are
//! in `fuzz/`.

use std::path::Path;

use crate::fuzzing;

const INPUTS: u64 = 2_000;

/// One step of wyrand, to fill an input.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0xA076_1D64_78BD_642F);
    let wide = u128::from(*state) * u128::from(*state ^ 0xE703_7ED1_A0B4_28DB);
    (wide >> 64) as u64 ^ wide as u64
}

fn smoke(name: &str) {
    let (_, run) = fuzzing::TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut seeds: Vec<_> = std::fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    for seed in seeds {
        eprintln!("{}", seed.display());
        run(&std::fs::read(seed).unwrap());
    }
    let inputs = std::env::var("SLIPRING_FUZZ_INPUTS").map_or(INPUTS, |count| count.parse().unwrap());
    for input in 0..inputs {
        let mut state = input;
        let len = random(&mut state) as usize % 600;
        let bytes: Vec<u8> = (0..len).map(|_| random(&mut state) as u8).collect();
        let outcome = std::panic::catch_unwind(|| run(&bytes));
        assert!(outcome.is_ok(), "{name}: random input {input} failed: {bytes:?}");
    }
}

#[test]
fn endpoint_parse() {
    smoke("endpoint_parse");
}

#[test]
fn frame_decode() {
    smoke("frame_decode");
}

#[test]
fn mpmc_ops() {
    smoke("mpmc_ops");
}

#[test]
fn segment_attach() {
    smoke("segment_attach");
}

#[test]
fn spsc_ops() {
    smoke("spsc_ops");
}

#[test]
fn untrusted_consumer() {
    smoke("untrusted_consumer");
}
