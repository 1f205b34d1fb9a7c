//! Torture: processes that share a ring are killed with SIGKILL at random moments and started again; nothing that was
//! committed may be lost, doubled without a mark, torn, or stuck.
//!
//! A supervisor starts producers and consumers (this very binary, with a role in its environment), each with a ledger of its
//! own: an append-only file in which it notes, by one `write(2)` each, what it is about to send, what it has sent, what it
//! got and what it has released. After every round of kills the supervisor ends everybody, drains the ring as one more
//! consumer, joins the ledgers and checks (`crash/ledger.rs`):
//!
//! - what was *sent* arrives; what was only *about to be sent* may;
//! - nothing arrives twice, unless every delivery but one is marked REDELIVERED, and nothing after it was released;
//! - payloads are whole, and each producer's frames are in order; `Ring::verify` finds nothing;
//! - nobody hangs: after the last kill of a round, everybody gets further.
//!
//! `SLIPRING_KILLS` is the number of kills for each kind of ring: 500 by default (for CI), 1000 on a quick look, 100000 over
//! night. `SLIPRING_SEED` repeats a run's choices, though not the kernel's. The seed is printed, and how long recovery took.

#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/participant.rs"]
mod participant;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::{Entry, now_ns};
use participant::{ROOM, attach, ring_options};
use slipring::{Error, Kind, Ring, Role, mpmc, spsc};

/// Far more than any single step takes on a busy machine: a supervisor that waits longer reports a hang.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Kills between two times of reckoning.
const ROUND: usize = 100;

/// A small generator, so that a seed repeats a run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }
}

/// A process that takes part, and its ledger.
struct Participant {
    child: Child,
    role: Role,
    ledger: PathBuf,
    /// When its predecessor was killed.
    struck: Option<u64>,
}

impl Participant {
    /// Kills it, and checks that it had not ended by itself.
    fn end(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{:?} ended by itself: see its panic above", self.role);
    }

    /// How many entries there are in its ledger.
    fn entries(&self) -> u64 {
        fs::metadata(&self.ledger).map_or(0, |file| file.len() / Entry::SIZE as u64)
    }
}

