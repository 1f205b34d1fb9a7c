//! The client: sends requests, and finds the reply of each.
//!
//! Used by programs, and by `tasks.rs`. Relies on `wire.rs`.

use std::task::Waker;

use super::wire::{CANCEL, Incoming, JOIN, Outgoing, REPLY, REQUEST, REQUEST_HEAD, UNANSWERED, WELCOME, Wait, split};
use crate::error::{Error, Result};
use crate::os::random;
use crate::ring::{Options, Ring, mpmc, spsc};
use crate::segment::Kind;
#[cfg(feature = "transports")]
use crate::transport::{FrameReceiver, FrameSender};
use crate::wait::deadline::Deadline;

/// How often a client that waits for a server asks again whether there is one.
const ASK: std::time::Duration = std::time::Duration::from_millis(10);

/// A call that was started. Finish or cancel it; one that is neither stays in the client's list.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "finish or cancel it"]
pub struct Call(pub(super) u64);

/// The client of a server: see the [module](super).
///
/// It is for one thread at a time. Several calls may be under way at once
/// ([`Client::start`], [`Client::finish`]). For tasks there is `AsyncClient`.
#[derive(Debug)]
pub struct Client {
    requests: Outgoing,
    replies: Incoming,
    lane: u16,
    /// Of the next call. Begins at a random number, so that what a predecessor on this lane left is
    /// not taken for an answer.
    next: u64,
    /// The run of the server that has welcomed us, while it lives.
    server: Option<u64>,
    /// The membership of the lane when the server sent its last welcome.
    welcomed_at: u64,
    calls: Vec<Started>,
    /// The reply that was finished last.
    reply: Vec<u8>,
    /// Buffers of earlier replies.
    spare: Vec<Vec<u8>>,
    /// Tasks whose calls have an outcome, to be woken.
    woken: Vec<Waker>,
    /// How a transport ended, after which there is no other server.
    end: Option<Error>,
}

#[derive(Debug)]
struct Started {
    id: u64,
    outcome: Option<Result<Vec<u8>>>,
    waker: Option<Waker>,
}

