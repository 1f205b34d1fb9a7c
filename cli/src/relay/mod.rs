//! `slipring relay`: passes frames from one endpoint to another.
//!
//! Frames are collected while they arrive, and sent when they pause. From a ring to a byte stream
//! many go in one write, and are released when the kernel has them. A relay passes on how its
//! source ended: a close as a close, a death as a death (it then does not send BYE, either), so a
//! chain of relays ends by itself.
//!
//! A frame that was received from SRC and did not arrive at DST is lost, unless a ring keeps it.
//! That is reported, and the exit code is 4.

mod way;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use slipring::{Deadline, Redelivery, endpoint::Endpoint};

use self::way::Way;
use crate::failure::{FAILED, Failure, Outcome, USAGE};
use crate::interrupt::Interrupt;
use crate::made::Made;
use crate::opening;
use crate::{Context, standard, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring relay ring:ticks fifo:/run/user/1000/ticks
  slipring relay ring:ticks - | ssh far slipring relay - ring:ticks
  slipring relay 'tcp:127.0.0.1:7000?listen' ring:ticks
  slipring relay ring:far tcp:127.0.0.1:7000
  slipring relay --duplex 'unix:/run/a.sock?listen' tcp:127.0.0.1:7000

When SRC closes, DST is closed and relay ends with 0, so chains of relays end by themselves. When SRC's sender dies, all received \
frames are passed on, DST is told of the death, and the exit code is 1. It is 4 if frames are missing, or were received from SRC \
and did not arrive at DST. A ring keeps such frames.

SIGINT and SIGTERM end it, with 130 and 143. Frames in rings and queues stay there. Frames in a socket or a pipe are passed on \
first; those that DST does not take within 2 seconds are lost, and the exit code is 4. A second signal kills.";

/// Pass frames from one endpoint to another
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Relay {
    /// Source: SCHEME:ADDRESS[?OPTIONS], or - for stdin
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: String,
    /// Destination: SCHEME:ADDRESS[?OPTIONS], or - for stdout
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    destination: String,
    /// Stop after N frames
    #[arg(long, value_name = "N", conflicts_with = "duplex")]
    count: Option<u64>,
    /// Print counters on stderr every second, and at the end; as JSON with --json
    #[arg(long)]
    stats: bool,
    /// Pass frames in both directions; both endpoints must be duplex
    #[arg(long)]
    duplex: bool,
    /// Give up (exit code 124) when for this long the endpoints have not opened, no frame has
    /// arrived, or none could be passed on
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
}

impl Relay {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let source = target::endpoint(&self.source, context)?;
        let destination = target::endpoint(&self.destination, context)?;
        if target::is_same(&source, &destination) {
            let message = format_args!("{destination}: a relay from an endpoint into itself would never end");
            return Err(Failure::new(USAGE, message));
        }
        // Neither endpoint is created if the other one cannot be opened.
        let check = |endpoint: &Endpoint, name: &str, check: fn(&Endpoint) -> slipring::Result<()>| {
            check(endpoint).map_err(|error| Failure::from(error).at(name))
        };
        if self.duplex {
            check(&source, &self.source, Endpoint::check_duplex)?;
            check(&destination, &self.destination, Endpoint::check_duplex)?;
        } else {
            check(&source, &self.source, Endpoint::check_receiver)?;
            check(&destination, &self.destination, Endpoint::check_sender)?;
        }
        let is_standard = |endpoint: &Endpoint| endpoint.to_string() == "-";
        if is_standard(&source) || self.duplex && is_standard(&destination) {
            standard::check_input()?;
        }
        if is_standard(&destination) || self.duplex && is_standard(&source) {
            standard::check_output_of_frames()?;
        }
        let interrupt = Interrupt::install()?;
        let outcome = match self.duplex {
            true => self.run_duplex(&source, &destination, &interrupt, context),
            false => self.run_one_way(&source, &destination, &interrupt, context),
        };
        outcome.and_then(|()| interrupt.ended())
    }

    fn run_one_way(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        interrupt: &Interrupt,
        context: &Context,
    ) -> Outcome {
        // The destination first: no frame is received that could not be passed on.
        let made = Made::before_opening(destination);
        let tx = open(destination, &self.destination, self, interrupt, |to, until| to.open_batching_sender(until))?;
        let Some(tx) = tx else { return Ok(()) };
        let rx = open(source, &self.source, self, interrupt, |from, until| from.open_receiver(until));
        let Ok(Some(mut rx)) = rx else {
            drop(tx);
            made.remove(context);
            return rx.map(drop);
        };
        if let Some(count) = self.count {
            rx.expect_at_most(count);
        }
        let stop = AtomicBool::new(false);
        let keeps = match source {
            Endpoint::Ring(ring) => ring.open().is_ok_and(|ring| ring.redelivery() == Redelivery::AtLeastOnce),
            _ => false,
        };
        Way::new(self, [&self.source, &self.destination], keeps, interrupt, &stop, context).run(rx, tx)
    }

    fn run_duplex(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        interrupt: &Interrupt,
        context: &Context,
    ) -> Outcome {
        let names = [self.source.as_str(), &self.destination];
        let back_names = [names[1], names[0]];
        let there = open(destination, &self.destination, self, interrupt, |end, until| end.open_duplex(until))?;
        let Some((to_there, from_there)) = there else { return Ok(()) };
        let here = open(source, &self.source, self, interrupt, |end, until| end.open_duplex(until))?;
        let Some((to_here, from_here)) = here else { return Ok(()) };
        let stop = AtomicBool::new(false);
        let outcomes = std::thread::scope(|scope| {
            let way = |names, rx, tx| Way::new(self, names, false, interrupt, &stop, context).run(rx, tx);
            let back = std::thread::Builder::new().spawn_scoped(scope, move || way(back_names, from_there, to_here));
            let back = match back {
                Ok(back) => back,
                Err(error) => return [Err(opening::no_thread(&error)), Ok(())],
            };
            let forth = way(names, from_here, to_there);
            let back = back.join().unwrap_or_else(|_| Err(Failure::new(FAILED, "one direction failed")));
            [forth, back]
        });
        outcomes.into_iter().collect()
    }
}

/// Opens an endpoint, waiting for its peer; `None` if an end was requested meanwhile.
fn open<T: Send + 'static>(
    endpoint: &Endpoint,
    name: &str,
    options: &Relay,
    interrupt: &Interrupt,
    how: fn(&Endpoint, Deadline) -> slipring::Result<T>,
) -> Outcome<Option<T>> {
    let deadline = options.timeout.map_or(Deadline::never(), Deadline::after);
    opening::open(interrupt, endpoint, deadline, how).map_err(|failure| failure.at(name))
}
