//! Crash torture: processes that share a ring are killed with SIGKILL at random moments and
//! restarted, and stopped and continued with SIGSTOP and SIGCONT. No committed frame may be lost,
//! delivered twice without a mark, torn, or stuck.
//!
//! A supervisor forks producers and consumers. Each has a ledger: an append-only file in which it
//! records, with one `write(2)` each, what it is about to send, has sent, has received and has
//! released. After every round of kills the supervisor kills all participants, drains the ring as
//! one more consumer, joins the ledgers and checks (`ledger.rs`):
//!
//! - a *sent* frame is delivered; one that was only *about to be sent* may be delivered;
//! - no frame is delivered twice, unless every delivery but one is marked REDELIVERED, and none is
//!   delivered after it was released;
//! - payloads are whole, and each producer's frames are in order; `Ring::verify` finds nothing;
//! - the consumer of an mpsc ring is told of each producer's death, behind its last frame;
//! - no participant hangs: after the last kill of a round all of them make progress. After some of
//!   the kills, no successor is started until the survivors have reaped the dead participant and
//!   made progress. The time that this takes is reported as recovery.
//!
//! `SLIPRING_KILLS` is the number of kills for each kind of ring: 300 by default (for CI; 100 where
//! every receiver gets every frame), 100000 overnight. `SLIPRING_SEED` repeats a run's random
//! choices, though not the kernel's. The seed is printed. Arguments select cases by a part of their
//! names.
//!
//! Rings with one sender and many receivers of every frame have another supervisor and other
//! judges: `fan_out.rs`, `broadcast.rs`, `latest.rs`.

mod broadcast;
mod fan_out;
mod latest;
mod ledger;
mod participant;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ledger::{Entry, What, now_ns};
use participant::{Ends, ROOM, attach, ring_options};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use slipring::mpsc::Received;
use slipring::{Error, Kind, Ring, Role, mpmc, mpsc, spsc};

/// Far longer than any step takes on a busy machine: a supervisor that waits longer reports a hang.
const WATCHDOG: Duration = Duration::from_secs(150);
/// Kills in one round, after which the ledgers are checked.
const ROUND: usize = 100;

/// A small generator (xorshift64*): a seed repeats a run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }
}

/// A participating process, and its ledger.
struct Participant {
    pid: Pid,
    role: Role,
    ledger: PathBuf,
    /// When its predecessor was killed.
    struck: Option<u64>,
}

impl Participant {
    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for its end, and asserts that SIGKILL ended it.
    fn expect_killed(&self) {
        let (_, status) = waitpid(Some(self.pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9), "{:?} ended by itself: see its panic above", self.role);
    }

    /// How many entries its ledger has.
    fn entries(&self) -> u64 {
        fs::metadata(&self.ledger).map_or(0, |file| file.len() / Entry::SIZE as u64)
    }
}

/// One ring, its participants, and what was measured.
struct Torture {
    dir: PathBuf,
    kind: Kind,
    participants: Vec<Participant>,
    /// The ledgers of the participants killed in this round.
    killed: Vec<Participant>,
    /// Number of processes started: it names ledgers, and seeds the random choices of each process.
    started: u32,
    dice: Dice,
    stops: usize,
    /// Times from a kill until the survivors had reaped the dead participant, until each survivor
    /// had made progress, and, where it was replaced at once, until the successor's first frame.
    reaped: Vec<Duration>,
    further: Vec<Duration>,
    succeeded: Vec<Duration>,
    frames: u64,
    redelivered: u64,
}

impl Torture {
    fn new(kind: Kind, seed: u64) -> Self {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let dir = base.join(format!("slipring-crash-{kind:?}-{}", std::process::id()));
        Ring::create("ring", &ring_options(kind, &dir)).unwrap();
        Torture {
            dir,
            kind,
            participants: Vec::new(),
            killed: Vec::new(),
            started: 0,
            dice: Dice(seed | 1),
            stops: 0,
            reaped: Vec::new(),
            further: Vec::new(),
            succeeded: Vec::new(),
            frames: 0,
            redelivered: 0,
        }
    }

