//! Splits an input into frames: large reads, no copies, no frame held back.
//!
//! Used by `send`. Each read is split at once, so a frame is not delayed by a later one that has
//! not been typed yet.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

use memchr::memchr;

use crate::failure::{FAILED, Failure, Outcome};
use crate::framing::Framing;
use crate::interrupt::Interrupt;
use crate::standard;

/// Bytes requested from one read.
const BLOCK: usize = 256 << 10;

/// The largest possible frame, and what sets that limit.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) bytes: usize,
    /// What has the limit: "a slot of the ring".
    pub(crate) of: &'static str,
    /// How to raise it.
    pub(crate) raised_by: &'static str,
}

/// The opened input. It is opened first, so that nothing is created if the file is missing.
pub(crate) struct Source {
    file: File,
    name: String,
}

impl Source {
    /// Opens `path`, or stdin.
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Self> {
        let (file, name) = match path {
            Some(path) => (File::open(path), path.display().to_string()),
            None => {
                standard::check_input()?;
                (io::stdin().as_fd().try_clone_to_owned().map(File::from), "stdin".to_owned())
            }
        };
        match file.and_then(|file| Ok((file.metadata()?.is_dir(), file))) {
            Ok((false, file)) => Ok(Source { file, name }),
            Ok((true, _)) => Err(Failure::new(FAILED, "is a directory").at(name)),
            Err(e) => Err(Failure::new(FAILED, e).at(name)),
        }
    }
}

pub(crate) struct Input {
    source: File,
    name: String,
    framing: Framing,
    /// The largest frame; of a raw input, the chunk.
    limit: Limit,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// No delimiter before this offset.
    scanned: usize,
    ended: bool,
    /// Frames split off so far.
    number: u64,
    /// Ends waits for input; `None` in tests.
    interrupt: Option<Interrupt>,
}

impl Input {
    /// Reading starts with the first [`Input::fill`].
    pub(crate) fn new(source: Source, framing: Framing, limit: Limit, interrupt: &Interrupt) -> Self {
        let Source { file, name } = source;
        Input { interrupt: Some(interrupt.clone()), ..Self::over(file, name, framing, limit) }
    }

    fn over(source: File, name: String, framing: Framing, limit: Limit) -> Self {
        let buffer = vec![0; BLOCK];
        Input {
            source,
            name,
            framing,
            limit,
            buffer,
            start: 0,
            end: 0,
            scanned: 0,
            ended: false,
            number: 0,
            interrupt: None,
        }
    }

    /// What has been read. [`Input::split`] returns ranges of it, which are valid until the next
    /// [`Input::fill`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The length of the input, if it is a file.
    pub(crate) fn len(&self) -> Option<u64> {
        self.source.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// Appends complete frames to `frames`, at most `count` and about `bytes` bytes of them. If
    /// there is an error, the frames before it have been appended.
    pub(crate) fn split(&mut self, frames: &mut Vec<Range<usize>>, count: u64, bytes: usize) -> Outcome {
        let (mut left, until) = (count, self.start.saturating_add(bytes));
        while left > 0 && self.start < until {
            let Some(frame) = self.next()? else { break };
            frames.push(frame);
            left -= 1;
        }
        Ok(())
    }

    /// Reads more. Returns false at the end of the input, or if an end was requested. Blocks until
    /// there is input.
    pub(crate) fn fill(&mut self) -> Outcome<bool> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.scanned = self.scanned.saturating_sub(self.start);
        self.start = 0;
        if self.end + BLOCK / 4 > self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let read = loop {
            if self.interrupt.as_ref().is_some_and(|interrupt| !interrupt.wait_readable(&self.source)) {
                return Ok(false);
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                // The input is O_NONBLOCK, and another reader was faster.
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                read => {
                    break read.map_err(|e| Failure::new(FAILED, format_args!("cannot read {}: {e}", self.name)))?;
                }
            }
        };
        self.end += read;
        self.ended = read == 0;
        Ok(true)
    }

    /// Puts back the last frames that [`Input::split`] returned, which were not sent.
    pub(crate) fn put_back(&mut self, frames: &[Range<usize>]) {
        let Some(first) = frames.first() else { return };
        self.start = first.start - if self.framing == Framing::Len32 { 4 } else { 0 };
        self.scanned = self.scanned.min(self.start);
        self.number -= frames.len() as u64;
    }

    /// Bytes that were read and have not been returned as frames: 0 at the end of the input.
    pub(crate) fn left(&self) -> usize {
        self.end - self.start
    }

    /// Seeks a file to the first byte that was not returned as a frame, for its next reader.
    /// Returns false if the input is no file, so that the bytes read ahead are lost.
    pub(crate) fn hand_back(&mut self) -> bool {
        let left = self.left();
        left == 0 || self.len().is_some() && self.source.seek(SeekFrom::Current(-(left as i64))).is_ok()
    }

