//! Creating, opening and removing segments, sharing their contents, and memory options.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::error::Error;
use crate::memory::{Downgrade, HUGE_PAGE};
use crate::sync::Ordering::Relaxed;

#[test]
fn two_openers_see_the_same_bytes_through_the_mirror() {
    let dir = TestDir::new();
    let directory = dir.open();
    let made = Segment::create(&directory, "ticks", small(), &Options::default()).unwrap();
    let opened = Segment::open(&directory, "ticks", &Options::default()).unwrap();
    assert_eq!(opened.geometry(), made.geometry());
    assert_eq!(opened.header(), made.header());
    assert_ne!(opened.generation(), 0);
    assert_eq!(opened.name(), Some("ticks"));

    let (ours, theirs) = (made.data(), opened.data());
    assert!(made.is_mirrored() && ours.len() == 8192);
    ours.word(8).store(1, Relaxed);
    ours.word(4096 + 16).store(2, Relaxed);
    for (offset, value) in [(8, 1), (16, 2), (4096 + 8, 1), (4096 + 16, 2)] {
        assert_eq!(theirs.word(offset).load(Relaxed), value, "offset {offset}");
    }
    made.producer_page().word(0).store(3, Relaxed);
    made.consumer_page().word(0).store(4, Relaxed);
    made.shared_page().word(0).store(5, Relaxed);
    let pages = [opened.producer_page(), opened.consumer_page(), opened.shared_page()];
    assert_eq!(pages.map(|page| page.word(0).load(Relaxed)), [3, 4, 5]);
}

#[test]
fn memory_outlives_its_segment_and_its_name() {
    let dir = TestDir::new();
    let directory = dir.open();
    let segment = Segment::create(&directory, "gone", small(), &Options::default()).unwrap();
    let participant = Participant::join(&segment, Role::Producer, true, |_| ()).unwrap();
    assert_eq!(participant.id(), 1);
    directory.remove("gone").unwrap();
    assert!(matches!(directory.remove("gone"), Err(Error::NotFound)));
    assert!(matches!(Segment::open(&directory, "gone", &Options::default()), Err(Error::NotFound)));
    let data = segment.data();
    drop((segment, participant));
    data.word(0).store(1, Relaxed);
}

