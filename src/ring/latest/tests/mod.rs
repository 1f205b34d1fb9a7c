//! Tests of the board of latest values: the algorithm in constructed states (`bare.rs`), and the
//! handles (`handles.rs`). Across processes: `tests/it/latest.rs` and `tests/single_step`.

mod bare;
#[cfg(not(miri))]
mod handles;
