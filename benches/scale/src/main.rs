//! How far slipring goes: simulated hosts, calibrated and checked on one machine.
//!
//! Without arguments it prints the tables of docs/scale.md.

mod ask;
mod engine;
#[cfg(feature = "measure")]
mod measure;
mod parameters;
mod tables;
mod topology;

use std::error::Error;
use std::process::ExitCode;

use parameters::{Parameters, TABLE};

const USAGE: &str = "\
Usage: slipring-scale                          print the tables of docs/scale.md
       slipring-scale ask TOPOLOGY hosts=N size=BYTES [rate=FRAMES] [PARAMETER=VALUE...]
                                               answer one question; the rate is in frames a second of
                                               each source, the parameters are those of parameters.txt
       slipring-scale calibrate [ROUNDS]       measure the parameters here, and print their table
       slipring-scale check [ROUNDS]           measure what the simulator predicts, and compare

The last two need the feature `measure`, two processors, and in SLIPRING the path of the command `slipring`; as root, they \
make network namespaces as well.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        None => print_tables(),
        Some("ask") => answer(arguments),
        #[cfg(feature = "measure")]
        Some("part") => measure::part(arguments),
        #[cfg(feature = "measure")]
        Some("calibrate") => measure::calibrate(arguments.next()),
        #[cfg(feature = "measure")]
        Some("check") => measure::check(arguments.next()),
        Some(_) => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    print!("{}", ask::ask(Parameters::parse(TABLE)?, arguments)?);
    Ok(())
}

fn print_tables() -> Result<(), Box<dyn Error>> {
    for table in tables::all(&Parameters::parse(TABLE)?) {
        println!("{table}");
    }
    Ok(())
}
