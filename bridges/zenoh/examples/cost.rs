//! What the bridge costs beside a bare `put` and subscriber of Zenoh, and beside TCP: nanoseconds for a
//! batch of 64 frames of 64 bytes, from process to process over loopback. All in one run, in turn.
//!
//! `cargo build --release && cargo run --release --example cost`

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
const ROUNDS: usize = 9;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A way to measure, and what it returns: nanoseconds a batch.
type Way = fn() -> Outcome<f64>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["put", address] => put(address),
        ["produce", directory] => produce(Path::new(directory)),
        ["tcp", address] => send_over_tcp(address),
        _ => measure(),
    }
}

fn measure() -> Outcome {
    let ways: [(&str, Way); 3] = [("zenoh, bare", bare), ("ring → zenoh → ring", chain), ("tcp:, frames", tcp)];
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            figures[way].push(ways[way].1()?);
        }
    }
    for (way, figures) in ways.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let [low, median, high] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| figures[at]);
        let frames = BATCH as f64 / median * 1e3;
        println!("{:<22} {median:>7.0} ns a batch ({low:.0} to {high:.0}), {frames:.1} M frames/s", way.0);
    }
    println!("ratio of the bridge to bare Zenoh: {:.2}", figures[1][ROUNDS / 2] / figures[0][ROUNDS / 2]);
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

/// Nanoseconds a batch, from the first to the last.
fn per_batch(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64 / BATCHES as f64
}

fn bare() -> Outcome<f64> {
    let at = format!("tcp/{}", address()?);
    let session = Link { listen: vec![at.clone()], ..Link::default() }.open()?;
    let (tx, rx) = std::sync::mpsc::channel();
    let mut start = None;
    let mut bytes = 0;
    let subscriber = session.declare_subscriber("bare").callback_mut(move |sample| {
        let start = *start.get_or_insert_with(Instant::now);
        bytes += sample.payload().len();
        if bytes >= BATCHES * BATCH * LEN {
            let _ = tx.send(per_batch(start));
        }
    });
    let _subscriber = subscriber.wait().map_err(|error| error.to_string())?;
    let _part = Part::this(&["put", &at])?;
    let figure = rx.recv_timeout(Duration::from_secs(60))?;
    session.close().wait().map_err(|error| error.to_string())?;
    Ok(figure)
}

fn put(address: &str) -> Outcome {
    let session = Link { connect: vec![address.to_owned()], ..Link::default() }.open()?;
    let publisher = session.declare_publisher("bare").congestion_control(CongestionControl::Block);
    let publisher = publisher.wait().map_err(|error| error.to_string())?;
    while !publisher.matching_status().wait().map_err(|error| error.to_string())?.matching() {
        std::thread::sleep(Duration::from_millis(1));
    }
    for n in 0..BATCHES {
        publisher.put(vec![n as u8; BATCH * LEN]).wait().map_err(|error| error.to_string())?;
    }
    std::thread::sleep(Duration::from_secs(60)); // until it is killed
    Ok(())
}

fn options(directory: &Path) -> Options {
    Options::spsc(1 << 20).directory(directory)
}

fn chain() -> Outcome<f64> {
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
        let _part = Part::this(&["produce", here])?;
        let mut start = None;
        let mut received = 0;
        while received < BATCHES * BATCH {
            let mut batch = rx.recv_batch_deadline(usize::MAX, Duration::from_secs(60))?;
            start.get_or_insert_with(Instant::now);
            received +=
                batch.iter().map(|frame| usize::from(frame.payload[0] == frame.payload[LEN - 1])).sum::<usize>();
        }
        Ok(per_batch(start.ok_or("nothing came")?))
    })();
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn produce(directory: &Path) -> Outcome {
    let mut tx = spsc::Producer::open("here", &options(directory))?;
    for n in 0..BATCHES {
        let payload = [n as u8; LEN];
        let mut left = BATCH;
        while left > 0 {
            left -= tx.send_batch(std::iter::repeat_n(&payload[..], left))?;
        }
    }
    Ok(())
}

fn tcp() -> Outcome<f64> {
    let at = address()?;
    let _part = Part::this(&["tcp", &at])?;
    let mut rx = Endpoint::parse(&format!("tcp:{at}?listen"))?.open_receiver(Duration::from_secs(60))?;
    let mut start = None;
    let mut received = 0;
    while received < BATCHES * BATCH {
        if let Event::Frame(frame) = rx.recv()? {
            start.get_or_insert_with(Instant::now);
            received += usize::from(frame.payload[0] == frame.payload[LEN - 1]);
        }
    }
    Ok(per_batch(start.ok_or("nothing came")?))
}

fn send_over_tcp(address: &str) -> Outcome {
    let mut tx = Endpoint::parse(&format!("tcp:{address}"))?.open_batching_sender(Duration::from_secs(60))?;
    for n in 0..BATCHES {
        for _ in 0..BATCH {
            tx.send(Header::PLAIN, &[n as u8; LEN])?;
        }
        tx.flush(Deadline::never())?;
    }
    tx.close(Deadline::never())?;
    Ok(())
}
