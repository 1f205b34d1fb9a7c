//! `fifo:PATH`: a named pipe.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{pipe, query};
use crate::error::Result;
use crate::transport::fifo;
use crate::transport::pipe::check_size;
use crate::transport::stream::{Options, Sender};
use crate::wait::deadline::Deadline;

/// `fifo:PATH[?…]`: a named pipe, created with mode 0600 by the first side to open it. Options as
/// for [`PipeEndpoint`](super::PipeEndpoint).
#[derive(Clone, Debug)]
pub struct FifoEndpoint {
    path: PathBuf,
    options: Options,
}

impl FifoEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        Ok(FifoEndpoint { path: query::path(path)?, options: pipe::parse_options(options)? })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn check(&self) -> Result<()> {
        query::check_parent(&self.path, fifo::NO_DIRECTORY)?;
        check_size(&self.options)
    }

    pub(super) fn open_sender(&self, batch: bool, deadline: Deadline) -> Result<Sender> {
        fifo::sender(&self.path, &self.options.clone().batch(batch), deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<fifo::Receiver> {
        fifo::receiver(&self.path, &self.options)
    }
}

impl fmt::Display for FifoEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fifo:{}", self.path.display())
    }
}
