//! What goes to stdout (data) and stderr (remarks), without ever panicking because nobody reads it.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use serde::Serialize;

use crate::failure::{FAILED, Failure, Outcome};

/// Stdout without a buffer of its own.
pub(crate) fn stdout() -> Outcome<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Failure::output)
}

/// Writes `text` to stdout.
pub(crate) fn print(text: &str) -> Outcome {
    stdout()?.write_all(text.as_bytes()).map_err(Failure::output)
}

/// Writes `value` to stdout as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Outcome {
    let mut line = serde_json::to_string(value).map_err(|e| Failure::new(FAILED, e))?;
    line.push('\n');
    print(&line)
}

/// A line on stderr. If nobody reads it, so be it.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Left-aligned text in columns; columns whose heading starts with `>` are right-aligned.
pub(crate) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let headings = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Table { right, rows: vec![headings] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn render(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = if right { (padding.as_str(), "") } else { ("", padding.as_str()) };
                line.extend([before, cell, after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
