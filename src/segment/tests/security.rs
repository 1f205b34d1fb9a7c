//! Files and directories that no trustworthy peer creates.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use rustix::fs::{MemfdFlags, SealFlags};

use super::*;
use crate::error::{Error, Result};
use std::sync::Arc;

/// A directory with a segment `good` in it, which stays as it is.
fn ground() -> (TestDir, Directory) {
    let dir = TestDir::new();
    let directory = dir.open();
    Segment::create(&directory, "good", small(), &Options::default()).unwrap();
    (dir, directory)
}

fn open(directory: &Directory, name: &str) -> Result<Arc<Segment>> {
    Segment::open(directory, name, &Options::default())
}

fn assert_untrusted<T>(result: Result<T>) {
    match result.err() {
        Some(Error::Untrusted { .. }) => {}
        other => panic!("not refused as untrusted: {other:?}"),
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn chown(path: &Path, uid: u32) -> bool {
    std::os::unix::fs::chown(path, Some(uid), None).is_ok()
}

#[test]
fn files_that_are_not_regular_are_refused_without_waiting() {
    let (dir, directory) = ground();
    symlink("good", dir.0.join("symlink")).unwrap();
    symlink("/dev/zero", dir.0.join("device")).unwrap();
    fs::create_dir(dir.0.join("directory")).unwrap();
    let fifo = CString::new(dir.0.join("fifo").as_os_str().as_bytes()).unwrap();
    // SAFETY: a NUL-terminated path, alive for the call.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(dir.0.join("socket")).unwrap();
    for name in ["symlink", "device", "directory", "fifo", "socket"] {
        assert_untrusted(open(&directory, name));
    }
}

#[test]
fn a_hard_link_is_refused() {
    let (dir, directory) = ground();
    fs::hard_link(dir.0.join("good"), dir.0.join("link")).unwrap();
    assert_untrusted(open(&directory, "link"));
    assert_untrusted(open(&directory, "good"));
    directory.remove("link").unwrap();
    open(&directory, "good").unwrap();
}

#[test]
fn files_that_others_may_write_are_refused_unless_configured() {
    let (dir, directory) = ground();
    let path = dir.0.join("good");
    chmod(&path, 0o660);
    assert_untrusted(open(&directory, "good"));
    let trusting = Options { trust_group: true, ..Options::default() };
    Segment::open(&directory, "good", &trusting).unwrap();
    chmod(&path, 0o602);
    assert_untrusted(Segment::open(&directory, "good", &trusting));
    chmod(&path, 0o644);
    open(&directory, "good").unwrap();
}

#[test]
fn a_segment_that_no_opener_would_accept_is_not_created() {
    let (_dir, directory) = ground();
    let create = |name, mode, trust_group| {
        let options = Options { mode, trust_group, ..Options::default() };
        Segment::create(&directory, name, small(), &options)
    };
    for (mode, trust_group) in [(0o660, false), (0o602, false), (0o602, true), (0o400, false), (0o200, true)] {
        assert!(matches!(create("new", mode, trust_group), Err(Error::Invalid { .. })), "{mode:o}");
    }
    create("shared", 0o660, true).unwrap();
    create("readable", 0o640, false).unwrap();
    assert_eq!(directory.list().unwrap(), ["good", "readable", "shared"]);
}

#[test]
fn files_of_another_user_are_refused() {
    let (dir, directory) = ground();
    if !chown(&dir.0.join("good"), 12345) {
        eprintln!("skipped: only root can change the owner of a file");
        return;
    }
    assert_untrusted(open(&directory, "good"));
    assert!(chown(&dir.0, 12345));
    assert_untrusted(Directory::create(Some(&dir.0), false));
}

#[test]
fn directories_are_checked() {
    let (dir, _) = ground();
    for (mode, fine) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false), (0o1777, false)] {
        chmod(&dir.0, mode);
        assert_eq!(Directory::create(Some(&dir.0), false).is_ok(), fine, "{mode:o}");
    }
    chmod(&dir.0, 0o700);
    symlink(&dir.0, dir.0.join("alias")).unwrap();
    assert_untrusted(Directory::create(Some(&dir.0.join("alias")), false));
    assert_untrusted(Directory::create(Some(&dir.0.join("good")), false));
    assert!(matches!(Directory::create(Some(&dir.0.join("no/such/place")), false), Err(Error::Io { .. })));
    assert!(matches!(Directory::open(Some(&dir.0.join("missing")), false), Err(Error::NotFound)));
    assert!(!dir.0.join("missing").exists());
}

