//! Producers of all rings of frames and senders of all transports, behind one handle.
//!
//! Used by C programs. Relies on `table.rs`; the grant that is out is kept beside its producer.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};

use slipring::endpoint::{Endpoint, RingEndpoint};
use slipring::frame::Header;
use slipring::transport::{FrameSender, FrameSenderExt, RoomBell};
use slipring::{Error, Kind, Ring, broadcast, mpmc, mpsc, spsc};

use crate::arguments::{
    Given, SLIPRING_ANY, SLIPRING_FROM_FD, SLIPRING_LATEST, SLIPRING_SLOW_BLOCK, SLIPRING_SPSC, SLIPRING_STREAM, Wait,
    bytes, items, not_open, out, plain_bytes, slipring_options, wanted,
};
use crate::consumer::{Consumer, slipring_consumer};
use crate::error::{Failure, SLIPRING_EMSGSIZE, SLIPRING_EOPNOTSUPP, count, opened, status};
use crate::handle::unsupported;
use crate::lent::Lent;
use crate::quick::{HasQuick, Quick};
use crate::table::{self, Object, Row};
use crate::words::Words;

/// Sends frames: a producer of a ring, a publisher, or the sender of a transport.
pub struct slipring_producer(());

/// The object behind a producer's handle.
pub(crate) struct Producer {
    end: End,
    /// None for a transport.
    pub(crate) ring: Option<Ring>,
    /// The kind of frames whose sender states none: of the agreed type.
    kind: u16,
    /// Made by slipring_fd().
    bell: Option<RoomBell>,
}

