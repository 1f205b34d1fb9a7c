//! What the bridge costs beside a bare `put` and subscriber of Zenoh, and beside TCP, from process to
//! process over loopback: nanoseconds for a batch of 64 frames of 64 bytes, the processor time that
//! all processes together and the bridges alone take for it, and the trip of a single frame. All in
//! one run, in turn.
//!
//! `cargo build --release && cargo run --release --example cost`

use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Header, SHORT};
use slipring::transport::{FrameSender, FrameSenderExt};
use slipring::{Deadline, Options, spsc};
use slipring_zenoh::{Link, Policy};
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

/// A way to measure.
type Way = fn(Load) -> Outcome<Figures>;

/// What is measured, in nanoseconds.
#[derive(Default)]
struct Figures {
    /// Of each single frame.
    trips: Vec<f64>,
    /// Of a batch.
    time: f64,
    /// Processor time of a batch, in all processes, and in those of the bridge.
    work: f64,
    bridging: f64,
    /// Frames in a sample, for a bare subscriber.
    sample: f64,
}

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

/// Processor time that the threads of a process have taken, in nanoseconds.
fn work_of(process: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(|thread| of_thread(thread.path())).sum()
}

/// The receiving end of a load.
struct Meter {
    load: Load,
    start: Option<(Instant, [f64; 2])>,
    frames: usize,
    samples: usize,
    trips: Vec<f64>,
    /// The processes that take part besides this one, and those of the bridge.
    parts: Arc<Mutex<[Vec<u32>; 2]>>,
}

impl Meter {
    fn new(load: Load) -> Self {
        Meter { load, start: None, frames: 0, samples: 0, trips: Vec::with_capacity(SINGLES), parts: Arc::default() }
    }

    fn add(&self, part: &Part, bridges: bool) {
        self.parts.lock().unwrap()[usize::from(bridges)].push(part.0.id());
    }

    /// Processor time so far, of the bridges and of all others.
    fn work(&self) -> [f64; 2] {
        let parts = self.parts.lock().unwrap();
        let [others, bridges] = parts.each_ref().map(|parts| parts.iter().map(|part| work_of(*part)).sum::<f64>());
        [others + work_of(std::process::id()), bridges]
    }

    /// Takes frames; false after the last one.
    fn take(&mut self, frames: &[u8]) -> bool {
        for frame in frames.chunks_exact(LEN) {
            if self.start.is_none() {
                self.start = Some((Instant::now(), self.work()));
                continue;
            }
            if let (Load::Singles, Some(stamp)) = (self.load, frame.first_chunk()) {
                self.trips.push(now().saturating_sub(u64::from_le_bytes(*stamp)) as f64);
            }
            self.frames += usize::from(self.load == Load::Singles || frame[0] == frame[LEN - 1]);
        }
        self.frames < self.load.frames()
    }

    fn figures(&mut self) -> Figures {
        let Some((start, before)) = self.start else { return Figures::default() };
        let time = start.elapsed().as_nanos() as f64 / BATCHES as f64;
        let [others, bridging] = self.work();
        let [others, bridging] = [others - before[0], bridging - before[1]].map(|work| work / BATCHES as f64);
        Figures {
            trips: std::mem::take(&mut self.trips),
            time,
            work: others + bridging,
            bridging,
            sample: self.frames as f64 / self.samples.max(1) as f64,
        }
    }
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [way, load] = &arguments[..] {
        return of_child(way.parse()?, if load == "batches" { Load::Batches } else { Load::Singles });
    }
    let (what, at, load) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [what, at, "batches"] => (what, at, Load::Batches),
        [what, at, "singles"] => (what, at, Load::Singles),
        _ => return measure(),
    };
    match what {
        "put" => put(at, load, Bare::Default),
        "put-tuned" => put(at, load, Bare::Tuned),
        "put-large" => put(at, load, Bare::Large),
        "send" => send(at, load),
        "produce" => produce(Path::new(at), load),
        _ => send_over_tcp(at, load),
    }
}

