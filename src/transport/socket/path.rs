//! The paths of Unix sockets: the checks that make a path trustworthy, and taking a path over from
//! a dead process.
//!
//! Used by every transport over Unix sockets. Relies on rustix.
//!
//! A socket's name is only as safe as its directory: a user who may write there can put another
//! socket under the name. So the directory must belong to this user or to root (or, for a
//! connecting side, to an allowed user). It may be writable for other users only if it is sticky
//! (`/tmp`), where they cannot remove or rename our files.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};

use super::peer::is_allowed;
use crate::error::{Error, Result};
use crate::os::fork;
use crate::os::owner;
use crate::wait::deadline::Deadline;

const NO_DIRECTORY: Error = Error::Invalid { what: "socket path: its directory does not exist: create it" };

/// How long [`BoundPath::bind`] waits for another process that is taking over a socket of the same
/// directory.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// A path that leads to a socket of ours. Dropping it removes the path.
#[derive(Debug)]
pub(in crate::transport) struct BoundPath {
    path: PathBuf,
    /// Device and inode of the socket's file, so that no other file is removed.
    device: u64,
    inode: u64,
    born: u32,
}

impl BoundPath {
    /// Binds `socket`, of type `kind`, to `path`, with mode 0600. A socket of ours without a
    /// listener is replaced; another process that tries the same at the same time waits.
    ///
    /// # Errors
    /// [`Error::Exists`] if another process listens there; [`Error::Untrusted`] for a directory
    /// that other users may change, or for anything but a socket of ours under the name;
    /// [`Error::Invalid`] for a path that is too long; [`Error::Io`].
    pub(in crate::transport) fn bind(socket: &OwnedFd, kind: SocketType, path: &Path) -> Result<Self> {
        let address = address(path)?;
        let directory = checked_directory(path, OFlags::RDONLY, &[])?;
        // One process at a time: between finding no listener and removing the name, another one
        // could do both and bind.
        lock(&directory)?;
        match lookup(path)? {
            None => {}
            Some(stat) if !owner::is_us(stat.st_uid) => {
                return Err(Error::Untrusted { what: "the socket under this path belongs to another user" });
            }
            Some(_) if is_alive(&address, kind)? => return Err(Error::Exists),
            Some(_) => unlinkat(CWD, path, AtFlags::empty()).map_err(|e| Error::io("remove the stale socket", e))?,
        }
        // The name gets the socket's mode (unix(7)); setting it afterwards would be a race.
        fchmod(socket, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("set the socket's mode", e))?;
        match bind(socket, &address) {
            Err(Errno::ADDRINUSE) => return Err(Error::Exists),
            bound => bound.map_err(|e| Error::io("bind the socket", e))?,
        }
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Error::io("examine the socket", e))?;
        Ok(BoundPath { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino, born: fork::generation() })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            return; // it belongs to the parent
        }
        // Another process may put its own socket there between the check and the removal, but not
        // while we hold the lock. A socket that we cannot remove is replaced by the next one to
        // bind.
        let Ok(directory) = checked_directory(&self.path, OFlags::RDONLY, &[]) else { return };
        let ours = |stat: &Stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode);
        let found = || statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        if lock(&directory).is_ok() && found().is_ok_and(|stat| ours(&stat)) {
            let _ = unlinkat(CWD, &self.path, AtFlags::empty());
        }
    }
}

/// The address of the socket at `path`, to connect to: it must be a socket of this user, of root or
/// of one of `uids`, in a directory that other users cannot change.
///
/// # Errors
/// [`Error::NotFound`]; otherwise as [`BoundPath::bind`].
pub(in crate::transport) fn peer_address(path: &Path, uids: &[u32]) -> Result<SocketAddrUnix> {
    let address = address(path)?;
    // Search permission is all that a connecting side needs.
    checked_directory(path, OFlags::PATH, uids)?;
    match lookup(path)? {
        None => Err(Error::NotFound),
        Some(stat) if !is_allowed(stat.st_uid, uids) => {
            Err(Error::Untrusted { what: "the socket under this path belongs to another user: allow its uid" })
        }
        Some(_) => Ok(address),
    }
}

/// Refuses what both binding and connecting refuse: a path that is too long, or whose directory
/// does not exist.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check(path: &Path) -> Result<()> {
    address(path)?;
    if directory_of(path).is_dir() { Ok(()) } else { Err(NO_DIRECTORY) }
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    const LIMIT: usize = 107; // sun_path less its NUL, unix(7)
    match path.as_os_str().len() {
        1..=LIMIT if path.file_name().is_some() && !path.as_os_str().as_bytes().contains(&0) => {}
        _ => return Err(Error::Invalid { what: "socket path: 1 to 107 bytes, the last part a file name" }),
    }
    SocketAddrUnix::new(path).map_err(|e| Error::io("name the socket", e))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The directory of `path`, open, after the checks of the module's documentation.
