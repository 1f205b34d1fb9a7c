//! `slipring rm`: takes names away, of rings and of queues, but not from under somebody's feet.

use std::fmt::Display;

use clap::Args;
use slipring::endpoint::Endpoint;
use slipring::transport::{mq, sysv};
use slipring::{Error, Ring};

use crate::failure::{FAILED, Failure, Outcome, USAGE};
use crate::{Context, output, target};

/// Remove rings and message queues
#[derive(Args)]
#[command(after_help = "Examples:
  slipring rm jobs ticks
  slipring rm --force jobs
  slipring rm mq:/ticks

A ring with somebody attached is refused (exit code 1), as is one that another version made; --force takes the name away
all the same. Whoever is attached goes on undisturbed, and the memory goes with the last of them. Frames that wait are
gone: look with `slipring dump` first.")]
pub(crate) struct Rm {
    /// ring:NAME, or NAME; mq:/NAME; sysv:KEY
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also those with somebody attached, and what cannot be opened
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Removes what can be removed; the first failure decides the exit code.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut code = None;
        for text in &self.names {
            if let Err(failure) = self.remove(text, context) {
                code.get_or_insert(failure.code());
                output::remark(format_args!("slipring: {}", failure.message()));
            }
        }
        code.map_or(Ok(()), |code| Err(Failure::silent(code)))
    }

    fn remove(&self, text: &str, context: &Context) -> Outcome {
        match target::endpoint(text, context)? {
            Endpoint::Ring(ring) => self.remove_ring(ring.name(), context)?,
            Endpoint::Mq(queue) => {
                // A queue that cannot be opened can still be removed by its owner.
                let in_use = !self.force && mq::is_in_use(queue.name())?;
                self.remove_queue(&queue, in_use, || mq::remove(queue.name()))?;
            }
            Endpoint::Sysv(queue) => {
                let key = queue.key()?;
                let is_open = |listed: &sysv::Listed| listed.key == key && listed.senders + listed.receivers > 0;
                self.remove_queue(&queue, sysv::list()?.iter().any(is_open), || sysv::remove(key))?;
            }
            other => return Err(Failure::new(USAGE, format_args!("{other}: neither a ring nor a queue"))),
        }
        if context.json {
            return output::print_json(&serde_json::json!({ "removed": text }));
        }
        Ok(())
    }

    fn remove_queue(&self, queue: &dyn Display, in_use: bool, remove: impl Fn() -> slipring::Result<()>) -> Outcome {
        if in_use && !self.force {
            return Err(Failure::new(
                FAILED,
                format_args!("{queue}: somebody has it open; --force removes it all the same"),
            ));
        }
        remove().map_err(|error| Failure::from(error).at(queue))
    }

    fn remove_ring(&self, name: &str, context: &Context) -> Outcome {
        let anywhere = target::anywhere(context);
        if !self.force {
            match Ring::open(name, &anywhere) {
                Ok(ring) if !ring.is_idle()? => {
                    let message =
                        format_args!("somebody is attached (`slipring info {name}`); --force removes it all the same");
                    return Err(Failure::new(FAILED, message).at(format_args!("ring:{name}")));
                }
                // What is broken is for removal; what is merely foreign may be in use.
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(Failure::from(error).at(format_args!("ring:{name}"))),
            }
        }
        Ring::remove(name, &anywhere).map_err(|error| Failure::from(error).at(format_args!("ring:{name}")))
    }
}
