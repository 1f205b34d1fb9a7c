//! `slipring rm`: takes names away, but not from under somebody's feet.

use clap::Args;
use slipring::{Error, Ring};

use crate::failure::{FAILED, Failure, Outcome};
use crate::{Context, output, target};

/// Remove rings
#[derive(Args)]
#[command(after_help = "Examples:
  slipring rm jobs ticks
  slipring rm --force jobs

A ring with somebody attached is refused (exit code 1), as is one that another version made; --force takes the name away
all the same. Whoever is attached goes on undisturbed, and the memory goes with the last of them. Frames that wait are
gone: look with `slipring dump` first.")]
pub(crate) struct Rm {
    /// ring:NAME, or NAME
    #[arg(required = true, value_name = "RING")]
    rings: Vec<String>,
    /// Also rings with somebody attached, and what cannot be opened
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Removes what can be removed; the first failure decides the exit code.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut code = None;
        for text in &self.rings {
            if let Err(failure) = self.remove(text, context) {
                code.get_or_insert(failure.code());
                output::remark(format_args!("slipring: {}", failure.message()));
            }
        }
        code.map_or(Ok(()), |code| Err(Failure::silent(code)))
    }

    fn remove(&self, text: &str, context: &Context) -> Outcome {
        let endpoint = target::parse(text, context)?;
        let name = endpoint.name();
        let anywhere = target::anywhere(context);
        if !self.force {
            match Ring::open(name, &anywhere) {
                Ok(ring) if !ring.is_idle()? => {
                    let message =
                        format_args!("somebody is attached (`slipring info {name}`); --force removes it all the same");
                    return Err(Failure::new(FAILED, message).at(format_args!("ring:{name}")));
                }
                // What is broken is for removal; what is merely foreign may be in use.
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(Failure::from(error).at(format_args!("ring:{name}"))),
            }
        }
        Ring::remove(name, &anywhere).map_err(|error| Failure::from(error).at(format_args!("ring:{name}")))?;
        if context.json {
            return output::print_json(&serde_json::json!({ "removed": name }));
        }
        Ok(())
    }
}
