//! The cost of one operation when no other thread touches the cache lines, and streams to a second
//! thread.
//!
//! ```text
//! cargo bench --bench rings             # or, in a minute: cargo bench --bench rings -- --quick
//! ```
//!
//! One thread holds both ends, so these figures are instructions and L1 accesses. They show a
//! regression of a fast path, not what two processes achieve: that is measured by `slipring bench`,
//! pinned, and beside other libraries by `benches/peers`. Every payload is written and read in
//! full.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use slipring::frame::{Decoder, Event, Form, Frame, Header, OnCorrupt};
use slipring::{Error, Mutex, Options, Ring, Semaphore, WakeMode, mpmc, spsc, stream};

const SIZES: [usize; 3] = [8, 64, 1024];
/// Bytes in a frame between threads.
const FRAME: usize = 64;
/// Frames in a batch.
const BATCH: usize = 16;

fn ring(options: Options) -> Ring {
    Ring::create_anonymous(&options).expect("a memfd of some KiB")
}

fn spsc_pair(wake: WakeMode) -> (spsc::Producer, spsc::Consumer) {
    let ring = ring(Options::spsc(1 << 16).wake_mode(wake));
    (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap())
}

/// Reads the last byte of a payload: the whole payload was committed by one store.
fn look(payload: &[u8]) {
    black_box(payload.last());
}

/// Calls `run` for every payload size, as `group/name/size`.
fn per_size(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, frames: usize, mut run: impl FnMut(&[u8])) {
    for size in SIZES {
        let payload = vec![0xA5; size];
        group.throughput(Throughput::ElementsAndBytes { elements: frames as u64, bytes: (frames * size) as u64 });
        group.bench_function(BenchmarkId::new(name, size), |b| b.iter(|| run(black_box(&payload))));
    }
}

fn spsc(c: &mut Criterion) {
    let mut group = c.benchmark_group("spsc");
    let (mut tx, mut rx) = spsc_pair(WakeMode::default());
    per_size(&mut group, "send_recv", 1, |payload| {
        tx.try_send(payload).unwrap();
        look(&rx.try_recv().unwrap());
    });
    per_size(&mut group, "reserve_commit_recv", 1, |payload| {
        let mut grant = tx.try_reserve(payload.len()).unwrap();
        grant.copy_from_slice(payload);
        grant.commit(payload.len());
        look(&rx.try_recv().unwrap());
    });
    per_size(&mut group, "batch_16", BATCH, |payload| {
        let mut batch = tx.batch();
        for _ in 0..BATCH {
            batch.push(payload).unwrap();
        }
        batch.commit();
        rx.try_recv_batch(usize::MAX).unwrap().iter().for_each(|frame| look(frame.payload));
    });
    group.finish();
}

/// The fast path of the eventcounts: the cost of checking for sleepers after each commit. Without a
/// check, with a load, with a fence and a load.
fn wake_modes(c: &mut Criterion) {
    let mut group = c.benchmark_group("wake_mode");
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: 8 });
    for (name, mode) in [("poll", WakeMode::Poll), ("asymmetric", WakeMode::Asymmetric), ("fenced", WakeMode::Fenced)] {
        let (mut tx, mut rx) = spsc_pair(mode);
        group.bench_function(name, |b| {
            b.iter(|| {
                tx.try_send(black_box(&[0xA5; 8])).unwrap();
                look(&rx.try_recv().unwrap());
            });
        });
    }
    group.finish();
}

fn mpmc(c: &mut Criterion) {
    let mut group = c.benchmark_group("mpmc");
    let ring = ring(Options::mpmc(64, 1024));
    let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
    per_size(&mut group, "send_recv", 1, |payload| {
        tx.try_send(payload).unwrap();
        look(&rx.try_recv().unwrap());
    });
    per_size(&mut group, "reserve_commit_recv", 1, |payload| {
        let mut grant = tx.try_reserve(payload.len()).unwrap();
        grant.copy_from_slice(payload);
        grant.commit(payload.len());
        look(&rx.try_recv().unwrap());
    });
    per_size(&mut group, "batch_16", BATCH, |payload| {
        assert_eq!(tx.try_send_batch([payload; BATCH]).unwrap(), BATCH);
        rx.try_recv_batch(BATCH).unwrap().iter().for_each(|frame| look(frame.payload));
    });
    group.finish();
}