fn checked_directory(path: &Path, access: OFlags, uids: &[u32]) -> Result<OwnedFd> {
    let fd = match openat(CWD, directory_of(path), access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(NO_DIRECTORY),
        opened => opened.map_err(|e| Error::io("open the socket's directory", e))?,
    };
    let stat = fstat(&fd).map_err(|e| Error::io("examine the socket's directory", e))?;
    if !is_allowed(stat.st_uid, uids) {
        return Err(Error::Untrusted { what: "the socket's directory belongs to another user" });
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX) {
        return Err(Error::Untrusted { what: "others may change the socket's directory: chmod go-w it" });
    }
    Ok(fd)
}

/// The file at `path`, if there is one. A file that is not a socket is refused.
fn lookup(path: &Path) -> Result<Option<Stat>> {
    let stat = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        found => found.map_err(|e| Error::io("examine the socket", e))?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => Ok(Some(stat)),
        FileType::Symlink => Err(Error::Untrusted { what: "the socket path is a symbolic link: name its target" }),
        _ => Err(Error::Untrusted { what: "the file at this path is not a socket" }),
    }
}

/// Whether a process has the socket open: the kernel refuses connections to a socket that no
/// process has open. Any other error (another type, full, not allowed) shows that a process has it.
fn is_alive(address: &SocketAddrUnix, kind: SocketType) -> Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(|e| Error::io("make a socket", e))?;
    Ok(!matches!(connect(&probe, address), Err(Errno::CONNREFUSED | Errno::NOENT)))
}

/// Takes the directory's lock (flock(2)), which the kernel releases with the descriptor, also at
/// death.
fn lock(directory: &OwnedFd) -> Result<()> {
    let deadline = Deadline::after(TAKE_OVER);
    loop {
        match flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if !deadline.has_passed() => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::INTR) => {}
            locked => return locked.map_err(|e| Error::io("lock the socket's directory", e)),
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("slipring-path-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn socket() -> OwnedFd {
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn bound(path: &Path) -> Result<(OwnedFd, BoundPath)> {
        let socket = socket();
        let name = BoundPath::bind(&socket, SocketType::SEQPACKET, path)?;
        rustix::net::listen(&socket, 1).unwrap();
        Ok((socket, name))
    }

    #[test]
    fn a_living_socket_is_left_alone_and_a_stale_one_replaced() {
        let dir = Scratch::new("stale");
        let path = dir.0.join("s");
        let (socket, name) = bound(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(bound(&path), Err(Error::Exists)));
        assert!(peer_address(&path, &[]).is_ok());
        drop(socket);
        std::mem::forget(name); // as if it had been killed
        let (_socket, name) = loop {
            match bound(&path) {
                // A child that another test is starting has a copy of it until its `execve`.
                Err(Error::Exists) => std::thread::yield_now(),
                replaced => break replaced.unwrap(),
            }
        };
        drop(name);
        assert!(!path.exists());
        assert!(matches!(peer_address(&path, &[]), Err(Error::NotFound)));
    }

    #[test]
    fn a_name_that_another_process_took_over_is_not_removed() {
        let dir = Scratch::new("taken");
        let path = dir.0.join("s");
        let (_socket, name) = bound(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (_other, _kept) = bound(&path).unwrap();
        drop(name);
        assert!(path.exists());
    }

    #[test]
    fn untrusted_paths_are_refused() {
        let dir = Scratch::new("refused");
        let file = dir.0.join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(bound(&file), Err(Error::Untrusted { .. })));
        let link = dir.0.join("link");
        symlink(dir.0.join("nowhere"), &link).unwrap();
        assert!(matches!(bound(&link), Err(Error::Untrusted { .. })));
        assert!(matches!(peer_address(&link, &[]), Err(Error::Untrusted { .. })));

        let open = dir.0.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(bound(&open.join("s")), Err(Error::Untrusted { .. })));
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o1777)).unwrap();
        assert!(bound(&open.join("s")).is_ok());

        let long = dir.0.join("n".repeat(120));
        for path in [Path::new(""), Path::new("/"), Path::new("a/.."), &long, &dir.0.join("no/where")] {
            assert!(matches!(bound(path), Err(Error::Invalid { .. })), "{path:?}");
        }
    }
}
