//! `slipring completions`: completion scripts for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::{Failure, Outcome};
use crate::output;

/// Print completions for a shell
#[derive(Args)]
#[command(after_help = "Example:
  slipring completions bash \\
    > ~/.local/share/bash-completion/completions/slipring")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "slipring", &mut script);
        std::io::Write::write_all(&mut output::stdout()?, &script).map_err(Failure::output)
    }
}
