//! Doorbells: a ring's readiness for event loops, as an eventfd, or as a frame on another
//! transport.
//!
//! Used by [`ring::Receiver`](super::ring::Receiver) and [`ring::Sender`](super::ring::Sender) for
//! their descriptors, and by programs whose loop also waits for other descriptors. Relies on
//! `ring::Watch`, and on the reactor, which waits where blocking consumers would. So an armed bell
//! costs a producer what a sleeping consumer costs it, and a disarmed one costs nothing.
//!
//! The protocol, and why it loses no ring and ends no poll twice, is in `state.rs`.
//!
//! **The bell of a producer** tells of room. The state is the same; the eventfd polls *writable*
//! when it is rung, as the descriptors of all other senders do, because its count is the highest
//! while it is not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use self::state::{Bell, State};
use super::FrameSender;
use crate::error::{Error, Result};
use crate::frame::{Header, control};
use crate::os::fork;
use crate::os::poll::{Ready, wait};
use crate::ring::broadcast::Publisher;
use crate::ring::{Ring, Watch, mpmc, mpsc, spsc};
use crate::set::Membership;
use crate::set::reactor::{Place, Target};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;

mod state;

/// The count at which an eventfd cannot be written.
const HIGHEST: u64 = u64::MAX - 1;

/// A descriptor that announces a ring's frames: an eventfd, which is readable once the bell has
/// rung (poll, select, epoll, io_uring). While the bell is armed, a frame in the ring, or a
/// participant that joins or departs, rings it once.
///
/// Arm it when the ring was found empty, then check the ring once more before waiting: earlier
/// frames do not ring. While a bell is armed, no thread may block on the same consumer (on a byte
/// ring the two sleepers would take each other's wake-ups, and sleep up to 50 ms too long).
///
/// ```
/// use slipring::transport::Doorbell;
/// use std::time::Duration;
/// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
/// let bell = Doorbell::eventfd(rx.ring())?;
/// loop {
///     match rx.try_recv() {
///         Ok(frame) => break assert_eq!(&*frame, b"hello"),
///         Err(slipring::Error::Empty) if bell.arm() => {} // check once more
///         Err(slipring::Error::Empty) => {
///             tx.try_send(b"hello")?;                     // another process, normally
///             bell.wait(Duration::from_secs(10))?; // or poll, epoll … on `bell.as_fd()`
///         }
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Doorbell(Hung<Readable>);

impl Doorbell {
    /// A bell that rings for frames in `ring`. Some system calls; all bells of a process, up to
    /// 120, share one thread.
    ///
    /// # Errors
    /// [`Error::Io`] if no descriptor or no thread can be created.
    pub fn eventfd(ring: &Ring) -> Result<Self> {
        Hung::new(Watch::new(ring), Readable(new_eventfd()?)).map(Doorbell)
    }

    /// Resets and arms the bell, now or, if it is ringing, as soon as it has rung. Each ring ends at
    /// most one poll between two calls of this. False if it was armed already, so that nothing has
    /// changed since the check that followed. Two system calls if it was not armed, at most one if
    /// it was.
    pub fn arm(&self) -> bool {
        self.0.arm()
    }

    /// Waits until the bell rings or has rung, then resets and arms it. Returns at once if it was
    /// not armed. Three system calls.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Forked`] in a forked child of the process that created it.
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<()> {
        self.0.wait(Ready::Read, || self.arm(), deadline.into())
    }
}

/// The eventfd, to poll for reading. [`Doorbell::arm`] resets it: do not read it.
impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.shared.bell.as_fd()
    }
}

/// Announces a ring's frames by control frames on another transport: by signal to a process, or to
/// the reader of a socket or a pipe. While the bell is armed, a frame in the ring, or a participant
/// that joins or departs, sends one of kind [`control::DOORBELL`].
///
/// Arm it as a [`Doorbell`], and with the same restriction.
///
/// ```
/// use slipring::transport::{FrameDoorbell, FrameReceiver, ring};
/// use slipring::frame::Event;
/// let (mut tx, rx) = slipring::spsc::pair(4096)?;
/// let (bell, rung) = slipring::spsc::pair(4096)?; // in practice a signal or a socket
/// let bell = FrameDoorbell::new(rx.ring(), Box::new(ring::Sender::from(bell)))?;
/// assert!(bell.arm());
/// tx.try_send(b"hello")?;
/// let mut rung = ring::Receiver::from(rung);
/// assert!(matches!(rung.recv()?, Event::Frame(frame) if frame.header.is_control()));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameDoorbell(Hung<Mutex<Box<dyn FrameSender>>>);

