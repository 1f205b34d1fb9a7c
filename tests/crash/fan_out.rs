//! Crash torture of a ring with one sender and up to seven receivers, each of which gets
//! everything: 8 processes that are killed and restarted, at random moments and at chosen points.
//!
//! As in `main.rs`, each process has a ledger. At the end of a round the sender alone is killed, the
//! receivers receive what is left and are told of the end, and the ledgers are judged, as the kind
//! of ring demands. Besides:
//!
//! - after some of the kills no successor is started until the survivors have made progress: the
//!   sender after the death of a receiver, the receivers' reports of the end after that of the
//!   sender;
//! - a process kills itself where it is told to by chance ([`Life::perhaps_die`]): with a view, in a
//!   batch, just attached.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use slipring::{Options, Ring};

use super::ledger::{self, Entry, Ledger, What, now_ns};
use super::{Dice, WATCHDOG, fork, number_from_env, quantiles};

/// Kills in one round.
const ROUND: usize = 50;
const MOST_RECEIVERS: u64 = 7;

/// A kind of ring.
pub struct Fan {
    pub name: &'static str,
    pub options: fn(&Path) -> Options,
    /// What the sender and the receivers do until they are killed.
    pub send: fn(&mut Life),
    pub receive: fn(&mut Life),
    /// Judges the ledgers of a round: of senders and of receivers.
    pub judge: fn(&Ring, &[Story], &[Story]) -> Verdict,
}

/// How many frames were sent, and how many came to receivers; or what is wrong.
pub type Verdict = Result<(u64, u64), String>;

/// The ledger of a process, and whether it lived to the end of the round.
pub struct Story {
    pub entries: Vec<Entry>,
    pub survived: bool,
}

/// What a process knows of itself.
pub struct Life {
    pub me: u32,
    pub options: Options,
    pub ledger: Ledger,
    pub dice: Dice,
    calm: PathBuf,
}

impl Life {
    /// Kills this process, once in so many calls. Not at the end of a round.
    pub fn perhaps_die(&mut self, odds: u64) {
        if self.dice.next(odds) == 0 && !self.calm.exists() {
            kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        }
    }

    pub fn note(&mut self, what: What, frame: u64, extra: u64) {
        self.ledger.note(what, frame, extra);
    }
}

/// A process, and its ledger.
struct Participant {
    pid: Pid,
    sends: bool,
    ledger: PathBuf,
}

impl Participant {
    fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal); // it may have killed itself
    }

    fn entries(&self) -> u64 {
        fs::metadata(&self.ledger).map_or(0, |file| file.len() / Entry::SIZE as u64)
    }

    /// Whether it was told of the sender's end after `then`, and has received nothing since.
    fn has_ended(&self, then: u64) -> bool {
        ledger::last(&self.ledger).is_some_and(|entry| entry.what == What::Ended && entry.time > then)
    }
}

struct Torture {
    fan: &'static Fan,
    dir: PathBuf,
    /// The sender is the first. `None`: dead, and no successor has been started.
    seats: Vec<Option<Participant>>,
    killed: Vec<Participant>,
    started: u32,
    dice: Dice,
    kills: usize,
    chosen: usize,
    stops: usize,
    /// Times from the kill of a receiver until the sender made progress, and from that of the
    /// sender until all receivers were told.
    further: Vec<Duration>,
    told: Vec<Duration>,
    frames: u64,
    received: u64,
}

