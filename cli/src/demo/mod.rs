//! stub
pub(crate) mod part;
use crate::{Context, failure::Outcome};
/// Show
#[derive(clap::Args)]
pub(crate) struct Demo {}
impl Demo { pub(crate) fn run(self, _c: &Context) -> Outcome { Ok(()) } }