fn stream(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream");
    let (mut tx, mut rx) = stream::pair(1 << 16).unwrap();
    let mut buffer = [0; 1024];
    per_size(&mut group, "write_read", 1, |payload| {
        tx.try_write(payload).unwrap();
        let n = rx.try_read(&mut buffer[..payload.len()]).unwrap();
        look(&buffer[..n]);
    });
    per_size(&mut group, "chunks", 1, |payload| {
        let mut grant = tx.try_reserve(payload.len()).unwrap();
        grant.copy_from_slice(payload);
        grant.commit(payload.len());
        let view = rx.try_read_view(payload.len()).unwrap();
        look(&view);
        view.release(payload.len());
    });
    group.finish();
}

/// Acquiring and releasing without contention.
fn primitives(c: &mut Criterion) {
    let mut group = c.benchmark_group("primitives");
    group.throughput(Throughput::Elements(1));
    let semaphore = Semaphore::create_anonymous(2).unwrap();
    group.bench_function("semaphore_acquire_release", |b| b.iter(|| drop(semaphore.acquire().unwrap())));
    let mutex = Mutex::create_anonymous(64).unwrap();
    group.bench_function("mutex_lock_unlock", |b| b.iter(|| drop(mutex.lock().unwrap())));
    group.finish();
}

/// The protocol: one frame to bytes, and bytes back to one frame, with and without checksums.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (form, encode, decode) in
        [(Form::Short, "encode_short", "decode_short"), (Form::Long, "encode_long", "decode_long")]
    {
        let mut wire = [0; 2048];
        per_size(&mut group, encode, 1, |payload| {
            let frame = Frame::new(Header::new(0x0100, 0).unwrap(), payload).unwrap();
            black_box(frame.encode_into(form, &mut wire).unwrap());
        });
        for size in SIZES {
            // A decoder checks the sequence numbers: each iteration gives a new one the same run of
            // 64 frames.
            let mut wire = Vec::new();
            for seq in 0..64 {
                let header = Header { seq, ..Header::new(0x0100, 0).unwrap() };
                Frame::new(header, &vec![0xA5; size]).unwrap().encode(form, &mut wire).unwrap();
            }
            group.throughput(Throughput::ElementsAndBytes { elements: 64, bytes: 64 * size as u64 });
            group.bench_function(BenchmarkId::new(decode, size), |b| {
                b.iter(|| {
                    let mut decoder = Decoder::new(1 << 20, OnCorrupt::Close);
                    let mut bytes = black_box(&wire[..]);
                    while let Some(event) = decoder.decode(&mut bytes).unwrap() {
                        let Event::Frame(frame) = event else { panic!("the frames are good and in order") };
                        look(frame.payload);
                    }
                });
            });
        }
    }
    group.finish();
}

/// Two threads, frames of 64 bytes, blocking calls: what a pair of unpinned threads achieves on
/// this machine.
fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("two_threads");
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: FRAME as u64 });
    let payload = [0xA5; FRAME];
    group.bench_function("spsc_stream", |b| {
        b.iter_custom(|frames| {
            let (mut tx, mut rx) = spsc::pair(1 << 18).unwrap();
            let send = || tx.send(black_box(&payload));
            time_stream(frames, send, move || rx.recv().map(|frame| look(&frame)))
        });
    });
    group.bench_function("spsc_stream_batches", |b| {
        b.iter_custom(|frames| {
            let (mut tx, mut rx) = spsc::pair(1 << 18).unwrap();
            let mut come = 0u64;
            let send = || tx.send(black_box(&payload));
            time_stream(frames, send, move || {
                if come == 0 {
                    let mut batch = rx.recv_batch(usize::MAX)?;
                    come = batch.iter().map(|frame| look(frame.payload)).count() as u64;
                }
                come -= 1;
                Ok(())
            })
        });
    });
    group.bench_function("mpmc_stream", |b| {
        b.iter_custom(|frames| {
            let (tx, rx) = mpmc::pair(4096, FRAME).unwrap();
            time_stream(frames, || tx.send(black_box(&payload)), move || rx.recv().map(|frame| look(&frame)))
        });
    });
    group.finish();
}

/// The time to send `frames` frames from this thread and receive them in another, from the first
/// call to the last.
fn time_stream(
    frames: u64,
    mut send: impl FnMut() -> Result<(), Error>,
    mut recv: impl FnMut() -> Result<(), Error> + Send,
) -> Duration {
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            (0..frames).for_each(|_| recv().unwrap());
            Instant::now()
        });
        let started = Instant::now();
        (0..frames).for_each(|_| send().unwrap());
        receiver.join().unwrap() - started
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = spsc, wake_modes, mpmc, stream, primitives, frames, two_threads
}
criterion_main!(benches);