enum End {
    Spsc(SpscSending),
    Mpmc(Lent<mpmc::Producer, mpmc::WriteGrant<'static>>),
    Mpsc(Lent<mpsc::Producer, mpsc::WriteGrant<'static>>),
    Broadcast(Lent<broadcast::Publisher, Staged>),
    Transport(Box<dyn FrameSender>),
}

// SAFETY: the type's number is its alone.
unsafe impl Object for Producer {
    const TYPE: u8 = 1;
    const ROW: Option<Row> = Some(Row::Producer);

    fn quick(&mut self) -> *mut c_void {
        match &mut self.end {
            End::Spsc(end) if self.kind == Header::DEFAULT_KIND => std::ptr::from_mut(end).cast(),
            _ => std::ptr::null_mut(),
        }
    }
}

// SAFETY: `quick` gives what an `End::Spsc` has; nothing else refers to it until the next call.
unsafe impl HasQuick for Producer {
    type Quick = SpscSending;
}

type SpscSending = Lent<spsc::Producer, spsc::WriteGrant<'static>>;

/// The quick calls: false if something is unusual, or there is no room.
impl SpscSending {
    #[inline(always)]
    fn send_if_room(&mut self, data: *const c_void, len: usize) -> bool {
        let Some(payload) = plain_bytes(data, len) else { return false };
        self.free().is_ok_and(|producer| producer.send_if_room(payload))
    }

    #[inline(always)]
    fn reserve_if_room(&mut self, len: usize, data: *mut *mut c_void) -> bool {
        let Some(data) = wanted(data) else { return false };
        // SAFETY: the grant is kept there, or there is none.
        let Ok(producer) = (unsafe { self.lend() }) else { return false };
        let Some(mut grant) = producer.reserve_if_room(len) else { return false };
        *data = grant.as_mut_ptr().cast();
        self.keep(grant);
        true
    }

    #[inline(always)]
    fn commit_if_it_fits(&mut self, len: usize) -> bool {
        let fits = self.guard().is_ok_and(|grant| len <= grant.len());
        if fits {
            if let Ok(grant) = self.take() {
                grant.commit(len);
            }
        }
        fits
    }
}

/// A frame for a broadcast ring, whose lossy readers may read what is being written: it is built
/// elsewhere and copied by its commit.
pub(crate) struct Staged(Words);

/// Makes the calls of [`End`] that are the same for each ring.
macro_rules! each_ring {
    ($end:expr, $ring:ident => $ring_call:expr, $transport:ident => $transport_call:expr) => {
        match $end {
            End::Spsc($ring) => $ring_call,
            End::Mpmc($ring) => $ring_call,
            End::Mpsc($ring) => $ring_call,
            End::Broadcast($ring) => $ring_call,
            End::Transport($transport) => $transport_call,
        }
    };
}

impl Producer {
    fn new(end: End) -> Self {
        let mut producer = Producer { end, ring: None, kind: Header::DEFAULT_KIND, bell: None };
        producer.ring = producer.find_ring();
        producer
    }

    fn open(name: *const c_char, options: &Given<'_>) -> Result<Self, Failure> {
        let mut producer = match options.name(name)? {
            None => Self::attach(&anonymous(options, SLIPRING_SPSC)?, options)?,
            Some(name) if is_endpoint(name) => Self::open_endpoint(name, options)?,
            Some(name) => Self::open_ring(name, options)?,
        };
        if let (End::Broadcast(publisher), true) = (&mut producer.end, options.raw.slow != SLIPRING_SLOW_BLOCK) {
            publisher.free()?.set_policy(options.slow());
        }
        producer.agree(options)
    }

    fn open_ring(name: &str, options: &Given<'_>) -> Result<Self, Failure> {
        expect_frames(options, options.raw.kind)?;
        let ring = options.ring(0)?;
        options.agree_before(name, &ring)?;
        Ok(Producer::new(match options.raw.kind {
            crate::arguments::SLIPRING_SPSC => End::Spsc(Lent::new(spsc::Producer::open(name, &ring)?)),
            crate::arguments::SLIPRING_MPMC => End::Mpmc(Lent::new(mpmc::Producer::open(name, &ring)?)),
            crate::arguments::SLIPRING_MPSC => End::Mpsc(Lent::new(mpsc::Producer::open(name, &ring)?)),
            crate::arguments::SLIPRING_BROADCAST => End::Broadcast(Lent::new(broadcast::Publisher::open(name, &ring)?)),
            _ => return Self::attach(&Ring::open(name, &ring)?, options),
        }))
    }

    fn attach(ring: &Ring, options: &Given<'_>) -> Result<Self, Failure> {
        expect_frames(options, ring.kind() as c_int)?;
        Ok(Producer::new(match ring.kind() {
            Kind::Spsc => End::Spsc(Lent::new(spsc::Producer::attach(ring)?)),
            Kind::Mpmc => End::Mpmc(Lent::new(mpmc::Producer::attach(ring)?)),
            Kind::Mpsc => End::Mpsc(Lent::new(mpsc::Producer::attach(ring)?)),
            Kind::Broadcast => End::Broadcast(Lent::new(broadcast::Publisher::attach(ring)?)),
            _ => return Err(no_frames(options.raw.kind)),
        }))
    }

    fn open_endpoint(name: &str, options: &Given<'_>) -> Result<Self, Failure> {
        match Endpoint::parse(name)? {
            Endpoint::Ring(endpoint) => {
                options.expect_endpoint()?;
                let endpoint = options.in_directory(endpoint);
                let ring = open_endpoint_ring(&endpoint, options)?;
                match ring.kind() {
                    Kind::Spsc | Kind::Mpmc | Kind::Mpsc => Self::attach(&ring, options),
                    // Its text says how to treat slow subscribers.
                    Kind::Broadcast => Ok(Producer::new(End::Broadcast(Lent::new(endpoint.attach_publisher(&ring)?)))),
                    _ => Ok(Self::over(Box::new(endpoint.attach_sender(&ring)?))),
                }
            }
            endpoint => {
                options.expect_plain()?;
                options.expect_endpoint()?;
                let sender = endpoint.open_sender(options.connect()).map_err(|error| not_open(&endpoint, error))?;
                Ok(Self::over(sender))
            }
        }
    }

    pub(crate) fn over(sender: Box<dyn FrameSender>) -> Self {
        Producer::new(End::Transport(sender))
    }

    fn agree(mut self, options: &Given<'_>) -> Result<Self, Failure> {
        if let Some(description) = options.message_type {
            match &self.ring {
                Some(ring) => self.kind = ring.agree_on_type(description)?,
                None => options.expect_plain()?,
            }
        }
        Ok(self)
    }

    /// The ring that it sends to; `None` for a transport.
    fn find_ring(&mut self) -> Option<Ring> {
        match self.end().ok()? {
            EndRef::Spsc(end) => Some(end.ring().clone()),
            EndRef::Mpmc(end) => Some(end.ring().clone()),
            EndRef::Mpsc(end) => Some(end.ring().clone()),
            EndRef::Broadcast(end) => Some(end.ring().clone()),
            EndRef::Transport(_) => None,
        }
    }

    /// The descriptor of its bell, which it makes if there is none; of a transport, its own.
    pub(crate) fn fd(&mut self) -> Result<c_int, Failure> {
        if self.bell.is_none() {
            self.bell = Some(match self.end()? {
                EndRef::Spsc(end) => RoomBell::try_from(&*end)?,
                EndRef::Mpmc(end) => RoomBell::try_from(&*end)?,
                EndRef::Mpsc(end) => RoomBell::try_from(&*end)?,
                EndRef::Broadcast(end) => RoomBell::try_from(&*end)?,
                EndRef::Transport(end) => return end.poll_fd().map(|fd| fd.as_raw_fd()).ok_or_else(unsupported),
            });
        }
        self.bell.as_ref().map(|bell| bell.as_fd().as_raw_fd()).ok_or_else(unsupported)
    }

    /// Makes a call. If it does not wait, and there is no room for `len` bytes, it arms the bell,
    /// and tries once more.
    #[inline(always)]
    fn or_arm<R>(
        &mut self,
        len: usize,
        wait: Wait,
        mut call: impl FnMut(&mut Self) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        match call(self) {
            Err(Failure::Library(Error::Full)) if self.arm(len, wait) => call(self),
            result => result,
        }
    }

    #[cold]
    fn arm(&self, len: usize, wait: Wait) -> bool {
        matches!(wait, Wait::Not) && self.bell.as_ref().is_some_and(|bell| bell.arm_for(len))
    }

    /// Sends a frame of the agreed kind.
    fn send(&mut self, payload: &[u8], wait: Wait) -> Result<(), Failure> {
        self.send_frame(Header { kind: self.kind, ..Header::PLAIN }, payload, wait)
    }

    /// Sends as many payloads as there is room for, and returns how many. They have been checked.
    fn send_batch(&mut self, payloads: &[slipring_payload], mut wait: Wait) -> Result<i64, Failure> {
        let bytes_of = |payload: &slipring_payload| bytes(payload.data, payload.len);
        if self.kind == Header::DEFAULT_KIND {
            let all = payloads.iter().map(|payload| bytes_of(payload).unwrap_or_default());
            macro_rules! at_once {
                ($end:ident) => {{
                    let producer = $end.free()?;
                    match wait {
                        Wait::Not => producer.try_send_batch(all)?,
                        Wait::Forever => producer.send_batch(all)?,
                        Wait::Until(deadline) => producer.send_batch_deadline(all, deadline)?,
                    }
                }};
            }
            let sent = match &mut self.end {
                End::Spsc(end) => Some(at_once!(end)),
                End::Mpmc(end) => Some(at_once!(end)),
                End::Mpsc(end) => Some(at_once!(end)),
                End::Broadcast(end) => Some(at_once!(end)),
                End::Transport(_) => None,
            };
            if let Some(sent) = sent {
                return Ok(sent as i64);
            }
        }
        let mut sent = 0;
        for payload in payloads {
            match self.send(bytes_of(payload)?, wait) {
                Ok(()) => sent += 1,
                Err(failure) if sent == 0 => return Err(failure),
                Err(_) => break, // the next call says what it is
            }
            wait = Wait::Not;
        }
        Ok(sent)
    }

    fn send_frame(&mut self, header: Header, payload: &[u8], wait: Wait) -> Result<(), Failure> {
        each_ring!(&mut self.end, end => {
            let producer = end.free()?;
            match wait {
                Wait::Not => producer.try_send_frame(header, payload)?,
                Wait::Forever => producer.send_frame(header, payload)?,
                Wait::Until(deadline) => producer.send_frame_deadline(header, payload, deadline)?,
            }
        }, sender => match wait {
            Wait::Not => sender.try_send(header, payload)?,
            Wait::Forever => sender.send(header, payload)?,
            Wait::Until(deadline) => sender.send_deadline(header, payload, deadline)?,
        });
        Ok(())
    }

    #[inline(always)]
    fn reserve(&mut self, len: usize, wait: Wait) -> Result<*mut c_void, Failure> {
        /// Keeps the grant of a ring that is written in place.
        macro_rules! in_place {
            ($end:ident) => {{
                // SAFETY: the grant is kept there, or there is none.
                let producer = unsafe { $end.lend() }?;
                let mut grant = match wait {
                    Wait::Not => producer.try_reserve(len)?,
                    Wait::Forever => producer.reserve(len)?,
                    Wait::Until(deadline) => producer.reserve_deadline(len, deadline)?,
                };
                let start = grant.as_mut_ptr().cast();
                $end.keep(grant);
                Ok(start)
            }};
        }
        match &mut self.end {
            End::Spsc(end) => in_place!(end),
            End::Mpmc(end) => in_place!(end),
            End::Mpsc(end) => in_place!(end),
            End::Broadcast(end) => {
                let publisher = end.free()?;
                let max = publisher.max_payload();
                if len > max {
                    return Err(Error::TooLarge { max }.into());
                }
                // Waits for room, and gives it back: this publisher alone could fill it meanwhile.
                match wait {
                    Wait::Not => drop(publisher.try_reserve(len)?),
                    Wait::Forever => drop(publisher.reserve(len)?),
                    Wait::Until(deadline) => drop(publisher.reserve_deadline(len, deadline)?),
                }
                let mut staged = Staged(Words::new(len));
                let start = staged.0.bytes_mut().as_mut_ptr().cast();
                end.keep(staged);
                Ok(start)
            }
            End::Transport(_) => Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"reserve: only rings build frames in place; use slipring_send() with a transport",
            )),
        }
    }