    fn start(&mut self, role: Role, struck: Option<u64>) -> Participant {
        let number = self.started;
        self.started += 1;
        let ledger = self.dir.join(format!(".ledger-{number}"));
        let pid = fork(|| participant::live(self.kind, role, &self.dir, number, &ledger));
        Participant { pid, role, ledger, struck }
    }

    /// Starts `per_role` producers and consumers each, but one consumer where there can only be one;
    /// kills `kills` processes one after the other,
    /// and checks the ledgers.
    fn round(&mut self, per_role: usize, kills: usize) {
        for i in 0..per_role {
            let participant = self.start(Role::Producer, None);
            self.participants.push(participant);
            if i == 0 || self.kind == Kind::Mpmc {
                let participant = self.start(Role::Consumer, None);
                self.participants.push(participant);
            }
        }
        let mut struck = 0;
        while struck < kills {
            struck += self.strike();
        }
        let before: Vec<u64> = self.participants.iter().map(Participant::entries).collect();
        let further = |t: &Self| t.participants.iter().zip(&before).all(|(p, n)| p.entries() > n + 20);
        self.wait_for("all participants to make progress", further);
        for participant in std::mem::take(&mut self.participants) {
            participant.signal(Signal::KILL);
            participant.expect_killed();
            self.killed.push(participant);
        }
        self.reckon();
    }

    /// Kills one participant, or sometimes all, at a random moment, and starts their successors. In
    /// many cases some participants are stopped before, and continued afterwards or between two
    /// kills.
    fn strike(&mut self) -> usize {
        let all = self.participants.len();
        let victims = if self.dice.next(8) == 0 {
            0..all
        } else {
            let one = self.dice.next(all as u64) as usize;
            one..one + 1
        };
        // Mostly while it works; otherwise while it attaches, or before.
        if self.dice.next(4) != 0 {
            let enough = 2 + self.dice.next(100);
            self.wait_for("the next victim to start working", |t| {
                t.participants[victims.clone()].iter().all(|p| p.entries() > enough)
            });
        }
        let stopped: Vec<usize> = (0..all).filter(|_| self.dice.next(2 * all as u64) == 0).collect();
        for i in &stopped {
            self.participants[*i].signal(Signal::STOP);
            self.spend(200_000);
        }
        self.stops += stopped.len();
        // Mostly up to a millisecond: some hundred frames, or a part of one sleep. Sometimes
        // several sleeps.
        let most = if self.dice.next(50) == 0 { 150_000_000 } else { 1_000_000 };
        self.spend(most);
        if self.dice.next(4) == 0 {
            stopped.iter().for_each(|i| self.participants[*i].signal(Signal::CONT));
        }
        let struck = now_ns();
        self.participants[victims.clone()].iter().for_each(|victim| victim.signal(Signal::KILL));
        let survivors: Vec<usize> = (0..all).filter(|i| !victims.contains(i)).collect();
        self.participants[victims.clone()].iter().for_each(Participant::expect_killed);
        if victims.len() == 1 && self.dice.next(4) == 0 {
            survivors.iter().for_each(|i| self.participants[*i].signal(Signal::CONT));
            self.await_reaping(victims.start, &survivors, struck);
        }
        for i in victims.clone() {
            let successor = self.start(self.participants[i].role, Some(struck));
            let killed = std::mem::replace(&mut self.participants[i], successor);
            self.killed.push(killed);
        }
        survivors.iter().for_each(|i| self.participants[*i].signal(Signal::CONT));
        victims.len()
    }

    /// Starts no successor of `victim` until the others have noticed its death by themselves, and
    /// those that still have peers have made progress.
    fn await_reaping(&mut self, victim: usize, survivors: &[usize], struck: u64) {
        let peers = |role| survivors.iter().filter(|i| self.participants[**i].role != role).count();
        let working: Vec<usize> = survivors.iter().copied().filter(|i| peers(self.participants[*i].role) > 0).collect();
        let attached = survivors.iter().any(|i| self.participants[*i].entries() > 0);
        if !attached || self.participants[victim].entries() == 0 {
            return; // no participant to be reaped, or none to reap it
        }
        let ring = Ring::open("ring", &ring_options(self.kind, &self.dir)).unwrap();
        let pid = self.participants[victim].pid.as_raw_nonzero().get() as u32;
        let is_reaped = || ring.participants().unwrap().iter().all(|one| one.pid != pid);
        self.wait_for("the others to reap the dead", |_| is_reaped());
        self.reaped.push(Duration::from_nanos(now_ns() - struck));
        let before: Vec<u64> = working.iter().map(|i| self.participants[*i].entries()).collect();
        let is_further = |t: &Self| working.iter().zip(&before).all(|(i, n)| t.participants[*i].entries() > *n);
        self.wait_for("the others to make progress", is_further);
        if !working.is_empty() {
            self.further.push(Duration::from_nanos(now_ns() - struck));
        }
    }

