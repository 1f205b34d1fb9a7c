//! Draws a report: percentiles of single times on a logarithmic axis, or throughput by row.

use std::fmt::Write as _;

use super::figures::PERCENTILES;
use super::report::{Report, Row};
use crate::units;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Colours that people with colour blindness can tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// The most lines that stay readable.
const MOST_LINES: usize = 14;

pub(super) fn draw(report: &Report) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 24.0, "start", &format!("{}: {}", report.bench, report.how));
    let rates: Vec<(&Row, f64)> = report.rows.iter().filter_map(|row| Some((row, row.rate()?))).collect();
    if rates.is_empty() {
        percentiles(&mut svg, &report.rows)
    } else {
        throughput(&mut svg, &rates)
    }
    svg.push_str("</svg>\n");
    svg
}

fn percentiles(svg: &mut String, rows: &[Row]) {
    // Rows without single times show their median at all percentiles.
    let points = |row: &Row| -> Vec<f64> {
        let quantiles = PERCENTILES.map(|(_, quantile)| quantile).into_iter().chain([1.0]);
        quantiles.map(|q| row.times.as_ref().map_or_else(|| row.runs.median(), |times| times.at(q)).max(1.0)).collect()
    };
    let lines: Vec<_> = rows.iter().take(MOST_LINES).map(|row| (row, points(row))).collect();
    let all = lines.iter().flat_map(|(_, points)| points).copied();
    let (least, most) = all.fold((f64::MAX, 1.0f64), |(least, most), ns| (least.min(ns), most.max(ns)));
    let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let y = |ns: f64| HEIGHT - BOTTOM - (ns.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let x = |index: usize| LEFT + index as f64 / PERCENTILES.len() as f64 * (WIDTH - LEFT - RIGHT);
    for power in low as i32..=high as i32 {
        let ns = 10f64.powi(power);
        grid(svg, y(ns), &units::nanoseconds(ns));
    }
    let names = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    for (index, name) in names.iter().enumerate() {
        text(svg, x(index), HEIGHT - BOTTOM + 20.0, "middle", name);
    }
    for (index, (row, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = if index < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
        let path: Vec<String> =
            points.iter().enumerate().map(|(at, ns)| format!("{:.1},{:.1}", x(at), y(*ns))).collect();
        let path = path.join(" ");
        let _ =
            writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>");
        legend(svg, index, colour, &label(row));
    }
}

fn throughput(svg: &mut String, rates: &[(&Row, f64)]) {
    let speed = |row: &Row, rate: f64| rate * row.size as f64 / 1e9;
    let most = rates.iter().map(|(row, rate)| speed(row, *rate)).fold(f64::MIN_POSITIVE, f64::max);
    let y = |speed: f64| HEIGHT - BOTTOM - speed / most * (HEIGHT - TOP - BOTTOM);
    for part in 0..=4 {
        let speed = most * f64::from(part) / 4.0;
        grid(svg, y(speed), &format!("{speed:.2} GB/s"));
    }
    let step = (WIDTH - LEFT - RIGHT) / rates.len() as f64;
    for (index, (row, rate)) in rates.iter().enumerate() {
        let (x, top) = (LEFT + (index as f64 + 0.15) * step, y(speed(row, *rate)));
        let (width, height, colour) = (0.7 * step, HEIGHT - BOTTOM - top, COLOURS[index % COLOURS.len()]);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
        text(svg, x + width / 2.0, HEIGHT - BOTTOM + 20.0, "middle", &row.size.to_string());
        if index < MOST_LINES {
            legend(svg, index, colour, &format!("{}: {}/s", label(row), units::count(*rate).trim_end()));
        }
    }
}

fn label(row: &Row) -> String {
    if row.size == 0 { row.what.clone() } else { format!("{}, {}", row.what, units::bytes(row.size as u64)) }
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(svg, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
    text(svg, LEFT - 8.0, y + 4.0, "end", label);
}

fn legend(svg: &mut String, index: usize, colour: &str, label: &str) {
    let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 22.0 * index as f64);
    let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>", y - 5.0);
    text(svg, x + 18.0, y, "start", label);
}

/// Labels consist of the bench's own names and numbers: only these characters need escaping.
fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}
