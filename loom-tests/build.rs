//! Compiles this package, and no other, against loom's atomics: no flag to remember, nothing to leak into other builds.
fn main() {
    println!("cargo::rustc-cfg=slipring_loom");
    println!("cargo::rustc-check-cfg=cfg(slipring_loom)");
    println!("cargo::rerun-if-changed=build.rs");
}
