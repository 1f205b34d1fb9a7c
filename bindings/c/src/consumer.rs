//! Consumers of all rings of frames and receivers of all transports, behind one handle.
//!
//! Used by C programs. Relies on `table.rs`; the frames that are held are kept beside their
//! consumer.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::time::Duration;

use slipring::broadcast::{self, LossySubscriber, Subscriber};
use slipring::endpoint::Endpoint;
use slipring::frame::Event;
use slipring::mpsc::{Ended, Received};
use slipring::transport::{Doorbell, FrameReceiver};
use slipring::{Canceller, Deadline, Error, Kind, Ring, mpmc, mpsc, spsc};

use crate::arguments::{
    Given, SLIPRING_BROADCAST, SLIPRING_LOSSY, SLIPRING_MPMC, SLIPRING_MPSC, SLIPRING_SPSC, Wait, buffer as room,
    items_mut, not_open, out, plain_buffer, slipring_options, wanted,
};
use crate::error::{Failure, SLIPRING_ENOTHELD, SLIPRING_EOPNOTSUPP, SLIPRING_EOTHERTYPE, count, opened, status};
use crate::frame::{
    SLIPRING_DEFAULT_KIND, SLIPRING_ENDED, SLIPRING_FRAME, SLIPRING_FRAME_DIED, SLIPRING_GAP, slipring_frame,
};
use crate::handle::unsupported;
use crate::lent::Lent;
use crate::producer::{anonymous, expect_frames, is_endpoint, no_frames, open_endpoint_ring};
use crate::quick::{HasQuick, Quick};
use crate::table::{self, Object, Row};
use crate::words::Words;

/// Receives frames: a consumer of a ring, a subscriber, or the receiver of a transport.
pub struct slipring_consumer(());

/// The object behind a consumer's handle.
pub(crate) struct Consumer {
    end: End,
    /// None for a transport.
    pub(crate) ring: Option<Ring>,
    /// What its frames must be, if it states a type.
    stated: Option<Stated>,
    /// Made by slipring_fd().
    pub(crate) bell: Option<Doorbell>,
}

/// The stated type, and the kind of its frames.
struct Stated {
    kind: u16,
    description: Box<str>,
}

impl Stated {
    /// Of a frame of another kind, which was released.
    #[cold]
    fn other(&self, found: u16) -> Failure {
        let Stated { kind, description } = self;
        let whose = if found == SLIPRING_DEFAULT_KIND { "of a sender that states no type" } else { "of another type" };
        let text = format!("skipped a frame {whose}: its kind is {found:#06x}, that of {description} is {kind:#06x}");
        Failure::Said(SLIPRING_EOTHERTYPE, text.into())
    }

    fn check(stated: &Option<Self>, found: u16) -> Result<(), Failure> {
        match stated {
            Some(stated) if stated.kind != found => Err(stated.other(found)),
            _ => Ok(()),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "one a handle; a box would put a pointer before every frame")]
enum End {
    Spsc(SpscReceiving),
    Mpmc(Receiving<mpmc::Consumer, mpmc::ReadView<'static>, mpmc::ReadBatch<'static>>),
    Mpsc(Receiving<mpsc::Consumer, mpsc::ReadView<'static>, mpsc::ReadBatch<'static>>),
    Broadcast(Receiving<Subscriber, broadcast::ReadView<'static>, broadcast::ReadBatch<'static>>),
    Lossy(Lossy),
    Transport(Wire),
}

// SAFETY: the type's number is its alone.
unsafe impl Object for Consumer {
    const TYPE: u8 = 2;
    const ROW: Option<Row> = Some(Row::Consumer);

