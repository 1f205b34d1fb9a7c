//! How slipring's figures change with the number of participants, the size of a ring, and the
//! number of rings.

use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{ClockId, clock_gettime};
use slipring::transport::Doorbell;
use slipring::{Options, Ring, spsc};

use crate::job::Result;
use crate::measures::{Effort, KIB, MIB, Measure};
use crate::report::{self, bytes};
use crate::table::{cell as cell_of, digits, markdown, median};

/// All tables.
pub(crate) fn run(effort: &Effort) -> Result<()> {
    participants(effort);
    sizes(effort);
    rings(if effort.quick { &[1, 10] } else { &[1, 10, 100, 1000] })
}

fn only(effort: &Effort, peers: &[&str]) -> Effort {
    Effort { peers: peers.iter().map(|name| (*name).to_owned()).collect(), ..effort.clone() }
}

fn participants(effort: &Effort) {
    let cpus = crate::run::cpus().len();
    println!("As many senders as receivers, each a process, on {cpus} processors:\n");
    let effort = only(effort, &["slipring-mpmc", "slipring-lanes"]);
    let mut rows = Vec::new();
    for pairs in [1, 2, 4, 8, 16] {
        let measured = Measure::many(pairs).run(&effort);
        let cell = |name| measured.of(name).map_or_else(String::new, |runs| cell_of(&runs.all()));
        let share = if 2 * pairs <= cpus { "a processor each" } else { "oversubscribed" };
        rows.push(vec![format!("{pairs} + {pairs}, {share}"), cell("slipring-mpmc"), cell("slipring-lanes")]);
        report::print_failures(&measured);
    }
    let header = ["64 B, ns per message", "one MPMC ring", "lanes: an SPSC ring for each pair"].map(str::to_owned);
    println!("{}", markdown(&header, &rows));
}

fn sizes(effort: &Effort) {
    let effort = only(effort, &["slipring"]);
    let mut rows = Vec::new();
    for ring in [64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB] {
        let measured = Measure::stream(64, ring).run(&effort);
        let cell = |name| measured.of(name).map_or_else(String::new, |runs| cell_of(&runs.all()));
        let attach = |prefault| made(ring, prefault).map_or_else(|e| e.to_string(), |made| micro(made.open));
        rows.push(vec![bytes(ring), cell("slipring"), cell("bulk-copy"), attach(false), attach(true)]);
        report::print_failures(&measured);
    }
    let header =
        ["ring", "stream of 64 B, ns", "bulk copy of as much, ns", "create to first frame, µs", "the same, prefaulted"];
    println!("{}", markdown(&header.map(str::to_owned), &rows));
}

fn micro(time: Duration) -> String {
    digits(time.as_secs_f64() * 1e6)
}

/// The time to create a ring, attach both ends and pass one frame.
struct Made {
    tx: spsc::Producer,
    rx: spsc::Consumer,
    open: Duration,
}

fn made(capacity: usize, prefault: bool) -> Result<Made> {
    let start = Instant::now();
    let ring = Ring::create_anonymous(&Options::spsc(capacity).prefault(prefault))?;
    let (mut tx, mut rx) = (spsc::Producer::attach(&ring)?, spsc::Consumer::attach(&ring)?);
    tx.try_send(b"first")?;
    if *rx.try_recv()? != *b"first" {
        return Err("the received frame is not the sent one".into());
    }
    Ok(Made { open: start.elapsed(), tx, rx })
}

/// This process's descriptors, mappings and resident bytes.
fn usage() -> Result<[usize; 3]> {
    let descriptors = std::fs::read_dir("/proc/self/fd")?.count();
    let mappings = std::fs::read_to_string("/proc/self/maps")?.lines().count();
    let pages: usize = std::fs::read_to_string("/proc/self/statm")?.split(' ').nth(1).unwrap_or("").parse()?;
    Ok([descriptors, mappings, pages * rustix::param::page_size()])
}

fn rings(counts: &[usize]) -> Result<()> {
    let (mut rows, mut waits) = (Vec::new(), Vec::new());
    for count in counts {
        let before = usage()?;
        let mut rings = (0..*count).map(|_| made(64 * KIB, false)).collect::<Result<Vec<Made>>>()?;
        let after = usage()?;
        let each = |i: usize| (after[i] - before[i]) as f64 / *count as f64;
        let times: Vec<f64> = rings.iter().map(|ring| ring.open.as_secs_f64() * 1e6).collect();
        let time = median(&times).map_or_else(String::new, digits);
        rows.push(vec![
            count.to_string(),
            time,
            digits(each(0)),
            digits(each(1)),
            format!("{} KiB", digits(each(2) / 1024.0)),
        ]);
        waits.push(waiting(&mut rings)?);
    }
    let header = [
        "rings of 64 KiB in one process",
        "create to first frame, µs",
        "descriptors each",
        "mappings each",
        "resident each",
    ];
    println!("{}", markdown(&header.map(str::to_owned), &rows));
    let header = ["rings waited for by one epoll", "frame to wake-up, µs", "nothing comes, % of a processor"];
    println!("{}", markdown(&header.map(str::to_owned), &waits));
    Ok(())
}

/// One thread waits for all rings through doorbells. Measures how long after a frame in one of them
/// the thread sees it, and what waiting costs.
fn waiting(rings: &mut [Made]) -> Result<Vec<String>> {
    const FRAMES: usize = 200;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut bells = Vec::with_capacity(rings.len());
    for (i, ring) in rings.iter().enumerate() {
        let bell = Doorbell::eventfd(ring.rx.ring())?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(i as u64), epoll::EventFlags::IN)?;
        bell.arm();
        bells.push(bell);
    }
    let cpu = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    thread::sleep(Duration::from_millis(100)); // until all watchers sleep
    let (start, before) = (Instant::now(), cpu());
    thread::sleep(Duration::from_secs(1));
    let idle = 100.0 * (cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64();

    let mut times = Vec::with_capacity(FRAMES);
    let mut events = Vec::with_capacity(1);
    for n in 0..FRAMES {
        let i = n * 7919 % rings.len();
        let start = Instant::now();
        rings[i].tx.try_send(b"tick")?;
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if events.drain(..).any(|event| event.data.u64() != i as u64) {
            return Err("another bell rang".into());
        }
        drop(rings[i].rx.try_recv()?);
        bells[i].arm();
        thread::sleep(Duration::from_millis(1)); // until its watcher sleeps again
    }
    let time = median(&times).map_or_else(String::new, digits);
    Ok(vec![rings.len().to_string(), time, digits(idle)])
}
