//! What frames are sent into, each behind [`Sink`], and the grants of rings.
//!
//! Used by `sender.rs`.

use std::ptr::NonNull;

use slipring::broadcast::{self, Publisher};
use slipring::frame::Header;
use slipring::transport::{FrameSender, FrameSenderExt};
use slipring::{Canceller, Deadline, Error, Readiness, Result, Ring, mpmc, mpsc, spsc};

/// Where frames are sent.
pub trait Sink: Send {
    /// Sends a frame. Waits until the deadline; `None` does not wait.
    fn send(&mut self, header: Header, payload: &[u8], deadline: Option<Deadline>) -> Result<()>;

    /// Reserves room for `len` bytes, and goes into the grant, which returns it when it ends; or
    /// returns at once, with the error.
    fn reserve(self: Box<Self>, len: usize, deadline: Option<Deadline>) -> Result<Reserved, (Box<dyn Sink>, Error)>;

    /// What a set needs to wait for room.
    fn writable(&self, len: usize) -> Result<Readiness>;

    /// The ring, if it is one.
    fn ring(&self) -> Option<&Ring>;

    /// The largest payload.
    fn max_payload(&self) -> usize;

    /// What interrupts a wait.
    fn canceller(&self) -> Option<Canceller>;

    /// Sends what was collected, and ends the connection.
    fn finish(&mut self, deadline: Deadline) -> Result<()>;

    /// Sends what was collected.
    fn flush(&mut self, deadline: Deadline) -> Result<()>;

    /// Another handle of the same participant, for a thread of its own, if the kind has them.
    fn another(&self) -> Option<Box<dyn Sink>> {
        None
    }
}

/// Room in a ring, and the producer that it belongs to.
pub struct Reserved {
    /// Borrows `producer` exclusively; it ends first.
    grant: Option<Box<dyn Grants>>,
    producer: Option<Box<dyn Keeps>>,
}

/// A grant of a kind.
trait Grants: Send {
    fn start(&mut self) -> (*mut u8, usize);
    fn commit(self: Box<Self>, header: Header, len: usize) -> Result<()>;
}

/// A producer that a grant borrows.
trait Keeps: Send {
    fn into_sink(self: Box<Self>) -> Box<dyn Sink>;
}

/// A producer at a fixed place.
struct Kept<P>(NonNull<P>);

// SAFETY: it owns the producer.
unsafe impl<P: Send> Send for Kept<P> {}

impl<P> Kept<P> {
    fn new(producer: Box<P>) -> Self {
        Kept(NonNull::from(Box::leak(producer)))
    }

    fn into_box(self) -> Box<P> {
        let place = self.0;
        std::mem::forget(self);
        // SAFETY: from a box, in `new`; `self` does not drop it.
        unsafe { Box::from_raw(place.as_ptr()) }
    }
}

impl<P> Drop for Kept<P> {
    fn drop(&mut self) {
        // SAFETY: from a box, in `new`, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<P: Sink + 'static> Keeps for Kept<P> {
    fn into_sink(self: Box<Self>) -> Box<dyn Sink> {
        self.into_box()
    }
}

impl Reserved {
    /// The reserved bytes, for as long as the grant lives.
    pub fn start(&mut self) -> (*mut u8, usize) {
        self.grant.as_mut().map_or((NonNull::dangling().as_ptr(), 0), |grant| grant.start())
    }

    /// Sends the first `len` bytes as a frame.
    pub fn commit(mut self, header: Header, len: usize) -> (Option<Box<dyn Sink>>, Result<()>) {
        let outcome = self.grant.take().map_or(Ok(()), |grant| grant.commit(header, len));
        (self.producer.take().map(Keeps::into_sink), outcome)
    }

    /// Sends nothing.
    pub fn abort(mut self) -> Option<Box<dyn Sink>> {
        self.grant = None;
        self.producer.take().map(Keeps::into_sink)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.grant = None; // before the producer
    }
}

/// A grant as its handle lends it, or the bytes that it is filled from at the end.
trait Lent: Send + 'static {
    type Holder: Grants + 'static;
    fn hold(self) -> Self::Holder;
}

macro_rules! grants {
    ($($grant:ty),*) => {$(
        impl Grants for $grant {
            fn start(&mut self) -> (*mut u8, usize) {
                let bytes: &mut [u8] = self;
                (bytes.as_mut_ptr(), bytes.len())
            }

            fn commit(self: Box<Self>, header: Header, len: usize) -> Result<()> {
                (*self).commit_frame(header, len)
            }
        }

        impl Lent for $grant {
            type Holder = Self;

            fn hold(self) -> Self {
                self
            }
        }
    )*};
}

// Those of mpsc rings are the same type.
grants! { spsc::WriteGrant<'static>, mpmc::WriteGrant<'static> }

