//! Compiles this package, and no other, against loom's atomics, without a flag that would affect
//! other builds.
fn main() {
    println!("cargo::rustc-cfg=slipring_loom");
    println!("cargo::rustc-check-cfg=cfg(slipring_loom)");
    println!("cargo::rerun-if-changed=build.rs");
}
