//! `bench matrix`: every kind of ring with every way to wait, round trips and streams, in one
//! table.

use clap::Args;
use slipring::Idle;

use super::crew::Peer;
use super::figures::{RUNS, Series, Times, clock_cost};
use super::latency::{Awake, Cell, Game, Talk};
use super::ports::Kind;
use super::report::{Floor, Report, Row, Unit};
use super::runs::Tempo;
use super::stream::{Bulk, CAPACITY, Current, Stretch};
use super::{Common, message_size, rotated};
use crate::Context;
use crate::failure::Outcome;

/// Every kind of ring with every way to wait: round trips and streams
#[derive(Args)]
pub(super) struct Matrix {
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, at least 8
    #[arg(short, long = "size", value_name = "BYTES", value_delimiter = ',', value_parser = message_size,
          default_values_t = [64, 4096])]
    sizes: Vec<usize>,
}

impl Matrix {
    pub(super) fn run(self, context: &Context) -> Outcome {
        self.common.pinned(|cpu| self.measure(cpu), context)
    }

    fn measure(&self, cpu: Option<usize>) -> Outcome<Report> {
        let clock = clock_cost();
        let mut cells = Vec::new();
        for kind in [Kind::Spsc, Kind::Mpmc] {
            for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
                cells.extend(self.sizes.iter().map(|size| (kind, *size, idle)));
            }
        }
        let talks = cells.iter().map(|(kind, size, idle)| Talk::new(&Cell::new(*kind, *size, None, *idle)));
        let talks = talks.collect::<Outcome<Vec<_>>>()?;
        let flows = cells.iter().map(|(kind, size, idle)| Stretch::new(*kind, CAPACITY, *size, *idle));
        let flows = flows.collect::<Outcome<Vec<_>>>()?;
        let (mut game, mut bulk) = (Game::new(Awake, None, clock)?, Bulk::new(CAPACITY)?);
        let mut peer = Peer::start(self.common.threads, cpu)?;
        let mut talks = talks.into_iter().map(Talk::attach).collect::<Outcome<Vec<_>>>()?;
        let mut flows = flows.into_iter().map(Stretch::attach).collect::<Outcome<Vec<Current>>>()?;
        let mut trips = vec![(Series::default(), Series::default(), 0); cells.len()];
        let mut times = Times::new()?;
        for run in 0..RUNS {
            // The floors of a run serve all its cells: a floor per cell would take most of the
            // time.
            let until = self.common.until(2 * cells.len() + 2, 0);
            let (line, byte) = (game.play(&mut peer, &until)?, bulk.run(&mut peer, &until)?);
            for index in rotated(cells.len(), run) {
                let talk = &mut talks[index];
                let until = self.common.until(2 * cells.len() + 2, talk.lap());
                let count = talk.run(&mut peer, &until, Tempo::default(), clock, &mut times)?.count;
                let (runs, floor, all) = &mut trips[index];
                runs.push(times.median());
                floor.push(line);
                *all += count;
                times.clear();
                let flow = &mut flows[index];
                let until = self.common.until(2 * cells.len() + 2, flow.lap());
                flow.run(&mut peer, &until, None, clock)?;
                flow.floor.push(byte);
            }
        }
        let mut rows = Vec::new();
        for ((kind, size, idle), ((runs, floor, count), talk)) in cells.iter().zip(trips.into_iter().zip(&talks)) {
            let mut row = Row::new(format!("{} {idle}, round trip", kind.name()), *size, Unit::RoundTrip);
            row.laps = count as f64 / talk.lap() as f64;
            (row.runs, row.count) = (runs, count);
            row.floors.push(Floor { name: "raw cache line", runs: floor });
            rows.push(row);
        }
        for ((kind, size, idle), flow) in cells.iter().zip(flows) {
            let mut row = Row::new(format!("{} {idle}, stream", kind.name()), *size, Unit::Message);
            row.laps = flow.count as f64 / flow.lap() as f64;
            row.floors.push(Floor { name: "bulk copy", runs: flow.floor.times(*size as f64) });
            (row.runs, row.count) = (flow.runs, flow.count);
            rows.push(row);
        }
        let how = format!("kinds of ring and ways to wait, between {}", self.common.whom());
        Ok(Report { bench: "matrix", how, rows, notes: Vec::new() })
    }
}