impl FrameDoorbell {
    /// A bell that rings for frames in `ring`, through `sender`. It does not wait for room in
    /// `sender`, because a full channel has frames to read already. Some system calls; all bells of
    /// a process, up to 120, share one thread.
    ///
    /// # Errors
    /// [`Error::Io`] if no thread can be created.
    pub fn new(ring: &Ring, sender: Box<dyn FrameSender>) -> Result<Self> {
        Hung::new(Watch::new(ring), Mutex::new(sender)).map(FrameDoorbell)
    }

    /// Arms the bell, now or, if it is ringing, as soon as it has rung. False if it was armed already,
    /// so that nothing has changed since the check that followed. One system call if it was not
    /// armed, none if it was.
    pub fn arm(&self) -> bool {
        self.0.arm()
    }
}

/// A descriptor that announces room in a ring to one of its producers: an eventfd, which polls
/// *writable* once the bell has rung, as the descriptors of all other senders do. Made from the
/// producer by `RoomBell::try_from(&producer)`, by some system calls, for every kind of ring that
/// can be full.
///
/// Arm it when there was no room for a frame, then try once more before waiting: earlier room does
/// not ring. While a bell is armed, no thread may block on the same producer (see [`Doorbell`]).
/// Consumers publish released space from time to time. So after a single frame was released, the
/// bell may ring late: by as long again as it was waited for, and by 50 ms at most.
///
/// ```
/// use slipring::Error;
/// use slipring::transport::RoomBell;
/// use std::time::Duration;
/// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
/// let bell = RoomBell::try_from(&tx)?;
/// let mut sent = 0;
/// while sent < 20 {
///     match tx.try_send(&[0; 500]) {
///         Ok(()) => sent += 1,
///         Err(Error::Full) if bell.arm_for(500) => {} // try once more
///         Err(Error::Full) => {
///             while rx.try_recv().is_ok() {} // another process, normally
///             bell.wait_for(500, Duration::from_secs(10))?; // or poll, epoll … on `bell.as_fd()`
///         }
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct RoomBell(Hung<Writable>);

impl RoomBell {
    fn new(watch: Watch) -> Result<Self> {
        Hung::new(watch, Writable(new_eventfd()?)).map(RoomBell)
    }

    /// As [`Doorbell::arm`], when there was no room for a frame of `len` bytes.
    pub fn arm_for(&self, len: usize) -> bool {
        self.0.watch.want(len);
        self.0.arm()
    }

    /// As [`Doorbell::wait`], for room for a frame of `len` bytes.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(&self, len: usize, deadline: impl Into<Deadline>) -> Result<()> {
        self.0.wait(Ready::Write, || self.arm_for(len), deadline.into())
    }
}

/// Errors as for [`Doorbell::eventfd`].
impl TryFrom<&spsc::Producer> for RoomBell {
    type Error = Error;

    fn try_from(producer: &spsc::Producer) -> Result<Self> {
        Self::new(producer.watch_room())
    }
}

/// Errors as for [`Doorbell::eventfd`].
impl TryFrom<&mpsc::Producer> for RoomBell {
    type Error = Error;

    fn try_from(producer: &mpsc::Producer) -> Result<Self> {
        Self::new(producer.watch_room())
    }
}

/// Errors as for [`Doorbell::eventfd`].
impl TryFrom<&mpmc::Producer> for RoomBell {
    type Error = Error;

    fn try_from(producer: &mpmc::Producer) -> Result<Self> {
        Self::new(Watch::of_slots(producer.ring()))
    }
}

/// Errors as for [`Doorbell::eventfd`].
impl TryFrom<&Publisher> for RoomBell {
    type Error = Error;

    fn try_from(publisher: &Publisher) -> Result<Self> {
        Self::new(Watch::of_publisher(publisher))
    }
}

impl AsFd for RoomBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.shared.bell.as_fd()
    }
}

fn new_eventfd() -> Result<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| Error::io("create an eventfd", e))
}

