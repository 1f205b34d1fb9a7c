//! `slipring dump`: shows the frames that wait in a ring, without receiving them.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::{Context, framing, output, target};

/// Show the frames that wait in a ring, without receiving them
#[derive(Args)]
#[command(after_help = "Examples:
  slipring dump jobs --limit 3     header and bytes of the next three frames
  slipring dump jobs --raw > frames      their payloads, concatenated
  slipring dump jobs --json

Of a ring in use it shows whole frames; those that are received meanwhile are left out.")]
pub(crate) struct Dump {
    /// ring:NAME, or NAME
    ring: String,
    /// Write bare payloads, without headers
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Show at most N frames
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
}

impl Dump {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let ring = target::open(&self.ring, context)?;
        let mut stdout = output::stdout()?;
        let mut left = self.limit;
        let mut outcome = Ok(());
        if left == 0 {
            return Ok(());
        }
        ring.inspect(|frame| {
            let mut out = Vec::new();
            if self.raw {
                out.extend_from_slice(frame.payload);
            } else if context.json {
                framing::encode_json(frame.header, frame.payload, &mut out);
            } else {
                let header = frame.header;
                let (seq, kind, stream, len) = (header.seq, header.kind, header.stream, header.len);
                out.extend(format!("seq {seq}  kind {kind:#06x}  stream {stream}  {len} bytes\n").into_bytes());
                out.extend(hex(frame.payload).into_bytes());
            }
            outcome = stdout.write_all(&out);
            left -= 1;
            left > 0 && outcome.is_ok()
        })?;
        outcome.map_err(Failure::output)
    }
}

/// Sixteen bytes a line: offset, hexadecimal, printable characters.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "  {:06x} ", 16 * line);
        for column in 0..16 {
            let _ = match chunk.get(column) {
                Some(byte) => write!(text, " {byte:02x}"),
                None => write!(text, "   "),
            };
        }
        let printable = |byte: &u8| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { '.' };
        let _ = writeln!(text, "  {}", chunk.iter().map(printable).collect::<String>());
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn hexadecimal_lines_are_aligned() {
        let text = super::hex(b"0123456789abcdef\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef");
        assert_eq!(lines[1].len(), lines[0].len() - 15);
        assert!(lines[1].starts_with("  000010  0a ") && lines[1].ends_with("  ."));
    }
}
