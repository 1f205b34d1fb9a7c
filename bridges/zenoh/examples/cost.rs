//! What the bridge costs beside a bare `put` and subscriber of Zenoh, and beside TCP, from process to
//! process over loopback: nanoseconds for a batch of 64 frames of 64 bytes, and the trip of a single
//! frame. All in one run, in turn.
//!
//! `cargo build --release && cargo run --release --example cost`

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Header};
use slipring::transport::FrameSenderExt;
use slipring::{Deadline, Options, spsc};
use slipring_zenoh::Link;
use zenoh::Wait;
use zenoh::qos::CongestionControl;

const BATCH: usize = 64;
const LEN: usize = 64;
const BATCHES: usize = 40_000;
const SINGLES: usize = 1000;
/// Between single frames.
const PAUSE: Duration = Duration::from_micros(500);
const ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A way to measure, and what it returns: see [`Meter::figures`].
type Way = fn(Load) -> Outcome<Vec<f64>>;

/// What is sent: batch behind batch, or frames with pauses.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Batches,
    Singles,
}

impl Load {
    fn name(self) -> &'static str {
        if self == Load::Batches { "batches" } else { "singles" }
    }

    fn frames(self) -> usize {
        if self == Load::Batches { BATCHES * BATCH } else { SINGLES }
    }

    /// Sends all of it. `send` gets the frames that go together: at first one that is not counted.
    fn send(self, mut send: impl FnMut(&[[u8; LEN]]) -> Outcome) -> Outcome {
        send(&[[0; LEN]])?;
        match self {
            Load::Batches => (0..BATCHES).try_for_each(|n| send(&[[n as u8; LEN]; BATCH])),
            Load::Singles => (0..SINGLES).try_for_each(|_| {
                std::thread::sleep(PAUSE);
                let mut frame = [0; LEN];
                frame[..8].copy_from_slice(&now().to_le_bytes());
                send(&[frame])
            }),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// The receiving end of a load.
struct Meter {
    load: Load,
    start: Option<Instant>,
    frames: usize,
    trips: Vec<f64>,
}

impl Meter {
    fn new(load: Load) -> Self {
        Meter { load, start: None, frames: 0, trips: Vec::with_capacity(SINGLES) }
    }

    /// Takes frames; false after the last one.
    fn take(&mut self, frames: &[u8]) -> bool {
        for frame in frames.chunks_exact(LEN) {
            if self.start.is_none() {
                self.start = Some(Instant::now());
                continue;
            }
            if let (Load::Singles, Some(stamp)) = (self.load, frame.first_chunk()) {
                self.trips.push(now().saturating_sub(u64::from_le_bytes(*stamp)) as f64);
            }
            self.frames += usize::from(self.load == Load::Singles || frame[0] == frame[LEN - 1]);
        }
        self.frames < self.load.frames()
    }

    /// Nanoseconds: of each single frame's trip, or one figure for a batch.
    fn figures(&mut self) -> Vec<f64> {
        let time = self.start.map_or(0.0, |start| start.elapsed().as_nanos() as f64);
        if self.load == Load::Batches { vec![time / BATCHES as f64] } else { std::mem::take(&mut self.trips) }
    }
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, at, load) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [what, at, "batches"] => (what, at, Load::Batches),
        [what, at, "singles"] => (what, at, Load::Singles),
        _ => return measure(),
    };
    match what {
        "put" => put(at, load),
        "produce" => produce(Path::new(at), load),
        _ => send_over_tcp(at, load),
    }
}

fn measure() -> Outcome {
    let ways: [(&str, Way); 3] = [("zenoh, bare", bare), ("ring → zenoh → ring", chain), ("tcp:, frames", tcp)];
    let (mut batches, mut trips): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            batches[way].extend(ways[way].1(Load::Batches)?);
            trips[way].extend(ways[way].1(Load::Singles)?);
        }
    }
    println!("|  | ns a batch of {BATCH} (lowest to highest) | M frames/s | trip of one frame, p50 | p99 |");
    println!("|---|---|---|---|---|");
    for (way, (batches, trips)) in ways.iter().zip(batches.iter_mut().zip(&mut trips)) {
        batches.sort_by(f64::total_cmp);
        trips.sort_by(f64::total_cmp);
        let [low, median, high] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| batches[at]);
        let [p50, p99] = [50, 99].map(|percent| trips[trips.len() * percent / 100] / 1e3);
        let frames = BATCH as f64 / median * 1e3;
        println!("| {} | {median:.0} ({low:.0} to {high:.0}) | {frames:.1} | {p50:.0} µs | {p99:.0} µs |", way.0);
    }
    println!("ratio of the bridge to bare Zenoh: {:.2}", batches[1][ROUNDS / 2] / batches[0][ROUNDS / 2]);
    Ok(())
}

