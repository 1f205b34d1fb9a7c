//! Times what `bench attach` measures: attaching to named rings, and the bare calls on files.
//!
//! Used by `part.rs`, in the other process.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, fstat, linkat, open, openat, unlinkat};
use slipring::{Options, Ring, spsc};

use super::figures::now_ns;
use super::payload;
use super::tasks::Answer;
use crate::failure::{FAILED, Failure, LOST, Outcome};

pub(super) const RING: usize = 64 << 10;
pub(super) const MESSAGE: usize = 64;

/// Runs in the other process: the medians of `rounds` times of each.
pub(super) fn measure(dir: PathBuf, rounds: u64) -> Outcome<Answer> {
    let mut all: [Vec<u64>; 4] = Default::default();
    for round in 0..rounds.max(1) {
        let name = format!("bench-{}-{round}", std::process::id());
        let times = [named(&dir, &name, round), bare(&dir, &name)];
        for (all, ns) in all.iter_mut().zip(times.into_iter().collect::<Outcome<Vec<_>>>()?.concat()) {
            all.push(ns);
        }
    }
    let [create, open, bare_create, bare_open] = all.map(|mut ns| {
        ns.sort_unstable();
        ns[ns.len() / 2] as f64
    });
    Ok(Answer::Attached { create, open, bare_create, bare_open })
}

/// Times a ring from its creation to its first message, and from opening its name to that message.
/// Its name is unlinked even if that fails.
fn named(dir: &PathBuf, name: &str, seq: u64) -> Outcome<[u64; 2]> {
    let options = Options::spsc(RING).directory(dir);
    let measured = (|| {
        let start = now_ns();
        let mut tx = spsc::Producer::attach(&Ring::create(name, &options)?)?;
        let mut message = [0; MESSAGE];
        payload::fill(&mut message, seq);
        tx.send(&message)?;
        let sent = now_ns();
        let mut rx = spsc::Consumer::attach(&Ring::open(name, &options)?)?;
        let right = payload::check(&rx.recv()?, seq);
        Ok::<_, slipring::Error>((right, [sent - start, now_ns() - sent]))
    })();
    let removed = Ring::remove(name, &options);
    let (right, times) = measured?;
    removed?;
    match right {
        true => Ok(times),
        false => Err(Failure::new(LOST, "the first message is not what was sent")),
    }
}

/// Times the calls that no named file of that size can do without: allocating and naming it; and
/// opening and inspecting it.
fn bare(dir: &PathBuf, name: &str) -> Outcome<[u64; 2]> {
    let failed = |e: rustix::io::Errno| Failure::new(FAILED, e).at("a bare file");
    let place = open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let start = now_ns();
    let file = openat(&place, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode).map_err(failed)?;
    fallocate(&file, FallocateFlags::empty(), 0, RING as u64).map_err(failed)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, path, &place, name, AtFlags::SYMLINK_FOLLOW).map_err(failed)?;
    let linked = now_ns();
    let again = openat(&place, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).and_then(fstat);
    let end = now_ns();
    unlinkat(&place, name, AtFlags::empty()).and(again.map(drop)).map_err(failed)?;
    Ok([linked - start, end - linked])
}