/// What is measured. Single frames are not sent where samples are large.
const WAYS: [(&str, Way); 7] = [
    ("zenoh, bare", |load| bare(load, Bare::Default)),
    ("zenoh, bare, with the settings of the bridge", |load| bare(load, Bare::Tuned)),
    ("the same, 12 batches a put", |load| bare(load, Bare::Large)),
    ("ring → bridge → zenoh", from_ring),
    ("zenoh → bridge → ring", to_ring),
    ("ring → bridge → bridge → ring", chain),
    ("tcp:, frames", tcp),
];
const TUNED: [usize; 2] = [1, 2];
const LARGE: usize = 2;
const BRIDGED: std::ops::Range<usize> = 3..6;

/// Measures one way in a process of its own, as the threads of Zenoh are set once in a process.
fn run(way: usize, load: Load) -> Outcome<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([&way.to_string(), load.name()]).stderr(Stdio::inherit());
    if TUNED.contains(&way) && std::env::var_os("ZENOH_RUNTIME").is_none() {
        command.env("ZENOH_RUNTIME", slipring_zenoh::RUNTIME);
    }
    let output = command.output()?;
    let figures: Vec<f64> = String::from_utf8(output.stdout)?.split_whitespace().flat_map(str::parse).collect();
    match &figures[..] {
        [time, work, bridging, sample, trips @ ..] => {
            Ok(Figures { time: *time, work: *work, bridging: *bridging, sample: *sample, trips: trips.to_vec() })
        }
        _ => Err(format!("{}: {}", WAYS[way].0, output.status).into()),
    }
}

fn of_child(way: usize, load: Load) -> Outcome {
    let Figures { time, work, bridging, sample, trips } = WAYS.get(way).ok_or("no such way")?.1(load)?;
    let figures = [time, work, bridging, sample].into_iter().chain(trips);
    println!("{}", figures.map(|figure| figure.to_string()).collect::<Vec<_>>().join(" "));
    Ok(())
}

fn measure() -> Outcome {
    let (mut batches, mut trips): ([Vec<Figures>; WAYS.len()], [Vec<f64>; WAYS.len()]) = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..WAYS.len() {
            let way = (round + turn) % WAYS.len();
            batches[way].push(run(way, Load::Batches)?);
            if way != LARGE {
                trips[way].extend(run(way, Load::Singles)?.trips);
            }
        }
    }
    println!(
        "|  | µs a batch of {BATCH} (lowest to highest) | M frames/s | processor time, µs a batch | in the bridges | trip of one frame, p50 | p99 |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (way, (batches, trips)) in WAYS.iter().zip(batches.iter().zip(&mut trips)) {
        trips.sort_by(f64::total_cmp);
        let [low, median, high] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| sorted(batches, |one| one.time)[at] / 1e3);
        let [work, bridging] = [middle(batches, |one| one.work), middle(batches, |one| one.bridging)];
        let [p50, p99] = [50, 99].map(|percent| match trips.get(trips.len() * percent / 100) {
            Some(trip) => format!("{:.0} µs", trip / 1e3),
            None => String::new(),
        });
        let frames = BATCH as f64 / median;
        println!(
            "| {} | {median:.2} ({low:.2} to {high:.2}) | {frames:.1} | {work:.2} | {bridging:.2} | {p50} | {p99} |",
            way.0
        );
    }
    for way in BRIDGED {
        let ratio =
            |to: usize, figure: fn(&Figures) -> f64| middle(&batches[way], figure) / middle(&batches[to], figure);
        for to in [0, TUNED[0]] {
            let [time, work] = [ratio(to, |one| one.time), ratio(to, |one| one.work)];
            println!(
                "{}: {time:.2} times the time of `{}`, {work:.2} times its processor time",
                WAYS[way].0, WAYS[to].0
            );
        }
    }
    println!(
        "{}: {:.0} frames in a sample",
        WAYS[BRIDGED.start].0,
        middle(&batches[BRIDGED.start], |one| one.sample) * 1e3
    );
    Ok(())
}

