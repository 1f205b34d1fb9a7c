//! The library's errors as the exceptions of `slipring/_errors.py`, and errors of the binding's
//! own.
//!
//! Used by every call that can fail. The classes are looked up by name when one is raised.

use pyo3::prelude::*;
use slipring::Error;

/// The name of the exception class for an error.
fn class_of(error: &Error) -> &'static str {
    match error {
        Error::Full => "Full",
        Error::Empty => "Empty",
        Error::Closed => "Closed",
        Error::PeerDead => "PeerDead",
        Error::Overtaken => "Overtaken",
        Error::Evicted => "Evicted",
        Error::Unanswered => "Unanswered",
        Error::Timeout => "Timeout",
        Error::Cancelled => "Cancelled",
        Error::TooLarge { .. } => "TooLarge",
        Error::Corrupt { .. } => "Corrupt",
        Error::Incompatible { .. } => "Incompatible",
        Error::OtherType { .. } => "TypeMismatch",
        Error::NotFound => "NotFound",
        Error::Exists => "Exists",
        Error::NoConsumer => "NoConsumer",
        Error::RoleTaken { .. } | Error::TooManyParticipants { .. } | Error::NoFreeLane { .. } => "NoRoom",
        Error::Invalid { .. } => "Invalid",
        Error::Untrusted { .. } => "Untrusted",
        Error::Unsupported { .. } => "Unsupported",
        Error::Forked => "Forked",
        Error::Io { .. } => "SystemFailure",
        _ => "Error",
    }
}

/// The exception for an error of the library.
#[cold]
pub fn raise(py: Python<'_>, error: Error) -> PyErr {
    if let Error::Io { op, source } = &error {
        // An error that says more than the system's keeps that one as its source.
        let within = || source.get_ref()?.source()?.downcast_ref::<std::io::Error>()?.raw_os_error();
        if let Some(errno) = source.raw_os_error().or_else(within) {
            return build(py, "SystemFailure", |class| class.call1((errno, format!("{op}: {source}"))));
        }
    }
    let exception = build(py, class_of(&error), |class| class.call1((error.to_string(),)));
    if let Error::OtherType { expected, found } = error {
        let value = exception.value(py);
        // A plain attribute of an exception of ours: setting it does not fail.
        let _ = value.setattr("expected", &*expected);
        let _ = value.setattr("found", &*found);
    }
    exception
}

/// An exception of the class `name` that says `what`.
#[cold]
pub fn refuse(py: Python<'_>, name: &str, what: &str) -> PyErr {
    build(py, name, |class| class.call1((what,)))
}

fn build<'py>(
    py: Python<'py>,
    name: &str,
    make: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    let made = py.import("slipring._errors").and_then(|module| make(&module.getattr(name)?));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The error of a call on a handle that was closed here.
#[cold]
pub fn closed_here(py: Python<'_>) -> PyErr {
    refuse(py, "HandleClosed", "this handle was closed: open another one")
}

/// An error of a system call of the binding's own.
#[cold]
pub fn system(py: Python<'_>, op: &'static str, error: impl Into<std::io::Error>) -> PyErr {
    raise(py, Error::Io { op, source: error.into() })
}