#[test]
fn wrong_sizes_are_refused() {
    let (dir, directory) = ground();
    let image = fs::read(dir.0.join("good")).unwrap();
    assert_eq!(image.len(), small().total_len);
    let longer = [image.as_slice(), &[0; 4096]].concat();
    for (i, bytes) in
        [&image[..0], &image[..100], &image[..4096], &image[..image.len() - 1], &longer].iter().enumerate()
    {
        let name = format!("cut-{i}");
        fs::write(dir.0.join(&name), bytes).unwrap();
        chmod(&dir.0.join(&name), 0o600);
        assert!(matches!(open(&directory, &name), Err(Error::Corrupt { .. })), "{} bytes", bytes.len());
    }
}

#[test]
fn every_flipped_byte_of_the_header_is_refused() {
    let (dir, directory) = ground();
    let file = File::options().read(true).write(true).open(dir.0.join("good")).unwrap();
    for at in 0..128 {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
        let error = open(&directory, "good").err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Incompatible { .. }), "byte {at}: {error}");
        file.write_all_at(&byte, at).unwrap();
    }
    open(&directory, "good").unwrap();
}

#[test]
fn hostile_records_neither_panic_nor_block() {
    let (dir, directory) = ground();
    let file = File::options().write(true).open(dir.0.join("good")).unwrap();
    let segment = open(&directory, "good").unwrap();
    let ones = vec![0xFF; small().data_offset - 4 * 4096];
    file.write_all_at(&ones, 4 * 4096).unwrap();
    assert_eq!(segment.participants().unwrap().len(), 4);
    assert!(segment.is_idle().unwrap());
    assert_eq!(segment.table().ended(Role::Consumer, Default::default()), None);
    let mut swept = Vec::new();
    let participant = Participant::join(&segment, Role::Consumer, true, |id| swept.push(id)).unwrap();
    assert_eq!((participant.id(), swept), (1, vec![1, 2, 3, 4]));
    assert_eq!(segment.participants().unwrap().len(), 1);

    file.write_all_at(&ones[..4096], 3 * 4096).unwrap();
    drop(participant);
    for _ in 0..3 {
        let joined = Participant::join(&segment, Role::Consumer, true, |_| ());
        assert!(matches!(joined, Err(Error::Corrupt { .. }) | Ok(_)));
    }
    assert!(segment.is_idle().unwrap());
}

#[test]
fn a_descriptor_that_could_shrink_is_refused() {
    let image = {
        let (dir, _) = ground();
        fs::read(dir.0.join("good")).unwrap()
    };
    let memfd = |seals: SealFlags| -> OwnedFd {
        let fd = rustix::fs::memfd_create("evil", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::io::pwrite(&fd, &image, 0).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        assert_untrusted(Segment::from_memfd(memfd(all - missing), &Options::default()));
    }
    Segment::from_memfd(memfd(all), &Options::default()).unwrap();
    let read_only = Segment::from_memfd(memfd(all | SealFlags::WRITE), &Options::default());
    assert!(matches!(read_only, Err(Error::Io { .. })), "a read-only memfd cannot be mapped for writing");

    let (dir, _) = ground();
    let file = File::options().read(true).write(true).open(dir.0.join("good")).unwrap();
    assert_untrusted(Segment::from_memfd(file.into(), &Options::default()));
    let (pipe, _write_end) = rustix::pipe::pipe().unwrap();
    assert_untrusted(Segment::from_memfd(pipe, &Options::default()));
}
