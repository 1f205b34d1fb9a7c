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

use crate::parameters::{Parameters, TABLE};
use points::Point;
use scene::Stage;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Namespaces of the largest point.
const HOSTS: usize = 4;
/// If no other number is asked for.
const ROUNDS: usize = 7;

pub(crate) fn part(arguments: impl Iterator<Item = String>) -> Outcome {
    part::Part::parse(arguments)?.run()
}

/// Prints the table of parameters as measured here.
pub(crate) fn calibrate(rounds: Option<String>) -> Outcome {
    let (_, rounds) = measure(rounds, |point| point.calibrates)?;
    print!("{}", in_the_middle(&rounds)?.print());
    Ok(())
}

/// Prints what was measured, what the simulator says, and their ratio, and on stderr the
/// parameters. Fails if a ratio is off by more than a fifth.
pub(crate) fn check(rounds: Option<String>) -> Outcome {
    let (points, rounds) = measure(rounds, |_| true)?;
    eprintln!("{}", in_the_middle(&rounds)?.print());
    println!("| point | measured, ns | rounds from, to | simulated, ns | ratio |\n|---|---:|---:|---:|---:|");
    let mut wrong = Vec::new();
    for (index, point) in points.iter().enumerate().filter(|(_, point)| !point.calibrates) {
        let mut measured: Vec<f64> = rounds.iter().map(|round| round.points[index]).collect();
        let simulated = rounds.iter().map(|round| Ok(point.simulate(&parameters(&round.values)?)));
        let mut simulated = simulated.collect::<Outcome<Vec<f64>>>()?;
        let mut ratios: Vec<f64> = simulated.iter().zip(&measured).map(|(one, other)| one / other).collect();
        let (middle, ratio, name) = (median(&mut measured), median(&mut ratios), &point.name);
        let (low, high, simulated) = (measured[0], measured[measured.len() - 1], median(&mut simulated));
        println!("| {name} | {middle:.0} | {low:.0}, {high:.0} | {simulated:.0} | {ratio:.2} |");
        if !(1.0 / 1.2..=1.2).contains(&ratio) {
            wrong.push(format!("{name}: {ratio:.2}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("off by more than a fifth: {}", wrong.join(", ")).into()) }
}

/// What one round measured: values of parameters by name, and a result of each point.
struct Round {
    values: BTreeMap<String, f64>,
    points: Vec<f64>,
}

/// Measures the points in rounds, each beginning with another point.
fn measure(rounds: Option<String>, wanted: fn(&Point) -> bool) -> Outcome<(Vec<Point>, Vec<Round>)> {
    let rounds: usize = rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let slipring = std::env::var_os("SLIPRING").ok_or("SLIPRING is not set: it must be the path of `slipring`")?;
    let stage = Stage::new(&PathBuf::from(slipring), HOSTS)?;
    if stage.net.is_none() {
        eprintln!("no network namespaces (`ip netns add` needs root): points between hosts are skipped");
    }
    let points: Vec<Point> = points::all(stage.net.as_ref()).into_iter().filter(wanted).collect();
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut this = Round { values: BTreeMap::new(), points: vec![f64::NAN; points.len()] };
        for turn in 0..points.len() {
            let index = (turn + round * points.len() / rounds) % points.len();
            let result = points[index].measure(&stage).map_err(|error| format!("{}: {error}", points[index].name))?;
            this.values.extend(points[index].values(&result));
            this.points[index] = result.ns;
        }
        measured.push(this);
    }
    Ok((points, measured))
}

/// The medians of the rounds.
fn in_the_middle(rounds: &[Round]) -> Outcome<Parameters> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in rounds.iter().flat_map(|round| &round.values) {
        values.entry(name.clone()).or_default().push(*value);
    }
    parameters(&values.into_iter().map(|(name, mut values)| (name, median(&mut values))).collect())
}

/// The table with measured values.
fn parameters(values: &BTreeMap<String, f64>) -> Outcome<Parameters> {
    let mut parameters = Parameters::parse(TABLE)?;
    for (name, value) in values {
        match name.as_str() {
            "hop.slow" => {
                // A frame that finds all asleep wakes the first relay on its own processor, the
                // second one on the other, and the consumer there. What is left is the relays' work.
                let wakes = 2.0 * values["wake.near.p50"] + values["wake.far.p50"];
                parameters.set("relay.after_sleep", ((value - wakes) / 2.0).max(0.0));
            }
            _ => parameters.set(name, *value),
        }
    }
    Ok(parameters)
}

/// The middle of some values, which it sorts; of an even number, the lower of the two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