/// A child that is killed when it is dropped.
struct Part(Child);

impl Part {
    fn start(program: &Path, arguments: &[&str]) -> Outcome<Self> {
        Ok(Part(Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?))
    }

    fn this(arguments: &[&str]) -> Outcome<Self> {
        Self::start(&std::env::current_exe()?, arguments)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn address() -> Outcome<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn bare(load: Load) -> Outcome<Vec<f64>> {
    let at = format!("tcp/{}", address()?);
    let session = Link { listen: vec![at.clone()], ..Link::default() }.open()?;
    let (tx, rx) = std::sync::mpsc::channel();
    let mut meter = Meter::new(load);
    let subscriber = session.declare_subscriber("bare").callback_mut(move |sample| {
        if !meter.take(&sample.payload().to_bytes()) {
            let _ = tx.send(meter.figures());
        }
    });
    let _subscriber = subscriber.wait().map_err(|error| error.to_string())?;
    let _part = Part::this(&["put", &at, load.name()])?;
    let figures = rx.recv_timeout(PATIENCE)?;
    session.close().wait().map_err(|error| error.to_string())?;
    Ok(figures)
}

fn put(address: &str, load: Load) -> Outcome {
    let session = Link { connect: vec![address.to_owned()], ..Link::default() }.open()?;
    let publisher = session.declare_publisher("bare").congestion_control(CongestionControl::Block);
    let publisher = publisher.wait().map_err(|error| error.to_string())?;
    while !publisher.matching_status().wait().map_err(|error| error.to_string())?.matching() {
        std::thread::sleep(Duration::from_millis(1));
    }
    load.send(|frames| Ok(publisher.put(frames.as_flattened()).wait().map_err(|error| error.to_string())?))?;
    std::thread::sleep(PATIENCE); // until it is killed
    Ok(())
}

fn options(directory: &Path) -> Options {
    Options::spsc(1 << 20).directory(directory)
}

fn chain(load: Load) -> Outcome<Vec<f64>> {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("slipring-cost-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    let outcome = (|| {
        let at = format!("tcp/{}", address()?);
        let here = directory.to_str().ok_or("a path that is no text")?;
        let bridge =
            std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no directory")?.join("slipring-zenoh");
        let _there = Part::start(&bridge, &["zenoh:cost", "ring:there", "--listen", &at, "--dir", here])?;
        let _here = Part::start(&bridge, &["ring:here", "zenoh:cost", "--connect", &at, "--dir", here])?;
        let mut rx = spsc::Consumer::open("there", &options(&directory))?;
        let _part = Part::this(&["produce", here, load.name()])?;
        let mut meter = Meter::new(load);
        loop {
            let mut batch = rx.recv_batch_deadline(usize::MAX, PATIENCE)?;
            if !batch.iter().fold(true, |_, frame| meter.take(frame.payload)) {
                return Ok(meter.figures());
            }
        }
    })();
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn produce(directory: &Path, load: Load) -> Outcome {
    let mut tx = spsc::Producer::open("here", &options(directory))?;
    let mut is_first = true;
    load.send(|frames| {
        let mut sent = 0;
        while sent < frames.len() {
            sent += tx.send_batch(frames[sent..].iter().map(|frame| &frame[..]))?;
        }
        // The bridge takes it when it has found the other one.
        while is_first && !tx.is_empty() {
            std::thread::sleep(Duration::from_micros(100));
        }
        is_first = false;
        Ok(())
    })?;
    std::thread::sleep(PATIENCE); // until it is killed
    Ok(())
}

fn tcp(load: Load) -> Outcome<Vec<f64>> {
    let at = address()?;
    let _part = Part::this(&["tcp", &at, load.name()])?;
    let mut rx = Endpoint::parse(&format!("tcp:{at}?listen"))?.open_receiver(PATIENCE)?;
    let mut meter = Meter::new(load);
    loop {
        if let Event::Frame(frame) = rx.recv()?
            && !meter.take(frame.payload)
        {
            return Ok(meter.figures());
        }
    }
}

fn send_over_tcp(address: &str, load: Load) -> Outcome {
    let mut tx = Endpoint::parse(&format!("tcp:{address}"))?.open_batching_sender(PATIENCE)?;
    load.send(|frames| {
        for frame in frames {
            tx.send(Header::PLAIN, frame)?;
        }
        Ok(tx.flush(Deadline::never())?)
    })?;
    std::thread::sleep(PATIENCE); // until it is killed
    Ok(())
}
