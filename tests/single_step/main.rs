//! Kill at every machine instruction: a child performs one operation, instruction by instruction,
//! and is killed after the k-th, for every k. Each time the survivors must continue: committed
//! frames are delivered whole, once (or again and marked); the ring takes as many frames as before;
//! the counters add up; `Ring::verify` finds nothing; no survivor waits for a dead participant. The
//! same is done with a pause instead of a kill (`pause.rs`): the others continue as documented,
//! then the child does.
//!
//! `cargo test --test single_step` stops at every instruction of the hot operations in the main
//! states, and at some instructions of a sixth of the other cases.
//! `SLIPRING_STEP=full cargo test --release --test single_step` stops at all instructions, except
//! where a consumer pauses with a ring full of frames: there it stops at every n-th, as the number
//! of its stops shows. With a number instead of `full` it stops at most that often in each case.
//! Arguments select operations by a part of their names. `mutants.py` breaks rules of the library,
//! and shows that this program notices each.
//!
//! A system call counts as one instruction. An operation that reads the clock or a file of /proc
//! may take a few instructions more or fewer than the last time; then a kill hits an instruction
//! nearby instead of the intended one.

mod broadcast;
mod frames;
mod latest;
mod mpmc;
mod mpsc;
mod pause;
mod process;
mod segment;
mod spsc;
mod spsc_asleep;
mod stream;
mod wait;

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use process::{Page, Prepare, Shared, Trace, Tracee, Worker};

/// Number of stops per case in the short form, where it does not stop at all instructions.
const SAMPLES: usize = 5;
/// The same for cases in which a survivor may sleep until its next liveness check.
const SLOW_SAMPLES: usize = 5;
/// Number of stops per case in the full form, where an operation is as long as a ring is full, and
/// the pause at each stop is long.
const FULL_SAMPLES: usize = 3000;
/// The short form takes one in this many of the sampled cases, unless arguments name them: learning
/// a case's instructions takes longer than stopping at a few of them.
const THINNING: usize = 6;
/// Survivors that take longer have waited for a dead or paused participant. Or the machine is slow;
/// then the next attempts are faster.
const HANG: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;
/// This many violations show that an operation is wrong in some state; further ones are not
/// printed.
const ENOUGH: usize = 5;
/// More than the number of cases.
const MAX_CASES: usize = 2048;

/// An operation in a state of the ring.
struct Case {
    operation: &'static str,
    state: String,
    pace: Pace,
    scene: Box<dyn Fn() -> Scene>,
}

/// How often the short form stops. The full form stops everywhere, unless noted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Every,
    Sample,
    Slow,
    /// Sampled in the full form, too.
    Long,
}

/// A prepared state: the child's operation, and the check of its outcome.
struct Scene {
    child: Prepare,
    fate: Fate,
}

/// What happens when the child has stopped.
enum Fate {
    /// It is killed, and the survivors continue.
    Kill(Box<dyn FnOnce(&Page) -> Outcome>),
    /// The others continue, then the stopped child does.
    Pause(Box<dyn FnOnce(Tracee) -> Outcome>),
}

/// How many of the operation's frames have become visible, or what is wrong.
type Outcome = Result<u64, String>;

/// The results of the stops in one case.
#[derive(Default)]
struct Tally {
    instructions: AtomicU64,
    stops: AtomicU64,
    /// Stops that came after the end, because this time the operation took another path.
    beside: AtomicU64,
    violations: AtomicU64,
    /// The longest time that the survivors took.
    longest_ns: AtomicU64,
    is_done: AtomicU64,
}

/// State that the workers share.
struct Board {
    /// The next case.
    next: AtomicU64,
    is_forbidden: AtomicU64,
    tallies: [Tally; MAX_CASES],
}

// SAFETY: atomic integers.
unsafe impl process::Words for Board {}

impl Case {
    fn name(&self) -> String {
        format!("{} {}", self.operation, self.state)
    }

    fn stride(&self, instructions: usize) -> usize {
        match self.pace {
            Pace::Long if is_full() => instructions.div_ceil(FULL_SAMPLES),
            _ if is_full() => instructions.div_ceil(limit()),
            Pace::Every => 1,
            Pace::Sample | Pace::Long => instructions.div_ceil(SAMPLES),
            Pace::Slow => instructions.div_ceil(SLOW_SAMPLES),
        }
    }

