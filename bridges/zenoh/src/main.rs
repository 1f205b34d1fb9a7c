//! `slipring-zenoh`: relays frames between endpoints of slipring and keys of Zenoh.
//!
//! `slipring-zenoh ring:NAME zenoh:KEY` sends, `slipring-zenoh zenoh:KEY ring:NAME` receives.
//! Options, messages and exit codes are those of `slipring relay`, where they mean the same.

#![deny(unsafe_code)]

mod calls;
mod forward;
mod patterns;
mod place;
mod report;
mod stop;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Parser;
use slipring::Error;
use slipring_zenoh::{Link, Policy};
use zenoh::{Session, Wait};

use crate::forward::Options;
use crate::place::Place;
use crate::report::{Context, FAILED, Failure, Outcome, TIMEOUT, USAGE};
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  slipring-zenoh zenoh:site1/ticks ring:ticks --listen tcp/0.0.0.0:7447
  slipring-zenoh ring:ticks zenoh:site1/ticks --connect tcp/10.0.0.1:7447
  slipring-zenoh 'ring:ticks-*' 'zenoh:site1/ticks/**' --config zenoh.json5
  slipring-zenoh rpc:prices zenoh:site1/prices --connect tcp/10.0.0.1:7447

rpc:NAME is a server for the callers of NAME here (slipring::rpc), or as DST, a caller of the server NAME here.

With a wildcard in both names, each matching ring has its key and each key its ring, also those that appear later.

Without --config, --connect, --listen and --scout, no port is opened and no peer is looked for. TLS and access control are \
Zenoh's own, in the file of --config.

When SRC closes, DST is closed and the exit code is 0. When SRC's sender dies, or is lost for longer than --reconnect, the exit \
code is 1. It is 4 if frames are missing, or were received and could not be passed on. With --follow it waits for the next \
sender instead. SIGINT and SIGTERM end it, with 130 and 143; frames in rings stay there. A second signal kills.";

/// Relay frames between an endpoint of slipring and a key of Zenoh
#[derive(Parser)]
#[command(name = "slipring-zenoh", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Source: zenoh:KEY/EXPR, or an endpoint of slipring
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: String,
    /// Destination: zenoh:KEY, or an endpoint of slipring
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    destination: String,
    /// Configuration file of Zenoh: TLS, access control, and everything else
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Connect to this endpoint, again after each loss; may be repeated
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,
    /// Listen on this endpoint; may be repeated
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<String>,
    /// peer, client or router [default: that of the configuration file, or peer]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Look for peers by multicast
    #[arg(long)]
    scout: bool,
    /// What happens to frames that the other side does not take in time: they hold up the sender
    /// (block), or are dropped and counted (drop)
    /// [default: block]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<Policy>,
    /// With SRC zenoh:KEY, how long a sender may be lost until it counts as dead [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    reconnect: Option<Duration>,
    /// When the last sender has left or died, wait for the next one
    #[arg(long)]
    follow: bool,
    /// Stop after N frames
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print counters on stderr every second, and at the end; as JSON with --json
    #[arg(long, visible_alias = "progress")]
    stats: bool,
    /// Give up (exit code 124) when for this long no frame has arrived, or none could be passed on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print JSON: the counters at the end; on stderr, an error is {"error": TEXT, "code": EXIT
    /// CODE}
    #[arg(long)]
    json: bool,
    /// Print nothing on stderr but the reason of a failure
    #[arg(short, long)]
    quiet: bool,
    /// Directory of the rings [default: $SLIPRING_DIR, else $XDG_RUNTIME_DIR/slipring, else
    /// /dev/shm/slipring-UID]
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

/// How long nothing may answer until that is told, once: a wrong address shows in nothing else.
const SILENCE: Duration = Duration::from_secs(3);
/// The default of `--reconnect`.
const RECONNECT: Duration = Duration::from_secs(10);

fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "block" => Ok(Policy::Block),
        "drop" => Ok(Policy::Drop),
        _ => Err("must be block or drop".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    slipring::endpoint::parse_duration(text).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if std::env::var_os("ZENOH_RUNTIME").is_none() {
        #[expect(unsafe_code, reason = "Zenoh reads it from the environment only")]
        // SAFETY: there is no other thread yet.
        unsafe {
            std::env::set_var("ZENOH_RUNTIME", slipring_zenoh::RUNTIME);
        }
    }
    let context = Context { json: cli.json, quiet: cli.quiet };
    match run(cli, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&context),
    }
}