/// An eventfd that polls readable when it is rung.
struct Readable(OwnedFd);

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Bell for Readable {
    fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]); // 0 already: EAGAIN
    }

    fn announce(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes()); // at its limit it is readable anyway
    }
}

/// An eventfd that polls writable when it is rung.
struct Writable(OwnedFd);

impl AsFd for Writable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Bell for Writable {
    fn reset(&self) {
        let _ = rustix::io::write(&self.0, &HIGHEST.to_ne_bytes()); // as high already: EAGAIN
    }

    fn announce(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]); // 0, and so writable
    }
}

impl Bell for Mutex<Box<dyn FrameSender>> {
    fn announce(&self) {
        let mut sender = self.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(header) = Header::control(control::DOORBELL, 0) {
            // A full sender has enough to be read; a departed receiver needs no ring.
            let _ = sender.try_send(header, &[]).and_then(|()| sender.flush_until(Deadline::after(Duration::ZERO)));
        }
    }
}

/// A bell at a ring.
struct Hung<B> {
    shared: Arc<Shared<B>>,
    watch: Watch,
    place: Place,
    born: u32,
}

/// What the consumer's side and the reactor share.
struct Shared<B> {
    state: State,
    bell: B,
}

impl<B: Bell + Send + Sync + 'static> Hung<B> {
    fn new(watch: Watch, bell: B) -> Result<Self> {
        let shared = Arc::new(Shared { state: State::new(), bell });
        let place = Place::new(Readiness::of(watch.clone()), Arc::clone(&shared) as Arc<dyn Target>)?;
        Ok(Hung { shared, watch, place, born: fork::generation() })
    }

    fn arm(&self) -> bool {
        // A copy in a forked child must not touch the parent's eventfd.
        if fork::is_child_of(self.born) {
            return false;
        }
        let resume = || {
            let _ = self.place.resume(); // a ring's place can be resumed always
        };
        // Marked before C3: any later join or departure rings.
        self.shared.state.arm(&self.shared.bell, || self.watch.mark(), resume)
    }
}

impl<B: Bell + AsFd> Hung<B> {
    fn wait(&self, edge: Ready, arm: impl FnOnce() -> bool, deadline: Deadline) -> Result<()> {
        if fork::is_child_of(self.born) {
            return Err(Error::Forked);
        }
        if arm() {
            return Ok(());
        }
        match wait(self.shared.bell.as_fd(), edge, deadline.remaining()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Timeout),
            Err(errno) => Err(Error::io("poll the doorbell", errno)),
        }
    }
}

impl<B> std::fmt::Debug for Hung<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hung").field("state", &self.shared.state).field("place", &self.place).finish_non_exhaustive()
    }
}

