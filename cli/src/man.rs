//! `slipring man`: the manual pages, generated from the texts of `--help`.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::failure::{FAILED, Failure, Outcome};
use crate::output;

/// Print the manual page, or write the pages of all verbs into a directory
#[derive(Args)]
#[command(after_help = "Examples:
  slipring man | man -l -
  slipring man --out ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write slipring.1, slipring-send.1 and so on to this directory
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, command: Command) -> Outcome {
        match self.out {
            Some(directory) => clap_mangen::generate_to(command, &directory)
                .map_err(|e| Failure::new(FAILED, e).at(directory.display())),
            None => clap_mangen::Man::new(command).render(&mut output::stdout()?).map_err(Failure::output),
        }
    }
}