    /// Waits a random time, up to this many nanoseconds.
    fn spend(&mut self, most: u64) {
        let moment = Instant::now() + Duration::from_nanos(self.dice.next(most));
        while Instant::now() < moment {
            std::thread::yield_now();
        }
    }

    /// Called when all participants are dead. Checks the ring, drains it, and joins the ledgers.
    fn reckon(&mut self) {
        let ring = Ring::open("ring", &ring_options(self.kind, &self.dir)).unwrap();
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let mut ledgers = vec![self.drain(&ring)];
        let mut told = ledger::count(&ledgers[0], What::Ended);
        let (mut attached, mut killed, mut consumers) = (0, 0, 0);
        for participant in std::mem::take(&mut self.killed) {
            let entries = ledger::read(&participant.ledger);
            if let (Some(struck), Some(moved)) = (participant.struck, ledger::began(&entries)) {
                self.succeeded.push(Duration::from_nanos(moved - struck));
            }
            told += ledger::count(&entries, What::Ended);
            match participant.role {
                Role::Producer => {
                    killed += 1;
                    attached += ledger::count(&entries, What::Attached);
                }
                Role::Consumer => consumers += 1,
            }
            let _ = fs::remove_file(&participant.ledger);
            ledgers.push(entries);
        }
        // A consumer may be killed before it notes the end that it was told, and its successor be told
        // again.
        let expected = attached.saturating_sub(consumers)..=killed + consumers;
        assert!(self.kind != Kind::Mpsc || expected.contains(&told), "{told} deaths were told, not {expected:?}");
        let (frames, again) = ledger::judge(&ledgers).unwrap_or_else(|wrong| panic!("frame {wrong}"));
        self.frames += frames;
        self.redelivered += again;
        let (stats, report) = (ring.stats(), ring.verify().unwrap());
        assert!(
            report.is_clean() && report.frames + report.writing + report.reading + report.redeliver == 0,
            "{report:?}"
        );
        assert!(self.kind == Kind::Mpmc || stats.used() == 0, "{stats:?}");
        assert!(ring.lanes().is_empty(), "{:?}", ring.lanes());
        assert!(
            ring.is_idle().unwrap() && ring.participants().unwrap().is_empty(),
            "dead participants were not reaped"
        );
    }

