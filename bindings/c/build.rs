//! Gives the shared library the name by which programs load it, and keeps it loaded: after
//! `dlclose` its threads and the destructors of thread-local variables would run code that is gone.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libslipring.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