#[test]
fn names_are_unique_and_listed_and_nothing_else_is_left() {
    let dir = TestDir::new();
    let directory = dir.open();
    let _b = Segment::create(&directory, "b", small(), &Options::default()).unwrap();
    let _a = Segment::create(&directory, "a.1_x-Y", small(), &Options::default()).unwrap();
    assert!(matches!(Segment::create(&directory, "b", small(), &Options::default()), Err(Error::Exists)));
    std::fs::write(dir.0.join(".hidden"), "").unwrap();
    std::fs::create_dir(dir.0.join("sub")).unwrap();
    assert_eq!(directory.list().unwrap(), ["a.1_x-Y", "b"]);
    assert_eq!(std::fs::metadata(dir.0.join("b")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(&dir.0).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn impossible_names_are_refused() {
    let dir = TestDir::new();
    let directory = dir.open();
    let long = "x".repeat(129);
    for name in ["", ".", "..", ".x", "a/b", "/a", "a b", "ä", "a\0", &long] {
        assert!(matches!(Segment::open(&directory, name, &Options::default()), Err(Error::Invalid { .. })), "{name:?}");
        let created = Segment::create(&directory, name, small(), &Options::default());
        assert!(matches!(created, Err(Error::Invalid { .. })), "{name:?}");
        assert!(matches!(directory.remove(name), Err(Error::Invalid { .. })), "{name:?}");
    }
}

#[test]
fn open_or_create_agrees_on_one_segment() {
    let dir = TestDir::new();
    let generations: Vec<u64> = std::thread::scope(|scope| {
        let attach = || {
            let segment = Segment::open_or_create(&dir.open(), "one", small(), &Options::default()).unwrap();
            segment.generation()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(attach)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(generations.iter().all(|generation| *generation == generations[0]));

    let larger = Geometry::spsc(1 << 20, &Settings::default()).unwrap();
    let found = Segment::open_or_create(&dir.open(), "one", larger, &Options::default()).unwrap();
    assert_eq!(found.geometry().capacity, 4096, "what exists wins");
    let other = Geometry::mpmc(8, 8, &Settings::default()).unwrap();
    let error = Segment::open_or_create(&dir.open(), "one", other, &Options::default()).err().unwrap();
    assert!(matches!(error, Error::Incompatible { expected: 2, found: 1, .. }), "{error}");
}

#[test]
fn a_memfd_is_sealed_and_shared_by_its_descriptor() {
    let geometry = Geometry::mpmc(4, 100, &Settings::default()).unwrap();
    let made = Segment::memfd(geometry, &Options::default()).unwrap();
    let fd = made.fd().unwrap().try_clone_to_owned().unwrap();
    assert!(rustix::fs::ftruncate(&fd, 0).is_err());
    let passed = Segment::from_memfd(fd, &Options::default()).unwrap();
    assert_eq!((passed.geometry(), passed.generation()), (made.geometry(), made.generation()));
    assert_eq!(passed.data().len(), geometry.capacity, "slots are not mirrored");
    made.data().word(0).store(7, Relaxed);
    assert_eq!(passed.data().word(0).load(Relaxed), 7);
}

#[test]
fn a_full_file_system_is_an_error_at_creation_that_says_what_is_needed() {
    let dir = TestDir::new();
    if !dir.0.starts_with("/dev/shm") {
        eprintln!("skipped: without a tmpfs of limited size, filling it up takes its time");
        return;
    }
    let directory = dir.open();
    let giant = Geometry::spsc(1 << 40, &Settings::default()).unwrap();
    let error = Segment::create(&directory, "giant", giant, &Options::default()).err().unwrap();
    let Error::Io { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::FileTooLarge), "{error}");
    if source.kind() == std::io::ErrorKind::StorageFull {
        assert!(source.to_string().contains(&giant.total_len.to_string()), "{error}");
    }
    assert!(directory.list().unwrap().is_empty());
}

/// A memfd is in no file system with a limit. The allocation of a giant one took all memory, and the
/// kernel killed other processes for it.
#[test]
fn a_memfd_larger_than_the_memory_is_an_error_at_creation() {
    if !std::path::Path::new("/proc/meminfo").exists() {
        eprintln!("skipped: without /proc the free memory is unknown");
        return;
    }
    let giant = Geometry::spsc(1 << 40, &Settings::default()).unwrap();
    let error = Segment::memfd(giant, &Options::default()).err().unwrap();
    let Error::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(source.to_string().contains(&format!("{} bytes are needed, ", giant.total_len)), "{error}");
}

#[test]
fn prefaulted_and_locked_memory_is_resident() {
    if again::emulator().is_some() {
        eprintln!("not asked: /proc/self/smaps is the emulator's, with its addresses");
        return;
    }
    let wishes = MemoryOptions { prefault: true, lock: true, best_effort: true, ..MemoryOptions::default() };
    let segment = Segment::memfd(small(), &options(wishes)).unwrap();
    let downgrades = segment.downgrades();
    assert!(!downgrades.contains(&Downgrade::HugePages), "they were not asked for");
    if downgrades.is_empty() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", segment.data().base().addr());
        let mapping = smaps.split_once(&start).expect("our mapping").1;
        let locked = mapping.lines().find(|line| line.starts_with("Locked:")).unwrap();
        assert!(!locked.contains(" 0 kB"), "{locked}");
    }
}

#[test]
fn huge_pages_are_provided_refused_or_reported_as_a_downgrade() {
    let huge = MemoryOptions { huge: true, ..MemoryOptions::default() };
    let geometry = Geometry::spsc(1, &Settings { page: HUGE_PAGE, ..Settings::default() }).unwrap();
    let unaligned = Segment::memfd(small(), &options(huge)).err().unwrap();
    assert!(matches!(unaligned, Error::Invalid { .. }), "{unaligned}");

    let best_effort = MemoryOptions { best_effort: true, ..huge };
    let segment = Segment::memfd(geometry, &options(best_effort)).unwrap();
    match Segment::memfd(geometry, &options(huge)) {
        Ok(_) => assert!(segment.downgrades().is_empty()),
        Err(Error::Unsupported { .. }) => assert_eq!(segment.downgrades(), [Downgrade::HugePages]),
        Err(e) => panic!("{e}"),
    }
    assert_eq!(segment.data().base().addr() % HUGE_PAGE, 0);
    segment.data().word(HUGE_PAGE).store(9, Relaxed);
    assert_eq!(segment.data().word(0).load(Relaxed), 9);

    let dir = TestDir::new();
    let named = Segment::create(&dir.open(), "huge", geometry, &options(best_effort)).unwrap();
    match Segment::open(&dir.open(), "huge", &options(huge)) {
        Ok(_) => assert!(named.downgrades().is_empty()),
        Err(Error::Unsupported { .. }) => assert_eq!(named.downgrades(), [Downgrade::HugePages]),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn dropping_unmaps_everything() {
    if again::emulator().is_some() {
        eprintln!("not asked: /proc/self/maps is the emulator's own list of mappings");
        return;
    }
    let name = "unmap-me";
    let dir = TestDir::new();
    let segment = Segment::create(&dir.open(), name, small(), &Options::default()).unwrap();
    let inode = format!(" {} ", rustix::fs::fstat(segment.fd().unwrap().as_fd()).unwrap().st_ino);
    let of_path = dir.0.file_name().unwrap().to_str().unwrap().to_owned();
    let maps = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(&inode)).count()
    };
    assert_eq!(maps(), 3, "control, and the data twice ({of_path})");
    drop(segment);
    assert_eq!(maps(), 0);
}
