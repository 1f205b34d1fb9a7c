//! Frames between processes, at the speed of a cache line, and safe from whoever dies or lies on the way.
//!
//! * [`spsc`], [`mpmc`], [`stream`]: rings in shared memory. A frame moves in nanoseconds, without a system call; a reader
//!   may sleep, and costs a busy writer nothing.
//! * [`frame`]: the framing protocol. What lies in a ring is what goes over a pipe or a socket.
//! * [`Semaphore`] and [`Mutex`]: in shared memory, and not lost with a dead holder.
//! * `transport` and `endpoint`: the same frames through pipes, queues, sockets and signals, and all of these by name.
//!
//! Any participant may be killed at any instruction: the others go on, and its successor finds everything in order.
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
//! All processes of one user are one trust domain: each could read and change the others' memory with `ptrace` anyway.
//! Inside it, received frames are shown in place, by safe functions; a peer that writes where it must not breaks the memory
//! safety of the others. Named rings are refused unless only their user can write them.
//!
//! # Features
//!
//! * `transports` (on by default): the modules `transport` and `endpoint`. Without it this is a crate of rings, semaphores and
//!   mutexes, and of the frame format that the rings keep.
//! * `probe` (off by default): what `slipring bench` measures with. For benchmarks only, and not stable.
//! * `zerocopy` (off by default): typed messages and streams, e.g.
//!   [`spsc::Producer::try_send_value`] and [`stream::Consumer::try_read_values`], for every type
//!   that derives the traits of the crate `zerocopy`.
//!
//! # Where to read on
//!
//! The [`guide`] helps to choose a ring, to wait, and to find what is wrong.
//! `docs/memory-model.md` proves the orderings, `docs/crash-behaviour.md` tells what happens when somebody dies at any
//! point, `docs/framing.md` describes the bytes.

#![warn(missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "transports")]
pub mod endpoint;
pub mod error;
#[cfg_attr(
    not(feature = "transports"),
    allow(dead_code, unused_imports, reason = "the codec has calls that only transports use")
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
