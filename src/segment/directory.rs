//! The directory of named segments, and the checks that make it trustworthy.
//!
//! Used by `create.rs` and `open.rs`. All operations are relative to one descriptor, whose owner
//! and mode were checked: renaming or replacing the path afterwards has no effect.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, mkdirat, openat, stat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::error::{Error, Result};
use crate::os::explained::explained;
use crate::os::owner;

/// An open, checked segment directory.
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory that the user or the environment chose; creates it if it is missing, with
    /// mode 0700, or 0770 if the group is trusted.
    pub(crate) fn create(custom: Option<&Path>, trust_group: bool) -> Result<Self> {
        let place = Place::choose(custom, trust_group);
        let mode = if place.trust_group { Mode::RWXU | Mode::RWXG } else { Mode::RWXU };
        match mkdirat(CWD, &place.path, mode) {
            Ok(()) => ignore_umask(&place.path, mode)?,
            Err(Errno::EXIST) => {}
            // Whether it exists is checked first by some file systems, and last by others.
            Err(Errno::ROFS) if place.path.is_dir() => {}
            Err(e) => return Err(io_error("create the segment directory", &place.path, e)),
        }
        place.checked()
    }

    /// As [`Directory::create`], but the directory must exist. For calls that only read.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Untrusted`]; [`Error::Io`].
    pub(crate) fn open(custom: Option<&Path>, trust_group: bool) -> Result<Self> {
        Place::choose(custom, trust_group).checked()
    }

    /// The path of the directory, whether or not it exists. Checked, if it does.
    pub(crate) fn locate(custom: Option<&Path>, trust_group: bool) -> Result<PathBuf> {
        match Self::open(custom, trust_group) {
            Ok(_) | Err(Error::NotFound) => Ok(Self::path(custom)),
            Err(error) => Err(error),
        }
    }

    /// Its path, unchecked.
    pub(crate) fn path(custom: Option<&Path>) -> PathBuf {
        Place::choose(custom, false).path
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
}

/// The path of a directory that is not opened yet.
struct Place {
    path: PathBuf,
    /// Permissions that other users must not have.
    forbidden: Mode,
    /// Whether its group may write and own it.
    trust_group: bool,
}

impl Place {
    /// The path that the user chose, else `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`, else
    /// `/dev/shm/slipring-<uid>`. Other users may read a directory that the user chose, if its mode
    /// allows that, and members of a trusted group may own it and write to it.
    ///
    /// A runtime directory of another user is skipped: `sudo` may have kept the variable, and a
    /// directory created there by root would lock its owner out.
    fn choose(custom: Option<&Path>, trust_group: bool) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = custom.map(Path::to_owned).or_else(|| variable("SLIPRING_DIR")) {
            let forbidden = if trust_group { Mode::WOTH } else { Mode::WGRP | Mode::WOTH };
            return Place { path, forbidden, trust_group };
        }
        let uid = geteuid().as_raw();
        let is_foreign = |path: &Path| stat(path).is_ok_and(|stat| stat.st_uid != uid);
        let runtime = variable("XDG_RUNTIME_DIR").filter(|path| path.is_absolute() && !is_foreign(path));
        let path = match runtime {
            Some(runtime) => runtime.join("slipring"),
            None => PathBuf::from(format!("/dev/shm/slipring-{uid}")),
        };
        Place { path, forbidden: Mode::RWXG | Mode::RWXO, trust_group: false }
    }

    /// Opens it, if it is there and as it should be.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Untrusted`]; [`Error::Io`].
    fn checked(&self) -> Result<Directory> {
        let Place { path, forbidden, trust_group } = self;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::NotFound),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Untrusted { what: "the segment directory is a symbolic link or not a directory" });
            }
            Err(Errno::ACCESS) => return Err(no_access("open the segment directory", path, stat(path).ok())),
            opened => opened.map_err(|e| io_error("open the segment directory", path, e))?,
        };
        let stat = fstat(&fd).map_err(|e| io_error("examine the segment directory", path, e))?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let what = if mode.intersects(*forbidden) && mode.contains(Mode::SVTX) {
            "the segment directory is shared with other users: choose a directory inside it"
        } else if !owner::is_trusted(fd.as_fd(), &stat, *trust_group) {
            if *trust_group {
                "the segment directory belongs to another user and to a group of which this process is no member"
            } else {
                "the segment directory belongs to another user: run both sides as one user, or trust their common \
                 group (`Options::trust_group`)"
            }
        } else if mode.intersects(*forbidden) {
            if *trust_group {
                "all users have access to the segment directory: chmod o-rwx it"
            } else {
                "other users have access to the segment directory: chmod go-rwx it"
            }
        } else {
            return Ok(Directory { fd });
        };
        Err(Error::Untrusted { what })
    }
}

/// Sets the mode of a new directory again, because a umask such as 0177 reduces it.
fn ignore_umask(path: &Path, wanted: Mode) -> Result<()> {
    let failed = |e| io_error("set the mode of the segment directory", path, e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if stat.st_uid != geteuid().as_raw() || mode.contains(wanted) {
        return Ok(());
    }
    // Through /proc, because chmod does not work on an `O_PATH` descriptor, and the path may lead
    // to another directory by now. A set-group-id bit that its parent passed on stays.
    let wanted = wanted | (mode & Mode::SGID);
    chmodat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), wanted, AtFlags::empty()).map_err(failed)
}

/// The error for a file that this process may not open: with what decides that.
pub(super) fn no_access(op: &'static str, path: &Path, stat: Option<Stat>) -> Error {
    let (path, uid, gid) = (path.display(), geteuid().as_raw(), getegid().as_raw());
    let owner = stat.map_or(String::new(), |stat| {
        format!("belongs to uid {}, gid {}, mode {:04o}; ", stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
    });
    let advice = "run both sides as one user, or share a group: create the ring with mode 0660 and trust_group";
    let what = format!("permission denied: {path}: {owner}this process is uid {uid}, gid {gid}; {advice}");
    Error::io(op, explained(Errno::ACCESS, what))
}

/// An error that names the path.
fn io_error(op: &'static str, path: &Path, error: Errno) -> Error {
    Error::io(op, explained(error, format!("{}: {}", path.display(), io::Error::from(error))))
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
