//! The parts of a ring that processes have for themselves: the subscribers of a broadcast ring, the
//! lanes of an mpsc ring.
//!
//! Used by `info`, `stat`, `verify` and `ls`, as a table or as JSON.

use serde_json::{Value, json};
use slipring::broadcast::{Mode, SubscriberInfo};
use slipring::mpsc::{LaneInfo, LaneState};
use slipring::{Kind, Ring};

use crate::output::Table;

/// Adds them to an object, if the ring is of a kind that has any.
pub(crate) fn add(ring: &Ring, object: &mut Value) {
    match ring.kind() {
        Kind::Broadcast => object["subscribers"] = ring.subscribers().iter().map(subscriber).collect(),
        Kind::Mpsc => object["lanes"] = lanes(ring).iter().map(lane).collect(),
        _ => {}
    }
}

/// A table of them, behind an empty line; nothing if there are none.
pub(crate) fn table(ring: &Ring) -> String {
    let table = match ring.kind() {
        Kind::Broadcast => subscriber_table(&ring.subscribers()),
        Kind::Mpsc => lane_table(&lanes(ring)),
        _ => None,
    };
    table.map_or_else(String::new, |table| format!("\n{}", table.render()))
}

fn subscriber(one: &SubscriberInfo) -> Value {
    json!({
        "id": one.id, "mode": mode_name(one.mode), "position": one.position, "lag": one.lag,
        "overruns": one.overruns, "received": one.received, "missed": one.missed,
    })
}

fn subscriber_table(subscribers: &[SubscriberInfo]) -> Option<Table> {
    let columns = ["SUBSCRIBER", "MODE", ">POSITION", ">LAG", ">OVERRUNS", ">RECEIVED", ">MISSED"];
    let mut table = Table::new(&columns);
    for one in subscribers {
        table.row([
            one.id.to_string(),
            mode_name(one.mode).to_owned(),
            one.position.to_string(),
            one.lag.to_string(),
            one.overruns.to_string(),
            one.received.to_string(),
            one.missed.to_string(),
        ]);
    }
    (!subscribers.is_empty()).then_some(table)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Reliable => "reliable",
        Mode::Lossy => "lossy",
        Mode::Evicted => "evicted",
        _ => "unknown",
    }
}

/// A lane, and what its producer has counted while it is attached.
struct Lane {
    info: LaneInfo,
    pid: Option<u32>,
    sent: u64,
    full: u64,
}

fn lanes(ring: &Ring) -> Vec<Lane> {
    let participants = ring.participants().unwrap_or_default();
    let of = |info: LaneInfo| {
        let producer = participants.iter().find(|one| one.id == info.producer && info.state == LaneState::Held);
        let counts = producer.map(|one| one.counts).unwrap_or_default();
        Lane { info, pid: producer.map(|one| one.pid), sent: counts.sent, full: counts.full }
    };
    ring.lanes().into_iter().map(of).collect()
}

fn lane(Lane { info, pid, sent, full }: &Lane) -> Value {
    json!({
        "lane": info.lane, "state": state_name(info.state), "producer": info.producer, "pid": pid,
        "position": info.position, "lag": info.lag, "sent": sent, "full": full,
    })
}

fn lane_table(lanes: &[Lane]) -> Option<Table> {
    let columns = ["LANE", "STATE", ">PRODUCER", ">PID", ">POSITION", ">LAG", ">SENT", ">FULL"];
    let mut table = Table::new(&columns);
    for Lane { info, pid, sent, full } in lanes {
        table.row([
            info.lane.to_string(),
            state_name(info.state).to_owned(),
            info.producer.to_string(),
            pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            info.position.to_string(),
            info.lag.to_string(),
            sent.to_string(),
            full.to_string(),
        ]);
    }
    (!lanes.is_empty()).then_some(table)
}

fn state_name(state: LaneState) -> &'static str {
    match state {
        LaneState::Held => "held",
        LaneState::Closed => "closed",
        LaneState::Dead => "dead",
        _ => "unknown",
    }
}
