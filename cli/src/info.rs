//! `slipring info`: what a ring is, and which processes are attached to it.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};
use slipring::{Kind, ParticipantInfo, PidNamespace, Redelivery, Ring, WakeMode};

use crate::failure::Outcome;
use crate::output::Table;
use crate::{Context, output, parts, target, units};

/// Show what a ring is, and which processes are attached
#[derive(Args)]
#[command(after_help = "Examples:
  slipring info jobs
  slipring info jobs --json | jq '.participants[] | select(.alive | not)'

STATE    live, dead (not yet noticed), stopped (SIGSTOP), traced (by a
         debugger); of another pid namespace only live and dead can be told
PID      with * if it is one of another pid namespace, such as a container's,
         with ? if that is not known
HOLDS    slots that it fills or reads (mpmc); if it is stopped, others wait
LAG      distance from the oldest of them to the ring's newest position

A broadcast ring also lists its subscribers: POSITION and LAG in bytes, how often a lossy one was overrun, and how many frames it missed. An mpsc ring lists the lanes that are in use: HELD by a producer, or CLOSED or DEAD if its consumer has still to be told.")]
pub(crate) struct Info {
    /// ring:NAME, or NAME
    ring: String,
}

impl Info {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let ring = target::open(&self.ring, context)?;
        let participants = ring.participants()?;
        if context.json {
            let mut object = shape(&ring);
            object["participants"] = participants.iter().map(participant_json).collect();
            if ring.kind() == Kind::Broadcast {
                object["evicted"] = ring.stats().evicted.into();
            }
            parts::add(&ring, &mut object);
            return output::print_json(&object);
        }
        output::print(&describe(&ring, &participants))
    }
}

fn describe(ring: &Ring, participants: &[ParticipantInfo]) -> String {
    let ago = SystemTime::now().duration_since(ring.created()).unwrap_or_default();
    let mut text = String::new();
    for (label, value) in [
        ("name", ring.name().unwrap_or_default().to_owned()),
        ("kind", target::kind_name(ring.kind()).to_owned()),
        ("capacity", target::size(ring)),
        ("largest frame", format!("{} bytes", ring.max_payload())),
        ("wake", wake_name(ring.wake_mode()).to_owned()),
        ("redelivery", redelivery_name(ring.redelivery()).to_owned()),
        ("memory", units::bytes(ring.total_len() as u64)),
        ("created", format!("{} ago by process {}", units::nanoseconds(ago.as_nanos() as f64), ring.creator_pid())),
        ("generation", format!("{:016x}", ring.generation())),
        ("messages", ring.message_type().unwrap_or_else(|| "of no stated type".to_owned())),
        ("participants", format!("{} of {}", participants.len(), ring.max_participants())),
    ] {
        let _ = writeln!(text, "{label:14} {value}");
    }
    if ring.kind() == Kind::Broadcast {
        let _ = writeln!(text, "{:14} {} since its creation", "evicted", ring.stats().evicted);
    }
    if !participants.is_empty() {
        let mut table =
            Table::new(&["ID", "ROLE", "STATE", ">PID", "COMMAND", ">SENT", ">RECEIVED", ">SLEEPS", ">HOLDS", ">LAG"]);
        for participant in participants {
            let ParticipantInfo { id, pid, counts, held, .. } = participant;
            table.row([
                id.to_string(),
                role_name(participant).to_owned(),
                state_name(participant).to_owned(),
                match participant.pid_namespace {
                    PidNamespace::Own => pid.to_string(),
                    PidNamespace::Other => format!("{pid}*"),
                    _ => format!("{pid}?"),
                },
                participant.comm.clone().unwrap_or_else(|| "-".to_owned()),
                counts.sent.to_string(),
                counts.received.to_string(),
                counts.sleeps.to_string(),
                held.slots().to_string(),
                held.lag.to_string(),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
        if participants.iter().any(|one| one.pid_namespace == PidNamespace::Other) {
            text.push_str("* in another pid namespace\n");
        }
    }
    text.push_str(&parts::table(ring));
    text
}

/// The constant properties of a ring.
pub(crate) fn shape(ring: &Ring) -> Value {
    let created = ring.created().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "name": ring.name(),
        "kind": target::kind_name(ring.kind()),
        "capacity": ring.capacity(),
        "slots": ring.slots(),
        "max_lanes": ring.max_lanes(),
        "max_payload": ring.max_payload(),
        "max_participants": ring.max_participants(),
        "wake": wake_name(ring.wake_mode()),
        "redelivery": redelivery_name(ring.redelivery()),
        "memory": ring.total_len(),
        "message_type": ring.message_type(),
        "generation": format!("{:016x}", ring.generation()),
        "creator_pid": ring.creator_pid(),
        "created_unix_ns": created.as_nanos() as u64,
    })
}

fn participant_json(participant: &ParticipantInfo) -> Value {
    json!({
        "id": participant.id,
        "role": role_name(participant),
        "state": record_name(participant),
        "alive": participant.alive,
        "pid": participant.pid,
        "pid_namespace": participant.pid_namespace.name(),
        "command": participant.comm,
        "process": participant.process.map(slipring::ProcessState::name),
        "writing": participant.held.writing,
        "reading": participant.held.reading,
        "lag": participant.held.lag,
        "sent": participant.counts.sent,
        "received": participant.counts.received,
        "bytes_sent_and_received": participant.counts.bytes,
        "full": participant.counts.full,
        "empty": participant.counts.empty,
        "sleeps": participant.counts.sleeps,
        "wakes": participant.counts.wakes,
    })
}

fn role_name(participant: &ParticipantInfo) -> &'static str {
    participant.role.map_or("corrupt", slipring::Role::name)
}

/// The state in its record; or that its process is suspended, which is more important.
fn state_name(participant: &ParticipantInfo) -> &'static str {
    match participant.process {
        Some(process) if participant.alive && process.is_suspended() => process.name(),
        _ => record_name(participant),
    }
}

fn record_name(participant: &ParticipantInfo) -> &'static str {
    use slipring::State;
    match participant.state {
        _ if !participant.alive => "dead",
        Some(State::Joining) => "joining",
        Some(State::Live) => "live",
        Some(State::Leaving) => "leaving",
        _ => "corrupt",
    }
}

fn wake_name(mode: WakeMode) -> &'static str {
    match mode {
        WakeMode::Poll => "poll",
        WakeMode::Asymmetric => "asymmetric",
        WakeMode::Fenced => "fenced",
        _ => "unknown",
    }
}

fn redelivery_name(policy: Redelivery) -> &'static str {
    match policy {
        Redelivery::AtLeastOnce => "at-least-once",
        Redelivery::AtMostOnce => "at-most-once",
        _ => "unknown",
    }
}
