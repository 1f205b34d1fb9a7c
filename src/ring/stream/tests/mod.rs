//! Tests of the byte stream: the algorithm in constructed states (`bare.rs`), the handles
//! (`handles.rs`), and random histories against a queue of bytes (`model.rs`).

mod bare;
#[cfg(not(miri))]
mod handles;
#[cfg(not(miri))]
mod model;
