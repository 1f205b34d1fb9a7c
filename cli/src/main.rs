//! The binary `slipring`.
fn main() {}
