//! The server: takes requests from all clients, and replies to each by its lane.
//!
//! Used by programs, and by `tasks.rs`. Relies on `wire.rs`.

use std::collections::VecDeque;

use super::wire::{CANCEL, Incoming, JOIN, Outgoing, REPLY, REPLY_HEAD, REQUEST, UNANSWERED, WELCOME, Wait, split};
use crate::error::{Error, Result};
use crate::os::random;
use crate::ring::{Options, Ring, mpmc, spsc};
use crate::segment::Kind;
#[cfg(feature = "transports")]
use crate::transport::{FrameReceiver, FrameSender};
use crate::wait::deadline::Deadline;

/// The server of any number of clients: see the [module](super). Dropping it tells the clients that
/// it has closed.
#[derive(Debug)]
pub struct Server {
    requests: Incoming,
    lanes: Vec<Lane>,
    /// A random number: distinguishes this run of the server from those before.
    run: u64,
    /// Whether it waits for other clients after the end of the last one.
    goes_on: bool,
    /// The request that was received last.
    payload: Vec<u8>,
    /// Requests that were taken while others were looked for.
    backlog: VecDeque<(Pending, Vec<u8>)>,
    /// Requests that were deferred or asked about, and are neither answered nor dropped; and whether
    /// they were cancelled.
    pending: Vec<(u16, u64, bool)>,
}

#[derive(Debug)]
struct Lane {
    replies: Outgoing,
    /// Whether there was no room for the welcome.
    owes_welcome: bool,
}

/// A request that is to be answered later, by [`Server::reply`]. One that is dropped is never
/// answered: its caller waits for its deadline.
#[derive(Debug)]
#[must_use = "answer it by `Server::reply`, or drop it by `Server::refuse`"]
pub struct Pending {
    lane: u16,
    id: u64,
    deadline: Deadline,
    /// Whether it is in the server's list.
    is_listed: bool,
}

impl Pending {
    /// When its caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// A request. Dropping it without [`Request::reply`] or [`Request::defer`] tells the caller so
/// ([`Error::Unanswered`]).
#[derive(Debug)]
#[must_use = "answer it"]
pub struct Request<'a> {
    server: &'a mut Server,
    pending: Option<Pending>,
}