    #[inline(always)]
    fn commit(&mut self, header: Option<Header>, len: usize) -> Result<(), Failure> {
        let header = match header {
            Some(header) => header,
            None => Header { kind: self.kind, ..Header::PLAIN },
        };
        /// Commits the grant of a ring that is written in place, or leaves it out if `len` is wrong.
        macro_rules! in_place {
            ($end:ident) => {{
                if len > $end.guard()?.len() {
                    return Err(TOO_LONG);
                }
                Ok($end.take()?.commit_frame(header, len)?)
            }};
        }
        match &mut self.end {
            End::Spsc(end) => in_place!(end),
            End::Mpmc(end) => in_place!(end),
            End::Mpsc(end) => in_place!(end),
            End::Broadcast(end) => {
                if len > end.guard()?.0.len() {
                    return Err(TOO_LONG);
                }
                let mut staged = end.take()?;
                Ok(end.free()?.try_send_frame(header, &staged.0.bytes_mut()[..len])?)
            }
            End::Transport(_) => Err(Failure::NOT_HELD),
        }
    }

    fn abort(&mut self) -> Result<(), Failure> {
        each_ring!(&mut self.end, end => end.take().map(drop), _sender => Err(Failure::NOT_HELD))
    }

    pub(crate) fn end(&mut self) -> Result<EndRef<'_>, Failure> {
        Ok(match &mut self.end {
            End::Spsc(end) => EndRef::Spsc(end.free()?),
            End::Mpmc(end) => EndRef::Mpmc(end.free()?),
            End::Mpsc(end) => EndRef::Mpsc(end.free()?),
            End::Broadcast(end) => EndRef::Broadcast(end.free()?),
            End::Transport(sender) => EndRef::Transport(&mut **sender),
        })
    }
}

