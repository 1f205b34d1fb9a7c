//! slipring side by side with other rings, queues and kernel objects, in one harness.
//!
//! ```text
//! cargo run --release                                   # everything, and the targets
//! cargo run --release -- stream --peers slipring,rtrb   # one measure, some peers
//! cargo run --release -- --quick                        # whether everything works
//! ```
//!
//! Each run of a peer is a pair of new processes, each pinned to a processor ("t": a pair of
//! threads, for peers that cannot do more). Payloads are written, read and verified in full, on
//! both sides. Peers take turns, in an order that is rotated from round to round; a figure is the
//! median of the rounds, with the middle half of them. The floors of the machine (a bare cache
//! line, a bulk copy, a futex) take part like peers. A bare cache line is also timed before and
//! after each run: it shows whether the two processors were near each other or far apart, and
//! ratios are formed within a round between runs of the same placement.

mod counted;
mod ends;
mod growth;
mod job;
mod measures;
mod message;
mod part;
mod peers;
mod report;
mod run;
mod shared;
mod table;
mod tasks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use job::{Access, Job, Result};
use measures::{BLOCK, Effort, KIB, MIB, Measure, Measured};
use peers::{ABSENT, ENTRIES};

/// Reads beside a writer that have to find no torn value.
const TORN: u64 = 1_000_000_000;

#[derive(Parser)]
#[command(about = "slipring side by side with its peers; the tables are Markdown")]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only the peers with these names (and the floors).
    #[arg(long, global = true, value_delimiter = ',')]
    peers: Vec<String>,
    /// Runs of each peer.
    #[arg(long, global = true, default_value_t = 9)]
    rounds: usize,
    /// One short run of each: the figures are meaningless.
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// There and back, both ends busy.
    RoundTrip {
        /// Only messages of these sizes, in bytes.
        #[arg(long, value_delimiter = ',')]
        sizes: Vec<usize>,
    },
    /// One sender, one receiver.
    Stream {
        /// Only messages of these sizes, in bytes.
        #[arg(long, value_delimiter = ',')]
        sizes: Vec<usize>,
        /// Only rings of these sizes, in KiB.
        #[arg(long, value_delimiter = ',')]
        rings: Vec<usize>,
    },
    /// 64 bytes there and back, both ends asleep.
    WakeUp,
    /// As many senders as receivers: 1, 2, 4.
    Mpmc,
    /// Several senders, one receiver: 1, 4, 16.
    Gather,
    /// One sender, receivers that may miss messages: none, 2, 4, 8.
    Publish,
    /// Values of which only the newest matters: written, read.
    Latest,
    /// slipring alone: reads a value while it is written, and checks that it is never torn.
    Torn {
        #[arg(long, default_value_t = TORN)]
        reads: u64,
    },
    /// Instructions and system calls of a frame.
    Counted,
    /// slipring alone: 1 to 16 senders and receivers, rings of 64 KiB to 256 MiB, 1 to 1,000 rings.
    Growth,
    /// The peers by name.
    List,
    #[command(hide = true)]
    Part { job: String },
}

/// Prints an error and ends a thread or process of a measurement.
fn give_up(error: &(dyn std::error::Error + Send + Sync)) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
}

fn part(job: &str) -> Result<()> {
    part::settle();
    let job: Job = serde_json::from_str(job)?;
    let entry = ENTRIES.iter().find(|entry| entry.name == job.peer).ok_or("no such peer")?;
    part::finish((entry.run)(&job)?)
}

fn trips(sizes: &[usize]) -> Vec<Measure> {
    let wanted = |size: &usize| sizes.is_empty() || sizes.contains(size);
    [8, 64, 256, 1024].into_iter().filter(wanted).map(Measure::round_trip).collect()
}

fn streams(sizes: &[usize], rings: &[usize]) -> Vec<Measure> {
    let all = [(8, 256 * KIB), (64, 64 * KIB), (64, MIB), (64, 4 * MIB), (256, MIB), (1024, MIB), (BLOCK, MIB)];
    let wanted = |(size, ring): &(usize, usize)| {
        (sizes.is_empty() || sizes.contains(size)) && (rings.is_empty() || rings.contains(&(ring / KIB)))
    };
    all.into_iter().filter(wanted).map(|(size, ring)| Measure::stream(size, ring)).collect()
}

fn many() -> Vec<Measure> {
    [1, 2, 4].map(Measure::many).to_vec()
}

fn fans() -> Vec<Measure> {
    vec![Measure::publish()]
}

fn boards() -> Vec<Measure> {
    [Access::Write, Access::Read, Access::InTurn, Access::Beside].map(Measure::latest).to_vec()
}

fn gathers() -> Vec<Measure> {
    [1, 4, 16].map(Measure::gather).to_vec()
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let grows = matches!(cli.verb, Some(Verb::Growth));
    let torn = match cli.verb {
        Some(Verb::Torn { reads }) => Some(reads),
        None if !cli.quick => Some(TORN),
        _ => None,
    };
    let counts = !cli.quick && matches!(cli.verb, None | Some(Verb::Counted));
    let measures = match cli.verb {
        Some(Verb::Part { job }) => {
            return part(&job).map_or_else(|error| give_up(&*error), |()| ExitCode::SUCCESS);
        }
        Some(Verb::List) => {
            ENTRIES.iter().for_each(|entry| println!("{}", entry.name));
            return ExitCode::SUCCESS;
        }
        Some(Verb::Growth | Verb::Counted | Verb::Torn { .. }) => Vec::new(),
        Some(Verb::Gather) => gathers(),
        Some(Verb::Publish) => fans(),
        Some(Verb::Latest) => boards(),
        Some(Verb::RoundTrip { sizes }) => trips(&sizes),
        Some(Verb::Stream { sizes, rings }) => streams(&sizes, &rings),
        Some(Verb::WakeUp) => vec![Measure::WAKE_UP],
        Some(Verb::Mpmc) => many(),
        None => [trips(&[]), streams(&[], &[]), vec![Measure::WAKE_UP], many(), gathers(), fans(), boards()].concat(),
    };
    if let Some(stranger) = cli.peers.iter().find(|name| !ENTRIES.iter().any(|entry| entry.name == **name)) {
        eprintln!("no peer is called {stranger}: see `list`");
        return ExitCode::from(2);
    }
    run::tidy_up();
    let effort = Effort { peers: cli.peers, rounds: cli.rounds.max(1), quick: cli.quick };
    if grows {
        return growth::run(&effort).map_or_else(|error| give_up(&*error), |()| ExitCode::SUCCESS);
    }
    let all: Vec<Measured> = measures
        .into_iter()
        .map(|measure| {
            let measured = measure.run(&effort);
            report::print(&measured);
            measured
        })
        .collect();
    report::print_targets(&all);
    if let Some(reads) = torn {
        match peers::torn(reads) {
            Ok(found) => report::print_torn(&found),
            Err(error) => give_up(&*error),
        }
    }
    if counts {
        match counted::run() {
            Ok(counted) => report::print_counted(&counted),
            Err(error) => give_up(&*error),
        }
    }
    if !ABSENT.is_empty() && !all.is_empty() {
        println!("Built without {}: features of this package.", ABSENT.join(", "));
    }
    let failed = all.iter().flat_map(|measured| &measured.peers).any(|(_, runs)| runs.failure.is_some());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
