//! `slipring ls`: lists every ring in the directory, also those that cannot be opened.

use clap::Args;
use serde_json::json;
use slipring::{Kind, ParticipantInfo, Ring, Role};

use crate::failure::Outcome;
use crate::output::Table;
use crate::{Context, output, parts, target, units};

const STATES: &str = "\
States:
  live      a process is attached
  idle      no process is attached
  stalled   an attached process is stopped, or traced, and others have to wait
            for it: of an mpmc ring, because it holds slots, or because all of
            its role are stopped; info says which
  stale     an attached process has died, which no process has noticed yet
            (gc will, or the next process that attaches or waits)
  corrupt   it cannot be opened; --json says why

Examples:
  slipring ls
  slipring ls --json | jq -r 'select(.state == \"stale\").name'";

/// List the rings
#[derive(Args)]
#[command(visible_alias = "list", after_help = STATES)]
pub(crate) struct Ls {}

/// The columns of a row.
struct Row {
    kind: Kind,
    slots: usize,
    max_lanes: usize,
    capacity: usize,
    /// For people.
    size: String,
    used: u64,
    producers: usize,
    consumers: usize,
    state: &'static str,
    ring: Ring,
}

impl Ls {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let anywhere = target::anywhere(context);
        let mut table = Table::new(&["NAME", "KIND", ">CAPACITY", ">USED", ">PRODUCERS", ">CONSUMERS", "STATE"]);
        for name in Ring::list(&anywhere)? {
            let row = Ring::open(&name, &anywhere).and_then(look);
            if context.json {
                output::print_json(&match row {
                    Ok(row) => {
                        let mut object = json!({
                            "name": name, "kind": target::kind_name(row.kind), "capacity": row.capacity,
                            "slots": row.slots, "max_lanes": row.max_lanes, "used": row.used,
                            "producers": row.producers, "consumers": row.consumers, "state": row.state,
                        });
                        parts::add(&row.ring, &mut object);
                        object
                    }
                    Err(error) => json!({ "name": name, "state": "corrupt", "reason": error.to_string() }),
                })?;
                continue;
            }
            table.row(match row {
                Ok(row) => {
                    let used = if row.slots == 0 { units::bytes(row.used) } else { row.used.to_string() };
                    let kind = target::kind_name(row.kind).to_owned();
                    [name, kind, row.size, used, row.producers.to_string(), row.consumers.to_string(), row.state.into()]
                }
                Err(error) => {
                    context.note(format_args!("ring:{name}: {error}"));
                    let unknown = || "-".to_owned();
                    [name, unknown(), unknown(), unknown(), unknown(), unknown(), "corrupt".to_owned()]
                }
            });
        }
        if context.json { Ok(()) } else { output::print(&table.render()) }
    }
}

/// Whether others have to wait until the participant's process continues.
fn stalls(participant: &ParticipantInfo, all: &[ParticipantInfo]) -> bool {
    let is_suspended = |one: &ParticipantInfo| one.alive && one.process.is_some_and(|process| process.is_suspended());
    // Another participant of its role can do what this one does not hold.
    let is_replaced = || all.iter().any(|other| other.alive && other.role == participant.role && !is_suspended(other));
    is_suspended(participant) && (participant.held.slots() > 0 || !is_replaced())
}

fn look(ring: Ring) -> slipring::Result<Row> {
    let stats = ring.stats();
    let participants = ring.participants()?;
    let alive = |role| participants.iter().filter(|p| p.alive && p.role == Some(role)).count();
    let state = match participants.iter().map(|participant| participant.alive).min() {
        _ if participants.iter().any(|participant| stalls(participant, &participants)) => "stalled",
        Some(false) => "stale",
        Some(true) => "live",
        None => "idle",
    };
    Ok(Row {
        kind: ring.kind(),
        slots: ring.slots(),
        max_lanes: ring.max_lanes(),
        capacity: ring.capacity(),
        size: target::size(&ring),
        used: stats.used(),
        producers: alive(Role::Producer),
        consumers: alive(Role::Consumer),
        state,
        ring,
    })
}
