//! Tests of segments against the real system: files and memfds, hostile files, living and dead
//! processes.
//!
//! Each test has its own directory, which is removed afterwards.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::memory::MemoryOptions;

#[path = "../../../tests/common/again.rs"]
pub(crate) mod again;
mod files;
mod liveness;
mod removal;
mod security;

/// A directory that is removed with everything in it.
struct TestDir(PathBuf);

impl TestDir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        TestDir(base.join(format!("slipring-test-{}-{number}", std::process::id())))
    }

    fn open(&self) -> Directory {
        Directory::create(Some(&self.0), false).unwrap()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn small() -> Geometry {
    Geometry::spsc(4096, &Settings { participants: 4, ..Settings::default() }).unwrap()
}

fn options(memory: MemoryOptions) -> Options {
    Options { memory, ..Options::default() }
}