/// One ring, its participants, and what is known about them.
struct Torture {
    dir: PathBuf,
    kind: Kind,
    participants: Vec<Participant>,
    /// Those of this round that were killed.
    fallen: Vec<Participant>,
    /// Processes started so far: names ledgers, and seeds what each of them does.
    started: u32,
    dice: Dice,
    /// From a kill to the first frame that the successor moved; and how much of that attaching took.
    recovery: Vec<Duration>,
    attaching: Vec<Duration>,
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
            fallen: Vec::new(),
            started: 0,
            dice: Dice(seed | 1),
            recovery: Vec::new(),
            attaching: Vec::new(),
            frames: 0,
            redelivered: 0,
        }
    }

    fn start(&mut self, role: Role, struck: Option<u64>) -> Participant {
        let number = self.started;
        self.started += 1;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "participant_process", "--nocapture", "--test-threads=1"])
            .env(participant::ROLE, role.name())
            .env(participant::KIND, if self.kind == Kind::Spsc { "spsc" } else { "mpmc" })
            .env(participant::DIR, &self.dir)
            .env(participant::NUMBER, number.to_string())
            .env(participant::PARENT, std::process::id().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Participant { child, role, ledger: self.dir.join(format!(".ledger-{number}")), struck }
    }

    /// Starts `per_role` of each, kills `kills` of them one after the other, and reckons.
    fn round(&mut self, per_role: usize, kills: usize) {
        for role in [Role::Producer, Role::Consumer].repeat(per_role) {
            let participant = self.start(role, None);
            self.participants.push(participant);
        }
        let mut struck = 0;
        while struck < kills {
            struck += self.strike();
        }
        let before: Vec<u64> = self.participants.iter().map(Participant::entries).collect();
        let further = |t: &Self| t.participants.iter().zip(&before).all(|(p, n)| p.entries() > n + 20);
        self.wait_for("everybody to get further", further);
        for mut participant in std::mem::take(&mut self.participants) {
            participant.end();
            self.fallen.push(participant);
        }
        self.reckon();
    }

    /// Kills one of them, or now and then all, at a moment that the dice choose; and starts their successors.
    fn strike(&mut self) -> usize {
        let all = self.participants.len();
        let victims = if self.dice.next(8) == 0 {
            0..all
        } else {
            let one = self.dice.next(all as u64) as usize;
            one..one + 1
        };
        // Mostly in the midst of work; else while it attaches, or before.
        if self.dice.next(4) != 0 {
            let enough = 2 + self.dice.next(100);
            self.wait_for("its next victim to get to work", |t| {
                t.participants[victims.clone()].iter().all(|p| p.entries() > enough)
            });
        }
        // Up to a millisecond: some hundred frames, or a part of one sleep.
        let moment = Instant::now() + Duration::from_nanos(self.dice.next(1_000_000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        let struck = now_ns();
        self.participants[victims.clone()].iter_mut().for_each(|victim| victim.child.kill().unwrap());
        for i in victims.clone() {
            self.participants[i].end();
            let successor = self.start(self.participants[i].role, Some(struck));
            let fallen = std::mem::replace(&mut self.participants[i], successor);
            self.fallen.push(fallen);
        }
        victims.len()
    }

    /// Everybody is dead. Looks at the ring, drains it, and joins the ledgers.
    fn reckon(&mut self) {
        let ring = Ring::open("ring", &ring_options(self.kind, &self.dir)).unwrap();
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let mut ledgers = vec![self.drain(&ring)];
        for participant in std::mem::take(&mut self.fallen) {
            let entries = ledger::read(&participant.ledger);
            if let (Some(struck), Some((moved, attaching))) = (participant.struck, ledger::began(&entries)) {
                self.recovery.push(Duration::from_nanos(moved - struck));
                self.attaching.push(attaching);
            }
            let _ = fs::remove_file(&participant.ledger);
            ledgers.push(entries);
        }
        let (frames, again) = ledger::judge(&ledgers).unwrap_or_else(|wrong| panic!("frame {wrong}"));
        self.frames += frames;
        self.redelivered += again;
        let (stats, report) = (ring.stats().unwrap(), ring.verify().unwrap());
        assert!(
            report.is_clean() && report.frames + report.writing + report.reading + report.redeliver == 0,
            "{report:?}"
        );
        assert!(self.kind != Kind::Spsc || stats.used() == 0, "{stats:?}");
        assert!(ring.is_idle().unwrap() && ring.participants().unwrap().is_empty(), "everybody is buried");
    }

    /// Receives what is left, as one more consumer.
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
                panic!("waited in vain for {what}: {entries:?}\n{stats:?}\n{report:?}\n{seats:?}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Torture {
    fn drop(&mut self) {
        for participant in &mut self.participants {
            let _ = participant.child.kill();
            let _ = participant.child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn torture(kind: Kind, per_role: usize) {
    let kills = number_from_env("SLIPRING_KILLS").unwrap_or(500) as usize;
    let seed = number_from_env("SLIPRING_SEED").unwrap_or_else(now_ns);
    println!("{kind:?}: {kills} kills, SLIPRING_SEED={seed}");
    let start = Instant::now();
    let mut torture = Torture::new(kind, seed);
    let mut done = 0;
    while done < kills {
        let round = ROUND.min(kills - done);
        torture.round(per_role, round);
        done += round;
    }
    let Torture { frames, redelivered, recovery, attaching, started, .. } = &mut torture;
    println!(
        "{kind:?}: {done} kills of {started} processes in {:.1?}, {frames} frames, {redelivered} came again",
        start.elapsed()
    );
    println!("  kill to successor's first frame: {}", quantiles(recovery));
    println!("  of which attaching: {}", quantiles(attaching));
    assert!(*frames as usize > kills, "there was something to lose");
}

fn quantiles(samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let at = |p: usize| samples.get(samples.len() * p / 100).or(samples.last()).copied().unwrap_or_default();
    format!("p50 {:.1?}, p99 {:.1?}, max {:.1?} ({} samples)", at(50), at(99), at(100), samples.len())
}

/// Not a test: what the other processes do.
#[test]
fn participant_process() {
    participant::live();
}

#[test]
fn spsc_one_and_one() {
    torture(Kind::Spsc, 1);
}

#[test]
fn mpmc_two_and_two() {
    torture(Kind::Mpmc, 2);
}