impl<B: Bell + Send + Sync> Target for Shared<B> {
    fn ring(&self, place: &Membership) -> Option<Duration> {
        self.state.ring(&self.bell, || {
            let _ = place.resume(); // as in `arm`
        });
        None
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use rustix::event::{Timespec, epoll};

    use super::*;
    use crate::frame::Event;
    use crate::ring::Options;
    use crate::segment::WakeMode;
    use crate::transport::{FrameReceiver, FrameReceiverExt, ring};

    const SOON: Duration = Duration::from_secs(20);

    fn rings() -> Vec<Ring> {
        let of = |options: Options| Ring::create_anonymous(&options).unwrap();
        let polled = Options::spsc(4096).wake_mode(WakeMode::Poll);
        [Options::spsc(4096), Options::mpmc(8, 64), Options::mpsc(4096, 4), polled].map(of).into()
    }

    fn receiver(ring: &Ring) -> ring::Receiver {
        ring::Receiver::attach(ring).unwrap().with_doorbell().unwrap()
    }

    fn send(ring: &Ring, payload: &[u8]) {
        ring::Sender::attach(ring).unwrap().send(Header::PLAIN, payload).unwrap();
    }

    fn is_readable(rx: &ring::Receiver, within: Duration) -> bool {
        wait(rx.poll_fd().unwrap(), Ready::Read, within).unwrap()
    }

    #[test]
    fn it_rings_for_a_frame_and_for_an_end_only() {
        for ring in rings() {
            let mut rx = receiver(&ring);
            assert!(matches!(rx.try_recv(), Err(Error::Empty)));
            assert!(!is_readable(&rx, Duration::from_millis(20)), "nothing came");
            send(&ring, b"one");
            assert!(is_readable(&rx, SOON));
            assert!(matches!(rx.try_recv(), Ok(Event::Frame(frame)) if frame.payload == b"one"));
            // The producer left as well: rung for, or seen at once.
            loop {
                match rx.try_recv() {
                    Err(Error::Empty) => assert!(is_readable(&rx, SOON)),
                    other => break assert!(matches!(other, Err(Error::Closed)), "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn earlier_frames_need_no_bell() {
        for ring in rings() {
            send(&ring, b"one");
            assert!(matches!(receiver(&ring).try_recv(), Ok(Event::Frame(_))));
        }
    }

    #[test]
    fn a_stream_of_frames_loses_no_ring() {
        const FRAMES: u32 = 20_000;
        for ring in rings() {
            let mut rx = receiver(&ring);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut tx = super::super::ring::Sender::attach(&ring).unwrap();
                    for n in 0..FRAMES {
                        tx.send(Header::PLAIN, &n.to_le_bytes()).unwrap();
                        if n % 64 == 0 {
                            std::thread::yield_now(); // let it run dry now and then
                        }
                    }
                });
                for n in 0..FRAMES {
                    match rx.recv_deadline(SOON).unwrap() {
                        Event::Frame(frame) => assert_eq!(frame.payload, n.to_le_bytes()),
                        other => panic!("{other:?}"),
                    }
                }
                assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
            });
        }
    }

    /// A bell whose ring begins and ends when the test lets it.
    struct Stepped<B> {
        bell: B,
        steps: Sender<()>,
        goes_on: Mutex<Receiver<()>>,
    }

    impl<B> Stepped<B> {
        fn step(&self) {
            // The end of the test lets it go on.
            let _ = self.steps.send(()).map(|()| self.goes_on.lock().unwrap().recv_timeout(SOON));
        }
    }

    impl<B: Bell> Bell for Stepped<B> {
        fn reset(&self) {
            self.bell.reset();
        }
        fn announce(&self) {
            self.step();
            self.bell.announce();
            self.step();
        }
    }

    /// A doorbell that stops before and after each ring, and what polls its descriptor.
    struct Rig<B> {
        go_on: Sender<()>,
        bell: Hung<Stepped<B>>,
        rx: ring::Receiver,
        steps: Receiver<()>,
        fd: OwnedFd,
        ready: Ready,
        edges: OwnedFd,
    }

    impl<B: Bell + Send + Sync + 'static> Rig<B> {
        fn new(ring: &Ring, ready: Ready, of: impl FnOnce(OwnedFd) -> B) -> Self {
            let (fd, edges) = (new_eventfd().unwrap(), epoll::create(epoll::CreateFlags::CLOEXEC).unwrap());
            let ((steps_out, steps), (go_on, goes_on)) = (channel(), channel());
            let bell = of(fd.try_clone().unwrap());
            let bell = Stepped { bell, steps: steps_out, goes_on: Mutex::new(goes_on) };
            let bell = Hung::new(Watch::new(ring), bell).unwrap();
            assert!(bell.arm());
            let flags = if ready == Ready::Read { epoll::EventFlags::IN } else { epoll::EventFlags::OUT };
            epoll::add(&edges, &fd, epoll::EventData::new_u64(0), flags | epoll::EventFlags::ET).unwrap();
            let rx = ring::Receiver::attach(ring).unwrap();
            Rig { go_on, bell, rx, steps, fd, ready, edges }
        }

        /// The bell is about to ring, or has rung.
        fn step(&self) {
            self.steps.recv_timeout(SOON).unwrap();
        }

        fn go_on(&self) {
            self.go_on.send(()).unwrap();
        }

        fn is_rung(&self) -> bool {
            wait(self.fd.as_fd(), self.ready, Duration::ZERO).unwrap()
        }

        fn until_armed(&self) {
            let start = std::time::Instant::now();
            while !self.bell.shared.state.is_armed() {
                assert!(start.elapsed() < SOON, "the reactor arms it");
                std::thread::yield_now();
            }
        }

        /// Whether an edge-triggered poll ends.
        fn has_edge(&self) -> bool {
            let mut events = Vec::with_capacity(4);
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.edges, rustix::buffer::spare_capacity(&mut events), Some(&now)).unwrap() > 0
        }

