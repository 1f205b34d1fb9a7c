//! Code that test programs share. `src/` and `fuzz/` include single files of it by path.

#![allow(dead_code, reason = "not every test program uses everything")]

pub mod address;
pub mod again;
pub mod asleep;
pub mod closed;
pub mod dir;
pub mod queues;
pub mod shared;
pub mod stop;
pub mod tasks;
pub mod this_test;
mod watchdog;
