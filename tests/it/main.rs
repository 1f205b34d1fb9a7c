//! Tests of the public API, and across processes, that may run side by side in one program, which
//! is built and linked once. Tests that need a program of their own lie beside this folder: those
//! that allow no other threads, count allocations, or run under valgrind; and the conformance
//! suite.
//!
//! A test that needs another process starts this program again for one test of it
//! (`common::this_test`).

#[path = "../common/mod.rs"]
mod common;

mod cancel;
mod containers;
mod crowd;
mod deadlines;
mod doorbells;
mod evil_twin;
mod forgotten_guards;
mod fork;
mod interrupted;
mod latest;
mod load;
mod many_senders;
mod many_subscribers;
mod monitor;
mod named_tasks;
mod no_consumer;
mod no_threads;
mod observers;
mod python_peers;
mod rpc;
mod security;
mod strangers;
mod syscalls;
mod tasks;
mod tasks_broadcast;
mod tasks_mpsc;
mod tasks_transport;
mod transport_accept;
mod transport_datagram;
mod transport_fifo;
mod transport_mq;
mod transport_reconnect;
mod transport_streams;
mod transport_sysv;
mod transport_upgrade;
mod typed;
mod wait;
mod wait_set;
mod wait_set_deaths;