fn sorted(batches: &[Figures], figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = batches.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The median, in microseconds.
fn middle(batches: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    sorted(batches, figure)[ROUNDS / 2] / 1e3
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

/// How Zenoh is used without a bridge.
#[derive(Clone, Copy, PartialEq)]
enum Bare {
    /// As it configures itself.
    Default,
    /// As the bridge configures it.
    Tuned,
    /// And a put for as many batches as the bridge could collect.
    Large,
}

fn bare(load: Load, bare: Bare) -> Outcome<Figures> {
    let put = match bare {
        Bare::Default => "put",
        Bare::Tuned => "put-tuned",
        Bare::Large => "put-large",
    };
    let take = |meter: &mut Meter, sample: &[u8]| meter.take(sample);
    subscribe(load, bare, take, |at| Ok((Part::this(&[put, at, load.name()])?, None)))
}

/// A bare subscriber, and what puts for it.
fn subscribe(
    load: Load,
    bare: Bare,
    take: fn(&mut Meter, &[u8]) -> bool,
    start: impl FnOnce(&str) -> Outcome<(Part, Option<Part>)>,
) -> Outcome<Figures> {
    let at = format!("tcp/{}", address()?);
    let session = bare_session(bare, "listen", &at)?;
    let (tx, rx) = std::sync::mpsc::channel();
    let mut meter = Meter::new(load);
    let parts = Arc::clone(&meter.parts);
    let subscriber = session.declare_subscriber("cost").callback_mut(move |sample| {
        meter.samples += 1;
        if !take(&mut meter, &sample.payload().to_bytes()) {
            let _ = tx.send(meter.figures());
        }
    });
    let _subscriber = subscriber.wait().map_err(|error| error.to_string())?;
    // The first frame is taken when all of them are known.
    let mut known = parts.lock().unwrap();
    let (part, bridge) = start(&at)?;
    known[0].push(part.0.id());
    known[1].extend(bridge.as_ref().map(|bridge| bridge.0.id()));
    drop(known);
    let figures = rx.recv_timeout(PATIENCE)?;
    session.close().wait().map_err(|error| error.to_string())?;
    Ok(figures)
}

/// A session as Zenoh, or the bridge, configures it by default, with one connection.
fn bare_session(bare: Bare, how: &str, at: &str) -> Outcome<zenoh::Session> {
    if bare != Bare::Default {
        let [connect, listen] = ["connect", "listen"].map(|one| if one == how { vec![at.to_owned()] } else { vec![] });
        return Ok(Link { connect, listen, ..Link::default() }.open()?);
    }
    let mut config = zenoh::Config::default();
    for (key, value) in [("scouting/multicast/enabled", "false"), ("listen/endpoints", "[]")] {
        config.insert_json5(key, value).map_err(|error| error.to_string())?;
    }
    config.insert_json5(&format!("{how}/endpoints"), &format!("[{at:?}]")).map_err(|error| error.to_string())?;
    Ok(zenoh::open(config).wait().map_err(|error| error.to_string())?)
}

fn put(address: &str, load: Load, bare: Bare) -> Outcome {
    let session = bare_session(bare, "connect", address)?;
    let publisher = session.declare_publisher("cost").congestion_control(CongestionControl::Block);
    let publisher = publisher.wait().map_err(|error| error.to_string())?;
    while !publisher.matching_status().wait().map_err(|error| error.to_string())?.matching() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let put = |bytes: &[u8]| -> Outcome { Ok(publisher.put(bytes).wait().map_err(|error| error.to_string())?) };
    let mut collected = Vec::new();
    load.send(|frames| {
        if bare != Bare::Large || frames.len() < BATCH {
            return put(frames.as_flattened());
        }
        collected.extend_from_slice(frames.as_flattened());
        if collected.len() == 12 * BATCH * LEN {
            put(&collected)?;
            collected.clear();
        }
        Ok(())
    })?;
    put(&collected)?;
    std::thread::sleep(PATIENCE); // until it is killed
    Ok(())
}

fn options(directory: &Path) -> Options {
    Options::spsc(1 << 20).directory(directory)
}

/// Starts a bridge.
fn bridge(directory: &Path, arguments: &[&str]) -> Outcome<Part> {
    let this = std::env::current_exe()?;
    let bridge = this.parent().and_then(Path::parent).ok_or("no directory")?.join("slipring-zenoh");
    Part::start(&bridge, &[arguments, &["--dir", text(directory)?]].concat())
}

fn text(path: &Path) -> Outcome<&str> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}

/// Runs with a directory for rings.
fn with_directory(run: impl FnOnce(&Path) -> Outcome<Figures>) -> Outcome<Figures> {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("slipring-cost-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    let outcome = run(&directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

/// A bridge on the sending side only. The bytes of a sample are as in `README.md`.
fn from_ring(load: Load) -> Outcome<Figures> {
    fn take(meter: &mut Meter, sample: &[u8]) -> bool {
        let frames = sample[64..].chunks_exact(SHORT + LEN);
        frames.fold(true, |_, frame| meter.take(&frame[SHORT..]))
    }
    with_directory(|directory| {
        subscribe(load, Bare::Default, take, |at| {
            let bridge = bridge(directory, &["ring:here", "zenoh:cost", "--connect", at])?;
            Ok((Part::this(&["produce", text(directory)?, load.name()])?, Some(bridge)))
        })
    })
}

/// A bridge on the receiving side only.
fn to_ring(load: Load) -> Outcome<Figures> {
    with_directory(|directory| {
        let at = format!("tcp/{}", address()?);
        let there = bridge(directory, &["zenoh:cost", "ring:there", "--listen", &at])?;
        let rx = spsc::Consumer::open("there", &options(directory))?;
        let part = Part::this(&["send", &at, load.name()])?;
        consume(rx, load, &[&part], &[&there])
    })
}

fn chain(load: Load) -> Outcome<Figures> {
    with_directory(|directory| {
        let at = format!("tcp/{}", address()?);
        let there = bridge(directory, &["zenoh:cost", "ring:there", "--listen", &at])?;
        let here = bridge(directory, &["ring:here", "zenoh:cost", "--connect", &at])?;
        let rx = spsc::Consumer::open("there", &options(directory))?;
        let part = Part::this(&["produce", text(directory)?, load.name()])?;
        consume(rx, load, &[&part], &[&there, &here])
    })
}

fn consume(mut rx: spsc::Consumer, load: Load, others: &[&Part], bridges: &[&Part]) -> Outcome<Figures> {
    let mut meter = Meter::new(load);
    others.iter().for_each(|part| meter.add(part, false));
    bridges.iter().for_each(|part| meter.add(part, true));
    loop {
        let mut batch = rx.recv_batch_deadline(usize::MAX, PATIENCE)?;
        if !batch.iter().fold(true, |_, frame| meter.take(frame.payload)) {
            return Ok(meter.figures());
        }
    }
}

/// A program that sends frames on a key by itself.
fn send(address: &str, load: Load) -> Outcome {
    let session = Link { connect: vec![address.to_owned()], ..Link::default() }.open()?;
    send_each(&mut slipring_zenoh::Sender::open(&session, "cost", Policy::Block)?, load)
}

/// Sends frame by frame, until it is killed.
fn send_each(tx: &mut dyn FrameSender, load: Load) -> Outcome {
    load.send(|frames| {
        for frame in frames {
            tx.send(Header::PLAIN, frame)?;
        }
        Ok(tx.flush(Deadline::never())?)
    })?;
    std::thread::sleep(PATIENCE);
    Ok(())
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

fn tcp(load: Load) -> Outcome<Figures> {
    let at = address()?;
    let part = Part::this(&["tcp", &at, load.name()])?;
    let mut rx = Endpoint::parse(&format!("tcp:{at}?listen"))?.open_receiver(PATIENCE)?;
    let mut meter = Meter::new(load);
    meter.add(&part, false);
    loop {
        if let Event::Frame(frame) = rx.recv()?
            && !meter.take(frame.payload)
        {
            return Ok(meter.figures());
        }
    }
}

fn send_over_tcp(address: &str, load: Load) -> Outcome {
    send_each(&mut *Endpoint::parse(&format!("tcp:{address}"))?.open_batching_sender(PATIENCE)?, load)
}
