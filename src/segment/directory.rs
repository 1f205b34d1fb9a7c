//! The directory in which named segments live, and what makes it trustworthy.
//!
//! Used by `create.rs` and `open.rs`. Everything happens relative to one descriptor, whose owner and mode were checked:
//! renaming or replacing the path afterwards changes nothing for us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, Result};

/// An open, checked segment directory.
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`, else `/dev/shm/slipring-<uid>`; created 0700 if it is missing.
    pub(crate) fn from_env() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("SLIPRING_DIR") {
            return Self::at(&path);
        }
        let path = match variable("XDG_RUNTIME_DIR").filter(|path| path.is_absolute()) {
            Some(runtime) => runtime.join("slipring"),
            None => PathBuf::from(format!("/dev/shm/slipring-{}", geteuid().as_raw())),
        };
        Self::checked(&path, Mode::RWXG | Mode::RWXO)
    }

    /// A directory of the user's choice; created 0700 if it is missing. Others may read it, if the user says so.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        Self::checked(path, Mode::WGRP | Mode::WOTH)
    }

    /// Where it was opened. For messages: files are reached through the descriptor.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the segments in it, sorted. A file is not looked into: opening it may still fail.
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

    /// Takes the name away. Whoever has the segment mapped goes on undisturbed.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(Error::NotFound),
            done => done.map_err(|e| Error::io("remove the segment", e)),
        }
    }

    fn checked(path: &Path, forbidden: Mode) -> Result<Self> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::io("create the segment directory", e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Untrusted { what: "the segment directory is a symbolic link or no directory" });
            }
            opened => opened.map_err(|e| Error::io("open the segment directory", e))?,
        };
        let stat = fstat(&fd).map_err(|e| Error::io("examine the segment directory", e))?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(Error::Untrusted { what: "the segment directory belongs to another user" });
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(forbidden) {
            return Err(Error::Untrusted { what: "others have access to the segment directory: chmod 700 it" });
        }
        Ok(Directory { fd, path: path.to_owned() })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// 1 to 128 of `A-Z a-z 0-9 . _ -`, the first of which is no dot.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(Error::Invalid { what: "segment name: 1 to 128 of A-Z a-z 0-9 . _ - without a leading dot" })
    }
}
