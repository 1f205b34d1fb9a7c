//! The parameters of the model: one table in a text file, which says where each figure comes from.
//!
//! Used by `topology.rs` and, with the feature `measure`, by the calibration, which writes such a
//! table. A cost of frames is measured at five sizes, and lies on straight lines through them.

use std::collections::BTreeMap;
#[cfg(feature = "measure")]
use std::fmt::Write;

use crate::engine::{Delays, Latencies, NS, Time};

/// The table of the repository.
pub(crate) const TABLE: &str = include_str!("../parameters.txt");
/// The sizes in bytes at which costs are measured.
pub(crate) const SIZES: [usize; 5] = [64, 256, 512, 1_024, 65_000];
/// Wake-ups are measured where a processor did nothing for about so long, as the engine has them.
pub(crate) const RESTS: [&str; 2] = ["100us", "1ms"];
/// The percentiles of a delay that the table has.
pub(crate) const PERCENTS: [u64; 7] = [10, 25, 50, 75, 90, 95, 99];

#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    values: BTreeMap<String, f64>,
}

impl Parameters {
    /// Reads lines of a name, a value, and where it comes from; `#` begins a comment.
    pub(crate) fn parse(table: &str) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else {
                return Err(format!("{line}: must be a name, a value, and where it comes from"));
            };
            let value = value.parse().map_err(|_| format!("{name}: {value} is no number"))?;
            if values.insert(name.to_owned(), value).is_some() {
                return Err(format!("{name}: is there twice"));
            }
        }
        Ok(Parameters { values })
    }

    /// A value that the table must have.
    pub(crate) fn get(&self, name: &str) -> f64 {
        *self.values.get(name).unwrap_or_else(|| panic!("parameters.txt: {name} is missing"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(crate) fn set(&mut self, name: &str, value: f64) {
        self.values.insert(name.to_owned(), value);
    }

    /// The cost of a frame of `size` bytes.
    pub(crate) fn cost(&self, name: &str, size: usize) -> Time {
        let above = SIZES[1..SIZES.len() - 1].iter().take_while(|known| **known <= size).count();
        let (from, to) = (SIZES[above], SIZES[above + 1]);
        let (low, high) = (self.get(&format!("{name}.{from}")), self.get(&format!("{name}.{to}")));
        time(low + (high - low) / (to - from) as f64 * (size as f64 - from as f64))
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let delays = |name: String| {
            let at = PERCENTS.map(|percent| self.get(&format!("{name}.p{percent}")));
            // At 41 points from 0 to 100 percent, linear between those of the table.
            let value = |percent: f64| {
                let above = PERCENTS.iter().position(|known| *known as f64 >= percent);
                match above {
                    Some(0) => at[0],
                    None => at[PERCENTS.len() - 1],
                    Some(above) => {
                        let (low, high) = (PERCENTS[above - 1] as f64, PERCENTS[above] as f64);
                        at[above - 1] + (at[above] - at[above - 1]) * (percent - low) / (high - low)
                    }
                }
            };
            Delays((0..=200).map(|step| time(value(f64::from(step) / 2.0))).collect())
        };
        let [wake_far, wake_near] = ["far", "near"].map(|way| RESTS.map(|rest| delays(format!("wake.{way}.{rest}"))));
        Latencies { notice: time(self.get("notice")), wake_far, wake_near }
    }

    pub(crate) fn after_sleep(&self) -> [Time; 2] {
        RESTS.map(|rest| time(self.get(&format!("relay.after_sleep.{rest}"))))
    }

    /// The same table with these values; what was not measured stays as it is.
    #[cfg(feature = "measure")]
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        for line in TABLE.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            match self.values.get(name) {
                Some(value) if !line.starts_with('#') => {
                    let rest = words.skip(1).collect::<Vec<_>>().join(" ");
                    let digits = usize::from(*value < 1_000.0 && value.fract() != 0.0);
                    let _ = writeln!(text, "{name:<24} {value:>9.digits$}  {rest}");
                }
                _ => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }
}

/// Nanoseconds as a time; none is negative, and no work takes no time at all.
pub(crate) fn time(ns: f64) -> Time {
    ((ns * NS as f64).round() as Time).max(1)
}