impl Server {
    /// Creates or opens the rings of a server for up to `clients` clients at a time: `name` for
    /// their requests, and `name.0`, `name.1`, … for the replies. `options` are those of the ring of
    /// requests: an [mpmc ring](Options::mpmc), or an [spsc ring](Options::spsc) for one client.
    ///
    /// Requests from before are dropped: their callers are told that the server they were meant for
    /// has ended.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while another server runs; otherwise as [`Ring::open_or_create`].
    pub fn open(name: &str, clients: u16, options: &Options) -> Result<Self> {
        let options = options.for_calls(clients);
        let many = match options.kind() {
            Some(Kind::Mpmc) => true,
            Some(Kind::Spsc) if clients == 1 => false,
            _ => return Err(super::KIND),
        };
        if clients == 0 {
            return Err(Error::Invalid { what: "number of clients: must be at least 1" });
        }
        // A ring of another kind is found before the lanes are created.
        match Ring::open(name, &options) {
            Ok(_) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let mut lanes = Vec::with_capacity(clients.into());
        for lane in 0..clients {
            let lane_options = options.reply_lane().fail_without_consumer(true);
            // The first lane excludes a second server.
            let replies = spsc::Producer::open(&super::lane_name(name, lane), &lane_options)?;
            lanes.push(Lane { replies: Outgoing::Spsc(replies), owes_welcome: false });
        }
        let requests = if many {
            Incoming::Mpmc(mpmc::Consumer::open(name, &options)?)
        } else {
            Incoming::Spsc(spsc::Consumer::open(name, &options)?)
        };
        Ok(Server { goes_on: true, ..Self::over(requests, lanes)? })
    }

    /// Unlinks the names of a server's rings.
    ///
    /// # Errors
    /// As [`Ring::remove`]; [`Error::NotFound`] if there are none.
    pub fn remove(name: &str, options: &Options) -> Result<()> {
        Ring::remove(name, options)?;
        let lane_options = options.reply_lane();
        for lane in 0..u16::MAX {
            match Ring::remove(&super::lane_name(name, lane), &lane_options) {
                Err(Error::NotFound) => break,
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Takes the other ends of the rings of [`Client::from_rings`](super::Client::from_rings).
    /// Requests from before are dropped.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn from_rings(requests: spsc::Consumer, replies: spsc::Producer) -> Result<Self> {
        let lane = Lane { replies: Outgoing::Spsc(replies), owes_welcome: false };
        Self::over(Incoming::Spsc(requests), vec![lane])
    }

    /// Takes both ends of a transport: a server of one client.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a transport that may lose frames.
    #[cfg(feature = "transports")]
    pub fn from_transport(requests: Box<dyn FrameReceiver>, replies: Box<dyn FrameSender>) -> Result<Self> {
        let lane = Lane { replies: Outgoing::wire(replies)?, owes_welcome: false };
        Self::over(Incoming::wire(requests)?, vec![lane])
    }

    fn over(requests: Incoming, lanes: Vec<Lane>) -> Result<Self> {
        let run = random::number().map_err(|e| Error::io("get a random number", e))?;
        let (payload, backlog, pending) = (Vec::new(), VecDeque::new(), Vec::new());
        let mut server = Server { requests, lanes, run, goes_on: false, payload, backlog, pending };
        if server.requests.is_ring() {
            server.drop_old_requests()?;
            (0..server.lanes.len()).for_each(|lane| server.welcome(lane as u16));
        }
        Ok(server)
    }

    /// The largest reply in bytes.
    #[must_use]
    pub fn max_reply(&self) -> usize {
        self.lanes.iter().map(|lane| lane.replies.max_payload(REPLY_HEAD)).min().unwrap_or(0)
    }

    /// Waits for the next request. Those whose deadline has passed, and those that were cancelled
    /// before they were taken, are skipped.
    ///
    /// # Errors
    /// [`Error::Closed`] or [`Error::PeerDead`] when the client of a pair or of a transport has
    /// ended. [`Error::Cancelled`], [`Error::Corrupt`], [`Error::Io`].
    #[inline]
    pub fn recv(&mut self) -> Result<Request<'_>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Server::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Server::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<Request<'_>> {
        let pending = self.next(Wait::Until(deadline.into()))?;
        Ok(Request { server: self, pending: Some(pending) })
    }

    /// The next request, if there is one.
    ///
    /// # Errors
    /// As [`Server::recv`], and [`Error::Empty`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Request<'_>> {
        let pending = self.next(Wait::Not)?;
        Ok(Request { server: self, pending: Some(pending) })
    }

    /// Ends the waiting calls from another thread, where requests come by a ring.
    #[must_use]
    pub fn canceller(&self) -> Option<crate::Canceller> {
        self.requests.canceller()
    }

    /// Answers a request that was deferred. Waits for room in its client's lane until the request's
    /// deadline, or the client's end.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`] or [`Error::NoConsumer`] if the client has ended;
    /// [`Error::TooLarge`] above [`Server::max_reply`], and the caller is told that it gets none;
    /// [`Error::Timeout`].
    #[inline]
    pub fn reply(&mut self, pending: Pending, reply: &[u8]) -> Result<()> {
        self.forget(&pending);
        self.answer(pending.lane, pending.id, reply, Wait::Until(pending.deadline))
    }

    /// Sends a reply; if it is too large, the caller is told that there is none.
    #[inline]
    fn answer(&mut self, lane: u16, id: u64, reply: &[u8], wait: Wait) -> Result<()> {
        let sent = self.send(REPLY, lane, id, reply, wait);
        if let Err(Error::TooLarge { .. }) = sent {
            let _ = self.send(UNANSWERED, lane, id, &[], Wait::Not);
        }
        sent
    }

    /// Tells the caller of a deferred request that it gets no answer ([`Error::Unanswered`]).
    pub fn refuse(&mut self, pending: Pending) {
        self.forget(&pending);
        let _ = self.send(UNANSWERED, pending.lane, pending.id, &[], Wait::Not);
    }

    /// Whether the caller of a deferred request has cancelled it, or its deadline has passed. Takes
    /// what the clients have sent meanwhile.
    pub fn is_cancelled(&mut self, pending: &Pending) -> bool {
        let kept = std::mem::take(&mut self.payload);
        while let Ok(next) = self.take(Wait::Not) {
            let payload = std::mem::take(&mut self.payload);
            self.backlog.extend(next.map(|next| (next, payload)));
        }
        self.payload = kept;
        let key = (pending.lane, pending.id, true);
        pending.deadline.has_passed() || self.pending.contains(&key)
    }

    #[inline]
    pub(super) fn next(&mut self, wait: Wait) -> Result<Pending> {
        loop {
            let taken = if self.backlog.is_empty() { self.take(wait) } else { Ok(self.take_from_backlog()) };
            match taken {
                Ok(Some(pending)) if pending.deadline.has_passed() => {}
                Ok(Some(pending)) => return Ok(pending),
                Ok(None) => {}
                Err(Error::Closed | Error::PeerDead) if self.goes_on => match wait {
                    Wait::Not => return Err(Error::Empty),
                    Wait::Until(deadline) => self.requests.wait_for_peer(deadline)?,
                },
                Err(error) => return Err(error),
            }
        }
    }

    fn take_from_backlog(&mut self) -> Option<Pending> {
        let (pending, payload) = self.backlog.pop_front()?;
        self.payload = payload;
        Some(pending)
    }

    /// Takes a frame: a request, whose payload it keeps, or another one.
    #[inline]
    fn take(&mut self, wait: Wait) -> Result<Option<Pending>> {
        let Server { requests, payload, .. } = self;
        let (kind, lane, id, deadline) = requests.take(wait, |header, bytes| {
            let [id, deadline] = match header.kind {
                REQUEST => {
                    let (head, request) = split::<2>(bytes)?;
                    payload.clear();
                    payload.extend_from_slice(request);
                    head
                }
                CANCEL => [split::<1>(bytes)?.0[0], 0],
                _ => [0, 0],
            };
            Ok((header.kind, header.stream, id, deadline))
        })??;
        if usize::from(lane) >= self.lanes.len() {
            return Err(Error::Corrupt { what: "request: its reply lane does not exist" });
        }
        if kind == REQUEST {
            return Ok(Some(Pending { lane, id, deadline: Deadline::from_ns(deadline), is_listed: false }));
        }
        self.note(kind, lane, id);
        Ok(None)
    }

    /// Notes a frame that is no request.
    #[inline(never)]
    fn note(&mut self, kind: u16, lane: u16, id: u64) {
        match kind {
            CANCEL => {
                let waiting = self.backlog.iter().position(|(one, _)| (one.lane, one.id) == (lane, id));
                if let Some(at) = waiting {
                    self.backlog.remove(at);
                } else if let Some(one) = self.pending.iter_mut().find(|one| (one.0, one.1) == (lane, id)) {
                    one.2 = true;
                }
            }
            JOIN => self.welcome(lane),
            _ => {}
        }
    }

    /// Lists a request, so that its cancellation is noted.
    pub(super) fn list(&mut self, pending: &mut Pending) {
        if !pending.is_listed {
            pending.is_listed = true;
            self.pending.push((pending.lane, pending.id, false));
        }
    }

    #[inline]
    fn forget(&mut self, pending: &Pending) {
        if pending.is_listed {
            self.pending.retain(|one| (one.0, one.1) != (pending.lane, pending.id));
        }
    }

    /// Drops what was sent before this server started.
    fn drop_old_requests(&mut self) -> Result<()> {
        loop {
            match self.requests.take(Wait::Not, |_, _| ()) {
                Ok(()) => {}
                Err(Error::Empty | Error::Closed | Error::PeerDead) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the client of a lane which run of the server this is. A lane without a client needs no
    /// welcome: its next client asks for one.
    fn welcome(&mut self, lane: u16) {
        let run = self.run;
        let lane = &mut self.lanes[usize::from(lane)];
        lane.owes_welcome = lane.welcome(run, Wait::Not) == Err(Error::Full);
    }

    #[inline]
    fn send(&mut self, kind: u16, lane: u16, id: u64, payload: &[u8], wait: Wait) -> Result<()> {
        let Server { lanes, run, .. } = self;
        let lane = &mut lanes[usize::from(lane)];
        let max = lane.replies.max_payload(REPLY_HEAD);
        if payload.len() > max {
            return Err(Error::TooLarge { max });
        }
        if lane.owes_welcome {
            lane.welcome(*run, wait)?;
            lane.owes_welcome = false;
        }
        lane.replies.send(kind, 0, [id], payload, wait)
    }
}

impl Lane {
    fn welcome(&mut self, run: u64, wait: Wait) -> Result<()> {
        let membership = self.replies.membership();
        self.replies.send(WELCOME, 0, [run, membership], &[], wait)
    }
}

impl Request<'_> {
    /// The request.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.server.payload
    }

    /// When its caller stops waiting: [`Deadline::never`] over a network.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.pending.as_ref().map_or(Deadline::never(), Pending::deadline)
    }

    /// Answers it. Waits for room in its client's lane until the deadline, or the client's end.
    ///
    /// # Errors
    /// As [`Server::reply`]. The next requests are not affected.
    #[inline]
    pub fn reply(mut self, reply: &[u8]) -> Result<()> {
        match self.pending.take() {
            Some(pending) => self.server.reply(pending, reply),
            None => Ok(()),
        }
    }

    /// Takes the token by which it is answered later, so that other requests can be received
    /// before. The payload is that of the next request then: copy it.
    ///
    /// ```
    /// let (mut client, mut server) = slipring::rpc::pair(1 << 16)?;
    /// let never = slipring::Deadline::never();
    /// let server = std::thread::spawn(move || {
    ///     let first = server.recv()?.defer();
    ///     server.recv()?.reply(b"second")?;
    ///     server.reply(first, b"first")
    /// });
    /// let (one, two) = (client.start(b"1", never)?, client.start(b"2", never)?);
    /// assert_eq!(client.finish(two, never)?, b"second");
    /// assert_eq!(client.finish(one, never)?, b"first");
    /// server.join().unwrap()?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn defer(mut self) -> Pending {
        // It is there until `reply` or `defer`, which take the request.
        let none = Pending { lane: 0, id: 0, deadline: Deadline::from_ns(0), is_listed: true };
        let mut pending = self.pending.take().unwrap_or(none);
        self.server.list(&mut pending);
        pending
    }

    /// Whether its caller has cancelled it, or its deadline has passed: for a handler that takes
    /// long. Takes what the clients have sent meanwhile.
    pub fn is_cancelled(&mut self) -> bool {
        let Request { server, pending } = self;
        pending.as_mut().is_some_and(|pending| {
            server.list(pending);
            server.is_cancelled(pending)
        })
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.server.refuse(pending);
        }
    }
}

#[cfg(feature = "async")]
impl Server {
    /// The request that was received last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn requests(&self) -> &Incoming {
        &self.requests
    }

    pub(super) fn lane(&mut self, pending: &Pending) -> &mut Outgoing {
        &mut self.lanes[usize::from(pending.lane)].replies
    }

    /// Answers a request if there is room, and forgets it then.
    pub(super) fn try_reply(&mut self, pending: &Pending, reply: &[u8]) -> Result<()> {
        let sent = self.answer(pending.lane, pending.id, reply, Wait::Not);
        if sent != Err(Error::Full) {
            self.forget(pending);
        }
        sent
    }
}