    fn quick(&mut self) -> *mut c_void {
        match &mut self.end {
            End::Spsc(end) if self.bell.is_none() && self.stated.is_none() => std::ptr::from_mut(end).cast(),
            _ => std::ptr::null_mut(),
        }
    }
}

// SAFETY: `quick` gives what an `End::Spsc` has; nothing else refers to it until the next call.
unsafe impl HasQuick for Consumer {
    type Quick = SpscReceiving;
}

/// The frames of a consumer that are held.
pub(crate) enum Held<V, B> {
    Frame(V),
    Batch(B),
}

type Receiving<C, V, B> = Lent<C, Held<V, B>>;
type SpscReceiving = Receiving<spsc::Consumer, spsc::ReadView<'static>, spsc::ReadBatch<'static>>;

/// The quick calls: false if something is unusual, or there is nothing.
impl SpscReceiving {
    #[inline(always)]
    fn recv_if_ready(&mut self, frame: *mut slipring_frame) -> bool {
        let Some(frame) = wanted(frame) else { return false };
        // SAFETY: the view is kept there, or nothing was received.
        let Ok(consumer) = (unsafe { self.lend() }) else { return false };
        let Some(view) = consumer.recv_if_ready() else { return false };
        frame.set(view.header(), &view);
        self.keep(Held::Frame(view));
        true
    }

    /// `release_frame` and `recv_if_ready` in one, if a frame is held.
    #[inline(always)]
    fn recv_next_if_ready(&mut self, frame: *mut slipring_frame) -> bool {
        let (Some(Held::Frame(view)), Some(frame)) = (self.guard_mut(), wanted(frame)) else { return false };
        let is_received = view.next_if_ready();
        if is_received {
            frame.set(view.header(), view);
        }
        is_received
    }

    #[inline(always)]
    fn copy_if_ready(&mut self, data: *mut c_void, size: usize, frame: *mut slipring_frame) -> bool {
        let (Some(frame), Some(buffer)) = (wanted(frame), plain_buffer(data, size)) else { return false };
        let Ok(consumer) = self.free() else { return false };
        let Some(view) = consumer.recv_if_ready() else { return false };
        let Some(into) = buffer.get_mut(..view.len()) else {
            view.keep();
            return false;
        };
        into.copy_from_slice(&view);
        frame.set(view.header(), into);
        true
    }

    #[inline(always)]
    fn release_frame(&mut self) -> bool {
        let is_frame = matches!(self.guard(), Ok(Held::Frame(_)));
        if is_frame {
            if let Ok(Held::Frame(view)) = self.take() {
                drop(view);
            }
        }
        is_frame
    }
}

/// A subscriber that copies.
struct Lossy {
    subscriber: LossySubscriber,
    buffer: Words,
    is_held: bool,
}

impl Lossy {
    fn new(subscriber: LossySubscriber) -> Self {
        Lossy { buffer: Words::new(subscriber.max_payload()), subscriber, is_held: false }
    }

    fn recv_into(
        subscriber: &mut LossySubscriber,
        buffer: &mut [u8],
        frame: &mut slipring_frame,
        wait: Wait,
    ) -> Result<c_int, Failure> {
        let received = match wait {
            Wait::Not => subscriber.try_recv_into(buffer),
            Wait::Forever => subscriber.recv_into(buffer),
            Wait::Until(deadline) => subscriber.recv_into_deadline(buffer, deadline),
        };
        let received = received.map_err(|error| match error {
            Error::TooLarge { max } => Failure::Buffer { size: buffer.len(), frame: max },
            error => error.into(),
        })?;
        match received {
            broadcast::Received::Frame(header) => {
                frame.set(header, &buffer[..header.len as usize]);
                Ok(SLIPRING_FRAME)
            }
            broadcast::Received::Gap { missed } => {
                *frame = slipring_frame { missed, ..slipring_frame::NOTHING };
                Ok(SLIPRING_GAP)
            }
        }
    }
}

/// A transport's receiver.
struct Wire {
    receiver: Box<dyn FrameReceiver>,
    held: Option<Kept>,
    /// A frame that did not fit into the caller's buffer: received again by the next call.
    put_back: Option<Kept>,
}

/// A frame in the receiver's buffer, which it keeps until its next call.
struct Kept(slipring_frame, c_int);

// SAFETY: the address is that of the receiver's buffer, and the receiver is `Send`.
unsafe impl Send for Kept {}

impl Wire {
    fn recv(&mut self, frame: &mut slipring_frame, wait: Wait) -> Result<c_int, Failure> {
        if self.held.is_some() {
            return Err(Failure::HELD);
        }
        if let Some(Kept(kept, status)) = self.put_back.take() {
            *frame = kept;
            self.held = Some(Kept(kept, status));
            return Ok(status);
        }
        let event = match wait {
            Wait::Not => self.receiver.try_recv()?,
            Wait::Forever => self.receiver.recv()?,
            Wait::Until(deadline) => self.receiver.recv_until(deadline)?,
        };
        let holds = matches!(event, Event::Frame(_) | Event::Duplicate { .. });
        let status = frame.set_event(event);
        self.held = holds.then_some(Kept(*frame, status));
        Ok(status)
    }
}

impl slipring_frame {
    fn set_ended(&mut self, ended: Ended) -> c_int {
        let flags = if ended.died { SLIPRING_FRAME_DIED } else { 0 };
        *self = slipring_frame { lane: ended.lane, producer: ended.producer, flags, ..slipring_frame::NOTHING };
        SLIPRING_ENDED
    }

