//! The client and the server for tasks.
//!
//! Used by programs with any executor. Relies on `client.rs` and `server.rs` for the calls, on
//! `set/tasks.rs` for the waiting.
//!
//! Tasks that share a client wait for the same lane. The reactor wakes one of them; it takes all
//! replies that are there, and wakes the tasks to which they belong.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::client::{Call, Client};
use super::server::{Pending, Server};
use super::wire::{REPLY_HEAD, REQUEST_HEAD, Wait};
use crate::error::{Error, Result};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};
use crate::wait::deadline::Deadline;

/// A [`Client`] for tasks, under any executor. Clones share it: each has calls of its own under way.
///
/// A future may be dropped at any time: the call is cancelled then, as by [`Client::cancel`]. The
/// deadline of a call tells the server until when to handle it; the executor ends the wait.
///
/// ```
/// use slipring::rpc::{self, AsyncClient, AsyncServer};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     struct Unpark(std::thread::Thread);
/// #     impl std::task::Wake for Unpark {
/// #         fn wake(self: std::sync::Arc<Self>) { self.0.unpark() }
/// #     }
/// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
/// let (client, server) = rpc::pair(1 << 16)?;
/// let (client, mut server) = (AsyncClient::new(client), AsyncServer::new(server));
/// std::thread::spawn(move || {
///     block_on(async {
///         loop {
///             let (request, call) = server.recv().await?;
///             server.reply(call, &request.to_ascii_uppercase()).await?;
///         }
///         # #[allow(unreachable_code)] Ok::<(), slipring::Error>(())
///     })
/// });
/// let reply = block_on(client.call(b"ping", slipring::Deadline::never()))?;
/// assert_eq!(reply, b"PING");
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone)]
pub struct AsyncClient(Arc<Shared>);

struct Shared {
    client: Mutex<Client>,
    /// Tasks that wait for replies, or for a server.
    replies: Tasks,
    /// Tasks that wait for room for a request.
    room: Tasks,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncClient {
    /// Takes a client. No system call.
    #[must_use]
    pub fn new(client: Client) -> Self {
        AsyncClient(Arc::new(Shared { client: Mutex::new(client), replies: Tasks::new(), room: Tasks::new() }))
    }

    /// [`Client::call`]. Waits first until there is a server.
    ///
    /// # Errors
    /// As [`Client::call`], without `Timeout`; [`Error::Unsupported`] for a transport without a
    /// descriptor to poll.
    pub async fn call(&self, request: &[u8], deadline: impl Into<Deadline>) -> Result<Vec<u8>> {
        let shared = &*self.0;
        let deadline = deadline.into();
        let mut waiting = Waiting::new(&shared.room);
        poll_fn(|cx| waiting.poll(cx, &mut Ask(shared))).await?;
        let mut waiting = Waiting::new(&shared.replies);
        poll_fn(|cx| waiting.poll(cx, &mut Welcome(shared))).await?;
        let mut waiting = Waiting::new(&shared.room);
        let call = poll_fn(|cx| waiting.poll(cx, &mut Room { shared, request, deadline })).await?;
        let under_way = UnderWay { shared, call };
        poll_fn(|cx| waiting.poll(cx, &mut Rest(shared))).await?;
        let mut waiting = Waiting::new(&shared.replies);
        poll_fn(|cx| waiting.poll(cx, &mut Reply { shared, call: &under_way.call, waker: cx.waker().clone() })).await?
    }

    /// [`Client::has_server`].
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.0.lock().has_server()
    }
}

impl std::fmt::Debug for AsyncClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncClient").field(&self.0.client).finish()
    }
}

/// A call that is cancelled with its future.
struct UnderWay<'a> {
    shared: &'a Shared,
    call: Call,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Of a call that is over, the client knows nothing any more.
        self.shared.lock().cancel_by_id(self.call.0);
    }
}

impl Shared {
    /// Room for the largest request: tasks with requests of any size wait for it.
    fn room(&self) -> Result<Readiness> {
        let mut client = self.lock();
        let len = client.max_request() + REQUEST_HEAD;
        client.requests().writable(len)
    }

    /// Takes all frames that are there. Whether there is a server then, or none can come.
    fn look_for_server(&self) -> Result<bool> {
        let mut client = self.lock();
        if client.take_all() && !client.is_served() {
            // What a predecessor left may have filled the lane, so that the welcome had no room.
            client.ask().or_else(|error| if error == Error::Full { Ok(()) } else { Err(error) })?;
        }
        let woken = client.take_woken();
        let found = match client.end_of_carrier() {
            Some(end) if !client.has_server() => Err(end),
            _ => Ok(client.is_served()),
        };
        drop(client);
        woken.into_iter().for_each(Waker::wake); // foreign code: with no lock held
        found
    }
}