/// A producer without a grant, for the calls of other files.
pub(crate) enum EndRef<'a> {
    Spsc(&'a mut spsc::Producer),
    Mpmc(&'a mut mpmc::Producer),
    Mpsc(&'a mut mpsc::Producer),
    Broadcast(&'a mut broadcast::Publisher),
    Transport(&'a mut dyn FrameSender),
}

const TOO_LONG: Failure =
    Failure::Told(SLIPRING_EMSGSIZE, c"commit of more than was reserved: the reservation is still held");

/// Refuses options of a kind without frames, and those that have no effect on the kind, before a ring
/// is created for them.
pub(crate) fn expect_frames(options: &Given<'_>, kind: c_int) -> Result<(), Failure> {
    match kind {
        SLIPRING_STREAM | SLIPRING_LATEST => Err(no_frames(kind)),
        SLIPRING_ANY => Ok(()),
        kind => options.expect_for(kind),
    }
}

pub(crate) fn no_frames(kind: c_int) -> Failure {
    let text = match kind {
        SLIPRING_LATEST => {
            c"a ring of SLIPRING_LATEST has no frames: use slipring_latest_writer_open() and slipring_latest_reader_open()"
        }
        _ => {
            c"a ring of SLIPRING_STREAM has no frames: use slipring_stream_writer_open() and slipring_stream_reader_open()"
        }
    };
    Failure::Told(SLIPRING_EOPNOTSUPP, text)
}

/// The ring of an endpoint; what the options say beside its text must have an effect on it.
pub(crate) fn open_endpoint_ring(endpoint: &RingEndpoint, options: &Given<'_>) -> Result<Ring, Failure> {
    // As the text says it, before it is created; of an existing one, as it is.
    let known = match endpoint.kind() {
        Some(kind) => Some(kind),
        None => endpoint.open().ok().map(|ring| ring.kind()),
    };
    options.expect_for(known.unwrap_or(Kind::Spsc) as c_int)?;
    Ok(endpoint.open_or_create()?)
}

/// Whether the name is an endpoint's text, such as tcp:localhost:7000.
pub(crate) fn is_endpoint(name: &str) -> bool {
    name == "-" || name.contains(':')
}

/// The ring of a call without a name: a new anonymous one, or that of a passed descriptor.
pub(crate) fn anonymous(options: &Given<'_>, kind: c_int) -> Result<Ring, Failure> {
    if options.has(SLIPRING_FROM_FD) {
        Ok(Ring::from_fd(options.fd()?, &options.ring(0)?)?)
    } else {
        Ok(Ring::create_anonymous(&options.ring(kind)?)?)
    }
}

fn header(kind: u16, stream: u16) -> Result<Header, Failure> {
    Ok(Header { stream, ..Header::new(kind, 0)? })
}

/// Opens a producer.
///
/// `name` is the name of a ring, which is created if `options->kind` states a kind and it does not
/// exist; or an endpoint, such as "tcp:localhost:7000", "fifo:/run/user/1000/ticks" or
/// "ring:jobs?kind=mpmc" (docs/transports.md lists them); or NULL for a new anonymous ring, whose
/// descriptor (slipring_segment_fd()) a consumer opens with SLIPRING_FROM_FD.
///
/// Writes the handle to `*producer`, or NULL. Returns 0; -SLIPRING_ENOENT, -SLIPRING_EROLETAKEN,
/// -SLIPRING_EINCOMPATIBLE, -SLIPRING_EOTHERTYPE, -SLIPRING_EUNTRUSTED, -SLIPRING_EINVAL,
/// -SLIPRING_ETIMEDOUT for an endpoint, or the errno of a system call. Some system calls.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_producer_open(
    name: *const c_char,
    options: *const slipring_options,
    producer: *mut *mut slipring_producer,
) -> c_int {
    opened(producer, || table::insert(Producer::open(name, &Given::new(options)?)?))
}

/// Sends a copy of `len` bytes as one frame, of the agreed type's kind or SLIPRING_DEFAULT_KIND.
///
/// Waits for room up to `timeout_ns` nanoseconds: 0 does not wait, a negative number waits without
/// limit. Returns 0; -SLIPRING_EAGAIN if full and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT,
/// -SLIPRING_EMSGSIZE, -SLIPRING_EPIPE or -SLIPRING_EPEERDEAD if no consumer will make room.
/// Wait-free with 0, on a ring. No system call on a ring, unless a consumer sleeps or this one does.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_send(
    producer: *mut slipring_producer,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> c_int {
    if let Some(mut call) = Quick::<Producer>::begin(producer.cast()) {
        let is_sent = call.object().send_if_room(data, len);
        call.end();
        if is_sent {
            return 0;
        }
    }
    send(producer, data, len, timeout_ns)
}

#[cold]
#[inline(never)]
fn send(producer: *mut slipring_producer, data: *const c_void, len: usize, timeout_ns: i64) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| {
        let (payload, wait) = (bytes(data, len)?, Wait::of(timeout_ns));
        producer.or_arm(len, wait, |producer| producer.send(payload, wait))?;
        Ok(0)
    }))
}

