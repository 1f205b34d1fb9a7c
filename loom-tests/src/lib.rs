//! Model checks: the sources of the algorithms, compiled against loom's atomics and explored
//! exhaustively.
//!
//! The modules below *are* the library's files (`#[path]`), not copies; `build.rs` sets the cfg
//! that makes `sync.rs` provide loom's types. Only shared memory and the futex are modelled here:
//! `memory/area.rs` and `os/futex.rs`. Each model states which faults it catches; `mutants.py`
//! shows that it does. `cargo test --workspace` runs all models with at most 2 involuntary
//! switches, which takes seconds; `SLIPRING_TESTS=full` runs each with as many as it names.
#![allow(dead_code, unused_imports, reason = "each model uses a part of the floors it includes")]
#![allow(missing_docs, reason = "documented where the files live")]
#![allow(clippy::arc_with_non_send_sync, reason = "loom's types run on one thread")]

#[path = "../../src/error.rs"]
pub(crate) mod error;
#[path = "../../src/sync.rs"]
pub(crate) mod sync;
pub(crate) mod memory {
    mod area;
    #[path = "../../../src/memory/words.rs"]
    mod words;
    pub(crate) use area::{Area, LINE};
    pub(crate) use words::{Data, Words};
}
pub(crate) mod os {
    pub(crate) mod futex;
}
#[path = "../../src/frame"]
pub(crate) mod frame {
    pub(crate) mod header;
    pub(crate) use header::*;
}
#[path = "../../src/segment/mod.rs"]
pub(crate) mod segment;
#[path = "../../src/wait/mod.rs"]
pub(crate) mod wait;
#[path = "../../src/ring"]
pub(crate) mod ring {
    pub(crate) mod position;
    pub(crate) mod broadcast {
        pub(crate) mod gate;
        pub(crate) mod join;
        pub(crate) mod layout;
        pub(crate) mod lossy;
        pub(crate) mod seat;
    }
    pub(crate) mod latest {
        pub(crate) mod core;
        pub(crate) mod layout;
    }
    pub(crate) mod mpmc {
        pub(crate) mod core;
        pub(crate) mod inspect;
        pub(crate) mod layout;
        pub(crate) mod recovery;
    }
    pub(crate) mod mpsc {
        pub(crate) mod core;
        pub(crate) mod lanes;
        pub(crate) mod layout;
    }
    pub(crate) mod spsc {
        pub(crate) mod ahead;
        pub(crate) mod core;
        pub(crate) mod layout;
    }
    pub(crate) mod stream {
        pub(crate) mod core;
        pub(crate) mod layout;
    }
}
#[path = "../../src/transport/doorbell/state.rs"]
pub(crate) mod doorbell_state;

#[cfg(test)]
mod broadcast;
#[cfg(test)]
mod count;
#[cfg(test)]
mod doorbell;
#[cfg(test)]
mod event;
#[cfg(test)]
mod eventcount;
#[cfg(test)]
mod latest;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod message_type;
#[cfg(test)]
mod mpmc;
#[cfg(test)]
mod mpsc;
#[cfg(test)]
mod mutex;
#[cfg(test)]
mod semaphore;
#[cfg(test)]
mod several;
#[cfg(test)]
mod spsc;
#[cfg(test)]
mod wake;

/// Involuntary switches in the short form.
#[cfg(test)]
const SHORT: usize = 2;

/// Explores every execution of `model` with at most `preemptions` involuntary switches, and prints
/// how many there were.
#[cfg(test)]
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    let is_full = std::env::var_os("SLIPRING_TESTS").is_some_and(|how| how == "full");
    let preemptions = if is_full { preemptions } else { preemptions.min(SHORT) };
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check({
        let executions = Arc::clone(&executions);
        move || {
            executions.fetch_add(1, Relaxed);
            model();
        }
    });
    println!("{} executions, up to {preemptions} preemptions", executions.load(Relaxed));
}
