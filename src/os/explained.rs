//! System errors with an explanation, which keep their errno value.
//!
//! Used where the text of an errno value does not say what to do. Relies on no other module.

use std::error::Error;
use std::{fmt, io};

use rustix::io::Errno;

/// The error of a system call, and its text; `io::Error::get_ref` and `source` lead to the errno value.
#[derive(Debug)]
struct Explained {
    text: String,
    source: io::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// An error of the kind of `errno` that says `text`.
pub(crate) fn explained(errno: Errno, text: String) -> io::Error {
    let source = io::Error::from(errno);
    io::Error::new(source.kind(), Explained { text, source })
}

/// What failed, for a call by way of `/proc`: asks whether it is there only if that may be the reason.
pub(crate) fn by_way_of_proc(errno: Errno, op: &'static str, without_proc: &'static str) -> &'static str {
    if matches!(errno, Errno::NOENT | Errno::NOTDIR) { without_proc } else { op }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_value_is_kept() {
        let error = explained(Errno::NOENT, "no such place".to_owned());
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotFound, "no such place"));
        let source =
            error.get_ref().and_then(|inner| inner.source()).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(Errno::NOENT.raw_os_error()));
    }
}
