//! `slipring create`: creates a named ring with the given shape.

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::{Context, info, output, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring create ring:ticks                                       spsc, 1 MiB
  slipring create 'ring:jobs?kind=mpmc&slots=4096&slot=1KiB'       a work queue
  slipring create 'ring:orders?kind=mpsc&lanes=64'                 many to one
  slipring create 'ring:meters?kind=latest&cells=64&size=16'       latest values
  slipring create 'ring:audio?kind=stream&capacity=64KiB&wake=poll&mlock'

Options after the ? (quote them, because & is special to the shell):
  kind          spsc (frames, one to one), mpmc (frames, many to many), mpsc
                (frames, many to one: each sender has a lane), stream (bytes,
                one to one), latest (values that replace each other, one to
                many), or broadcast (frames, one to many: each receiver gets
                every frame)
  capacity      bytes of an spsc, stream or broadcast ring, or of each lane of
                an mpsc ring, rounded up to 2^n [1MiB; of a lane 64KiB]
  lanes         how many senders an mpsc ring has room for, at most 1024 [16]
  slots, slot   number of slots [1024] and largest payload [256] of an mpmc ring
  cells, size   number of latest values [1] and size of the largest [256]; the
                stream of a frame (send --stream) is the number of its cell
  subscribe     of a receiver of a broadcast ring: reliable (the sender waits
                for it) or lossy (it is told what it missed); start at the
                oldest frame that is still there, or at the latest: start=latest
  slow, evict   what a sender of a broadcast ring does while a reliable receiver
                leaves no room: slow=block, slow=fail, or evict=DURATION
  wake          how sleepers are noticed: asymmetric, fenced, poll (no sleep)
  redelivery    frames that a dead consumer held: at-least-once
                (redelivered and marked) or at-most-once
  participants  how many can be attached at a time [64]
  mode          file mode [0600]
  huge, prefault, mlock    memory: 2 MiB pages, touched in advance, kept in RAM

send and recv create a missing ring. Use create for other sizes, or to get exit code 1 if the ring exists.";

/// Create a ring
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Create {
    /// ring:NAME[?OPTION=VALUE&…]
    endpoint: String,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let endpoint = target::parse(&self.endpoint, context)?;
        let ring = endpoint.create().map_err(|e| Failure::from(e).at(format_args!("ring:{}", endpoint.name())))?;
        target::remark_size(&endpoint, &ring, context);
        if context.json {
            return output::print_json(&info::shape(&ring));
        }
        let (kind, size) = (target::kind_name(ring.kind()), units::bytes(ring.total_len() as u64));
        context.note(format_args!("created ring:{} ({kind}, {} of memory)", endpoint.name(), size));
        Ok(())
    }
}