/// slipring_send() with a kind, at least 0x0100, and a stream, which the receiver finds in its
/// slipring_frame.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_send_frame(
    producer: *mut slipring_producer,
    kind: u16,
    stream: u16,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| {
        let (header, payload, wait) = (header(kind, stream)?, bytes(data, len)?, Wait::of(timeout_ns));
        producer.or_arm(len, wait, |producer| producer.send_frame(header, payload, wait))?;
        Ok(0)
    }))
}

/// Reserves room for a frame of at most `len` bytes, to build it in place: writes its address, which
/// is aligned to 8 bytes, to `*data`. Nothing is visible to consumers until slipring_commit(). One reservation at a time; until
/// its end, other calls on the producer return -SLIPRING_EHELD. Closing the producer aborts it.
///
/// The bytes are not cleared. Time-outs and errors as for slipring_send(); -SLIPRING_EOPNOTSUPP on
/// transports. On a broadcast ring the frame is built elsewhere, and copied when it is committed.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_reserve(
    producer: *mut slipring_producer,
    len: usize,
    data: *mut *mut c_void,
    timeout_ns: i64,
) -> c_int {
    if let Some(mut call) = Quick::<Producer>::begin(producer.cast()) {
        let is_reserved = call.object().reserve_if_room(len, data);
        call.end();
        if is_reserved {
            return 0;
        }
    }
    reserve(producer, len, data, timeout_ns)
}

