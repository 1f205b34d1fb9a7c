//! `slipring gc`: frees what dead processes left behind.
//!
//! Rings belong to this library, and the kernel knows whether they have users. A System V queue
//! belongs to it if its semaphores are marked, and they count its users. A POSIX queue has no mark,
//! and a foreign program leaves no trace on it: such queues are listed, and not removed here.

use clap::Args;
use serde_json::json;
use slipring::transport::{mq, sysv};
use slipring::{Error, Kind, Ring};

use crate::failure::{Failure, Outcome};
use crate::{Context, output, target, units};

/// Free what dead processes left behind
#[derive(Args)]
#[command(after_help = "Examples:
  slipring gc --dry-run      show what would be done
  slipring gc                reap the dead, remove empty rings that they left
  slipring gc --idle         remove all empty rings without users
  slipring gc --all          the same for rings in which frames wait
  slipring gc --queues       also System V queues, otherwise only listed

A participant is dead when the kernel has released its lock; time and process ids do not count. A ring with a living \
participant is never removed. A ring in which data waits is removed only with --all, and a ring whose last users closed \
it, or that had none yet, only with --idle or --all. A System V queue counts its users. On a POSIX queue only slipring's \
users can be seen, so such queues are listed, and `slipring rm mq:/NAME` removes them.")]
pub(crate) struct Gc {
    /// Remove every ring without users, also those in which frames wait
    #[arg(long)]
    all: bool,
    /// Also remove empty rings that are merely idle
    #[arg(long)]
    idle: bool,
    /// Also remove System V queues of slipring without users; those with messages only with --all
    #[arg(long)]
    queues: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Gc {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let anywhere = target::anywhere(context);
        for name in Ring::list(&anywhere)? {
            let ring = match Ring::open(&name, &anywhere) {
                Ok(ring) => ring,
                Err(error) => {
                    context.note(format_args!("ring:{name}: skipped: {error}"));
                    continue;
                }
            };
            let (dead, removed) = match self.collect(&ring, &name, context) {
                Ok(collected) => collected,
                Err(error) => {
                    context.note(format_args!("ring:{name}: skipped: {error}"));
                    continue;
                }
            };
            if context.json {
                output::print_json(
                    &json!({ "name": name, "dead": dead, "removed": removed, "dry_run": self.dry_run }),
                )?;
                continue;
            }
            let [reaping, removal] = if self.dry_run { ["would reap", "would remove"] } else { ["reaped", "removed"] };
            if dead > 0 {
                output::print(&format!("{name}: {reaping} {dead} dead\n"))?;
            }
            if removed {
                output::print(&format!("{name}: {removal}\n"))?;
            }
        }
        self.sysv_queues(context)?;
        self.posix_queues(context)
    }

    /// Lists this library's queues that no process has open.
    fn sysv_queues(&self, context: &Context) -> Outcome {
        for queue in listed(sysv::list())? {
            if queue.senders + queue.receivers > 0 {
                continue;
            }
            let name = format!("sysv:{:#x}", queue.key.get());
            let remove = self.queues && (self.all || queue.messages == 0);
            if !remove {
                let (messages, bytes) = (queue.messages, units::bytes(queue.bytes));
                let how = if self.queues { "--all" } else { "--queues" };
                context.note(format_args!(
                    "{name}: unused, {messages} messages ({bytes}) wait; {how} or `slipring rm {name}` removes it"
                ));
                continue;
            }
            if !self.dry_run {
                match sysv::remove_if_unused(queue.key, |messages| self.all || messages == 0) {
                    Ok(true) => {}
                    Ok(false) | Err(Error::NotFound) => continue, // opened or removed since it was listed
                    Err(error) => return Err(Failure::from(error).at(name)),
                }
            }
            if context.json {
                output::print_json(&json!({ "name": name, "removed": true, "dry_run": self.dry_run }))?;
            } else {
                let removed = if self.dry_run { "would remove" } else { "removed" };
                output::print(&format!("{name}: {removed}\n"))?;
            }
        }
        Ok(())
    }

    fn posix_queues(&self, context: &Context) -> Outcome {
        for queue in listed(mq::list())?.iter().filter(|queue| !queue.in_use) {
            let (name, bytes) = (&queue.name, units::bytes(queue.bytes));
            context.note(format_args!(
                "mq:{name}: no slipring process uses it, {bytes} wait; `slipring rm mq:{name}` removes it"
            ));
        }
        Ok(())
    }

    /// Reaps the dead, and removes the ring if it may. Returns how many dead there were, and
    /// whether the ring was removed.
    fn collect(&self, ring: &Ring, name: &str, context: &Context) -> slipring::Result<(usize, bool)> {
        let left_by_dead = ring.was_left_by_dead()?;
        let dead = match self.dry_run {
            true => ring.participants()?.iter().filter(|participant| !participant.alive).count(),
            false => ring.reap_dead()?,
        };
        let wanted = |ring: &Ring| {
            use Kind::{Broadcast, Latest, Mpmc, Mpsc, Spsc, Stream};
            let is_ring = matches!(ring.kind(), Spsc | Mpmc | Mpsc | Stream | Latest | Broadcast);
            Ok(is_ring && (self.all || ((self.idle || left_by_dead) && is_empty(ring)?)))
        };
        let removed = match self.dry_run {
            true => ring.is_idle()? && wanted(ring)?,
            false => Ring::remove_if_unused(name, &target::anywhere(context), wanted)?,
        };
        Ok((dead, removed))
    }
}

fn is_empty(ring: &Ring) -> slipring::Result<bool> {
    let report = ring.verify()?;
    Ok(report.is_clean() && !report.changed && report.frames + report.bytes + report.redeliver == 0)
}

/// Where queues cannot be listed, nothing is shown.
fn listed<T>(list: slipring::Result<Vec<T>>) -> Outcome<Vec<T>> {
    match list {
        Err(Error::Unsupported { .. }) => Ok(Vec::new()),
        list => Ok(list?),
    }
}
