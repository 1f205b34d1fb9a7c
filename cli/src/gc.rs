//! `slipring gc`: frees what dead processes left behind.

use clap::Args;
use serde_json::json;
use slipring::{Kind, Ring};

use crate::failure::Outcome;
use crate::{Context, output, target};

/// Free what dead processes left behind
#[derive(Args)]
#[command(after_help = "Examples:
  slipring gc --dry-run      what would be done
  slipring gc                bury the dead, remove rings without users and without frames
  slipring gc --all          remove rings without users, also those in which frames wait

A dead participant is one whose lock the kernel has released: never a guess by time or process id. Rings with a living
participant are never removed, nor, without --all, is data that waits.")]
pub(crate) struct Gc {
    /// Also remove rings without users in which frames wait
    #[arg(long)]
    all: bool,
    /// Only say what would be done
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
                    context.note(format_args!("ring:{name}: left alone: {error}"));
                    continue;
                }
            };
            let (dead, removed) = match self.collect(&ring, &name, context) {
                Ok(collected) => collected,
                Err(error) => {
                    context.note(format_args!("ring:{name}: left alone: {error}"));
                    continue;
                }
            };
            if context.json {
                output::print_json(
                    &json!({ "name": name, "dead": dead, "removed": removed, "dry_run": self.dry_run }),
                )?;
                continue;
            }
            let [buried, gone] = if self.dry_run { ["would bury", "would remove"] } else { ["buried", "removed"] };
            if dead > 0 {
                output::print(&format!("{name}: {buried} {dead} dead\n"))?;
            }
            if removed {
                output::print(&format!("{name}: {gone}\n"))?;
            }
        }
        Ok(())
    }

    /// How many dead there were, and whether the ring went.
    fn collect(&self, ring: &Ring, name: &str, context: &Context) -> slipring::Result<(usize, bool)> {
        let dead = match self.dry_run {
            true => ring.participants()?.iter().filter(|participant| !participant.alive).count(),
            false => ring.sweep()?,
        };
        let is_ring = matches!(ring.kind(), Kind::Spsc | Kind::Mpmc | Kind::Stream);
        let report = ring.verify()?;
        let empty = report.is_clean() && report.frames + report.bytes + report.redeliver == 0;
        let remove = is_ring && ring.is_idle()? && (self.all || empty);
        if remove && !self.dry_run {
            Ring::remove(name, &target::anywhere(context))?;
        }
        Ok((dead, remove))
    }
}