/// Lossy subscribers read the ring while it is written, so Python writes elsewhere first.
struct Scratch {
    grant: broadcast::WriteGrant<'static>,
    bytes: Vec<u8>,
}

impl Lent for broadcast::WriteGrant<'static> {
    type Holder = Scratch;

    fn hold(self) -> Scratch {
        Scratch { bytes: vec![0; self.len()], grant: self }
    }
}

impl Grants for Scratch {
    fn start(&mut self) -> (*mut u8, usize) {
        (self.bytes.as_mut_ptr(), self.bytes.len())
    }

    fn commit(mut self: Box<Self>, header: Header, len: usize) -> Result<()> {
        self.grant.write_at(0, self.bytes.get(..len).unwrap_or(&self.bytes));
        self.grant.commit_frame(header, len)
    }
}

macro_rules! sinks {
    ($($producer:ty, $writable:expr, $another:expr;)*) => {$(
        impl Sink for $producer {
            fn send(&mut self, header: Header, payload: &[u8], deadline: Option<Deadline>) -> Result<()> {
                match deadline {
                    None => self.try_send_frame(header, payload),
                    Some(deadline) => self.send_frame_deadline(header, payload, deadline),
                }
            }

            fn reserve(
                self: Box<Self>,
                len: usize,
                deadline: Option<Deadline>,
            ) -> Result<Reserved, (Box<dyn Sink>, Error)> {
                let mut kept = Kept::new(self);
                // SAFETY: the producer stays at its place until `kept` is dropped or unpacked. Only
                // the grant borrows it until then, and it ends first: in `Reserved`, and below on
                // an error.
                let producer: &'static mut Self = unsafe { kept.0.as_mut() };
                let grant = match deadline {
                    None => producer.try_reserve(len),
                    Some(deadline) => producer.reserve_deadline(len, deadline),
                };
                match grant.map(Lent::hold) {
                    Ok(grant) => Ok(Reserved { grant: Some(Box::new(grant)), producer: Some(Box::new(kept)) }),
                    Err(error) => Err((kept.into_box(), error)),
                }
            }

            fn writable(&self, len: usize) -> Result<Readiness> {
                let writable: fn(&Self, usize) -> Readiness = $writable;
                Ok(writable(self, len))
            }

            fn ring(&self) -> Option<&Ring> {
                Some(self.ring())
            }

            fn max_payload(&self) -> usize {
                self.max_payload()
            }

            fn canceller(&self) -> Option<Canceller> {
                Some(self.canceller())
            }

            fn flush(&mut self, _: Deadline) -> Result<()> {
                Ok(())
            }

            fn finish(&mut self, _: Deadline) -> Result<()> {
                Ok(())
            }

            fn another(&self) -> Option<Box<dyn Sink>> {
                let another: fn(&Self) -> Option<Box<dyn Sink>> = $another;
                another(self)
            }
        }
    )*};
}

sinks! {
    spsc::Producer, |tx, len| tx.writable(len), |_| None;
    mpsc::Producer, |tx, len| tx.writable(len), |_| None;
    Publisher, |tx, len| tx.writable(len), |_| None;
    mpmc::Producer, |tx, _| tx.writable(), |tx| Some(Box::new(tx.clone()));
}

impl Sink for Box<dyn FrameSender> {
    fn send(&mut self, header: Header, payload: &[u8], deadline: Option<Deadline>) -> Result<()> {
        match deadline {
            None => self.try_send(header, payload)?,
            Some(deadline) => self.send_until(header, payload, deadline)?,
        }
        // What is collected is sent by the next call, `flush` or `finish`; a program in Python
        // rarely sends often enough for that to be soon.
        match self.flush_until(deadline.unwrap_or(Deadline::after(std::time::Duration::ZERO))) {
            // The frame was accepted.
            Err(Error::Timeout | Error::Full) => Ok(()),
            outcome => outcome,
        }
    }

    fn reserve(self: Box<Self>, _: usize, _: Option<Deadline>) -> Result<Reserved, (Box<dyn Sink>, Error)> {
        Err((self, Error::Unsupported { what: "reserve with this transport: send bytes, or use a ring by its name" }))
    }

    fn writable(&self, _: usize) -> Result<Readiness> {
        let Some(fd) = self.poll_fd() else {
            return Err(Error::Unsupported { what: "a descriptor for this transport: send with a timeout" });
        };
        Readiness::writable_fd(fd)
    }

    fn ring(&self) -> Option<&Ring> {
        None
    }

    fn max_payload(&self) -> usize {
        (**self).max_payload()
    }

    fn canceller(&self) -> Option<Canceller> {
        None
    }

    fn flush(&mut self, deadline: Deadline) -> Result<()> {
        FrameSenderExt::flush(&mut **self, deadline)
    }

    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        FrameSenderExt::close(&mut **self, deadline)
    }
}