    /// Runs one case. `None` where tracing is forbidden.
    fn run(&self, tally: &Tally) -> Option<()> {
        let Scene { child, fate } = (self.scene)();
        let recorder = Tracee::start(child)?;
        let trace = recorder.record();
        let len = trace.len();
        tally.instructions.store(len as u64, SeqCst);
        let (mut visible, mut since) = (0, 0);
        let mut violations = 0;
        let ends = judge(recorder, fate);
        let mut note = |instructions: usize, (was_complete, outcome, took): Judgement| -> Option<bool> {
            tally.stops.fetch_add(1, SeqCst);
            tally.longest_ns.fetch_max(took.as_nanos() as u64, SeqCst);
            let wrong = match outcome {
                // The operation finished without reaching the instruction at which it was to stop.
                Ok(_) if was_complete && instructions < len => {
                    tally.beside.fetch_add(1, SeqCst);
                    None
                }
                // A frame that was visible at an earlier instruction must still be visible, unless
                // one of the two stops missed its instruction.
                Ok(now) if now < visible => {
                    let is_here = self.shows(&trace, instructions, |again| again >= visible)?;
                    if is_here || self.shows(&trace, since, |again| again < visible)? {
                        tally.beside.fetch_add(1, SeqCst);
                        if !is_here {
                            (visible, since) = (now, instructions);
                        }
                        None
                    } else {
                        Some(format!("{visible} frames, then {now}"))
                    }
                }
                Ok(now) if now > visible => {
                    (visible, since) = (now, instructions);
                    None
                }
                Ok(_) => None,
                Err(what) => Some(what),
            };
            if let Some(what) = wrong {
                violations += 1;
                tally.violations.fetch_add(1, SeqCst);
                println!("{} ({}), stopped after {instructions} of {len}: {what}", self.operation, self.state);
            }
            Some(violations < ENOUGH)
        };
        for instructions in (1..len).step_by(self.stride(len)) {
            if !note(instructions, self.stop_at(&trace, instructions)?)? {
                return Some(());
            }
        }
        note(len, ends).map(drop)
    }

    /// Prepares the state again, and stops the child in it after this many instructions. Tries
    /// again if the survivors were slow.
    fn stop_at(&self, trace: &Trace, instructions: usize) -> Option<Judgement> {
        let mut attempt = 1;
        loop {
            let Scene { child, fate } = (self.scene)();
            let tracee = Tracee::start(child)?;
            tracee.run_to(trace, instructions);
            match judge(tracee, fate) {
                (_, Ok(_), took) if took > HANG && attempt < ATTEMPTS => attempt += 1,
                (complete, Ok(_), took) if took > HANG => {
                    return Some((complete, Err(format!("it took {took:.1?}")), took));
                }
                other => return Some(other),
            }
        }
    }

