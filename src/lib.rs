//! Crash-safe shared-memory IPC for Linux at cache-line latency.
//!
//! Processes exchange frames through rings in shared memory. A frame takes nanoseconds, and no
//! system call while both sides are awake; a waiting side sleeps on a futex. Any participant may be
//! killed at any instruction: the others continue, no committed frame is lost, and a successor
//! finds a consistent ring.
//!
//! # Which kind to take
//!
//! | you have | take |
//! |---|---|
//! | one producer, one consumer, frames of any size | [`spsc`] |
//! | several producers or consumers, each frame for one consumer | [`mpmc`] |
//! | several producers, one consumer, at the speed of one producer | [`mpsc`] |
//! | plain bytes without message boundaries, such as audio | [`stream`] |
//! | values of which only the newest matters: meters, prices, settings | [`latest`] |
//! | data that several processes change in place | [`Mutex`] |
//! | a number of permits that processes share | [`Semaphore`] |
//! | a number of things to tell waiters of, one each | [`SignalSemaphore`] |
//! | one signal to many: start, stop, ready | [`Event`] |
//! | requests, each with a reply | [`rpc`] |
//! | pipes, queues, sockets or signals, with the same frames | [`transport`] |
//! | any of these, named by text such as `tcp:localhost:7000` | [`endpoint`] |
//! | a ring in an event loop | [`transport`]`::Doorbell` |
//!
//! [`guide::choosing`] compares the rings.
//!
//! # Example
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
//! // Another process, started before or after:
//! let mut rx = spsc::Consumer::open("ticks", &options)?;
//! assert_eq!(&*rx.recv()?, b"EURUSD 1.0842");
//! assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
//! # slipring::Ring::remove("ticks", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! Every blocking call also exists as `try_…`, which returns at once, and as `…_deadline`.
//!
//! # What is not possible
//!
//! * **Exactly once.** A frame is delivered at least once, and marked when it is delivered again;
//!   or at most once, and counted when it is lost ([`Redelivery`]).
//! * **Surviving the machine.** Rings are in memory and are lost when the machine stops.
//! * **Protection within one user.** All processes of one user are one trust domain, because each
//!   could change the others' memory with `ptrace` anyway. Safe functions lend received frames in
//!   place; a peer that writes into a lent frame breaks the memory safety of its reader. Named
//!   rings are refused unless only their user can write to them. For peers outside the domain there
//!   is [`spsc::UntrustedConsumer`].
//!
//! # Features
//!
//! * `transports` (on by default): the modules [`transport`] and [`endpoint`]. Without it the crate
//!   has rings, semaphores, mutexes and events, and the frame format of the rings.
//! * `async` (off by default): handles for tasks of any executor, for example
//!   [`spsc::AsyncConsumer`] and [`AsyncSemaphore`]. It needs no runtime.
//! * `tokio` (off by default): transports wait in the event loop of Tokio's runtime.
//! * `zerocopy` (off by default): typed messages and streams, for example
//!   [`spsc::Producer::try_send_value`] and [`stream::Consumer::try_read_values`], for every type
//!   that derives the traits of the crate `zerocopy`; and the module [`typed`], which checks that
//!   both sides mean the same type.
//! * `serde` (off by default): the codec [`typed::Postcard`], for every type of the crate `serde`.
//! * `probe` (off by default): the measurements of `slipring bench`. For benchmarks only, and not
//!   stable.
//!
//! # Further reading
//!
//! | page | contents |
//! |---|---|
//! | [`guide::choosing`] | which ring for which purpose |
//! | [`guide::waiting`] | how calls wait, and how a wait ends |
//! | [`guide::sizes`] | capacity, payload, memory |
//! | [`guide::real_time`] | threads with deadlines |
//! | [`guide::containers`] | sharing rings between containers |
//! | [`guide::other_languages`] | C and C++ |
//! | [`guide::troubleshooting`] | causes and remedies by symptom |
//! | `docs/crash-behaviour.md` | what happens when a participant dies at any point |
//! | `docs/memory-model.md` | the proof of the memory orderings |
//! | `docs/framing.md` | the bytes of a frame |
//! | `docs/glossary.md` | the terms |

#![cfg_attr(not(feature = "async"), doc = "\n[`spsc::AsyncConsumer`]: #features\n[`AsyncSemaphore`]: #features")]
#![cfg_attr(not(feature = "transports"), doc = "\n[`transport`]: #features\n[`endpoint`]: #features")]
#![cfg_attr(not(feature = "zerocopy"), doc = "\n[`typed`]: #features")]
#![cfg_attr(not(feature = "serde"), doc = "\n[`typed::Postcard`]: #features")]
#![warn(missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "transports")]
pub mod endpoint;
pub(crate) mod error;
#[cfg_attr(
    not(feature = "transports"),
    allow(dead_code, unused_imports, reason = "the codec has functions that only transports use")
)]
pub mod frame;
pub mod guide;
pub(crate) mod memory;
pub(crate) mod named;
pub(crate) mod os;
#[cfg(feature = "probe")]
pub mod probe;
pub(crate) mod ring;
pub mod rpc;
pub(crate) mod segment;
pub(crate) mod set;
pub(crate) mod sync;
mod threads;
#[cfg(feature = "transports")]
pub mod transport;
#[cfg(feature = "zerocopy")]
pub mod typed;
pub(crate) mod wait;

pub use error::{Error, ErrorKind, Result};
pub use memory::Downgrade;
#[cfg(feature = "async")]
pub use named::tasks::{AsyncEvent, AsyncMutex, AsyncSemaphore, AsyncSignalSemaphore};
pub use named::{
    event::Event,
    mutex::{Locked, Mutex, MutexGuard},
    semaphore::{Permit, Semaphore},
    signal_semaphore::SignalSemaphore,
};
pub use os::process::{PidNamespace, ProcessState};
pub use ring::{Options, Report, Ring, Stats, broadcast, latest, mpmc, mpsc, spsc, stream};
pub use segment::{Counts, Held, Kind, ParticipantInfo, Redelivery, Role, State, WakeMode};
pub use set::{Ready, Registry, Token, WaitSet, Waker, source::Readiness};
pub use wait::{cancel::Canceller, deadline::Deadline, idle::Idle};

#[cfg(all(test, not(miri)))]
#[path = "../tests/common/watchdog.rs"]
mod watchdog;

/// The README's code, compiled by `cargo test --doc`.
#[cfg(all(doctest, feature = "transports"))]
#[doc = include_str!("../README.md")]
struct Readme;
