//! `slipring verify`: checks a ring's consistency. Writes nothing.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use crate::failure::{CORRUPT, Failure, Outcome};
use crate::{Context, output, parts, target, units};

/// Check a ring without changing it
#[derive(Args)]
#[command(after_help = "Examples:
  slipring verify jobs && echo clean
  slipring verify jobs --json

Walks every frame or slot and every participant; exit code 3 when something is wrong. What seems wrong while the ring is \
in use is looked at again; if the ring changes at every look, it says so and exits with 0.")]
pub(crate) struct Verify {
    /// ring:NAME, or NAME
    ring: String,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let ring = target::open(&self.ring, context)?;
        let report = ring.verify()?;
        if context.json {
            let mut object = json!({
                "name": ring.name(), "clean": report.is_clean(), "frames": report.frames, "bytes": report.bytes,
                "writing": report.writing, "reading": report.reading, "redeliver": report.redeliver,
                "changed_while_looking": report.changed, "problems": report.problems,
            });
            parts::add(&ring, &mut object);
            output::print_json(&object)?;
        } else {
            let mut text = format!(
                "waiting: {} ({})\n",
                units::counted(report.frames as usize, "frame"),
                units::counted(report.bytes as usize, "byte")
            );
            if report.writing + report.reading + report.redeliver > 0 {
                let (writing, reading, again) = (report.writing, report.reading, report.redeliver);
                let _ = writeln!(text, "{writing} are being written, {reading} being read, {again} to be redelivered");
            }
            report.problems.iter().for_each(|problem| text.extend([problem, "\n"]));
            text.push_str(match (report.is_clean(), report.changed) {
                (true, true) => "the ring changed during the check: its frames were not checked\n",
                (true, false) => "clean\n",
                _ => "",
            });
            text.push_str(&parts::table(&ring));
            output::print(&text)?;
        }
        match report.problems.len() {
            0 => Ok(()),
            n => Err(Failure::new(CORRUPT, format_args!("{}: {}", self.ring, units::counted(n, "problem")))),
        }
    }
}
