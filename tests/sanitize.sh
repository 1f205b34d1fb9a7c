#!/bin/sh
# Runs the concurrent code under ThreadSanitizer, on the stable toolchain: the library's own tests
# of rings, waiting, participants, and a doorbell beside a producer; and observers beside producers
# and consumers (tests/it/observers.rs). Arguments select among the library's tests instead. Fails
# if a race is reported. Takes five minutes to build and two to run.
#
# std is built with the sanitizer, too: `rustup component add rust-src`. With the precompiled std,
# ThreadSanitizer does not see the ordering by the standard library's locks, parking and joins, and
# reports dozens of races in it. It does not know `atomic::fence` either. The std built here uses no
# fences, and the library hands over no non-atomic memory by a fence alone. So there are no
# suppressions: every report is a finding.
set -eu
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "sanitize: the sources of std are missing: rustup component add rust-src" >&2
    exit 1
fi
[ $# -gt 0 ] || set -- ring:: segment:: wait:: transport::doorbell transport::ring

export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR="$PWD/target/sanitize"
# Tests take some ten times as long: give them more time before they count as hanging.
export SLIPRING_HANG="${SLIPRING_HANG:-600}"
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 ${TSAN_OPTIONS:-}"
cargo test -Zbuild-std --target "$host" -p slipring --lib -- "$@"
cargo test -Zbuild-std --target "$host" -p slipring --test it observers
