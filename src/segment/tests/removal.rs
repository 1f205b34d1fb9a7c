//! Names that are removed while participants join: each side notices the other.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

use super::*;
use crate::error::{Error, Result};
use crate::os::lock;
use crate::segment::layout::GATE;

fn join(segment: &Arc<Segment>) -> Result<Participant> {
    Participant::join(segment, Role::Producer, true, |_| ())
}

#[test]
fn a_joiner_whose_name_was_removed_opens_again() {
    let dir = TestDir::new();
    let directory = dir.open();
    let opened = Cell::new(0);
    let open = || {
        let segment = Segment::open_or_create(&directory, "ring", small(), &Options::default())?;
        opened.set(opened.get() + 1);
        if opened.get() < 3 {
            assert!(segment.unlink(&directory, "ring", || segment.is_idle())?); // a cleaner removes it at this moment
        }
        Ok(segment)
    };
    let participant = open_and_join(open, join).unwrap();
    assert_eq!(opened.get(), 3);
    let found = Segment::open(&directory, "ring", &Options::default()).unwrap();
    assert_eq!(found.generation(), participant.segment().generation(), "others find what was joined");
    assert!(!found.unlink(&directory, "ring", || found.is_idle()).unwrap(), "a participant is attached");
    assert!(matches!(open_and_join(|| Err::<(), _>(Error::NotFound), |()| Ok(())), Err(Error::NotFound)));
}

#[test]
fn beside_a_living_participant_a_nameless_segment_takes_more() {
    let dir = TestDir::new();
    let directory = dir.open();
    let segment = Segment::create(&directory, "ring", small(), &Options::default()).unwrap();
    let producer = join(&segment).unwrap();
    assert!(segment.unlink(&directory, "ring", || Ok(true)).unwrap());
    let consumer = Participant::join(&segment, Role::Consumer, true, |_| ()).unwrap();
    drop((producer, consumer));
    assert!(matches!(join(&segment), Err(Error::NotFound)), "it would be alone for ever");
}

#[test]
fn joining_and_removing_exclude_each_other() {
    let dir = TestDir::new();
    let directory = dir.open();
    let segment = Segment::create(&directory, "ring", small(), &Options::default()).unwrap();
    let other: OwnedFd = openat(&directory, "ring", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let locks = segment.new_locks().unwrap();
    let joins = || {
        assert!(!lock::try_lock(other.as_fd(), GATE).unwrap(), "a joiner excludes a remover");
        assert!(lock::try_lock_shared(other.as_fd(), GATE).unwrap(), "a joiner does not exclude another one");
        lock::unlock(other.as_fd(), GATE).map_err(|e| Error::io("unlock", e))
    };
    segment.while_named(&locks, joins).unwrap();
    let removes = || {
        assert!(!lock::try_lock_shared(other.as_fd(), GATE).unwrap(), "a remover excludes a joiner");
        Ok(false)
    };
    assert!(!segment.unlink(&directory, "ring", removes).unwrap());
    assert!(lock::try_lock(other.as_fd(), GATE).unwrap(), "neither holds the gate afterwards");
}

#[test]
fn a_name_that_leads_to_another_file_is_not_removed() {
    let dir = TestDir::new();
    let directory = dir.open();
    let old = Segment::create(&directory, "ring", small(), &Options::default()).unwrap();
    directory.remove("ring").unwrap();
    let new = Segment::create(&directory, "ring", small(), &Options::default()).unwrap();
    assert!(matches!(old.unlink(&directory, "ring", || panic!("not asked")), Err(Error::NotFound)));
    assert!(new.unlink(&directory, "ring", || Ok(true)).unwrap());
    assert!(matches!(new.unlink(&directory, "ring", || Ok(true)), Err(Error::NotFound)));
}
