//! The directory of named segments, and the checks that make it trustworthy.
//!
//! Used by `create.rs` and `open.rs`. All operations are relative to one descriptor, whose owner
//! and mode were checked: renaming or replacing the path afterwards has no effect.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, fstat, mkdirat, openat, stat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, Result};

/// An open, checked segment directory.
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory that the user or the environment chose; creates it with mode 0700 if it
    /// is missing.
    pub(crate) fn create(custom: Option<&Path>) -> Result<Self> {
        let Place { path, forbidden } = Place::choose(custom);
        match mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) => ignore_umask(&path)?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(io_error("create the segment directory", &path, e)),
        }
        Self::checked(&path, forbidden)
    }

    /// As [`Directory::create`], but the directory must exist. For calls that only read.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Untrusted`]; [`Error::Io`].
    pub(crate) fn open(custom: Option<&Path>) -> Result<Self> {
        let Place { path, forbidden } = Place::choose(custom);
        Self::checked(&path, forbidden)
    }

    /// The path of the directory, whether or not it exists. Checked, if it does.
    pub(crate) fn locate(custom: Option<&Path>) -> Result<PathBuf> {
        match Self::open(custom) {
            Ok(_) | Err(Error::NotFound) => Ok(Self::path(custom)),
            Err(error) => Err(error),
        }
    }

    /// Its path, unchecked.
    pub(crate) fn path(custom: Option<&Path>) -> PathBuf {
        Place::choose(custom).path
    }

    /// The names of the segments in it, sorted. Files are not opened here: opening one may still
    /// fail.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(|e| Error::io("read the segment directory", e))? {
            let entry = entry.map_err(|e| Error::io("read the segment directory", e))?;
            let regular = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            match entry.file_name().to_str() {
                Ok(name) if regular && check_name(name).is_ok() => {
                    names.push(name.to_owned());
                }
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Unlinks the name. Processes that have the segment mapped are not affected.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(Error::NotFound),
            done => done.map_err(|e| Error::io("remove the segment", e)),
        }
    }

    fn checked(path: &Path, forbidden: Mode) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::NotFound),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Untrusted { what: "the segment directory is a symbolic link or not a directory" });
            }
            opened => opened.map_err(|e| io_error("open the segment directory", path, e))?,
        };
        let stat = fstat(&fd).map_err(|e| io_error("examine the segment directory", path, e))?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.intersects(forbidden) && mode.contains(Mode::SVTX) {
            return Err(Error::Untrusted {
                what: "the segment directory is shared with other users: choose a directory inside it",
            });
        }
        if stat.st_uid != geteuid().as_raw() {
            return Err(Error::Untrusted { what: "the segment directory belongs to another user" });
        }
        if mode.intersects(forbidden) {
            return Err(Error::Untrusted { what: "other users have access to the segment directory: chmod go-rwx it" });
        }
        Ok(Directory { fd })
    }
}

/// The path of a directory that is not opened yet.
struct Place {
    path: PathBuf,
    /// Permissions that other users must not have.
    forbidden: Mode,
}

impl Place {
    /// The path that the user chose, else `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`, else
    /// `/dev/shm/slipring-<uid>`. Other users may read a directory that the user chose, if its mode
    /// allows that.
    ///
    /// A runtime directory of another user is skipped: `sudo` may have kept the variable, and a
    /// directory created there by root would lock its owner out.
    fn choose(custom: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = custom.map(Path::to_owned).or_else(|| variable("SLIPRING_DIR")) {
            return Place { path, forbidden: Mode::WGRP | Mode::WOTH };
        }
        let uid = geteuid().as_raw();
        let is_foreign = |path: &Path| stat(path).is_ok_and(|stat| stat.st_uid != uid);
        let runtime = variable("XDG_RUNTIME_DIR").filter(|path| path.is_absolute() && !is_foreign(path));
        let path = match runtime {
            Some(runtime) => runtime.join("slipring"),
            None => PathBuf::from(format!("/dev/shm/slipring-{uid}")),
        };
        Place { path, forbidden: Mode::RWXG | Mode::RWXO }
    }
}

/// Sets the mode of a new directory again, because a umask such as 0177 reduces it.
fn ignore_umask(path: &Path) -> Result<()> {
    let failed = |e| io_error("set the mode of the segment directory", path, e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    if stat.st_uid != geteuid().as_raw() || Mode::from_raw_mode(stat.st_mode).contains(Mode::RWXU) {
        return Ok(());
    }
    // Through /proc, because chmod does not work on an `O_PATH` descriptor, and the path may lead
    // to another directory by now.
    chmodat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::RWXU, AtFlags::empty()).map_err(failed)
}

/// An error that names the path.
fn io_error(op: &'static str, path: &Path, error: Errno) -> Error {
    let error = io::Error::from(error);
    Error::io(op, io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Checks a name: 1 to 128 of `A-Z a-z 0-9 . _ -`, the first not a dot.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(Error::Invalid { what: "segment name: must be 1 to 128 of A-Z a-z 0-9 . _ - without a leading dot" })
    }
}