#[cold]
#[inline(never)]
fn reserve(producer: *mut slipring_producer, len: usize, data: *mut *mut c_void, timeout_ns: i64) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| {
        let data = out(data)?;
        *data = std::ptr::null_mut();
        let wait = Wait::of(timeout_ns);
        *data = producer.or_arm(len, wait, |producer| producer.reserve(len, wait))?;
        Ok(0)
    }))
}

/// Sends the first `len` bytes of the reservation as a frame. Returns 0; -SLIPRING_ENOTHELD;
/// -SLIPRING_EMSGSIZE if `len` exceeds the reservation, which is then still held. Wait-free; a
/// system call only to wake a sleeping consumer.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_commit(producer: *mut slipring_producer, len: usize) -> c_int {
    if let Some(mut call) = Quick::<Producer>::begin(producer.cast()) {
        let is_sent = call.object().commit_if_it_fits(len);
        call.end();
        if is_sent {
            return 0;
        }
    }
    commit(producer, len)
}

#[cold]
#[inline(never)]
fn commit(producer: *mut slipring_producer, len: usize) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| producer.commit(None, len).map(|()| 0)))
}

/// slipring_commit() with a kind and a stream, as slipring_send_frame().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_commit_frame(producer: *mut slipring_producer, kind: u16, stream: u16, len: usize) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| {
        producer.commit(Some(header(kind, stream)?), len).map(|()| 0)
    }))
}

/// Discards the reservation: nothing is sent. Returns 0 or -SLIPRING_ENOTHELD. Wait-free.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_abort(producer: *mut slipring_producer) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| producer.abort().map(|()| 0)))
}

/// Waits until everything sent has left this process: of a transport that queues frames. At once
/// for rings. Returns 0 or an error of slipring_send().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_flush(producer: *mut slipring_producer, timeout_ns: i64) -> c_int {
    status(table::with(producer.cast(), |producer: &mut Producer| {
        if let End::Transport(sender) = &mut producer.end {
            sender.flush_until(Wait::of(timeout_ns).deadline())?;
        }
        Ok(0)
    }))
}

/// A payload to send.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_payload {
    /// Its bytes.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// Sends several frames, each as slipring_send(); on rings those of SLIPRING_DEFAULT_KIND become
/// visible at once, which is the cheapest way to send small ones. Returns how many were sent, at
/// least 1 unless `n` is 0, or the error of the first. The time-out is for the first; the others are
/// sent while there is room.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_send_batch(
    producer: *mut slipring_producer,
    payloads: *const slipring_payload,
    n: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(producer.cast(), |producer: &mut Producer| {
        let payloads = items(payloads, n)?;
        for payload in payloads {
            bytes(payload.data, payload.len)?;
        }
        let (first, wait) = (payloads.first().map_or(0, |payload| payload.len), Wait::of(timeout_ns));
        producer.or_arm(first, wait, |producer| producer.send_batch(payloads, wait))
    }))
}

/// Opens both directions of an endpoint, such as "unix:/run/user/1000/app.sock?listen" or
/// "tcp:localhost:7000": a producer and a consumer, to be closed separately. Errors as for
/// slipring_producer_open(); -SLIPRING_EOPNOTSUPP for endpoints of one direction.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_duplex_open(
    endpoint: *const c_char,
    options: *const slipring_options,
    producer: *mut *mut slipring_producer,
    consumer: *mut *mut slipring_consumer,
) -> c_int {
    opened(producer, || {
        let consumer = out(consumer)?;
        *consumer = std::ptr::null_mut();
        let options = Given::new(options)?;
        let (sender, receiver) = options.duplex(endpoint)?;
        let other = table::insert(Consumer::over(receiver))?;
        match table::insert(Producer::over(sender)) {
            Ok(producer) => {
                *consumer = other;
                Ok(producer)
            }
            Err(failure) => {
                table::close::<Consumer>(other.cast())?;
                Err(failure)
            }
        }
    })
}
