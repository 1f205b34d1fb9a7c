//! Writes data to stdout, without a panic when the reader has closed it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use serde::Serialize;

use crate::failure::{FAILED, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::standard;
use crate::stderr::write_waiting;

/// Bytes that a pipe takes without blocking when it polls writable (pipe(7)).
const PIPE_BUF: usize = 4096;

/// The destination of data: stdout or a file, unbuffered.
///
/// Waiting does not depend on `O_NONBLOCK`, which another holder of the same pipe may have set.
/// Where a write could block for long, in a pipe or a socket, it waits in `poll`, so that a signal
/// ends the wait.
pub(crate) struct Output {
    file: File,
    may_block: bool,
}

impl Output {
    /// Stdout, which must be open.
    pub(crate) fn stdout() -> Outcome<Self> {
        standard::check_output()?;
        let file = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Failure::output)?;
        Ok(Self::from(file))
    }

    /// Writes `bytes`, or at least one of them if not all fit.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if an end was requested and the reader takes nothing.
    pub(crate) fn write(&self, bytes: &[u8], interrupt: &Interrupt) -> io::Result<usize> {
        loop {
            match self.try_write(bytes) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if !interrupt.wait_writable(&self.file) {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                written => return written,
            }
        }
    }

    /// Writes all of `bytes`. Errors as of [`Output::write`].
    pub(crate) fn write_all(&self, mut bytes: &[u8], interrupt: &Interrupt) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes, interrupt)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// [`ErrorKind::WouldBlock`] if a pipe or a socket has no room.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.may_block {
            return (&self.file).write(bytes);
        }
        match pwritev2(&self.file, &[IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT) {
            // Before Linux 6.4, pipes do not support this flag.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            written => return Ok(written?),
        }
        let mut file = [PollFd::new(&self.file, PollFlags::OUT)];
        match poll(&mut file, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => (&self.file).write(&bytes[..bytes.len().min(PIPE_BUF)]),
        }
    }
}

impl From<File> for Output {
    fn from(file: File) -> Self {
        let kind = file.metadata().map(|metadata| metadata.file_type());
        Output { file, may_block: kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) }
    }
}

/// An output that is opened and not yet changed: a file keeps its contents until the first write,
/// and a file that was created is removed if nothing is written.
pub(crate) struct Pending {
    /// `None`: stdout.
    file: Option<File>,
    /// The file's path, if it was created.
    made: Option<PathBuf>,
}

impl Pending {
    /// Opens `path`, which is created if it is missing, or stdout, which must be open.
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Self> {
        let Some(path) = path else { return standard::check_output().map(|()| Pending { file: None, made: None }) };
        let (opened, made) = match OpenOptions::new().write(true).create_new(true).open(path) {
            // If `path` is a symbolic link to a missing file, that file is created.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).create(true).truncate(false).open(path), None)
            }
            new => (new, Some(path.to_owned())),
        };
        match opened {
            Ok(file) => Ok(Pending { file: Some(file), made }),
            Err(e) => Err(Failure::new(FAILED, e).at(path.display())),
        }
    }

    /// Called before the first write: truncates a file.
    pub(crate) fn begin(mut self) -> Outcome<Output> {
        self.made = None;
        let Some(file) = self.file.take() else { return Output::stdout() };
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            file.set_len(0).map_err(Failure::output)?;
        }
        Ok(file.into())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(path) = self.made.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Stdout for verbs that watch for no signal: every write waits.
pub(crate) struct Stdout(File);

/// Stdout, which must be open.
pub(crate) fn stdout() -> Outcome<Stdout> {
    Output::stdout().map(|output| Stdout(output.file))
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_waiting(self.0.as_fd(), bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `text` to stdout.
pub(crate) fn print(text: &str) -> Outcome {
    standard::check_output()?;
    write_waiting(io::stdout().as_fd(), text.as_bytes()).map_err(Failure::output)
}

/// Writes `value` to stdout as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Outcome {
    let mut line = serde_json::to_string(value).map_err(|e| Failure::new(FAILED, e))?;
    line.push('\n');
    print(&line)
}

/// The width of a terminal that does not report it, and of a pipe.
const USUAL_WIDTH: usize = 80;

/// The length of a line.
fn line_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map_or(USUAL_WIDTH, |size| usize::from(size.ws_col)).max(USUAL_WIDTH)
}

/// Wraps `text` at the terminal's width, each line with a newline; longer words are not split.
pub(crate) fn wrapped(text: &str) -> String {
    wrapped_behind("", text)
}

/// `text` behind `first`, as [`wrapped`]; the lines that follow begin below it.
pub(crate) fn wrapped_behind(first: &str, text: &str) -> String {
    let (limit, indent) = (line_width(), first.chars().count());
    let mut lines = first.to_owned();
    let mut used = indent;
    for word in text.split(' ') {
        let len = word.chars().count();
        if used > indent && used + 1 + len > limit {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else if used > indent {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += len;
    }
    lines.push('\n');
    lines
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

    /// The table, no wider than the terminal. Columns that do not fit follow in further blocks,
    /// each of which begins with the first column.
    pub(crate) fn render(&self) -> String {
        self.folded(line_width())
    }

    fn folded(&self, limit: usize) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut blocks = vec![vec![0]];
        let mut used = widths[0];
        for (column, width) in widths.iter().enumerate().skip(1) {
            if used + 2 + width > limit && blocks.last().is_some_and(|block| block.len() > 1) {
                blocks.push(vec![0]);
                used = widths[0];
            }
            blocks.last_mut().expect("there is one").push(column);
            used += 2 + width;
        }
        let blocks: Vec<String> = blocks.iter().map(|columns| self.block(columns, &widths)).collect();
        blocks.join("\n")
    }

    fn block(&self, columns: &[usize], widths: &[usize]) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for &column in columns {
                let padding = " ".repeat(widths[column] - row[column].chars().count());
                let (before, after) = if self.right[column] { (padding.as_str(), "") } else { ("", padding.as_str()) };
                line.extend([before, &row[column], after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_table_continues_in_further_blocks() {
        let mut table = Table::new(&["NAME", ">BYTES", "STATE"]);
        table.row(["ticks", "4096", "live"].map(str::to_owned));
        assert_eq!(table.folded(80), "NAME   BYTES  STATE\nticks   4096  live\n");
        assert_eq!(table.folded(12), "NAME   BYTES\nticks   4096\n\nNAME   STATE\nticks  live\n");
        assert_eq!(table.folded(3), table.folded(12), "always at least one column beside the first");
    }

    #[test]
    fn long_text_continues_below_its_first_line() {
        let text = wrapped_behind("OK ", &"word ".repeat(20));
        assert!(text.starts_with("OK word word") && text.lines().nth(1).unwrap().starts_with("   word"), "{text}");
        assert_eq!(wrapped_behind("OK ", "short"), "OK short\n");
    }
}
