//! Rings in a directory of their own, bridges as processes, and a consumer that counts by the
//! numbers of the frames.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slipring::frame::{Flags, Header, Order, Tracker};
use slipring::{Error, Options, spsc};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of rings, removed when it is dropped.
pub struct Rings(PathBuf);

impl Rings {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("slipring-zenoh-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Rings(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn options(&self, options: Options) -> Options {
        options.directory(&self.0)
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address of this machine that no other test uses.
pub fn address() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("tcp/127.0.0.1:{port}")
}

/// A running bridge, killed when it is dropped.
pub struct Bridge {
    command: Command,
    child: Child,
    errors: PathBuf,
}

impl Bridge {
    /// Starts a bridge, in a network namespace if one is named.
    pub fn start(rings: &Rings, namespace: Option<&str>, arguments: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let errors = rings.path().join(format!(".errors-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let program = env!("CARGO_BIN_EXE_slipring-zenoh");
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).arg("--dir").arg(rings.path()).arg("--json");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&errors).unwrap());
        Bridge { child: command.spawn().unwrap(), command, errors }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = self.command.spawn().unwrap();
    }

    /// Requests an end.
    pub fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Waits for the end, and returns how it ended and the counters.
    pub fn end(mut self) -> (ExitStatus, serde_json::Value) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "a bridge does not end: {}", self.errors());
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut output = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut output).unwrap();
        (status, serde_json::from_str(output.lines().last().unwrap_or("null")).unwrap())
    }

    /// Waits for the end with this exit code, and returns what was printed on stderr.
    pub fn errors_after_the_end(self, code: i32) -> String {
        let errors = self.errors.clone();
        let status = self.end().0;
        let errors = std::fs::read_to_string(errors).unwrap_or_default();
        assert_eq!(status.code(), Some(code), "{errors}");
        errors
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.errors());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a consumer saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub delivered: u64,
    /// By the numbers of the frames.
    pub missed: u64,
    pub gaps: u64,
    /// Frames that came again, marked as redelivered.
    pub marked: u64,
    /// Frames that came again without a mark.
    pub unmarked: u64,
}

/// The payload of frame `n`: its number, and as many bytes as it says.
pub fn payload(n: u64) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(8 + (n % 57) as usize, n as u8);
    payload
}

/// The header that frames of these tests have.
pub fn header() -> Header {
    Header { stream: 3, ..Header::new(0x0107, 0).unwrap() }
}

/// How fast frames are sent.
#[derive(Clone, Copy, PartialEq)]
pub enum Rate {
    /// As a busy machine keeps it.
    Paced,
    /// Rings and windows are full.
    FlatOut,
}

/// Sends numbered frames until `is_enough`, and then some more; sets `last`, and returns how many.
pub fn send_until(tx: &mut spsc::Producer, rate: Rate, is_enough: impl Fn() -> bool, last: &AtomicU64) -> u64 {
    let mut n = 0;
    let mut end = u64::MAX;
    let mut moved = Instant::now();
    while n < end {
        match tx.send_frame_deadline(header(), &payload(n), 2 * PATIENCE) {
            Ok(()) => {
                n += 1;
                if n % 64 == 0 {
                    moved = Instant::now();
                }
            }
            // The ring is full, and the bridge was killed: its successor will come.
            Err(Error::Closed | Error::PeerDead) => {
                assert!(moved.elapsed() < 2 * PATIENCE, "no bridge takes frame {n}");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
        if n % 64 == 0 {
            if rate == Rate::Paced {
                std::thread::sleep(Duration::from_micros(200));
            }
            if end == u64::MAX && is_enough() {
                // More than what may be under way when a bridge is killed, which only a later frame tells.
                end = n + 100_000;
                last.store(end - 1, Ordering::Relaxed);
            }
        }
    }
    n
}

/// Waits until frames flow again.
pub fn wait_for_more(delivered: &AtomicU64) {
    let (start, before) = (Instant::now(), delivered.load(Ordering::Relaxed));
    while delivered.load(Ordering::Relaxed) < before + 1000 {
        assert!(start.elapsed() < PATIENCE, "no frames flow");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Receives all frames until number `last`.
pub fn consume(rx: &mut spsc::Consumer, last: u64) -> Seen {
    consume_until(rx, &AtomicU64::new(last), &AtomicU64::new(0))
}

/// Receives until frame `last`, from however many bridges, and checks every frame. Counts in
/// `delivered`.
pub fn consume_until(rx: &mut spsc::Consumer, last: &AtomicU64, delivered: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    let mut tracker = Tracker::new();
    tracker.expect(3, 0);
    let mut next = 0;
    let mut moved = Instant::now();
    loop {
        let view = match rx.recv_deadline(Duration::from_millis(200)) {
            Ok(view) => view,
            Err(Error::Closed | Error::PeerDead | Error::Timeout) => {
                assert!(moved.elapsed() < PATIENCE, "{seen:?}, the next would be {next} of {last:?}");
                continue; // a bridge was killed, and its successor will come
            }
            Err(error) => panic!("{error}"),
        };
        moved = Instant::now();
        let header = view.header();
        let n = u64::from_le_bytes(*view.first_chunk().unwrap());
        assert_eq!((header.kind, header.stream, header.seq), (0x0107, 3, n as u32), "{seen:?}");
        assert_eq!(*view, *payload(n));
        let order = tracker.check(header);
        match order {
            Order::Next if n < next => {
                assert!(header.flags.contains(Flags::REDELIVERED));
                seen.marked += 1;
            }
            Order::Next => seen.delivered += 1,
            Order::Gap { expected } => {
                seen.delivered += 1;
                seen.gaps += 1;
                seen.missed += u64::from(header.seq.wrapping_sub(expected));
            }
            Order::Duplicate { .. } => seen.unmarked += 1,
        }
        delivered.store(seen.delivered, Ordering::Relaxed);
        next = next.max(n + 1);
        if n == last.load(Ordering::Relaxed) {
            return seen;
        }
    }
}

/// Whether tests may make network namespaces; says why not.
pub fn has_namespaces() -> bool {
    let probe = format!("szp{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).stderr(Stdio::null()).status();
    let is_made = made.is_ok_and(|status| status.success());
    if is_made {
        let _ = Command::new("ip").args(["netns", "del", &probe]).status();
    } else {
        eprintln!("skipped: `ip netns add` needs root and iproute2");
    }
    is_made
}
