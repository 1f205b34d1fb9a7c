//! Figures of several runs, sorted by the placement of the processors, and their Markdown.

/// The placement of the two processors while a figure was taken. On a virtual machine it changes
/// within minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Near,
    Far,
}

/// The round trip of a bare cache line takes less than this between processors that share a cache
/// (some 50 to 200 ns), and more between others (300 ns and more).
const FAR_NS: f64 = 250.0;

impl Placement {
    pub(crate) const ALL: [Placement; 2] = [Placement::Near, Placement::Far];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Placement::Near => "near",
            Placement::Far => "far",
        }
    }
}

/// The result of one run of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Nanoseconds per message or round trip.
    pub(crate) ns: f64,
    /// The 99th and the 99.99th percentile of round trips.
    pub(crate) p99: Option<f64>,
    pub(crate) p9999: Option<f64>,
    /// The round trip of a bare cache line right before and right after the run.
    pub(crate) lines: [f64; 2],
}

impl Figure {
    /// `None` if the processors moved during the run, or a line could not be timed.
    pub(crate) fn placement(&self) -> Option<Placement> {
        let all = |wanted: fn(f64) -> bool| self.lines.into_iter().all(wanted);
        if all(|ns| ns < FAR_NS) {
            Some(Placement::Near)
        } else if all(|ns| ns >= FAR_NS) {
            Some(Placement::Far)
        } else {
            None
        }
    }
}

/// The figures of one peer in one measure, one per round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// `None` for a round that failed.
    pub(crate) rounds: Vec<Option<Figure>>,
    /// Why figures are missing.
    pub(crate) failure: Option<String>,
}

/// The value below which a share of `part` of the figures lies.
pub(crate) fn quantile(figures: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| !figure.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied()
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    quantile(figures, 0.5)
}

/// The ratios of `these` to `those`, each within a round and between two runs of the same
/// `placement`, so that drift affects both. `of` selects the figure of a run.
pub(crate) fn ratios(
    these: &Runs,
    those: &Runs,
    placement: Placement,
    of: impl Fn(&Figure) -> Option<f64>,
) -> Vec<f64> {
    let pairs = these.rounds.iter().zip(&those.rounds);
    pairs
        .filter_map(|(this, that)| {
            let (this, that) = (this.as_ref()?, that.as_ref()?);
            let together = this.placement() == Some(placement) && that.placement() == Some(placement);
            together.then(|| Some(of(this)? / of(that)?))?
        })
        .collect()
}

/// Three digits, with a unit that leaves few of them before the point.
pub(crate) fn nanoseconds(ns: f64) -> String {
    if ns < 10_000.0 { digits(ns) } else { format!("{} µs", digits(ns / 1000.0)) }
}

pub(crate) fn digits(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

impl Runs {
    /// The figure `of` each round of one placement.
    pub(crate) fn at(&self, placement: Placement, of: impl Fn(&Figure) -> Option<f64>) -> Vec<f64> {
        let here = self.rounds.iter().flatten().filter(|figure| figure.placement() == Some(placement));
        here.filter_map(of).collect()
    }

    /// The figures of all placements.
    pub(crate) fn all(&self) -> Vec<f64> {
        self.rounds.iter().flatten().map(|figure| figure.ns).collect()
    }
}

/// The median, and the middle half of the figures.
pub(crate) fn cell(figures: &[f64]) -> String {
    let at = |part| quantile(figures, part);
    match (at(0.5), at(0.25), at(0.75)) {
        (Some(median), Some(low), Some(high)) if figures.len() > 1 => {
            format!("**{}** ({}–{})", nanoseconds(median), nanoseconds(low), nanoseconds(high))
        }
        (Some(median), ..) => format!("**{}**", nanoseconds(median)),
        _ => "–".to_owned(),
    }
}

/// A Markdown table, with padded columns so that its source is readable.
pub(crate) fn markdown(header: &[String], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).chain(header.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(4)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let space = " ".repeat(width - cell.chars().count());
            if i == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") }
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths
        .iter()
        .enumerate()
        .map(|(i, width)| if i == 0 { "-".repeat(width + 2) } else { format!("{}:", "-".repeat(width + 1)) });
    let mut text = line(header);
    text += &format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    rows.iter().for_each(|row| text += &line(row));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ns: f64, lines: [f64; 2]) -> Option<Figure> {
        Some(Figure { ns, p99: None, p9999: None, lines })
    }

    #[test]
    fn medians_leave_out_missing_figures() {
        assert_eq!(median(&[3.0, 1.0, f64::NAN, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_a_placement() {
        let (near, far, moved) = ([100.0, 120.0], [450.0, 460.0], [100.0, 450.0]);
        let runs = |rounds: [Option<Figure>; 5]| Runs { rounds: rounds.to_vec(), failure: None };
        let these = runs([figure(1.0, near), figure(10.0, far), figure(7.0, moved), None, figure(100.0, near)]);
        let those =
            runs([figure(2.0, near), figure(40.0, far), figure(1.0, near), figure(1.0, near), figure(1.0, far)]);
        let ns = |figure: &Figure| Some(figure.ns);
        assert_eq!(ratios(&these, &those, Placement::Near, ns), [0.5]);
        assert_eq!(ratios(&these, &those, Placement::Far, ns), [0.25]);
        assert_eq!(these.at(Placement::Near, ns), [1.0, 100.0]);
    }

    #[test]
    fn a_table_is_aligned() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = markdown(&cells(["peer", "ns"]), &[cells(["slipring", "1.00"])]);
        assert_eq!(text, "| peer     |   ns |\n|----------|-----:|\n| slipring | 1.00 |\n");
    }
}
