#!/bin/sh
# Runs what works between threads under ThreadSanitizer, on the stable toolchain: rings, waiting, participants, a doorbell beside
# a producer (the library's own tests), and observers beside producers and consumers (tests/it/observers.rs). Arguments select
# among the library's tests instead. Ends with an error if a race is reported. Five minutes to build, two to run.
#
# std is built with the sanitizer, too: `rustup component add rust-src`. With std as it comes, ThreadSanitizer does not see what
# the standard library's own locks, parking and joins order, and reports dozens of races in it. It does not know
# `atomic::fence`; built so, std uses none, and no memory that the library reads without atomics is handed over by a fence alone.
# So there are no suppressions: a report is a finding.
set -eu
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "sanitize: the sources of std are missing: rustup component add rust-src" >&2
    exit 1
fi
[ $# -gt 0 ] || set -- ring:: segment:: wait:: transport::doorbell transport::ring

export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR="$PWD/target/sanitize"
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 ${TSAN_OPTIONS:-}"
cargo test -Zbuild-std --target "$host" -p slipring --lib -- "$@"
cargo test -Zbuild-std --target "$host" -p slipring --test it observers