impl Torture {
    fn start(&mut self, seat: usize) {
        let number = self.started;
        self.started += 1;
        let ledger = self.dir.join(format!(".ledger-{number}"));
        let (fan, dir, path) = (self.fan, self.dir.clone(), ledger.clone());
        let pid = fork(|| {
            let mut life = Life {
                me: number,
                options: (fan.options)(&dir),
                ledger: Ledger::create(&path),
                dice: Dice(u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
                calm: dir.join(".calm"),
            };
            if seat == 0 { (fan.send)(&mut life) } else { (fan.receive)(&mut life) }
        });
        self.seats[seat] = Some(Participant { pid, sends: seat == 0, ledger });
    }

    fn start_missing(&mut self) {
        (0..self.seats.len()).for_each(|seat| {
            if self.seats[seat].is_none() {
                self.start(seat);
            }
        });
    }

    fn round(&mut self, kills: usize) {
        let receivers = 1 + self.dice.next(MOST_RECEIVERS) as usize;
        self.seats = (0..=receivers).map(|_| None).collect();
        let goal = self.kills + kills;
        while self.kills < goal {
            self.start_missing();
            self.strike();
        }
        let calm = self.dir.join(".calm");
        fs::write(&calm, "").unwrap();
        self.collect();
        self.start_missing();
        let before = self.progress();
        self.wait_for("all to make progress", |t| t.seats.iter().zip(&before).all(|(seat, n)| is_beyond(seat, n + 20)));
        // One that drew its lot before it saw the file may have died meanwhile.
        self.start_missing();
        let end = self.kill(0);
        self.wait_for("all receivers to learn of the end", |t| t.seats[1..].iter().flatten().all(|p| p.has_ended(end)));
        fs::remove_file(&calm).unwrap();
        let survivors: Vec<Pid> = self.seats.iter().flatten().map(|one| one.pid).collect();
        for seat in 0..self.seats.len() {
            if self.seats[seat].is_some() {
                self.kill(seat);
            }
        }
        self.reckon(&survivors);
    }

    fn progress(&self) -> Vec<u64> {
        self.seats.iter().map(|seat| seat.as_ref().map_or(0, Participant::entries)).collect()
    }

    /// Kills one process, or sometimes all, at a random moment. Some are stopped before, and
    /// continued afterwards.
    fn strike(&mut self) {
        let all = self.seats.len();
        let victims = match self.dice.next(8) {
            0 => 0..all,
            1 | 2 => 0..1,
            _ => {
                let one = self.dice.next(all as u64) as usize;
                one..one + 1
            }
        };
        if self.dice.next(4) != 0 {
            let enough = 2 + self.dice.next(100);
            let victims = victims.clone();
            self.wait_for("the next victim to start working", |t| {
                t.seats[victims.clone()].iter().all(|seat| is_beyond(seat, enough))
            });
        }
        let stopped: Vec<usize> = (0..all).filter(|_| self.dice.next(2 * all as u64) == 0).collect();
        for i in &stopped {
            self.seats[*i].iter().for_each(|one| one.signal(Signal::STOP));
            self.spend(200_000);
        }
        self.stops += stopped.len();
        let most = if self.dice.next(50) == 0 { 150_000_000 } else { 1_000_000 };
        self.spend(most);
        let had_attached = self.progress()[victims.start] > 0;
        let struck = now_ns();
        for victim in victims.clone() {
            if self.seats[victim].is_some() {
                self.kill(victim);
                self.kills += 1;
            }
        }
        self.seats.iter().flatten().for_each(|one| one.signal(Signal::CONT));
        if victims.len() == 1 && had_attached && self.dice.next(3) == 0 {
            self.await_the_others(victims.start, struck);
        }
        self.collect();
    }

    /// Starts no successor of `victim` until the others have made progress without it.
    fn await_the_others(&mut self, victim: usize, struck: u64) {
        let before = self.progress();
        if victim == 0 {
            self.wait_for("the receivers to be told", |t| t.seats[1..].iter().flatten().all(|p| p.has_ended(struck)));
            self.told.push(Duration::from_nanos(now_ns() - struck));
        } else {
            self.wait_for("the sender to make progress", |t| is_beyond(&t.seats[0], before[0] + 20));
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

    /// Returns when.
    fn kill(&mut self, seat: usize) -> u64 {
        let victim = self.seats[seat].take().expect("it lives");
        victim.signal(Signal::KILL);
        let (_, status) = waitpid(Some(victim.pid), WaitOptions::empty()).unwrap().unwrap();
        self.put_away(victim, status.terminating_signal());
        now_ns()
    }

    fn put_away(&mut self, victim: Participant, signal: Option<i32>) {
        assert_eq!(signal, Some(9), "it ended by itself: see its panic above");
        self.killed.push(victim);
    }

    /// Takes note of those that have killed themselves.
    fn collect(&mut self) {
        for seat in 0..self.seats.len() {
            let Some(one) = &self.seats[seat] else { continue };
            if let Some((_, status)) = waitpid(Some(one.pid), WaitOptions::NOHANG).unwrap() {
                let one = self.seats[seat].take().expect("just seen");
                self.put_away(one, status.terminating_signal());
                self.kills += 1;
                self.chosen += 1;
            }
        }
    }

    /// Waits; those that have killed themselves are not waited for.
    fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            self.collect();
            if start.elapsed() > WATCHDOG {
                let ring = Ring::open("ring", &(self.fan.options)(&self.dir)).unwrap();
                let last: Vec<_> = self.seats.iter().flatten().map(|p| (p.sends, ledger::last(&p.ledger))).collect();
                let (stats, report, seats) = (ring.stats(), ring.verify(), ring.participants());
                let subscribers = ring.subscribers();
                panic!("timed out waiting for {what}: {last:?}\n{stats:?}\n{report:?}\n{seats:?}\n{subscribers:?}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn reckon(&mut self, survivors: &[Pid]) {
        let ring = Ring::open("ring", &(self.fan.options)(&self.dir)).unwrap();
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for one in std::mem::take(&mut self.killed) {
            let story = Story { entries: ledger::read(&one.ledger), survived: survivors.contains(&one.pid) };
            let _ = fs::remove_file(&one.ledger);
            if one.sends { senders.push(story) } else { receivers.push(story) }
        }
        let (frames, received) =
            (self.fan.judge)(&ring, &senders, &receivers).unwrap_or_else(|wrong| panic!("{}: {wrong}", self.fan.name));
        self.frames += frames;
        self.received += received;
        ring.reap_dead().unwrap();
        assert!(
            ring.is_idle().unwrap() && ring.participants().unwrap().is_empty() && ring.subscribers().is_empty(),
            "dead participants were not reaped"
        );
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

/// Whether a process has made this many entries, or is dead.
fn is_beyond(seat: &Option<Participant>, entries: u64) -> bool {
    seat.as_ref().is_none_or(|one| one.entries() > entries)
}

impl Drop for Torture {
    fn drop(&mut self) {
        for one in self.seats.iter().flatten() {
            let _ = kill_process(one.pid, Signal::KILL);
            let _ = waitpid(Some(one.pid), WaitOptions::empty());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn torture(fan: &'static Fan) {
    let kills = number_from_env("SLIPRING_KILLS").unwrap_or(100) as usize;
    let seed = number_from_env("SLIPRING_SEED").unwrap_or_else(now_ns);
    println!("{}: {kills} kills, SLIPRING_SEED={seed}", fan.name);
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let dir = base.join(format!("slipring-crash-{}-{}", fan.name, std::process::id()));
    Ring::create("ring", &(fan.options)(&dir)).unwrap();
    let start = Instant::now();
    let mut torture = Torture {
        fan,
        dir,
        seats: Vec::new(),
        killed: Vec::new(),
        started: 1, // so that no frame has the number 0
        dice: Dice(seed | 1),
        kills: 0,
        chosen: 0,
        stops: 0,
        further: Vec::new(),
        told: Vec::new(),
        frames: 0,
        received: 0,
    };
    let mut printed = 0;
    while torture.kills < kills {
        torture.round(ROUND.min(kills - torture.kills));
        if torture.kills / 1000 > printed {
            printed = torture.kills / 1000;
            println!("{}: {} kills, {} frames, {:.0?}", fan.name, torture.kills, torture.frames, start.elapsed());
        }
    }
    let Torture { kills, chosen, stops, started, frames, received, further, told, .. } = &mut torture;
    println!(
        "{}: {kills} kills ({chosen} at chosen points) of {started} processes and {stops} stops in {:.1?}, {frames} \
         frames, received {received} times; none lost, doubled, torn or stuck",
        fan.name,
        start.elapsed()
    );
    println!("  kill of a receiver until the sender made progress:  {}", quantiles(further));
    println!("  kill of the sender until all receivers were told:   {}", quantiles(told));
    assert!(*frames as usize > *kills, "no frames were in flight to be lost");
}
