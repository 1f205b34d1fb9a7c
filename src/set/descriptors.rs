//! The descriptors of a set: an epoll instance of its own, which the process's watcher watches
//! while the set sleeps.
//!
//! Used by `set/mod.rs`. The set asks its instance itself before it sleeps and after it was woken.
//! So a descriptor that is ready costs one system call (`epoll_wait`, which does not wait), and one
//! that becomes ready during a sleep one hop more, over the watcher.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::Token;
use super::member::Shared;
use super::watcher::Watcher;
use crate::error::{Error, Result};

/// How many descriptors one look reports; the kernel takes turns among more.
const AT_ONCE: usize = 64;

pub(crate) struct Descriptors {
    epoll: OwnedFd,
    number: u64,
    /// Whether the watcher will ring. Relaxed, as `fired`: hints beside the ring of the set, which
    /// orders them, and the kernel's own order.
    armed: AtomicBool,
    /// Whether it has rung since the last look.
    fired: AtomicBool,
    set: Weak<Shared>,
    watcher: Arc<Watcher>,
}

impl Descriptors {
    pub(super) fn new(set: &Arc<Shared>) -> Result<Arc<Self>> {
        let watcher = Watcher::get()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| Error::io("create an epoll instance", e))?;
        let mut outcome = Ok(());
        let made = Arc::new_cyclic(|this| {
            let registered = watcher.register(this.clone(), &epoll);
            let number = registered.unwrap_or_else(|error| {
                outcome = Err(error);
                u64::MAX
            });
            let (armed, fired) = (AtomicBool::new(false), AtomicBool::new(true));
            Descriptors { epoll, number, armed, fired, set: Arc::downgrade(set), watcher }
        });
        outcome.map(|()| made)
    }

    pub(super) fn add(&self, fd: &OwnedFd, token: Token, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.0 as u64), flags)
            .map_err(|e| Error::io("add a descriptor to a set", e))
    }

    pub(super) fn remove(&self, fd: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Has the watcher ring the set when a descriptor is ready, or becomes ready. To be called
    /// before the last look ahead of a sleep. At most one system call.
    pub(super) fn arm(&self) -> Result<()> {
        if self.armed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.watcher.arm(self.number, &self.epoll)
    }

    /// Whether the watcher has rung since the last look.
    pub(super) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }

    /// Reports every descriptor that is ready now, of up to [`AT_ONCE`]. One system call.
    pub(super) fn look(&self, mut report: impl FnMut(Token)) {
        self.fired.store(false, Ordering::Relaxed);
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); AT_ONCE];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut buffer, Some(&now)) {
            events.iter().for_each(|event| report(Token(event.data.u64() as usize)));
        }
    }

    /// The watcher reports an event. It does not do so again until it is armed.
    pub(super) fn fired(&self) {
        self.armed.store(false, Ordering::Relaxed);
        self.fired.store(true, Ordering::Relaxed);
        if let Some(set) = self.set.upgrade() {
            set.ring();
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.watcher.forget(self.number, &self.epoll);
    }
}
