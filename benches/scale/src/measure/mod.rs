//! What this machine can measure: processes and namespaces on its two first processors.
//!
//! `calibrate` prints the table of parameters with the figures of this machine. `check` measures
//! and calibrates in the same rounds, and compares other points with what the simulator says.

mod clock;
mod net;
mod part;
mod points;
mod scene;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use crate::parameters::{Parameters, RESTS, SIZES, TABLE};
use crate::topology::frames_of_a_write;
use points::Point;
use scene::Stage;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Namespaces of the largest point.
const HOSTS: usize = 4;
/// If no other number is asked for.
const ROUNDS: usize = 9;
/// Of the rounds, the one that counts: other programs, and the other virtual machines of the same
/// processors, only add to what is measured, so most of the higher values are not of this program.
const CALM: f64 = 0.25;

pub(crate) fn part(arguments: impl Iterator<Item = String>) -> Outcome {
    part::Part::parse(arguments)?.run()
}

/// Prints the table of parameters as measured here.
pub(crate) fn calibrate(rounds: Option<String>) -> Outcome {
    let measured = measure(rounds, |point| point.calibrates)?;
    print!("{}", measured.parameters()?.print());
    Ok(())
}

/// Prints what was measured, what the simulator says, and their ratio, and on stderr the
/// parameters. Fails if a ratio is off by more than a fifth.
pub(crate) fn check(rounds: Option<String>) -> Outcome {
    let measured = measure(rounds, |_| true)?;
    let parameters = measured.parameters()?;
    eprintln!("{}", parameters.print());
    println!("| point | measured, ns | median, highest | simulated, ns | ratio |\n|---|---:|---:|---:|---:|");
    let mut wrong = Vec::new();
    for (point, rounds) in measured.points.iter().filter(|(point, _)| !point.calibrates) {
        let (name, calm, simulated) = (&point.name, quantile(rounds, CALM), point.simulate(&parameters));
        let (middle, highest, ratio) = (quantile(rounds, 0.5), quantile(rounds, 1.0), simulated / calm);
        println!("| {name} | {calm:.0} | {middle:.0}, {highest:.0} | {simulated:.0} | {ratio:.2} |");
        if !(1.0 / 1.2..=1.2).contains(&ratio) {
            wrong.push(format!("{name}: {ratio:.2}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("off by more than a fifth: {}", wrong.join(", ")).into()) }
}

struct Measurements {
    /// Each point, and its result in each round.
    points: Vec<(Point, Vec<f64>)>,
    /// Values that set parameters, by name, of each round.
    values: BTreeMap<String, Vec<f64>>,
}

impl Measurements {
    fn parameters(&self) -> Outcome<Parameters> {
        parameters(&self.values.iter().map(|(name, rounds)| (name.clone(), quantile(rounds, CALM))).collect())
    }
}

/// Measures the points in rounds, each beginning with another point.
fn measure(rounds: Option<String>, wanted: fn(&Point) -> bool) -> Outcome<Measurements> {
    let rounds: usize = rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let slipring = std::env::var_os("SLIPRING").ok_or("SLIPRING is not set: it must be the path of `slipring`")?;
    let stage = Stage::new(&PathBuf::from(slipring), HOSTS)?;
    if stage.net.is_none() {
        eprintln!("no network namespaces (`ip netns add` needs root): points between hosts are skipped");
    }
    let points = points::all(stage.net.as_ref()).into_iter().filter(wanted).map(|point| (point, Vec::new()));
    let mut measured = Measurements { points: points.collect(), values: BTreeMap::new() };
    let number = measured.points.len();
    for turn in 0..rounds {
        for at in 0..number {
            let (point, results) = &mut measured.points[(at + turn * number / rounds) % number];
            // A process that another program delays may start when the others have ended: once
            // more.
            let result = point.measure(&stage).or_else(|_| point.measure(&stage));
            let result = result.map_err(|error| format!("{}: {error}", point.name))?;
            results.push(result.ns);
            for (name, value) in point.values(&result) {
                measured.values.entry(name).or_default().push(value);
            }
        }
        let disturbed = stage.disturbed.take();
        eprintln!("round {}: other programs used the processors at the begin of {disturbed} runs at a rate", turn + 1);
    }
    let list = |rounds: &[f64]| rounds.iter().map(|ns| format!("{ns:.4}")).collect::<Vec<_>>().join(" ");
    measured.points.iter().for_each(|(point, rounds)| eprintln!("{}: {}", point.name, list(rounds)));
    measured.values.iter().for_each(|(name, rounds)| eprintln!("# {name}: {}", list(rounds)));
    Ok(measured)
}

/// The table with measured values.
fn parameters(values: &BTreeMap<String, f64>) -> Outcome<Parameters> {
    let mut parameters = Parameters::parse(TABLE)?;
    for (name, value) in values {
        if parameters.has(name) {
            parameters.set(name, *value);
        }
    }
    for size in SIZES {
        // Two more subscribers on a processor read each frame two more times.
        let [two, four] = [2, 4].map(|number| values[&format!("subscribers.{number}.{size}")]);
        let again = ((four - two) / 2.0).max(0.0);
        parameters.set(&format!("broadcast.again.{size}"), again);
        parameters.set(&format!("broadcast.recv.{size}"), two - again);
    }
    if !values.contains_key("hop.delay.1ms") {
        return Ok(parameters);
    }
    let after_sleep = RESTS.map(|rest| {
        // A frame that finds all asleep wakes the first relay on its own processor, the second one
        // on the other, and the consumer there. What is left is the relays' work.
        let wake = |way: &str| values[&format!("wake.{way}.{rest}.p50")];
        ((values[&format!("hop.delay.{rest}")] - 2.0 * wake("near") - wake("far")) / 2.0).max(0.0)
    });
    for (rest, ns) in RESTS.iter().zip(after_sleep) {
        parameters.set(&format!("relay.after_sleep.{rest}"), ns);
    }
    for size in SIZES {
        let of = |name: &str| values[&format!("{name}.{size}")];
        // A reader that sleeps more than once in a write: one sleep, as in the simulator; a
        // processor that is busy has no long rests.
        let sleeps = of("hop.sleeps").min(1.0 / frames_of_a_write(size) as f64);
        parameters.set(&format!("relay.out.{size}"), of("hop.out") - of("spsc.send"));
        parameters.set(&format!("relay.in.{size}"), of("hop.in") - after_sleep[0] * sleeps);
    }
    Ok(parameters)
}

/// The value that is as high as a part of all values, or higher.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part) as usize).copied().unwrap_or(f64::NAN)
}