impl Client {
    /// Opens the rings of the server `name`: takes a free reply lane, and asks the server for a
    /// welcome. The server must have been started once, to create the rings; it need not run now.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no server has created the rings; [`Error::TooManyParticipants`] if all
    /// lanes are taken; otherwise as [`Ring::open`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        let ring = Ring::open(name, options)?;
        let lane_options = options.reply_lane();
        let mut lane = 0;
        let replies = loop {
            let attached =
                Ring::open(&super::lane_name(name, lane), &lane_options).and_then(|ring| spsc::Consumer::attach(&ring));
            match attached {
                Ok(replies) => break replies,
                Err(Error::RoleTaken { .. }) => lane += 1,
                Err(Error::NotFound) if lane > 0 => return Err(Error::TooManyParticipants { max: lane.into() }),
                Err(error) => return Err(error),
            }
        };
        let requests = match ring.kind() {
            Kind::Mpmc => Outgoing::Mpmc(mpmc::Producer::attach(&ring)?),
            Kind::Spsc => Outgoing::Spsc(spsc::Producer::attach(&ring)?),
            _ => return Err(super::KIND),
        };
        Self::over(requests, Incoming::Spsc(replies), lane)
    }

    /// Takes the ends of a pair of rings: one for requests, one for replies. The server has the
    /// other ends.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn from_rings(requests: spsc::Producer, replies: spsc::Consumer) -> Result<Self> {
        Self::over(Outgoing::Spsc(requests), Incoming::Spsc(replies), 0)
    }

    /// Takes both ends of a transport that loses nothing, for example of
    /// [`Endpoint::open_duplex`](crate::endpoint::Endpoint::open_duplex).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a transport that may lose frames.
    #[cfg(feature = "transports")]
    pub fn from_transport(requests: Box<dyn FrameSender>, replies: Box<dyn FrameReceiver>) -> Result<Self> {
        Self::over(Outgoing::wire(requests)?, Incoming::wire(replies)?, 0)
    }

    fn over(requests: Outgoing, replies: Incoming, lane: u16) -> Result<Self> {
        let next = random::number().map_err(|e| Error::io("get a random number", e))?;
        Ok(Client {
            requests,
            replies,
            lane,
            next,
            server: None,
            welcomed_at: 0,
            calls: Vec::new(),
            reply: Vec::new(),
            spare: Vec::new(),
            woken: Vec::new(),
            end: None,
        })
    }

    /// The largest request in bytes.
    #[must_use]
    pub fn max_request(&self) -> usize {
        self.requests.max_payload(REQUEST_HEAD)
    }

    /// Sends a request and waits for its reply. Waits first until there is a server. No allocation
    /// once the buffers have grown.
    ///
    /// # Errors
    /// As [`Client::start`] and [`Client::finish`]. The call has been cancelled if it is
    /// [`Error::Timeout`].
    ///
    /// ```
    /// use slipring::rpc;
    /// use std::time::Duration;
    /// let (mut client, mut server) = rpc::pair(1 << 16)?;
    /// std::thread::spawn(move || -> slipring::Result<()> {
    ///     loop {
    ///         let request = server.recv()?;
    ///         let upper = request.payload().to_ascii_uppercase();
    ///         request.reply(&upper)?;
    ///     }
    /// });
    /// assert_eq!(client.call(b"ping", Duration::from_secs(10))?, b"PING");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn call(&mut self, request: &[u8], deadline: impl Into<Deadline>) -> Result<&[u8]> {
        let deadline = deadline.into();
        let call = self.send_when_served(request, deadline)?;
        // The next frame is most often its reply: then the call needs no place in the list.
        match self.step(Wait::Until(deadline), Some(&call)) {
            Ok(true) => Ok(&self.reply),
            step => self.wait_on(call, deadline, step),
        }
    }

    /// Sends a request, and does not wait for its reply. Waits until there is a server, and room.
    /// The server skips the request if it has not taken it by the deadline.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`Client::max_request`]; [`Error::Timeout`] if there is no server or
    /// no room; [`Error::Closed`] or [`Error::PeerDead`] if the server ended while the request
    /// waited for room, or over a transport.
    #[inline]
    pub fn start(&mut self, request: &[u8], deadline: impl Into<Deadline>) -> Result<Call> {
        let call = self.send_when_served(request, deadline.into())?;
        self.list(&call);
        Ok(call)
    }

    #[inline]
    fn send_when_served(&mut self, request: &[u8], deadline: Deadline) -> Result<Call> {
        if !self.is_served() {
            self.find_server(deadline)?;
        }
        self.send(request, deadline, Wait::Until(deadline))
    }

    /// Waits for the reply of a call. Replies of other calls that arrive meanwhile are kept for
    /// them. A call that is too late is cancelled.
    ///
    /// # Errors
    /// [`Error::PeerDead`] or [`Error::Closed`] as soon as the server has ended: it may have handled
    /// the request or not. [`Error::Timeout`]; [`Error::Unanswered`] if the server dropped the
    /// request; [`Error::Cancelled`] by a [`Canceller`](crate::Canceller).
    ///
    /// ```
    /// let (mut client, mut server) = slipring::rpc::pair(1 << 16)?;
    /// let server = std::thread::spawn(move || {
    ///     for _ in 0..2 {
    ///         let request = server.recv()?;
    ///         let reply = [request.payload(), b"!"].concat();
    ///         request.reply(&reply)?;
    ///     }
    ///     Ok::<(), slipring::Error>(())
    /// });
    /// let never = slipring::Deadline::never();
    /// let (first, second) = (client.start(b"one", never)?, client.start(b"two", never)?);
    /// assert_eq!(client.finish(second, never)?, b"two!");
    /// assert_eq!(client.finish(first, never)?, b"one!");
    /// server.join().unwrap()?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn finish(&mut self, call: Call, deadline: impl Into<Deadline>) -> Result<&[u8]> {
        let deadline = deadline.into();
        match self.outcome(&call) {
            Some(outcome) => self.show(outcome),
            None => self.wait_on(call, deadline, Ok(false)),
        }
    }

    /// Waits for the reply of a call whose wait has begun with `step`.
    #[inline(never)]
    fn wait_on(&mut self, call: Call, deadline: Deadline, mut step: Result<bool>) -> Result<&[u8]> {
        loop {
            match step {
                Ok(true) => {
                    self.forget(call.0);
                    return Ok(&self.reply);
                }
                Ok(false) => {}
                Err(error @ (Error::Closed | Error::PeerDead)) => {
                    self.list(&call);
                    self.server_ended(&error);
                }
                Err(error) => {
                    self.list(&call);
                    self.cancel(call);
                    return Err(error);
                }
            }
            if let Some(outcome) = self.outcome(&call) {
                return self.show(outcome);
            }
            step = self.step(Wait::Until(deadline), Some(&call));
        }
    }

    /// Keeps a reply that came while others were waited for, until the next one.
    fn show(&mut self, outcome: Result<Vec<u8>>) -> Result<&[u8]> {
        let reply = std::mem::replace(&mut self.reply, outcome?);
        self.spare.push(reply);
        Ok(&self.reply)
    }

    /// Cancels a call: its reply is discarded, and the server is told, if there is room.
    pub fn cancel(&mut self, call: Call) {
        self.cancel_by_id(call.0);
    }

    pub(super) fn cancel_by_id(&mut self, id: u64) {
        if self.forget(id) {
            let _ = self.requests.send(CANCEL, self.lane, [id], &[], Wait::Not);
        }
    }

    /// Whether a server has welcomed this client, and has not ended since as far as it knows.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// Ends the waiting calls from another thread, where replies come by a ring.
    #[must_use]
    pub fn canceller(&self) -> Option<crate::Canceller> {
        self.replies.canceller()
    }

    #[inline]
    pub(super) fn send(&mut self, request: &[u8], deadline: Deadline, wait: Wait) -> Result<Call> {
        let max = self.max_request();
        if request.len() > max {
            return Err(Error::TooLarge { max });
        }
        let id = self.next;
        let until = if self.requests.is_local() { deadline.as_ns() } else { Deadline::never().as_ns() };
        self.requests.send(REQUEST, self.lane, [id, until], request, wait)?;
        self.next = id.wrapping_add(1);
        Ok(Call(id))
    }

    /// Lists a call, so that its outcome is kept.
    pub(super) fn list(&mut self, call: &Call) {
        list(&mut self.calls, call);
    }

    /// Whether the server that welcomed this client is still the one that is there.
    #[inline]
    pub(super) fn is_served(&self) -> bool {
        self.server.is_some() && self.replies.is_unchanged(self.welcomed_at)
    }

    /// Takes what the server sent before its end, and waits until there is one.
    #[inline(never)]
    fn find_server(&mut self, deadline: Deadline) -> Result<()> {
        self.take_all();
        while !self.is_served() {
            self.wait_for_server(deadline)?;
        }
        Ok(())
    }

    /// Asks for a welcome, and waits for it for a while.
    fn wait_for_server(&mut self, deadline: Deadline) -> Result<()> {
        self.replies.wait_for_peer(deadline)?;
        match self.ask() {
            Ok(()) | Err(Error::Full) => {}
            Err(error) => return Err(error),
        }
        match self.step(Wait::Until(deadline.min(Deadline::after(ASK))), None) {
            Ok(_) => Ok(()),
            Err(Error::Timeout) if !deadline.has_passed() => Ok(()),
            Err(error @ (Error::Closed | Error::PeerDead)) if self.replies.is_ring() => {
                self.server_ended(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the server for a welcome, if there is room. A server that starts later welcomes all
    /// lanes without being asked.
    pub(super) fn ask(&mut self) -> Result<()> {
        match self.requests.send(JOIN, self.lane, [], &[], Wait::Not) {
            Err(Error::Closed | Error::PeerDead | Error::NoConsumer) => Ok(()),
            asked => asked,
        }
    }

    /// Takes all frames that are there, and returns whether there were any.
    pub(super) fn take_all(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.step(Wait::Not, None) {
                Ok(_) => any = true,
                Err(error @ (Error::Closed | Error::PeerDead)) => {
                    self.server_ended(&error);
                    return any;
                }
                Err(_) => return any,
            }
        }
    }

    /// Takes a frame. The reply to the call `awaited` goes into `self.reply`, and the result is true.
    /// Any other frame is noted in the list, which has the call from then on.
    #[inline]
    fn step(&mut self, wait: Wait, awaited: Option<&Call>) -> Result<bool> {
        let Client { replies, reply, calls, server, spare, woken, .. } = self;
        let taken = replies.take(wait, |header, payload| {
            let ([word], rest) = split::<1>(payload)?;
            if header.kind == REPLY && awaited.is_some_and(|call| call.0 == word) {
                reply.clear();
                reply.extend_from_slice(rest);
                return Ok(Taken::Awaited);
            }
            if let Some(call) = awaited {
                list(calls, call);
            }
            note(header.kind, word, rest, calls, server, spare, woken)
        })??;
        if let Taken::Welcome { membership } = taken {
            self.welcomed_at = membership;
        }
        Ok(matches!(taken, Taken::Awaited))
    }

    pub(super) fn server_ended(&mut self, how: &Error) {
        self.server = None;
        if !self.replies.is_ring() {
            self.end = Some(same(how));
        }
        end_all(&mut self.calls, how, &mut self.woken);
    }

    /// The outcome of a call, which is over then.
    pub(super) fn outcome(&mut self, call: &Call) -> Option<Result<Vec<u8>>> {
        match self.calls.iter().position(|one| one.id == call.0) {
            Some(at) if self.calls[at].outcome.is_some() => self.calls.swap_remove(at).outcome,
            Some(_) => None,
            None => Some(Err(Error::Invalid { what: "call: it is not one of this client's" })),
        }
    }

    /// Forgets a call; returns whether it has no outcome yet.
    #[inline]
    fn forget(&mut self, id: u64) -> bool {
        let at = self.calls.iter().position(|one| one.id == id);
        at.is_some_and(|at| self.calls.swap_remove(at).outcome.is_none())
    }
}

#[cfg(feature = "async")]
impl Client {
    /// Has `waker` woken when the call has an outcome.
    pub(super) fn wake(&mut self, call: &Call, waker: &Waker) {
        if let Some(one) = self.calls.iter_mut().find(|one| one.id == call.0) {
            one.waker = Some(waker.clone());
        }
    }

    /// The tasks to wake.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    /// How the transport ended.
    pub(super) fn end_of_carrier(&self) -> Option<Error> {
        self.end.as_ref().map(same)
    }

    pub(super) fn replies(&self) -> &Incoming {
        &self.replies
    }

    pub(super) fn requests(&mut self) -> &mut Outgoing {
        &mut self.requests
    }
}

impl Started {
    fn end(&mut self, outcome: Result<Vec<u8>>, woken: &mut Vec<Waker>) {
        self.outcome = Some(outcome);
        woken.extend(self.waker.take());
    }
}

/// Lists a call, unless it is in the list.
fn list(calls: &mut Vec<Started>, call: &Call) {
    if calls.iter().all(|one| one.id != call.0) {
        calls.push(Started { id: call.0, outcome: None, waker: None });
    }
}

/// What a frame was.
enum Taken {
    /// The awaited reply.
    Awaited,
    Welcome {
        membership: u64,
    },
    Other,
}

/// Notes a frame that is not the awaited reply.
#[inline(never)]
fn note(
    kind: u16,
    word: u64,
    rest: &[u8],
    calls: &mut [Started],
    server: &mut Option<u64>,
    spare: &mut Vec<Vec<u8>>,
    woken: &mut Vec<Waker>,
) -> Result<Taken> {
    let known = || calls.iter().position(|call| call.id == word && call.outcome.is_none());
    match kind {
        REPLY => {
            if let Some(at) = known() {
                let mut reply = spare.pop().unwrap_or_default();
                reply.clear();
                reply.extend_from_slice(rest);
                calls[at].end(Ok(reply), woken);
            }
        }
        UNANSWERED => {
            if let Some(at) = known() {
                calls[at].end(Err(Error::Unanswered), woken);
            }
        }
        WELCOME => {
            let ([membership], _) = split::<1>(rest)?;
            if *server != Some(word) {
                // Another run of the server: the one before had these requests, or may have.
                *server = Some(word);
                end_all(calls, &Error::PeerDead, woken);
            }
            return Ok(Taken::Welcome { membership });
        }
        _ => {}
    }
    Ok(Taken::Other)
}

fn end_all(calls: &mut [Started], how: &Error, woken: &mut Vec<Waker>) {
    for call in calls.iter_mut().filter(|call| call.outcome.is_none()) {
        call.end(Err(same(how)), woken);
    }
}

/// An end once more, for another call.
fn same(how: &Error) -> Error {
    match how {
        Error::Closed => Error::Closed,
        _ => Error::PeerDead,
    }
}