    /// Receives the frames that are left, as one more consumer.
    fn drain(&self, ring: &Ring) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut note = |bytes: &[u8], flags| entries.extend(ledger::drained(ledger::number_of(bytes, ROOM), flags));
        let end = if self.kind == Kind::Spsc {
            let mut rx = attach(|| spsc::Consumer::attach(ring));
            loop {
                match rx.recv_deadline(WATCHDOG) {
                    Ok(view) => note(&view, view.header().flags),
                    Err(end) => break end,
                }
            }
        } else if self.kind == Kind::Mpsc {
            let (mut rx, mut ends, mut told) = (attach(|| mpsc::Consumer::attach(ring)), Ends::default(), Vec::new());
            let end = loop {
                match rx.recv_deadline(WATCHDOG) {
                    Ok(Received::Frame(view)) => {
                        let number = ledger::number_of(&view, ROOM);
                        ends.frame(view.source(), number.unwrap_or_default());
                        note(&view, view.header().flags);
                    }
                    Ok(Received::Ended(end)) => {
                        ends.end(end);
                        told.push(ledger::ended(end.lane));
                    }
                    Err(end) => break end,
                }
            };
            entries.append(&mut told);
            end
        } else {
            let rx = attach(|| mpmc::Consumer::attach(ring));
            loop {
                match rx.recv_deadline(WATCHDOG) {
                    Ok(view) => note(&view, view.header().flags),
                    Err(end) => break end,
                }
            }
        };
        assert!(matches!(end, Error::PeerDead), "all producers were killed, but: {end}");
        entries
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            if start.elapsed() > WATCHDOG {
                let ring = Ring::open("ring", &ring_options(self.kind, &self.dir)).unwrap();
                let entries: Vec<_> = self.participants.iter().map(|p| (p.role, p.entries())).collect();
                let (stats, report, seats) = (ring.stats(), ring.verify(), ring.participants());
                panic!("timed out waiting for {what}: {entries:?}\n{stats:?}\n{report:?}\n{seats:?}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Torture {
    fn drop(&mut self) {
        for participant in &self.participants {
            let _ = kill_process(participant.pid, Signal::KILL);
            let _ = waitpid(Some(participant.pid), WaitOptions::empty());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `child` in a process that ends when the supervisor ends, in any way.
fn fork(child: impl FnOnce()) -> Pid {
    let supervisor = rustix::process::getpid();
    // SAFETY: this program has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        0 => {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            assert_eq!(rustix::process::getppid(), Some(supervisor), "the supervisor has ended already");
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the process without the exit handlers that its parent has registered.
            unsafe { libc::_exit(101) }
        }
        pid => Pid::from_raw(pid).filter(|_| pid > 0).expect("fork"),
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// `most` is the largest number of participants per role; each round draws its own.
fn torture(kind: Kind, most: u64) {
    let kills = number_from_env("SLIPRING_KILLS").unwrap_or(300) as usize;
    let seed = number_from_env("SLIPRING_SEED").unwrap_or_else(now_ns);
    println!("{kind:?}: {kills} kills, SLIPRING_SEED={seed}");
    let start = Instant::now();
    let mut torture = Torture::new(kind, seed);
    let mut done = 0;
    while done < kills {
        let round = ROUND.min(kills - done);
        let per_role = 1 + torture.dice.next(most) as usize;
        torture.round(per_role, round);
        done += round;
        if done % 1000 == 0 {
            println!("{kind:?}: {done} kills, {} frames, {:.0?}", torture.frames, start.elapsed());
        }
    }
    let Torture { frames, redelivered, reaped, further, succeeded, stops, started, .. } = &mut torture;
    println!(
        "{kind:?}: {done} kills of {started} processes and {stops} stops in {:.1?}, {frames} frames, {redelivered} came \
         again; none lost, doubled, torn or stuck",
        start.elapsed()
    );
    println!("  kill until the others had reaped it:  {}", quantiles(reaped));
    println!("  kill until all others made progress:  {}", quantiles(further));
    println!("  kill until a successor's first frame: {}", quantiles(succeeded));
    assert!(*frames as usize > kills, "no frames were in flight to be lost");
}

fn quantiles(samples: &mut [Duration]) -> String {
    if samples.is_empty() {
        return "not measured".into();
    }
    samples.sort_unstable();
    let at = |p: usize| samples.get(samples.len() * p / 100).or(samples.last()).copied().unwrap_or_default();
    format!("p50 {:.1?}, p99 {:.1?}, max {:.1?} ({} samples)", at(50), at(99), at(100), samples.len())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let all: [(&str, fn()); 5] = [
        ("spsc_one_and_one", || torture(Kind::Spsc, 1)),
        ("mpsc_up_to_eight_and_one", || torture(Kind::Mpsc, 8)),
        ("mpmc_up_to_eight_and_eight", || torture(Kind::Mpmc, 8)),
        ("broadcast_one_and_up_to_seven", || fan_out::torture(&broadcast::FAN)),
        ("latest_one_and_up_to_seven", || fan_out::torture(&latest::FAN)),
    ];
    for (name, run) in all {
        if arguments.iter().any(|a| a == "--list") {
            println!("{name}: test");
        } else if (filters.is_empty() || filters.iter().any(|f| name.contains(*f)))
            && !arguments.contains(&"--ignored".into())
        {
            run();
        }
    }
    ExitCode::SUCCESS
}