    /// Whether one of several more stops after this many instructions gives this result.
    fn shows(&self, trace: &Trace, instructions: usize, wanted: impl Fn(u64) -> bool) -> Option<bool> {
        for _ in 0..ATTEMPTS {
            let (_, outcome, _) = self.stop_at(trace, instructions)?;
            if outcome.is_ok_and(&wanted) {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Whether the operation had finished when it was stopped, the result, and how long that took.
type Judgement = (bool, Outcome, Duration);

fn judge(tracee: Tracee, fate: Fate) -> Judgement {
    let was_complete = tracee.is_complete();
    let start = Instant::now();
    let outcome = match fate {
        Fate::Kill(check) => check(&tracee.kill()),
        Fate::Pause(check) => check(tracee),
    };
    (was_complete, outcome, start.elapsed())
}

/// Whether to stop at every instruction of all cases, up to the limit.
fn is_full() -> bool {
    std::env::var("SLIPRING_STEP").is_ok()
}

/// How often the full form stops in one case at most.
fn limit() -> usize {
    std::env::var("SLIPRING_STEP").ok().and_then(|form| form.parse().ok()).unwrap_or(usize::MAX)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let all = [
        spsc::cases(),
        spsc_asleep::cases(),
        mpmc::cases(),
        mpsc::cases(),
        stream::cases(),
        latest::cases(),
        broadcast::cases(),
        wait::cases(),
        segment::cases(),
        pause::cases(),
    ];
    let mut cases: Vec<Case> = all.into_iter().flatten().collect();
    cases.retain(|case| filters.is_empty() || filters.iter().any(|filter| case.name().contains(*filter)));
    cases.sort_by_key(|case| case.operation);
    if !is_full() && filters.is_empty() {
        let mut sampled = 0;
        cases.retain(|case| {
            let is_sampled = matches!(case.pace, Pace::Sample | Pace::Long);
            sampled += usize::from(is_sampled);
            !is_sampled || sampled % THINNING == 0
        });
    }
    let operations: Vec<&[Case]> = cases.chunk_by(|a, b| a.operation == b.operation).collect();
    if has("--list") || has("--ignored") {
        operations.iter().filter(|_| has("--list")).for_each(|operation| println!("{}: test", operation[0].operation));
        return ExitCode::SUCCESS;
    }
    println!("stopped at every instruction, or at every n-th where there are fewer stops than instructions");
    println!(
        "{:<40} {:>6} {:>12} {:>8} {:>9} {:>6} {:>10} {:>11}",
        "operation", "states", "instructions", "longest", "stops", "beside", "violations", "slowest, ms"
    );
    let start = Instant::now();
    let board = Shared::<Board>::new();
    assert!(cases.len() <= MAX_CASES);
    // Two workers per processor: half of the time they wait for processes to start, end and wake
    // up.
    let count = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let mut workers: Vec<_> = (0..count).map(|_| Worker::start(|| work(&cases, &board))).collect();
    let (mut total, mut printed, mut at) = (Row::default(), 0, 0);
    while printed < operations.len() {
        let tallies = &board.tallies[at..at + operations[printed].len()];
        if tallies.iter().all(|tally| tally.is_done.load(SeqCst) == 1) {
            let row = Row::of(tallies);
            row.print(operations[printed][0].operation);
            total += row;
            (printed, at) = (printed + 1, at + tallies.len());
            continue;
        }
        if board.is_forbidden.load(SeqCst) == 1 {
            println!("tracing is forbidden here (seccomp or ptrace_scope): skipped");
            return ExitCode::SUCCESS;
        }
        let mut is_well = true;
        workers.retain(|worker| {
            let outcome = worker.outcome();
            is_well &= outcome != Some(false);
            outcome.is_none()
        });
        if !is_well {
            println!("test result: FAILED. A survivor hangs, or this program is wrong: see above");
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    total.print("all");
    let Row { states, instructions, stops, violations, .. } = total;
    println!(
        "{stops} of {instructions} instructions, {states} states, {violations} violations, in {:.0?}",
        start.elapsed()
    );
    let outcome = if violations == 0 { "ok" } else { "FAILED" };
    println!("test result: {outcome}. {} operations", operations.len());
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A worker: takes one case after the other.
fn work(cases: &[Case], board: &Rc<Shared<Board>>) {
    loop {
        let at = board.next.fetch_add(1, SeqCst) as usize;
        let Some(case) = cases.get(at) else { return };
        process::expect_an_end(&case.name());
        if case.run(&board.tallies[at]).is_none() {
            board.is_forbidden.store(1, SeqCst);
            return;
        }
        board.tallies[at].is_done.store(1, SeqCst);
    }
}

/// A line of the table.
#[derive(Default)]
struct Row {
    states: usize,
    instructions: u64,
    longest: u64,
    stops: u64,
    beside: u64,
    violations: u64,
    slowest: Duration,
}

impl Row {
    fn of(tallies: &[Tally]) -> Self {
        let mut row = Row { states: tallies.len(), ..Row::default() };
        for tally in tallies {
            let instructions = tally.instructions.load(SeqCst);
            row.instructions += instructions;
            row.longest = row.longest.max(instructions);
            row.stops += tally.stops.load(SeqCst);
            row.beside += tally.beside.load(SeqCst);
            row.violations += tally.violations.load(SeqCst);
            row.slowest = row.slowest.max(Duration::from_nanos(tally.longest_ns.load(SeqCst)));
        }
        row
    }

    fn print(&self, what: &str) {
        let Row { states, instructions, longest, stops, beside, violations, slowest } = self;
        let slowest = slowest.as_millis();
        println!(
            "{what:<40} {states:>6} {instructions:>12} {longest:>8} {stops:>9} {beside:>6} {violations:>10} {slowest:>11}"
        );
    }
}

impl std::ops::AddAssign for Row {
    fn add_assign(&mut self, other: Row) {
        self.states += other.states;
        self.instructions += other.instructions;
        self.longest = self.longest.max(other.longest);
        self.stops += other.stops;
        self.beside += other.beside;
        self.violations += other.violations;
        self.slowest = self.slowest.max(other.slowest);
    }
}
