//! Figures of several runs, what is said about them, and how that looks as Markdown.

/// The figures of one peer in one measure, one per round; NaN for a round that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) figures: Vec<f64>,
    pub(crate) p99: Vec<f64>,
    /// Why there are none, or fewer.
    pub(crate) failure: Option<String>,
}

/// The value below which `part` of the figures lie.
pub(crate) fn quantile(figures: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| !figure.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied()
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    quantile(figures, 0.5)
}

/// The median over the rounds of the ratio of `these` to `those` in the same round: what drifts, drifts in both.
pub(crate) fn ratio(these: &Runs, those: &Runs) -> Option<f64> {
    let ratios: Vec<f64> = these.figures.iter().zip(&those.figures).map(|(this, that)| this / that).collect();
    median(&ratios)
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
    /// The median, and between which figures the middle half of the rounds lies.
    pub(crate) fn cell(&self) -> String {
        let at = |part| quantile(&self.figures, part);
        match (at(0.5), at(0.25), at(0.75)) {
            (Some(median), Some(low), Some(high)) if self.figures.len() > 1 => {
                format!("**{}** ({}–{})", nanoseconds(median), nanoseconds(low), nanoseconds(high))
            }
            (Some(median), ..) => format!("**{}**", nanoseconds(median)),
            _ => "–".to_owned(),
        }
    }
}

/// A Markdown table, columns padded so that it can be read as it is.
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

    #[test]
    fn medians_and_ratios_are_per_round() {
        let runs = |figures: &[f64]| Runs { figures: figures.to_vec(), ..Runs::default() };
        assert_eq!(median(&[3.0, 1.0, f64::NAN, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
        // The machine slowed down by ten between the rounds: no ratio changed.
        assert_eq!(ratio(&runs(&[1.0, 10.0, 100.0]), &runs(&[2.0, 20.0, 200.0])), Some(0.5));
    }

    #[test]
    fn a_table_is_aligned() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = markdown(&cells(["peer", "ns"]), &[cells(["slipring", "1.00"])]);
        assert_eq!(text, "| peer     |   ns |\n|----------|-----:|\n| slipring | 1.00 |\n");
    }
}
