//! Round trips of calls, beside the two SPSC messages that a call is made of.
//!
//! ```text
//! cargo bench --bench rpc             # or, in some seconds: cargo bench --bench rpc -- --quick
//! ```
//!
//! Two threads, pinned to two processors, that wait as handles do by default. The messages are as
//! long as the frames of a call: a request has 16 bytes before its payload, a reply 8. All four
//! figures of a size are taken in each round, in a rotated order; a ratio is the median of the
//! ratios of the rounds. Each payload is written, and copied out as a whole.

use std::hint::black_box;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use slipring::rpc::{self, Client, Server};
use slipring::{Deadline, Options, Result, spsc};

const SIZES: [usize; 4] = [8, 64, 256, 1024];
const CAPACITY: usize = 1 << 16;
/// The largest payload, and what is before it in a frame.
const LARGEST: usize = 1024 + REQUEST_HEAD;
const REQUEST_HEAD: usize = 16;
const REPLY_HEAD: usize = 8;
/// The request that ends a server.
const STOP: [u8; 1] = [0];
const WARM_UP: u32 = 2000;
const NAMES: [&str; 4] = ["spsc, payload only", "spsc, frames of a call", "rpc over a pair", "rpc, named server"];

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let (rounds, trips) = if quick { (3, 2000) } else { (61, 10_000) };
    println!("{:>6}  {:<24}{:>9}{:>16}{:>24}", "bytes", "round trip", "median", "quartiles", "÷ frames of a call");
    for size in SIZES {
        let mut ns: [Vec<f64>; 4] = Default::default();
        for round in 0..rounds {
            for way in 0..NAMES.len() {
                let way = (way + round) % NAMES.len();
                ns[way].push(match way {
                    0 => messages(size, size, trips)?,
                    1 => messages(REQUEST_HEAD + size, REPLY_HEAD + size, trips)?,
                    2 => calls(rpc::pair(CAPACITY)?, size, trips)?,
                    _ => named(size, trips)?,
                });
            }
        }
        for (name, own) in NAMES.iter().zip(&ns) {
            let (times, ratios) = (sorted(own.clone()), sorted(own.iter().zip(&ns[1]).map(|(a, b)| a / b).collect()));
            let quartiles = |all: &[f64]| (all[all.len() / 4], all[all.len() * 3 / 4]);
            let ((low, high), (least, most)) = (quartiles(&times), quartiles(&ratios));
            let ratio = ratios[ratios.len() / 2];
            let median = times[times.len() / 2];
            println!(
                "{size:>6}  {name:<24}{median:>6.0} ns{low:>8.0} – {high:<5.0}{ratio:>10.2} ({least:.2} – {most:.2})"
            );
        }
    }
    Ok(())
}

fn sorted(mut all: Vec<f64>) -> Vec<f64> {
    all.sort_by(f64::total_cmp);
    all
}

/// Confines this thread to the processor at `index` of those that it had at the start.
fn pin(cpus: &CpuSet, index: usize) {
    let mut one = CpuSet::new();
    if let Some(cpu) = (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).nth(index) {
        one.set(cpu);
        let _ = sched_setaffinity(None, &one); // the figures are worse without it, and still true
    }
}

/// The time of a round trip: `serve` runs in another thread until `trip` is dropped.
fn time(serve: impl FnOnce() -> Result<()> + Send, mut trip: impl FnMut() -> Result<()>, trips: u32) -> Result<f64> {
    let cpus = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let ns = std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            pin(&cpus, 1);
            serve()
        });
        pin(&cpus, 0);
        (0..WARM_UP.min(trips)).try_for_each(|_| trip())?;
        let start = Instant::now();
        (0..trips).try_for_each(|_| trip())?;
        let ns = start.elapsed().as_nanos() as f64 / f64::from(trips);
        drop(trip);
        serving.join().unwrap_or(Ok(()))?;
        Ok(ns)
    });
    let _ = sched_setaffinity(None, &cpus);
    ns
}

/// Messages of `there` bytes, and messages of `back` bytes as answers.
fn messages(there: usize, back: usize, trips: u32) -> Result<f64> {
    let (mut requests, mut serve_requests) = spsc::pair(CAPACITY)?;
    let (mut serve_replies, mut replies) = spsc::pair(CAPACITY)?;
    let serve = move || {
        let (mut request, reply) = ([0; LARGEST], [9; LARGEST]);
        while serve_requests.recv_into(&mut request).is_ok() {
            black_box(&request);
            serve_replies.send(&reply[..back])?;
        }
        Ok(())
    };
    let (request, mut reply) = ([7; LARGEST], [0; LARGEST]);
    let trip = move || {
        requests.send(&request[..there])?;
        replies.recv_into(&mut reply)?;
        black_box(&reply);
        Ok(())
    };
    time(serve, trip, trips)
}

/// Calls with requests and replies of `size` bytes.
fn calls((mut client, mut server): (Client, Server), size: usize, trips: u32) -> Result<f64> {
    let serve = move || {
        let reply = [9; LARGEST];
        loop {
            let Ok(request) = server.recv() else { return Ok(()) };
            let len = black_box(request.payload()).len();
            request.reply(&reply[..len])?;
            if len == STOP.len() {
                return Ok(()); // a named server would wait for other clients
            }
        }
    };
    let request = [7; LARGEST];
    let mut call = Last(move |request: &[u8]| {
        black_box(client.call(request, Deadline::never())?);
        Ok(())
    });
    time(serve, move || (call.0)(&request[..size]), trips)
}

/// A client that tells its server to end when it is dropped.
struct Last<F: FnMut(&[u8]) -> Result<()>>(F);

impl<F: FnMut(&[u8]) -> Result<()>> Drop for Last<F> {
    fn drop(&mut self) {
        let _ = (self.0)(&STOP);
    }
}

fn named(size: usize, trips: u32) -> Result<f64> {
    let dir = std::env::temp_dir().join(format!("slipring-bench-rpc-{}", std::process::id()));
    let options = Options::mpmc(64, LARGEST).directory(&dir);
    let server = Server::open("calls", 4, &options)?;
    let ns = calls((Client::open("calls", &options)?, server), size, trips);
    Server::remove("calls", &options)?;
    let _ = std::fs::remove_dir(&dir);
    ns
}