    #[inline(always)]
    fn set_source(&mut self, source: mpsc::Source) {
        self.lane = source.lane;
        self.producer = source.producer;
    }
}

impl Consumer {
    fn new(end: End) -> Self {
        let mut consumer = Consumer { end, ring: None, stated: None, bell: None };
        consumer.ring = consumer.find_ring();
        consumer
    }

    fn open(name: *const c_char, options: &Given<'_>) -> Result<Self, Failure> {
        let mut consumer = match options.name(name)? {
            None => Self::attach(&anonymous(options, SLIPRING_SPSC)?, options)?,
            Some(name) if is_endpoint(name) => Self::open_endpoint(name, options)?,
            Some(name) => Self::open_ring(name, options)?,
        };
        if let Some(description) = options.message_type {
            match &consumer.ring {
                Some(ring) => {
                    let kind = ring.agree_on_type(description)?;
                    consumer.stated = Some(Stated { kind, description: description.into() });
                }
                None => options.expect_plain()?,
            }
        }
        Ok(consumer)
    }

    fn open_ring(name: &str, options: &Given<'_>) -> Result<Self, Failure> {
        expect_frames(options, options.raw.kind)?;
        let ring = options.ring(0)?;
        options.agree_before(name, &ring)?;
        Ok(Consumer::new(match options.raw.kind {
            SLIPRING_SPSC => End::Spsc(Receiving::new(spsc::Consumer::open(name, &ring)?)),
            SLIPRING_MPMC => End::Mpmc(Receiving::new(mpmc::Consumer::open(name, &ring)?)),
            SLIPRING_MPSC => End::Mpsc(Receiving::new(mpsc::Consumer::open(name, &ring)?)),
            SLIPRING_BROADCAST if options.has(SLIPRING_LOSSY) => {
                End::Lossy(Lossy::new(LossySubscriber::open(name, &ring, options.start())?))
            }
            SLIPRING_BROADCAST => End::Broadcast(Receiving::new(Subscriber::open(name, &ring, options.start())?)),
            _ => return Self::attach(&Ring::open(name, &ring)?, options),
        }))
    }

    fn attach(ring: &Ring, options: &Given<'_>) -> Result<Self, Failure> {
        expect_frames(options, ring.kind() as c_int)?;
        Ok(Consumer::new(match ring.kind() {
            Kind::Spsc => End::Spsc(Receiving::new(spsc::Consumer::attach(ring)?)),
            Kind::Mpmc => End::Mpmc(Receiving::new(mpmc::Consumer::attach(ring)?)),
            Kind::Mpsc => End::Mpsc(Receiving::new(mpsc::Consumer::attach(ring)?)),
            Kind::Broadcast if options.has(SLIPRING_LOSSY) => {
                End::Lossy(Lossy::new(LossySubscriber::attach(ring, options.start())?))
            }
            Kind::Broadcast => End::Broadcast(Receiving::new(Subscriber::attach(ring, options.start())?)),
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
                    // Its text says how to subscribe.
                    _ => Ok(Self::over(Box::new(endpoint.attach_receiver(&ring)?))),
                }
            }
            endpoint => {
                options.expect_plain()?;
                options.expect_endpoint()?;
                let receiver = endpoint.open_receiver(options.connect()).map_err(|error| not_open(&endpoint, error))?;
                Ok(Self::over(receiver))
            }
        }
    }