        fn receives(&mut self) -> bool {
            match self.rx.try_recv() {
                Ok(Event::Frame(_)) => true,
                Err(Error::Empty) => false,
                other => panic!("{other:?}"),
            }
        }

        /// The next ring, from the frame that it is for until it is quiet again or armed.
        fn rings_for_a_frame(&mut self) {
            self.step();
            assert!(!self.is_rung());
            self.go_on();
            self.step();
            assert!(self.is_rung() && self.has_edge());
            assert!(self.receives() && !self.receives());
            assert!(self.bell.arm() && !self.bell.arm());
            assert!(!self.receives());
            assert!(!self.is_rung(), "the same ring is not found again, although it is not over");
            self.go_on();
        }
    }

    fn check_every_ring_is_found_once<B: Bell + Send + Sync + 'static>(ready: Ready, of: fn(OwnedFd) -> B) {
        for ring in rings() {
            let mut tx = ring::Sender::attach(&ring).unwrap();
            let mut rig = Rig::new(&ring, ready, of);
            // For its own join: the consumer comes before the ring, and finds nothing.
            rig.step();
            assert!(!rig.receives() && rig.bell.arm() && !rig.bell.arm());
            assert!(!rig.is_rung() && !rig.has_edge());
            rig.go_on();
            rig.step();
            assert!(rig.is_rung() && rig.has_edge(), "for nothing, once");
            assert!(!rig.receives() && !rig.bell.arm());
            assert!(!rig.is_rung() && !rig.has_edge());
            // The next one comes while the bell rings: the reactor finds it when it arms the bell.
            tx.send(Header::PLAIN, b"one").unwrap();
            rig.go_on();
            rig.rings_for_a_frame();
            // And one when the bell is armed by the reactor, and the consumer sleeps.
            rig.until_armed();
            assert!(!rig.is_rung() && !rig.has_edge());
            tx.send(Header::PLAIN, b"two").unwrap();
            rig.rings_for_a_frame();
        }
    }

    #[test]
    fn a_poll_finds_every_ring_once_though_the_consumer_is_faster_than_the_reactor() {
        check_every_ring_is_found_once(Ready::Read, Readable);
        check_every_ring_is_found_once(Ready::Write, Writable);
    }

    #[test]
    fn the_descriptor_of_a_bell_tells_whether_it_has_rung() {
        for ring in rings() {
            let bell = Doorbell::eventfd(&ring).unwrap();
            let has_rung = |within| wait(bell.as_fd(), Ready::Read, within).unwrap();
            assert!(!has_rung(Duration::ZERO), "not armed yet");
            assert!(bell.arm());
            assert!(!bell.arm(), "armed already");
            send(&ring, b"one");
            assert!(has_rung(SOON));
            assert!(has_rung(Duration::ZERO), "until it is armed again");
            assert!(matches!(receiver(&ring).try_recv(), Ok(Event::Frame(_))));
            assert!(bell.arm());
        }
    }

    #[test]
    fn a_bell_sends_one_frame_for_each_time_it_is_armed() {
        for ring in rings() {
            let (tx, rx) = spsc::pair(4096).unwrap();
            let bell = FrameDoorbell::new(&ring, Box::new(ring::Sender::from(tx))).unwrap();
            let mut rung = ring::Receiver::from(rx);
            assert!(matches!(rung.try_recv(), Err(Error::Empty)), "not armed yet");
            for _ in 0..3 {
                assert!(bell.arm());
                send(&ring, b"one"); // and the producer departs
                let event = rung.recv_deadline(SOON).unwrap();
                assert!(matches!(event, Event::Frame(frame) if frame.header.kind == control::DOORBELL));
                assert!(matches!(rung.try_recv(), Err(Error::Empty)), "once");
            }
            drop(bell);
            assert!(matches!(rung.recv_deadline(SOON), Err(Error::Closed)), "the sender was closed");
        }
    }

    #[test]
    fn a_wait_for_a_bell_times_out_and_a_dropped_bell_ends_soon() {
        let ring = &rings()[0];
        let mut rx = receiver(ring);
        assert!(matches!(rx.recv_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
        let start = std::time::Instant::now();
        drop(rx);
        assert!(start.elapsed() < SOON);
    }
}
