//! Crash-safe shared-memory IPC at cache-line latency.
//!
//! * [`spsc`], [`mpmc`], [`stream`]: rings in shared memory. A frame moves in nanoseconds, without
//!   a system call. A consumer may sleep and costs a busy producer nothing.
//! * [`frame`]: the framing protocol. A ring holds the same bytes that go over a pipe or a socket.
//! * [`Semaphore`] and [`Mutex`]: in shared memory, and recovered when their holder dies.
//! * `transport` and `endpoint`: the same frames through pipes, queues, sockets and signals, and
//!   all of these by name.
//!
//! Any participant may be killed at any instruction: the others continue, and its successor finds a
//! consistent ring.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-lib-{}", std::process::id()));
//! use slipring::{Options, spsc};
//! let options = Options::spsc(1 << 20).directory(&dir);
//!
//! // One process:
//! let mut tx = spsc::Producer::open("ticks", &options)?;
//! tx.send(b"EURUSD 1.0842")?;
//! tx.close();
//!
//! // Another one, started before or after:
//! let mut rx = spsc::Consumer::open("ticks", &options)?;
//! assert_eq!(&*rx.recv()?, b"EURUSD 1.0842");
//! assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
//! # slipring::Ring::remove("ticks", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Trust
//!
//! All processes of one user are one trust domain: each could read and change the others' memory
//! with `ptrace` anyway. Inside it, safe functions show received frames in place. A peer that
//! writes where it must not breaks the memory safety of the others. Named rings are refused unless
//! only their user can write them.
//!
//! # Features
//!
//! * `transports` (on by default): the modules `transport` and `endpoint`. Without it this is a
//!   crate of rings, semaphores and mutexes, with the frame format of the rings.
//! * `probe` (off by default): the measurements behind `slipring bench`. For benchmarks only, and
//!   not stable.
//! * `zerocopy` (off by default): typed messages and streams, e.g.
//!   [`spsc::Producer::try_send_value`] and [`stream::Consumer::try_read_values`], for every type
//!   that derives the traits of the crate `zerocopy`.
//!
//! # Further reading
//!
//! The [`guide`] covers choosing a ring, waiting, and troubleshooting. `docs/memory-model.md`
//! proves the memory orderings, `docs/crash-behaviour.md` says what happens when a participant dies
//! at any point, `docs/framing.md` describes the bytes, and `docs/glossary.md` explains the terms.

#![warn(missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "transports")]
pub mod endpoint;
pub mod error;
#[cfg_attr(
    not(feature = "transports"),
    allow(dead_code, unused_imports, reason = "the codec has functions that only transports use")
)]
pub mod frame;
pub mod guide;
pub(crate) mod memory;
pub(crate) mod os;
#[cfg(feature = "probe")]
pub mod probe;
pub mod ring;
pub(crate) mod segment;
pub(crate) mod sync;
#[cfg(feature = "transports")]
pub mod transport;
pub(crate) mod wait;

pub use error::{Error, Result};
pub use memory::Downgrade;
pub use os::process::ProcessState;
pub use ring::{Options, Report, Ring, Stats, mpmc, spsc, stream};
pub use segment::{Counts, Held, Kind, ParticipantInfo, Redelivery, Role, State, WakeMode};
pub use wait::{
    cancel::Canceller,
    deadline::Deadline,
    idle::Idle,
    named::{
        mutex::{Locked, Mutex, MutexGuard},
        semaphore::{Permit, Semaphore},
    },
};

/// The README's code, compiled by `cargo test --doc`.
#[cfg(all(doctest, feature = "transports"))]
#[doc = include_str!("../README.md")]
struct Readme;
