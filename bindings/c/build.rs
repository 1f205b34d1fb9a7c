//! Gives the shared library the name by which programs load it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libslipring.so.0");
}
