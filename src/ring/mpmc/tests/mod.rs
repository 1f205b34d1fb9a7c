//! Tests of the MPMC ring: the algorithm in constructed states (`bare.rs`), the handles, also when
//! they are misused (`handles.rs`), and random histories against a model (`model.rs`). Across
//! processes: `tests/crash`.

mod bare;
#[cfg(not(miri))]
mod handles;
#[cfg(not(miri))]
mod model;