    fn next(&mut self) -> Outcome<Option<Range<usize>>> {
        let available = self.end - self.start;
        if available == 0 {
            return Ok(None);
        }
        let (skip, len, behind) = match self.framing {
            Framing::Lines | Framing::Nul => {
                let delimiter = if self.framing == Framing::Lines { b'\n' } else { 0 };
                let from = self.scanned.max(self.start);
                match memchr(delimiter, &self.buffer[from..self.end]) {
                    Some(at) => (0, from + at - self.start, 1),
                    None if self.ended => (0, available, 0),
                    None => {
                        self.scanned = self.end;
                        return if available > self.limit.bytes {
                            Err(self.too_large(available, "at least "))
                        } else {
                            Ok(None)
                        };
                    }
                }
            }
            Framing::Len32 => match self.buffer[self.start..self.end].first_chunk::<4>() {
                Some(len) => (4, u32::from_le_bytes(*len) as usize, 0),
                None => return self.incomplete(4),
            },
            Framing::Fixed(len) => (0, len, 0),
            Framing::Raw => (0, available.min(self.limit.bytes), 0),
        };
        if len > self.limit.bytes {
            return Err(self.too_large(len, ""));
        }
        if skip + len > available {
            return self.incomplete(skip + len);
        }
        let frame = self.start + skip..self.start + skip + len;
        self.start = frame.end + behind;
        self.number += 1;
        Ok(Some(frame))
    }

    /// Called when there is less than a frame: an error if no more input follows.
    fn incomplete(&self, needed: usize) -> Outcome<Option<Range<usize>>> {
        if !self.ended {
            return Ok(None);
        }
        let (name, number, has) = (&self.name, self.number + 1, self.end - self.start);
        Err(Failure::new(FAILED, format_args!("{name} ends inside frame {number}: {has} of {needed} bytes")))
    }

    fn too_large(&self, len: usize, at_least: &str) -> Failure {
        let (name, number, Limit { bytes, of, raised_by }) = (&self.name, self.number + 1, self.limit);
        let what = if self.framing == Framing::Lines { "line" } else { "frame" };
        Failure::new(
            FAILED,
            format_args!(
                "{name}: {what} {number} is {at_least}{len} bytes long, and {of} takes at most {bytes} ({raised_by}); \
                 the frames before it have been sent"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn split(framing: Framing, max: usize, bytes: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let mut input = Input::over(file, "input".to_owned(), framing, Limit { bytes: max, of: "it", raised_by: "" });
        let mut found = Vec::new();
        loop {
            let mut frames = Vec::new();
            let problem = input.split(&mut frames, 3, 1 << 20).err();
            found.extend(frames.iter().map(|frame| input.bytes()[frame.clone()].to_vec()));
            if problem.is_some() || (frames.is_empty() && !input.fill().unwrap()) {
                return (found, problem.map(|problem| problem.message().to_owned()));
            }
        }
    }

    fn frames<const N: usize>(frames: [&[u8]; N]) -> Vec<Vec<u8>> {
        frames.map(<[u8]>::to_vec).into()
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        let (found, problem) = split(Framing::Lines, 5, b"one\n\ntwo\r\nthree");
        assert_eq!((found, problem), (frames([b"one", b"", b"two\r", b"three"]), None));
        assert_eq!(split(Framing::Lines, 5, b"").0, frames([]));
        assert_eq!(split(Framing::Nul, 5, b"a\nb\0\0c\0").0, frames([b"a\nb", b"", b"c"]));
    }

    #[test]
    fn long_lines_grow_the_buffer_and_too_long_ones_are_reported() {
        let long = vec![b'x'; 3 * BLOCK];
        let text = [b"short\n", long.as_slice(), b"\nshort\n"].concat();
        assert_eq!(split(Framing::Lines, long.len(), &text).0, [b"short".to_vec(), long.clone(), b"short".to_vec()]);
        let (found, problem) = split(Framing::Lines, 3, b"abc\nabcd\nab\n");
        assert_eq!(found, frames([b"abc"]));
        let problem = problem.unwrap();
        assert!(problem.contains("line 2 is 4 bytes long") && problem.contains("at most 3"), "{problem}");
        assert!(split(Framing::Lines, 1000, &text).1.unwrap().contains("line 2 is at least"));
    }

    #[test]
    fn frames_with_a_length_prefix_or_a_fixed_length_are_split() {
        let (found, problem) = split(Framing::Len32, 9, b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0!");
        assert_eq!((found, problem), (frames([b"hi", b"", b"!"]), None));
        assert!(split(Framing::Len32, 9, b"\x02\0\0\0h").1.unwrap().contains("frame 1: 5 of 6"));
        assert!(split(Framing::Len32, 9, b"\0\0\0\0\x02\0").1.unwrap().contains("frame 2: 2 of 4"));
        assert!(split(Framing::Len32, 9, b"\xFF\xFF\xFF\xFF").1.unwrap().contains("4294967295"));
        assert_eq!(split(Framing::Fixed(2), 9, b"abcd"), (frames([b"ab", b"cd"]), None));
        let (found, problem) = split(Framing::Fixed(2), 9, b"abc");
        assert_eq!((found, problem.unwrap().contains("1 of 2")), (frames([b"ab"]), true));
        assert!(split(Framing::Fixed(10), 9, b"abc").1.is_some());
        assert_eq!(split(Framing::Raw, 2, b"abc").0, frames([b"ab", b"c"]));
    }
}
