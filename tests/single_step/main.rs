//! Kill at every machine instruction: a child performs one operation, instruction by instruction, and is killed after the
//! k-th, for every k. Each time the survivors must go on: what was committed is there, once (or again and marked), whole;
//! the ring takes as many frames as ever; the counters add up; `Ring::verify` finds nothing; nobody waits for the dead.
//!
//! `cargo test --test single_step` kills at every instruction of the hot operations in the main states, and at some ten
//! instructions of each of the others. `SLIPRING_SINGLE_STEP=full cargo test --release --test single_step` kills at all of
//! them. Arguments select operations by a part of their names.
//!
//! A system call is one instruction here. An operation that reads the clock or a file of /proc may take a few instructions
//! more or less than the last time; then a kill falls a little beside the instruction that it was meant for.

mod frames;
mod mpmc;
mod process;
mod segment;
mod spsc;
mod stream;
mod wait;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use process::{Page, Prepare, Tracee};

/// Instructions at which the short form kills where it does not kill at all of them.
const SAMPLES: usize = 10;
/// The same where a survivor may sleep until it looks around by itself.
const SLOW_SAMPLES: usize = 6;

/// An operation in a state of the ring.
struct Case {
    operation: &'static str,
    state: String,
    pace: Pace,
    scene: Box<dyn Fn() -> Scene>,
}

/// How often the short form kills.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Every,
    Sample,
    Slow,
}

/// What the survivors do, and how many frames they got; or what is wrong.
type Check = Box<dyn FnOnce(&Page) -> Result<u64, String>>;

/// The state, made: what the child does, and what the survivors check.
struct Scene {
    child: Prepare,
    /// What has become visible of the operation, in frames, or what is wrong.
    check: Check,
}

/// What came of the kills in one operation.
#[derive(Default)]
struct Tally {
    states: usize,
    instructions: usize,
    longest: usize,
    kills: usize,
    /// Of the kills, those that came after the end, because this time the operation went another way.
    beside: usize,
    violations: usize,
    time: Duration,
}

impl Case {
    fn stride(&self, instructions: usize, full: bool) -> usize {
        match self.pace {
            _ if full => 1,
            Pace::Every => 1,
            Pace::Sample => instructions.div_ceil(SAMPLES),
            Pace::Slow => instructions.div_ceil(SLOW_SAMPLES),
        }
    }

    /// `None` where tracing is forbidden.
    fn run(&self, full: bool, tally: &mut Tally) -> Option<()> {
        let start = Instant::now();
        let scene = (self.scene)();
        let recorder = Tracee::start(scene.child)?;
        let trace = recorder.record();
        let mut violations = Vec::new();
        let mut visible = 0;
        let mut judge = |instructions: usize, page: &Page, outcome: Result<u64, String>| {
            match outcome {
                // It did not come by where it was to be killed, and finished.
                Ok(_) if page.is_complete() && instructions < trace.len() => tally.beside += 1,
                Ok(now) if now < visible => violations.push((instructions, format!("{visible} frames, then {now}"))),
                Ok(now) => visible = now,
                Err(what) => violations.push((instructions, what)),
            }
            tally.kills += 1;
        };
        let finished = recorder.kill();
        let last = (scene.check)(&finished);
        for instructions in (1..trace.len()).step_by(self.stride(trace.len(), full)) {
            let scene = (self.scene)();
            let tracee = Tracee::start(scene.child)?;
            tracee.run_to(&trace, instructions);
            let killed = tracee.kill();
            judge(instructions, &killed, (scene.check)(&killed));
        }
        judge(trace.len(), &finished, last);
        for (instructions, what) in violations.iter().take(5) {
            println!("{} ({}), killed after {instructions} of {}: {what}", self.operation, self.state, trace.len());
        }
        tally.states += 1;
        tally.instructions += trace.len();
        tally.longest = tally.longest.max(trace.len());
        tally.violations += violations.len();
        tally.time += start.elapsed();
        Some(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let mut cases: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for case in [spsc::cases(), mpmc::cases(), stream::cases(), wait::cases(), segment::cases()].into_iter().flatten() {
        let name = format!("{} {}", case.operation, case.state);
        if (filters.is_empty() || filters.iter().any(|filter| name.contains(*filter))) && !has("--ignored") {
            cases.entry(case.operation).or_default().push(case);
        }
    }
    if has("--list") {
        cases.keys().for_each(|operation| println!("{operation}: test"));
        return ExitCode::SUCCESS;
    }
    let full = std::env::var("SLIPRING_SINGLE_STEP").is_ok_and(|form| form == "full");
    println!("kill at {} instruction", if full { "every" } else { "every, or every n-th," });
    println!(
        "{:<44} {:>6} {:>12} {:>8} {:>8} {:>6} {:>10} {:>7}",
        "operation", "states", "instructions", "longest", "kills", "beside", "violations", "s"
    );
    let mut total = Tally::default();
    let (mut passed, mut failed) = (0, 0);
    for (operation, cases) in &cases {
        let mut tally = Tally::default();
        for case in cases {
            process::expect_an_end(&format!("{operation} ({})", case.state));
            if case.run(full, &mut tally).is_none() {
                println!("tracing is forbidden here (seccomp or ptrace_scope): skipped");
                return ExitCode::SUCCESS;
            }
        }
        tally.print(operation);
        *(if tally.violations == 0 { &mut passed } else { &mut failed }) += 1;
        total += tally;
    }
    total.print("all");
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {outcome}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Tally {
    fn print(&self, what: &str) {
        let Tally { states, instructions, longest, kills, beside, violations, time } = self;
        let seconds = time.as_secs_f64();
        println!(
            "{what:<44} {states:>6} {instructions:>12} {longest:>8} {kills:>8} {beside:>6} {violations:>10} {seconds:>7.1}"
        );
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.states += other.states;
        self.instructions += other.instructions;
        self.longest = self.longest.max(other.longest);
        self.kills += other.kills;
        self.beside += other.beside;
        self.violations += other.violations;
        self.time += other.time;
    }
}
