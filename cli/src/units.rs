//! Parses durations and rates, and prints numbers with units.

use std::time::Duration;

use slipring::endpoint::{parse_duration, parse_size};

/// `4KiB`, `4K`, `4096`: for clap.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// `500us`, `250ms`, `2s`, `1m`; fractions are allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// `1000/s`, `1000`, `10k/s`, `2M/s`: frames per second, greater than 0.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let wrong = || "frames per second, as in 1000/s or 50k/s".to_owned();
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, factor) = match number.as_bytes().last() {
        Some(b'k') => (&number[..number.len() - 1], 1e3),
        Some(b'M') => (&number[..number.len() - 1], 1e6),
        _ => (number, 1.0),
    };
    let rate = number.parse::<f64>().ok().map(|number| number * factor);
    rate.filter(|rate| *rate > 0.0 && rate.is_finite()).ok_or_else(wrong)
}

/// `0x0107` or `263`, at least 0x0100: a frame kind of the application.
pub(crate) fn frame_kind(text: &str) -> Result<u16, String> {
    let kind = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    kind.filter(|kind| *kind >= 0x0100).ok_or_else(|| "a frame kind, from 0x0100 (256) to 0xFFFF (65535)".to_owned())
}

/// `1 frame is`, `2 frames are`
pub(crate) fn many_are(n: u64, noun: &str) -> String {
    format!("{} {}", counted(n as usize, noun), if n == 1 { "is" } else { "are" })
}

/// `1.5 MiB`
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    // What would be shown as 1024.0 is 1 of the next unit.
    while value >= 1023.95 && (unit > 0 || value >= 1024.0) && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), units[unit])
}

/// `1 check`, `2 checks`
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `3.2 M`
pub(crate) fn count(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0} "),
    }
}

/// `134 ns`, `1.2 µs`, `3.4 ms`
pub(crate) fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.1} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.1} ms", ns / 1e6),
        ns if ns >= 1e4 => format!("{:.0} µs", ns / 1e3),
        ns if ns >= 1e3 => format!("{:.1} µs", ns / 1e3),
        ns if ns >= 10.0 => format!("{ns:.0} ns"),
        ns => format!("{ns:.1} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, micros) in
            [("500us", 500), ("250ms", 250_000), ("2s", 2_000_000), ("1.5s", 1_500_000), ("1m", 60_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)));
        }
        for text in ["", "5", "s", "5 s", "-1s", "1d", "nans", "infs", "1e999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_kinds() {
        assert_eq!((rate("1000/s"), rate("50k/s"), rate("2M")), (Ok(1e3), Ok(5e4), Ok(2e6)));
        assert!(["", "0/s", "-1/s", "x/s", "inf"].iter().all(|text| rate(text).is_err()));
        assert_eq!((frame_kind("0x0107"), frame_kind("256")), (Ok(0x0107), Ok(256)));
        assert!(["", "0x", "255", "65536", "-1"].iter().all(|text| frame_kind(text).is_err()));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([bytes(0), bytes(4096), bytes(1_600_000)], ["0 B", "4 KiB", "1.5 MiB"]);
        assert_eq!([bytes(1023), bytes((1 << 20) - 1), bytes((1 << 20) - 60)], ["1023 B", "1 MiB", "1023.9 KiB"]);
        assert_eq!([count(12.0), count(3.24e6)], ["12 ", "3.2 M"]);
        assert_eq!([nanoseconds(2.66), nanoseconds(134.2), nanoseconds(1234.0)], ["2.7 ns", "134 ns", "1.2 µs"]);
    }
}