/// The wait for room to ask for a welcome, unless there is a server.
struct Ask<'a>(&'a Shared);

impl Attempt for Ask<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        if self.0.look_for_server()? { Ok(()) } else { self.0.lock().ask() }
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.0.room()
    }
}

/// The wait for a server.
struct Welcome<'a>(&'a Shared);

impl Attempt for Welcome<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        if self.0.look_for_server()? { Ok(()) } else { Err(Error::Empty) }
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.0.lock().replies().readable()
    }
}

/// The wait for room for a request.
struct Room<'a> {
    shared: &'a Shared,
    request: &'a [u8],
    deadline: Deadline,
}

impl Attempt for Room<'_> {
    type Found = Call;

    fn attempt(&mut self) -> Result<Call> {
        let mut client = self.shared.lock();
        let call = client.send(self.request, self.deadline, Wait::Not)?;
        client.list(&call);
        Ok(call)
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.shared.room()
    }
}

/// The wait until a transport has taken the rest of a request.
struct Rest<'a>(&'a Shared);

impl Attempt for Rest<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        self.0.lock().requests().try_flush()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.0.room()
    }
}

/// The wait for a reply.
struct Reply<'a> {
    shared: &'a Shared,
    call: &'a Call,
    waker: Waker,
}

impl Attempt for Reply<'_> {
    type Found = Result<Vec<u8>>;

    fn attempt(&mut self) -> Result<Result<Vec<u8>>> {
        let woken = {
            let mut client = self.shared.lock();
            client.take_all();
            if let Some(outcome) = client.outcome(self.call) {
                (Some(outcome), client.take_woken())
            } else {
                client.wake(self.call, &self.waker);
                (None, client.take_woken())
            }
        };
        woken.1.into_iter().for_each(Waker::wake); // foreign code: with no lock held
        woken.0.ok_or(Error::Empty)
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.shared.lock().replies().readable()
    }
}

/// A [`Server`] for tasks, under any executor.
#[derive(Debug)]
pub struct AsyncServer {
    server: Server,
    requests: Arc<Tasks>,
}

impl AsyncServer {
    /// Takes a server. No system call.
    #[must_use]
    pub fn new(server: Server) -> Self {
        AsyncServer { server, requests: Arc::new(Tasks::new()) }
    }

    /// The next request, and the token by which it is answered: see [`AsyncServer::reply`]. The
    /// future may be dropped at any time: no request is lost.
    ///
    /// # Errors
    /// As [`Server::recv`]; [`Error::Unsupported`] for a transport without a descriptor to poll.
    pub async fn recv(&mut self) -> Result<(Vec<u8>, Pending)> {
        let AsyncServer { server, requests } = self;
        let mut waiting = Waiting::new(&**requests);
        poll_fn(|cx| waiting.poll(cx, server)).await
    }

    /// Answers a request. Waits while its client's lane is full, until the client ends. It does not
    /// block the thread. Drop the future to give the request up; over a transport, the rest of a
    /// reply that was begun is sent with the next one.
    ///
    /// # Errors
    /// As [`Server::reply`].
    pub async fn reply(&mut self, call: Pending, reply: &[u8]) -> Result<()> {
        let mut answer = Answer { server: &mut self.server, call: &call, reply: Some(reply) };
        match answer.attempt() {
            Err(Error::Full) => {}
            sent => return sent,
        }
        let tasks = Tasks::new();
        let mut waiting = Waiting::new(&tasks);
        poll_fn(|cx| waiting.poll(cx, &mut answer)).await
    }

    /// The server, for its other calls.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The server, for threads.
    #[must_use]
    pub fn into_inner(self) -> Server {
        self.server
    }
}

impl Attempt for Server {
    type Found = (Vec<u8>, Pending);

    fn attempt(&mut self) -> Result<(Vec<u8>, Pending)> {
        let mut pending = self.next(Wait::Not)?;
        self.list(&mut pending);
        Ok((self.payload().to_vec(), pending))
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.requests().readable()
    }
}

/// The wait for room for a reply, and then until a transport has taken the rest of it.
struct Answer<'a> {
    server: &'a mut Server,
    call: &'a Pending,
    /// Until it is sent.
    reply: Option<&'a [u8]>,
}

impl Attempt for Answer<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        if let Some(reply) = self.reply {
            self.server.try_reply(self.call, reply)?;
            self.reply = None;
        }
        self.server.lane(self.call).try_flush()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        let len = self.reply.map_or(0, <[u8]>::len) + REPLY_HEAD;
        self.server.lane(self.call).writable(len)
    }
}