    pub(crate) fn over(receiver: Box<dyn FrameReceiver>) -> Self {
        Consumer::new(End::Transport(Wire { receiver, held: None, put_back: None }))
    }

    /// The ring that its frames come from; `None` for a transport's.
    fn find_ring(&mut self) -> Option<Ring> {
        match self.end().ok()? {
            EndRef::Spsc(end) => Some(end.ring().clone()),
            EndRef::Mpmc(end) => Some(end.ring().clone()),
            EndRef::Mpsc(end) => Some(end.ring().clone()),
            EndRef::Broadcast(end) => Some(end.ring().clone()),
            EndRef::Lossy(end) => Some(end.ring().clone()),
            EndRef::Transport(_) => None,
        }
    }

    #[inline(always)]
    fn recv(&mut self, frame: &mut slipring_frame, wait: Wait) -> Result<c_int, Failure> {
        if self.bell.is_some() {
            return self.beside_bell(wait, |consumer, wait| consumer.recv_without_bell(frame, wait));
        }
        self.recv_without_bell(frame, wait)
    }

    #[inline(always)]
    fn recv_without_bell(&mut self, frame: &mut slipring_frame, wait: Wait) -> Result<c_int, Failure> {
        let stated = &self.stated;
        /// Receives and holds a frame; `$frame` says what came otherwise, as an `Err` of a status.
        macro_rules! in_place {
            ($end:ident, $received:ident => $view:expr, $each:expr) => {{
                // SAFETY: the view is kept there, or nothing was received.
                let consumer = unsafe { $end.lend() }?;
                let $received = match wait {
                    Wait::Not => consumer.try_recv()?,
                    Wait::Forever => consumer.recv()?,
                    Wait::Until(deadline) => consumer.recv_deadline(deadline)?,
                };
                let view = $view;
                Stated::check(stated, view.header().kind)?; // or releases it
                frame.set(view.header(), &view);
                #[allow(clippy::redundant_closure_call, reason = "what a kind adds to a frame")]
                $each(&view, frame);
                $end.keep(Held::Frame(view));
                Ok(SLIPRING_FRAME)
            }};
        }
        match &mut self.end {
            End::Spsc(end) => in_place!(end, view => view, |_: &spsc::ReadView<'_>, _: &mut slipring_frame| ()),
            End::Mpmc(end) => in_place!(end, view => view, |_: &mpmc::ReadView<'_>, _: &mut slipring_frame| ()),
            End::Broadcast(end) => {
                in_place!(end, view => view, |_: &broadcast::ReadView<'_>, _: &mut slipring_frame| ())
            }
            End::Mpsc(end) => in_place!(end, received => match received {
                Received::Frame(view) => view,
                Received::Ended(ended) => return Ok(frame.set_ended(ended)),
            }, |view: &mpsc::ReadView<'_>, frame: &mut slipring_frame| frame.set_source(view.source())),
            End::Lossy(end) => {
                if end.is_held {
                    return Err(Failure::HELD);
                }
                let status = Lossy::recv_into(&mut end.subscriber, end.buffer.bytes_mut(), frame, wait)?;
                if status == SLIPRING_FRAME {
                    Stated::check(stated, frame.kind)?;
                }
                end.is_held = status == SLIPRING_FRAME;
                Ok(status)
            }
            End::Transport(end) => end.recv(frame, wait),
        }
    }

    /// A call of a consumer with a doorbell, which waits for the bell: the ring has room for one
    /// sleeper. The bell is armed when the ring was found empty, and the ring looked at once more.
    #[cold]
    fn beside_bell(
        &mut self,
        wait: Wait,
        mut receive: impl FnMut(&mut Self, Wait) -> Result<c_int, Failure>,
    ) -> Result<c_int, Failure> {
        loop {
            let result = receive(self, Wait::Not);
            let Err(Failure::Library(Error::Empty)) = result else { return result };
            let Some(bell) = &self.bell else { return result };
            match wait {
                Wait::Not if bell.arm() => return receive(self, Wait::Not),
                Wait::Not => return result,
                _ => {
                    let canceller = self.canceller()?;
                    if let Some(bell) = &self.bell {
                        wait_for_bell(bell, &canceller, wait.deadline())?;
                    }
                }
            }
        }
    }

    pub(crate) fn canceller(&mut self) -> Result<Canceller, Failure> {
        Ok(match self.end()? {
            EndRef::Spsc(end) => end.canceller(),
            EndRef::Mpmc(end) => end.canceller(),
            EndRef::Mpsc(end) => end.canceller(),
            EndRef::Broadcast(end) => end.canceller(),
            EndRef::Lossy(end) => end.canceller(),
            EndRef::Transport(end) => end.canceller().ok_or_else(unsupported)?,
        })
    }

    #[inline(always)]
    fn recv_into(&mut self, buffer: &mut [u8], frame: &mut slipring_frame, wait: Wait) -> Result<c_int, Failure> {
        if self.bell.is_some() {
            return self.beside_bell(wait, |consumer, wait| consumer.copy_without_bell(buffer, frame, wait));
        }
        self.copy_without_bell(buffer, frame, wait)
    }

    #[inline(always)]
    fn copy_without_bell(
        &mut self,
        buffer: &mut [u8],
        frame: &mut slipring_frame,
        wait: Wait,
    ) -> Result<c_int, Failure> {
        let stated = &self.stated;
        /// Copies and releases a frame, or leaves it in the ring; `$each` is what its kind adds.
        macro_rules! copy {
            ($end:ident, $received:ident => $view:expr, $each:expr) => {{
                let consumer = $end.free()?;
                let $received = match wait {
                    Wait::Not => consumer.try_recv()?,
                    Wait::Forever => consumer.recv()?,
                    Wait::Until(deadline) => consumer.recv_deadline(deadline)?,
                };
                let view = $view;
                Stated::check(stated, view.header().kind)?; // or releases it
                let Some(into) = buffer.get_mut(..view.len()) else {
                    let len = view.len();
                    view.keep();
                    return Err(Failure::Buffer { size: buffer.len(), frame: len });
                };
                into.copy_from_slice(&view);
                frame.set(view.header(), into);
                #[allow(clippy::redundant_closure_call, reason = "what a kind adds to a frame")]
                $each(&view, frame);
                Ok(SLIPRING_FRAME)
            }};
        }
        match &mut self.end {
            End::Spsc(end) => copy!(end, view => view, |_: &spsc::ReadView<'_>, _: &mut slipring_frame| ()),
            End::Mpmc(end) => copy!(end, view => view, |_: &mpmc::ReadView<'_>, _: &mut slipring_frame| ()),
            End::Broadcast(end) => {
                copy!(end, view => view, |_: &broadcast::ReadView<'_>, _: &mut slipring_frame| ())
            }
            End::Mpsc(end) => copy!(end, received => match received {
                Received::Frame(view) => view,
                Received::Ended(ended) => return Ok(frame.set_ended(ended)),
            }, |view: &mpsc::ReadView<'_>, frame: &mut slipring_frame| frame.set_source(view.source())),
            End::Lossy(end) => {
                if end.is_held {
                    return Err(Failure::HELD);
                }
                let status = Lossy::recv_into(&mut end.subscriber, buffer, frame, wait)?;
                if status == SLIPRING_FRAME {
                    Stated::check(stated, frame.kind)?;
                }
                Ok(status)
            }
            End::Transport(end) => {
                let status = end.recv(frame, wait)?;
                let Some(kept) = end.held.take() else { return Ok(status) };
                if frame.len > buffer.len() {
                    end.put_back = Some(kept);
                    return Err(Failure::Buffer { size: buffer.len(), frame: frame.len });
                }
                let payload = crate::arguments::bytes(frame.data, frame.len)?;
                buffer[..payload.len()].copy_from_slice(payload);
                frame.data = buffer.as_ptr().cast();
                end.receiver.release();
                Ok(status)
            }
        }
    }

    #[inline(always)]
    fn release(&mut self) -> Result<(), Failure> {
        match &mut self.end {
            End::Spsc(end) => end.release(),
            End::Mpmc(end) => end.release(),
            End::Mpsc(end) => end.release(),
            End::Broadcast(end) => end.release(),
            End::Lossy(end) => mem::take(&mut end.is_held).then_some(()).ok_or(Failure::NOT_HELD),
            End::Transport(end) => {
                end.held.take().ok_or(Failure::NOT_HELD)?;
                end.receiver.release();
                Ok(())
            }
        }
    }

    fn keep(&mut self) -> Result<(), Failure> {
        macro_rules! keep {
            ($end:ident) => {{
                match $end.take()? {
                    Held::Frame(view) => view.keep(),
                    Held::Batch(batch) => batch.keep(),
                }
                Ok(())
            }};
        }
        match &mut self.end {
            End::Spsc(end) => keep!(end),
            End::Mpmc(end) => keep!(end),
            End::Mpsc(end) => keep!(end),
            End::Broadcast(end) => keep!(end),
            End::Lossy(_) => Err(COPIED),
            End::Transport(end) => {
                let held = end.held.take().ok_or(Failure::NOT_HELD)?;
                if !end.receiver.keep() {
                    end.put_back = Some(held);
                }
                Ok(())
            }
        }
    }

    /// As `hold_batch`, but of the stated type: ends before the first frame of another one.
    fn recv_batch(&mut self, frames: &mut [slipring_frame], wait: Wait) -> Result<i64, Failure> {
        let mut max = frames.len();
        loop {
            let n = self.hold_batch(&mut frames[..max], wait)?;
            let Some(stated) = &self.stated else { return Ok(n) };
            let Some(other) = frames[..n as usize].iter().position(|frame| frame.kind != stated.kind) else {
                return Ok(n);
            };
            self.keep()?;
            // That frame alone is received, and skipped; or those before it once more.
            match other {
                0 => match self.recv_without_bell(&mut frames[0], Wait::Not) {
                    Ok(_) => self.keep()?, // another consumer was faster
                    Err(Failure::Library(Error::Empty)) => {}
                    Err(failure) => return Err(failure),
                },
                others => max = others,
            }
        }
    }

    fn hold_batch(&mut self, frames: &mut [slipring_frame], wait: Wait) -> Result<i64, Failure> {
        macro_rules! batch {
            ($end:ident, $received:ident => $batch:expr, $each:expr) => {{
                // SAFETY: the batch is kept there, or nothing was received.
                let consumer = unsafe { $end.lend() }?;
                let $received = match wait {
                    Wait::Not => consumer.try_recv_batch(frames.len())?,
                    Wait::Forever => consumer.recv_batch(frames.len())?,
                    Wait::Until(deadline) => consumer.recv_batch_deadline(frames.len(), deadline)?,
                };
                let mut batch = $batch;
                let mut n = 0;
                for (frame, received) in frames.iter_mut().zip(batch.iter()) {
                    frame.set_frame(received);
                    n += 1;
                }
                #[allow(clippy::redundant_closure_call, reason = "what a kind adds to a frame")]
                $each(&batch, &mut frames[..n]);
                $end.keep(Held::Batch(batch));
                Ok(n as i64)
            }};
        }
        match &mut self.end {
            End::Spsc(end) => batch!(end, batch => batch, |_: &spsc::ReadBatch<'_>, _: &mut [slipring_frame]| ()),
            End::Mpmc(end) => batch!(end, batch => batch, |_: &mpmc::ReadBatch<'_>, _: &mut [slipring_frame]| ()),
            End::Broadcast(end) => {
                batch!(end, batch => batch, |_: &broadcast::ReadBatch<'_>, _: &mut [slipring_frame]| ())
            }
            End::Mpsc(end) => batch!(end, received => match received {
                Received::Frame(batch) => batch,
                Received::Ended(ended) => {
                    if let Some(frame) = frames.first_mut() {
                        frame.set_ended(ended);
                    }
                    return Ok(0);
                }
            }, |batch: &mpsc::ReadBatch<'_>, frames: &mut [slipring_frame]| {
                for frame in frames {
                    frame.set_source(batch.source());
                }
            }),
            End::Lossy(_) => Err(COPIED),
            End::Transport(_) => Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"batches: only rings have them; use slipring_recv() with a transport",
            )),
        }
    }

    pub(crate) fn end(&mut self) -> Result<EndRef<'_>, Failure> {
        Ok(match &mut self.end {
            End::Spsc(end) => EndRef::Spsc(end.free()?),
            End::Mpmc(end) => EndRef::Mpmc(end.free()?),
            End::Mpsc(end) => EndRef::Mpsc(end.free()?),
            End::Broadcast(end) => EndRef::Broadcast(end.free()?),
            End::Lossy(end) => EndRef::Lossy(&mut end.subscriber),
            End::Transport(end) => EndRef::Transport(&mut *end.receiver),
        })
    }
}

/// A canceller does not ring the bell, so this looks at it 20 times a second.
fn wait_for_bell(bell: &Doorbell, canceller: &Canceller, deadline: Deadline) -> Result<(), Failure> {
    const LOOK: Duration = Duration::from_millis(50);
    loop {
        if canceller.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        match bell.wait(deadline.remaining().min(LOOK)) {
            Err(Error::Timeout) if !deadline.has_passed() => {}
            result => return Ok(result?),
        }
    }
}

/// A consumer that holds no frame, for the calls of other files.
pub(crate) enum EndRef<'a> {
    Spsc(&'a mut spsc::Consumer),
    Mpmc(&'a mut mpmc::Consumer),
    Mpsc(&'a mut mpsc::Consumer),
    Broadcast(&'a mut Subscriber),
    Lossy(&'a mut LossySubscriber),
    Transport(&'a mut dyn FrameReceiver),
}

const COPIED: Failure = Failure::Told(
    SLIPRING_EOPNOTSUPP,
    c"a lossy subscriber copies frames one by one: use slipring_recv() and slipring_release()",
);

/// Opens a consumer: as slipring_producer_open(). For a broadcast ring it is a subscriber, reliable
/// unless SLIPRING_LOSSY is set, from `options->start` on.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_consumer_open(
    name: *const c_char,
    options: *const slipring_options,
    consumer: *mut *mut slipring_consumer,
) -> c_int {
    opened(consumer, || table::insert(Consumer::open(name, &Given::new(options)?)?))
}

/// Receives a frame in place: fills `*frame`, whose payload stays valid until slipring_release().
/// One frame, or one batch, at a time; until its end, other calls on the consumer return
/// -SLIPRING_EHELD. If this process dies first, the frame is delivered again to another consumer.
///
/// Waits up to `timeout_ns` nanoseconds: 0 does not wait, a negative number waits without limit.
/// Returns SLIPRING_FRAME (0); or, without a frame to release, SLIPRING_GAP, SLIPRING_ENDED or
/// SLIPRING_SKIPPED; or SLIPRING_DUPLICATE, with one (transports only). Errors: -SLIPRING_EAGAIN if
/// empty and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE and -SLIPRING_EPEERDEAD at the
/// end, when everything was received; -SLIPRING_EEVICTED; -SLIPRING_ECORRUPT.
/// Wait-free with 0, on spsc, mpsc and broadcast rings; lock-free on mpmc rings. No system call on a
/// ring, unless a producer sleeps or this call does.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_recv(
    consumer: *mut slipring_consumer,
    frame: *mut slipring_frame,
    timeout_ns: i64,
) -> c_int {
    if let Some(mut call) = Quick::<Consumer>::begin(consumer.cast()) {
        let is_received = call.object().recv_if_ready(frame);
        call.end();
        if is_received {
            return SLIPRING_FRAME;
        }
    }
    recv(consumer, frame, timeout_ns)
}

#[cold]
#[inline(never)]
fn recv(consumer: *mut slipring_consumer, frame: *mut slipring_frame, timeout_ns: i64) -> c_int {
    status(table::with(consumer.cast(), |consumer: &mut Consumer| consumer.recv(out(frame)?, Wait::of(timeout_ns))))
}

/// slipring_release(), if a frame or batch is held, and slipring_recv(), in one call: the shortest
/// loop over frames in place. Returns as slipring_recv(); an error holds nothing, except
/// -SLIPRING_EHANDLE, -SLIPRING_EWRONGTHREAD, -SLIPRING_EBUSY and -SLIPRING_EINVAL, which release
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_recv_next(
    consumer: *mut slipring_consumer,
    frame: *mut slipring_frame,
    timeout_ns: i64,
) -> c_int {
    if let Some(mut call) = Quick::<Consumer>::begin(consumer.cast()) {
        let is_received = call.object().recv_next_if_ready(frame);
        call.end();
        if is_received {
            return SLIPRING_FRAME;
        }
    }
    recv_next(consumer, frame, timeout_ns)
}

#[cold]
#[inline(never)]
fn recv_next(consumer: *mut slipring_consumer, frame: *mut slipring_frame, timeout_ns: i64) -> c_int {
    status(table::with(consumer.cast(), |consumer: &mut Consumer| {
        let frame = out(frame)?;
        match consumer.release() {
            Ok(()) | Err(Failure::Own(SLIPRING_ENOTHELD)) => consumer.recv(frame, Wait::of(timeout_ns)),
            Err(failure) => Err(failure),
        }
    }))
}

/// Receives a copy of a frame into `buffer` of `size` bytes, and releases the frame: fills
/// `*frame`, whose `data` is `buffer`. The size of this frame is enough for every kind of ring;
/// `max_payload` of slipring_get_info() is enough for every frame. Otherwise as slipring_recv();
/// -SLIPRING_EMSGSIZE if the payload is larger than `size`: the frame is then received by the next
/// call.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_recv_into(
    consumer: *mut slipring_consumer,
    buffer: *mut c_void,
    size: usize,
    frame: *mut slipring_frame,
    timeout_ns: i64,
) -> c_int {
    if let Some(mut call) = Quick::<Consumer>::begin(consumer.cast()) {
        let is_received = call.object().copy_if_ready(buffer, size, frame);
        call.end();
        if is_received {
            return SLIPRING_FRAME;
        }
    }
    recv_into(consumer, buffer, size, frame, timeout_ns)
}

#[cold]
#[inline(never)]
fn recv_into(
    consumer: *mut slipring_consumer,
    buffer: *mut c_void,
    size: usize,
    frame: *mut slipring_frame,
    timeout_ns: i64,
) -> c_int {
    status(table::with(consumer.cast(), |consumer: &mut Consumer| {
        consumer.recv_into(room(buffer, size)?, out(frame)?, Wait::of(timeout_ns))
    }))
}

/// Receives up to `max` frames in place, all to be released by one slipring_release(). Waits for the
/// first as slipring_recv(). Returns how many, or an error; 0 reports the end of a lane of an mpsc
/// ring, in the first frame. -SLIPRING_EOPNOTSUPP for lossy subscribers and transports.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_recv_batch(
    consumer: *mut slipring_consumer,
    frames: *mut slipring_frame,
    max: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(consumer.cast(), |consumer: &mut Consumer| {
        consumer.recv_batch(items_mut(frames, max)?, Wait::of(timeout_ns))
    }))
}

/// Releases the frame or batch that was received last: its payload is no longer valid. Returns 0 or
/// -SLIPRING_ENOTHELD. Wait-free; a system call only to wake a sleeping producer.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_release(consumer: *mut slipring_consumer) -> c_int {
    if let Some(mut call) = Quick::<Consumer>::begin(consumer.cast()) {
        let is_released = call.object().release_frame();
        call.end();
        if is_released {
            return 0;
        }
    }
    release(consumer)
}

#[cold]
#[inline(never)]
fn release(consumer: *mut slipring_consumer) -> c_int {
    status(table::with(consumer.cast(), |consumer: &mut Consumer| consumer.release().map(|()| 0)))
}

/// Leaves the frame or batch in the ring instead of releasing it: this consumer, or its successor,
/// receives it again. Returns 0 or -SLIPRING_ENOTHELD.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_keep(consumer: *mut slipring_consumer) -> c_int {
    status(table::with(consumer.cast(), |consumer: &mut Consumer| consumer.keep().map(|()| 0)))
}
