//! Tests of the command line, as a shell sees it: one program, which starts the binary.

mod address;
mod common;
mod watchdog;

mod bench;
mod broadcast;
mod broadcast_volume;
mod containers;
mod crash;
mod demo;
mod latest;
mod manage;
mod messages;
mod mpsc;
mod no_threads;
mod readers;
mod refusals;
mod relay;
mod sockets;
mod stop;
mod transfer;
