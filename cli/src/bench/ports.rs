//! Both kinds of frame rings, with calls over which the loops of the benches are generic.

use serde::{Deserialize, Serialize};
use slipring::{Idle, Options, Ring, mpmc, spsc};

use crate::child::{self, Passed};
use crate::failure::{Failure, Outcome, USAGE};

/// A kind of ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    Spsc,
    Mpmc,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Spsc => "spsc",
            Kind::Mpmc => "mpmc",
        }
    }

    /// A ring of about `capacity` bytes for frames of `size` bytes.
    pub(super) fn options(self, capacity: usize, size: usize, idle: Idle) -> Options {
        let options = match self {
            Kind::Spsc => Options::spsc(capacity),
            // A slot is a control word, a header and the payload, on lines of its own.
            Kind::Mpmc => Options::mpmc((capacity / (24 + size).next_multiple_of(64)).max(2), size),
        };
        options.idle(idle).prefault(true).best_effort(true)
    }
}

/// A ring of this process, and what other processes need to attach to it.
pub(super) struct Channel {
    pub(super) ring: Ring,
    pub(super) port: Port,
    /// A descriptor that children inherit from now on.
    _passed: Passed,
}

impl Channel {
    pub(super) fn new(kind: Kind, capacity: usize, size: usize, idle: Idle) -> Outcome<Self> {
        let ring = Ring::create_anonymous(&kind.options(capacity, size, idle))?;
        if ring.max_payload() < size {
            let max = ring.max_payload();
            return Err(Failure::new(
                USAGE,
                format_args!("messages of {size} bytes do not fit: {max} do; give a larger --capacity"),
            ));
        }
        let passed = Passed::ring(&ring)?;
        let port = Port { fd: passed.fd(), kind, idle: idle.to_string() };
        Ok(Channel { ring, port, _passed: passed })
    }

    /// The number of frames of `size` bytes in one lap.
    pub(super) fn lap(&self, size: usize) -> u64 {
        let frames = match self.ring.slots() {
            0 => self.ring.capacity() / (16 + size).next_multiple_of(8),
            slots => slots,
        };
        frames.max(1) as u64
    }

    /// How often a participant slept in the kernel or made a system call to wake another, since the
    /// ring was created.
    pub(super) fn kernel_calls(&self) -> Outcome<u64> {
        let counts = self.ring.stats().counts;
        Ok(counts.sleeps + counts.wakes)
    }
}

/// A ring as it is described to other processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Port {
    pub(super) fd: i32,
    pub(super) kind: Kind,
    idle: String,
}

impl Port {
    /// Called in the process that inherited it.
    pub(super) fn open(&self) -> Outcome<Ring> {
        child::ring(self.fd, self.idle.parse::<Idle>()?)
    }
}

/// A sending end.
pub(super) trait Tx {
    /// Sends one frame of `len` bytes, written in place by `fill`. Blocks.
    fn send(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> slipring::Result<()>;
}

impl Tx for spsc::Producer {
    #[inline]
    fn send(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> slipring::Result<()> {
        let mut grant = self.reserve(len)?;
        fill(&mut grant);
        grant.commit(len);
        Ok(())
    }
}

impl Tx for mpmc::Producer {
    #[inline]
    fn send(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> slipring::Result<()> {
        let mut grant = self.reserve(len)?;
        fill(&mut grant);
        grant.commit(len);
        Ok(())
    }
}

/// A receiving end.
pub(super) trait Rx {
    /// Receives one frame, read in place by `look`. Blocks.
    fn recv<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> slipring::Result<T>;
}

impl Rx for spsc::Consumer {
    #[inline]
    fn recv<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> slipring::Result<T> {
        Ok(look(&spsc::Consumer::recv(self)?))
    }
}

impl Rx for mpmc::Consumer {
    #[inline]
    fn recv<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> slipring::Result<T> {
        Ok(look(&mpmc::Consumer::recv(self)?))
    }
}

/// What one side holds of a ring, of either kind.
pub(super) enum Either<S, M> {
    Spsc(S),
    Mpmc(M),
}

/// Both ends of an exchange, as one side holds them: it sends through one ring and receives through
/// the other.
pub(super) type Ends = Either<Box<(spsc::Producer, spsc::Consumer)>, (mpmc::Producer, mpmc::Consumer)>;

pub(super) type Sender = Either<Box<spsc::Producer>, mpmc::Producer>;

pub(super) type Receiver = Either<Box<spsc::Consumer>, mpmc::Consumer>;

pub(super) fn ends(out: &Ring, back: &Ring) -> Outcome<Ends> {
    Ok(match out.kind() {
        slipring::Kind::Mpmc => Ends::Mpmc((mpmc::Producer::attach(out)?, mpmc::Consumer::attach(back)?)),
        _ => Ends::Spsc(Box::new((spsc::Producer::attach(out)?, spsc::Consumer::attach(back)?))),
    })
}

pub(super) fn sender(ring: &Ring) -> Outcome<Sender> {
    Ok(match ring.kind() {
        slipring::Kind::Mpmc => Sender::Mpmc(mpmc::Producer::attach(ring)?),
        _ => Sender::Spsc(Box::new(spsc::Producer::attach(ring)?)),
    })
}

pub(super) fn receiver(ring: &Ring) -> Outcome<Receiver> {
    Ok(match ring.kind() {
        slipring::Kind::Mpmc => Receiver::Mpmc(mpmc::Consumer::attach(ring)?),
        _ => Receiver::Spsc(Box::new(spsc::Consumer::attach(ring)?)),
    })
}
