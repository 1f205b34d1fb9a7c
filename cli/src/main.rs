//! `slipring`: the command line. One file per verb; this file lists them all.
//!
//! Data is written to stdout, everything else to stderr. Exit codes: see [`failure`].

#![deny(unsafe_code)]

mod bench;
mod child;
mod completions;
mod create;
mod demo;
mod doctor;
mod dump;
mod failure;
mod framing;
mod gc;
mod info;
mod input;
mod interrupt;
mod ls;
mod made;
mod man;
mod opening;
mod output;
mod parts;
mod progress;
mod recv;
mod relay;
mod reports;
mod rm;
mod send;
mod standard;
mod stat;
mod stderr;
mod target;
mod transports;
mod units;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use failure::{Failure, Outcome};

const ABOUT: &str = "Crash-safe shared-memory IPC at cache-line latency";

const EXAMPLES: &str = "\
Start here:
  slipring demo       measure and show rings, in a few seconds
  slipring recv ring:hello & echo hi | slipring send ring:hello

A work queue that survives kill -9 of any participant:
  slipring create 'ring:jobs?kind=mpmc&slots=4096&slot=1KiB'
  for n in 1 2; do slipring recv ring:jobs --rate 500/s --file done.$n & done
  seq 1000 | slipring send ring:jobs; wait; wc -l done.*
  slipring ls         rings, their participants, and what waits

Exit codes: 0 ok, 1 failed, 2 usage, 3 corrupt or incompatible, 4 data lost, 5 not found, 124 timeout, 130 and 143 closed after SIGINT and SIGTERM";

/// The command line.
#[derive(Parser)]
#[command(name = "slipring", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Context {
    /// Print JSON: one object, or one object per line where there is a stream of them; on stderr,
    /// an error is {"error": TEXT, "code": EXIT CODE}, and a remark {"note": TEXT}
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing on stderr but the reason of a failure
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Directory of the rings [default: $SLIPRING_DIR, else $XDG_RUNTIME_DIR/slipring, else
    /// /dev/shm/slipring-UID]
    #[arg(long, global = true, value_name = "PATH")]
    dir: Option<PathBuf>,
}

impl Context {
    /// Prints a remark on stderr, unless `--quiet` is given: as text, or with `--json` as
    /// `{"note":"…"}` on one line.
    fn note(&self, text: impl std::fmt::Display) {
        match (self.quiet, self.json) {
            (true, _) => {}
            (false, true) => stderr::remark(serde_json::json!({ "note": text.to_string() })),
            (false, false) => stderr::remark(format_args!("slipring: {text}")),
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Bench(bench::Bench),
    Create(create::Create),
    Ls(ls::Ls),
    Info(info::Info),
    Send(send::Send),
    Recv(recv::Recv),
    Relay(relay::Relay),
    Stat(stat::Stat),
    Verify(verify::Verify),
    Dump(dump::Dump),
    Rm(rm::Rm),
    Gc(gc::Gc),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
    #[command(hide = true)]
    DemoPart(demo::part::Part),
    #[command(hide = true)]
    BenchPart(bench::part::Part),
}

impl Verb {
    fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Demo(verb) => verb.run(context),
            Verb::Bench(verb) => verb.run(context),
            Verb::Create(verb) => verb.run(context),
            Verb::Ls(verb) => verb.run(context),
            Verb::Info(verb) => verb.run(context),
            Verb::Send(verb) => verb.run(context),
            Verb::Recv(verb) => verb.run(context),
            Verb::Relay(verb) => verb.run(context),
            Verb::Stat(verb) => verb.run(context),
            Verb::Verify(verb) => verb.run(context),
            Verb::Dump(verb) => verb.run(context),
            Verb::Rm(verb) => verb.run(context),
            Verb::Gc(verb) => verb.run(context),
            Verb::Doctor(verb) => verb.run(context),
            Verb::Completions(verb) => verb.run(Cli::command()),
            Verb::Man(verb) => verb.run(Cli::command()),
            Verb::DemoPart(verb) => verb.run(),
            Verb::BenchPart(verb) => verb.run(),
        }
    }
}

fn main() -> ExitCode {
    let Cli { context, verb } = match Cli::try_parse() {
        Ok(parsed) => parsed,
        // Arguments that could not be parsed do not show whether JSON is wanted.
        Err(error) if error.use_stderr() && wants_json() => {
            let text = error.to_string();
            return Failure::new(failure::USAGE, text.trim_end().trim_start_matches("error: ")).report(true);
        }
        Err(error) => error.exit(),
    };
    failure::set_directory(context.dir.clone());
    match verb.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(context.json),
    }
}

/// Whether `--json` is among the arguments.
fn wants_json() -> bool {
    std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks for what clap does not wrap well: preformatted lines that are too long, and
    /// paragraphs of several lines.
    fn check(command: &clap::Command) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let is_prose = |line: &str| !line.is_empty() && !line.contains("  ");
        let mut follows_prose = false;
        for line in text.lines() {
            if is_prose(line) {
                assert!(!follows_prose, "{}: a paragraph is one line: {line}", command.get_name());
            } else {
                let width = line.chars().count();
                assert!(width <= 80, "{}: {width} columns: {line}", command.get_name());
            }
            follows_prose = is_prose(line) && !line.ends_with(':');
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        check(&Cli::command());
    }
}