fn run(cli: Cli, context: &Context) -> Outcome {
    let source = Place::parse(&cli.source, cli.dir.as_deref()).map_err(|failure| failure.at(&cli.source))?;
    let destination =
        Place::parse(&cli.destination, cli.dir.as_deref()).map_err(|failure| failure.at(&cli.destination))?;
    if source.is_zenoh() == destination.is_zenoh() {
        return Err(Failure::new(USAGE, "one of SRC and DST is zenoh:KEY, the other one an endpoint of slipring"));
    }
    let link = Link { config: cli.config, mode: cli.mode, connect: cli.connect, listen: cli.listen, scout: cli.scout };
    if link == (Link { mode: link.mode.clone(), ..Link::default() }) {
        return Err(Failure::new(USAGE, "no connection: give --connect, --listen, --scout or --config"));
    }
    let are_calls = [&source, &destination].iter().any(|place| matches!(place, Place::Calls(..)));
    let of_frames = cli.policy.is_some() || cli.reconnect.is_some() || cli.follow;
    if are_calls && (of_frames || cli.count.is_some() || cli.timeout.is_some()) {
        let text = "--count, --follow, --policy, --reconnect and --timeout are for frames, not for calls";
        return Err(Failure::new(USAGE, text));
    }
    let by_pattern = [&source, &destination].iter().any(|place| matches!(place, Place::Rings(..)));
    if by_pattern && (cli.count.is_some() || cli.timeout.is_some()) {
        return Err(Failure::new(USAGE, "--count and --timeout are for one ring, not for rings by pattern"));
    }
    if cli.reconnect.is_some() && !source.is_zenoh() {
        return Err(Failure::new(USAGE, "--reconnect is for the side that receives, where SRC is zenoh:KEY"));
    }
    let options = Options {
        policy: cli.policy.unwrap_or_default(),
        reconnect: cli.reconnect.unwrap_or(RECONNECT),
        follow: cli.follow,
        count: cli.count,
        stats: cli.stats,
        timeout: cli.timeout,
        names: [cli.source, cli.destination],
    };
    let stop = Stop::install()?;
    let unanswered = format!("no answer yet from {}; trying again", link.connect.join(", "));
    let is_alone = |session: &Session| {
        let info = session.info();
        info.peers_zid().wait().next().is_none() && info.routers_zid().wait().next().is_none()
    };
    let connects = !link.connect.is_empty();
    let Some(session) = open(link, options.timeout, &stop, || context.note(&unanswered))? else {
        return stop.ended(Ok(()));
    };
    let outcome = std::thread::scope(|scope| {
        let (running, ended) = mpsc::channel::<()>();
        let (session, unanswered) = (&session, &unanswered);
        scope.spawn(move || {
            if ended.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) && connects && is_alone(session) {
                context.note(unanswered);
            }
        });
        let outcome = forward::run(session, &source, &destination, &options, &stop, context);
        drop(running);
        outcome
    });
    let _ = session.close().wait(); // sends what is under way; the receivers have confirmed the frames
    stop.ended(outcome)
}

/// Opens the session, in a thread: a client waits for its router, and `note` is called if that
/// takes long. `None` after a signal.
fn open(link: Link, timeout: Option<Duration>, stop: &Stop, note: impl Fn()) -> Outcome<Option<Session>> {
    let start = Instant::now();
    let mut is_noted = false;
    let (tx, opened) = mpsc::channel();
    std::thread::spawn(move || drop(tx.send(link.open())));
    while !stop.asked() {
        match opened.recv_timeout(Duration::from_millis(100)) {
            Ok(opened) => return opened.map(Some).map_err(unopened),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::new(FAILED, "Zenoh panicked")),
        }
        if start.elapsed() >= SILENCE && !std::mem::replace(&mut is_noted, true) {
            note();
        }
        if let Some(timeout) = timeout.filter(|timeout| start.elapsed() >= *timeout) {
            return Err(Failure::new(TIMEOUT, format_args!("no router has answered for {timeout:?}")));
        }
    }
    Ok(None)
}

fn unopened(error: Error) -> Failure {
    match &error {
        Error::Io { source, .. } if source.kind() == ErrorKind::InvalidInput => Failure::new(USAGE, error),
        _ => error.into(),
    }
}
