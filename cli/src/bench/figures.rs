//! What was measured: single times in a histogram, one figure per run in a series, and ratios of
//! runs that were measured side by side.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::failure::{FAILED, Failure, Outcome};

/// The number of runs of each cell, in rotating order. The figure is their median, never the best.
pub(super) const RUNS: usize = 9;

/// `CLOCK_MONOTONIC` in nanoseconds: comparable between processes.
#[inline]
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The median difference between two successive readings of the clock.
pub(super) fn clock_cost() -> u64 {
    let mut costs: Vec<u64> = (0..1001)
        .map(|_| {
            let start = now_ns();
            now_ns() - start
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// Single times, in nanoseconds, to a thousandth of their size.
pub(super) struct Times {
    /// In units of 1/[`Times::SCALE`] ns: a message of a stream takes a few ns only.
    histogram: Histogram<u64>,
}

impl Times {
    const SCALE: f64 = 16.0;
    /// Longer times are recorded as a minute.
    const MOST: u64 = 60_000_000_000 * Self::SCALE as u64;

    pub(super) fn new() -> Outcome<Self> {
        let histogram = Histogram::new_with_max(Self::MOST, 3).map_err(|e| Failure::new(FAILED, e))?;
        Ok(Times { histogram })
    }

    /// Records one time, from which the cost of reading the clock is already subtracted.
    #[inline]
    pub(super) fn add(&mut self, ns: f64) {
        self.add_many(ns, 1);
    }

    /// Records the same time `count` times, for a batch that was timed as a whole.
    #[inline]
    pub(super) fn add_many(&mut self, ns: f64, count: u64) {
        self.histogram.saturating_record_n((ns * Self::SCALE).max(1.0) as u64, count);
    }

    /// Moves all times of `run` into this histogram; `run` is empty then.
    pub(super) fn take(&mut self, run: &mut Times) -> Outcome {
        self.histogram.add(&run.histogram).map_err(|e| Failure::new(FAILED, e))?;
        run.histogram.reset();
        Ok(())
    }

    /// Removes all times.
    pub(super) fn clear(&mut self) {
        self.histogram.reset();
    }

    pub(super) fn at(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / Self::SCALE
    }

    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(super) fn least(&self) -> f64 {
        self.histogram.min() as f64 / Self::SCALE
    }

    pub(super) fn most(&self) -> f64 {
        self.histogram.max() as f64 / Self::SCALE
    }

    pub(super) fn mean(&self) -> f64 {
        self.histogram.mean() / Self::SCALE
    }

    pub(super) fn deviation(&self) -> f64 {
        self.histogram.stdev() / Self::SCALE
    }

    pub(super) fn json(&self) -> Value {
        let mut object: serde_json::Map<String, Value> =
            PERCENTILES.iter().map(|(name, quantile)| ((*name).to_owned(), self.at(*quantile).into())).collect();
        object.insert("max".to_owned(), self.most().into());
        object.insert("min".to_owned(), self.least().into());
        object.insert("mean".to_owned(), self.mean().into());
        object.insert("stdev".to_owned(), self.deviation().into());
        Value::Object(object)
    }
}

/// The percentiles that every table has, before the maximum.
pub(super) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

/// One figure per run.
#[derive(Clone, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut figures = self.0.clone();
        figures.sort_by(f64::total_cmp);
        figures
    }

    /// The median; 0 if there are no figures.
    pub(super) fn median(&self) -> f64 {
        self.sorted().get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    /// The minimum and the maximum: the spread.
    pub(super) fn spread(&self) -> [f64; 2] {
        let figures = self.sorted();
        [figures.first(), figures.last()].map(|figure| figure.copied().unwrap_or(0.0))
    }

    /// The third quartile over the first: 1 if all runs agree.
    pub(super) fn quartiles(&self) -> f64 {
        let (figures, last) = (self.sorted(), self.0.len().saturating_sub(1) as f64);
        let at = |part: f64| figures.get((last * part).round() as usize).copied().unwrap_or(0.0);
        at(0.75) / at(0.25).max(f64::MIN_POSITIVE)
    }

    /// Run by run: the measured figure over the one measured right beside it.
    pub(super) fn over(&self, floor: &Series) -> Series {
        Series(self.0.iter().zip(&floor.0).map(|(figure, floor)| figure / floor.max(f64::MIN_POSITIVE)).collect())
    }

    /// Each figure times `factor`.
    pub(super) fn times(&self, factor: f64) -> Series {
        Series(self.0.iter().map(|figure| figure * factor).collect())
    }

    pub(super) fn json(&self) -> Value {
        let [least, most] = self.spread();
        json!({ "median": self.median(), "min": least, "max": most, "runs": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_of_runs_side_by_side() {
        let series = |figures: &[f64]| Series(figures.to_vec());
        let (ring, floor) = (series(&[10.0, 40.0, 9.0]), series(&[10.0, 20.0, 6.0]));
        assert_eq!((ring.median(), ring.spread()), (10.0, [9.0, 40.0]));
        assert_eq!(ring.over(&floor).0, [1.0, 2.0, 1.5]);
        assert_eq!(ring.over(&floor).median(), 1.5);
        assert_eq!(Series::default().median(), 0.0);
        assert_eq!(series(&[1.0, 2.0, 3.0, 4.0, 99.0]).quartiles(), 2.0);
    }

    #[test]
    fn a_batch_counts_for_each_of_its_messages() {
        let mut times = Times::new().unwrap();
        times.add_many(2.5, 99);
        times.add(1000.0);
        assert_eq!(times.histogram.len(), 100);
        assert!((times.median() - 2.5).abs() < 0.01, "{}", times.median());
        assert!((times.most() - 1000.0).abs() < 2.0);
    }
}
