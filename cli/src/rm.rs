//! `slipring rm`: unlinks the names of rings and of queues, unless they are in use.

use std::fmt::Display;

use clap::Args;
use slipring::endpoint::Endpoint;
use slipring::transport::{mq, sysv};
use slipring::{Error, Ring};

use crate::failure::{CORRUPT, FAILED, Failure, Outcome, USAGE};
use crate::{Context, output, target};

const FORCE: &str = "--force removes it anyway";

/// Remove rings and message queues
#[derive(Args)]
#[command(after_help = "Examples:
  slipring rm jobs ticks
  slipring rm --force jobs
  slipring rm mq:/ticks

A ring to which a process is attached is refused (exit code 1), as is a file that is no ring of this version (exit code 3); \
--force removes the name anyway. Attached processes can continue, and the memory is freed with the last of them. \
Frames that wait are lost: show them with `slipring dump` first.")]
pub(crate) struct Rm {
    /// ring:NAME, or NAME; mq:/NAME; sysv:KEY
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also rings to which a process is attached, and files that are no rings
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Removes what can be removed. The first failure determines the exit code.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut code = None;
        for text in &self.names {
            if let Err(failure) = self.remove(text, context) {
                code.get_or_insert(failure.code());
                let _ = failure.report(context.json);
            }
        }
        code.map_or(Ok(()), |code| Err(Failure::silent(code)))
    }

    fn remove(&self, text: &str, context: &Context) -> Outcome {
        match target::endpoint(text, context)? {
            Endpoint::Ring(ring) => self.remove_ring(ring.name(), context)?,
            Endpoint::Mq(queue) => {
                let name = queue.name();
                self.remove_queue(&queue, || mq::remove_if_unused(name, || true), || mq::remove(name))?;
            }
            Endpoint::Sysv(queue) => {
                let key = queue.key()?;
                self.remove_queue(&queue, || sysv::remove_if_unused(key, |_| true), || sysv::remove(key))?;
            }
            other => return Err(Failure::new(USAGE, format_args!("{other}: neither a ring nor a queue"))),
        }
        if context.json {
            return output::print_json(&serde_json::json!({ "removed": text }));
        }
        Ok(())
    }

    fn remove_queue(
        &self,
        queue: &dyn Display,
        unused: impl FnOnce() -> slipring::Result<bool>,
        always: impl FnOnce() -> slipring::Result<()>,
    ) -> Outcome {
        let removed = if self.force { always().map(|()| true) } else { unused() };
        match removed.map_err(Failure::from) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(FAILED, "a process has it open").and(FORCE).at(queue)),
            Err(failure) if failure.code() == CORRUPT => Err(failure.and(FORCE).at(queue)),
            Err(failure) => Err(failure.at(queue)),
        }
    }

    fn remove_ring(&self, name: &str, context: &Context) -> Outcome {
        let anywhere = target::anywhere(context);
        let fail = |failure: Failure| failure.at(format_args!("ring:{name}"));
        if self.force {
            return Ring::force_remove(name, &anywhere).map_err(|error| fail(error.into()));
        }
        let why = match Ring::remove_if_unused(name, &anywhere, |_| Ok(true)) {
            Ok(true) => return Ok(()),
            Ok(false) => Failure::new(FAILED, format_args!("a process is attached (`slipring info {name}`)")),
            Err(error @ (Error::Corrupt { .. } | Error::Incompatible { .. })) => error.into(),
            Err(error) => return Err(fail(error.into())),
        };
        Err(fail(why.and(FORCE)))
    }
}
