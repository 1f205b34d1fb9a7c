//! Calls: a client sends a request, a server answers it.
//!
//! Used by C programs. Relies on `table.rs`. Requests are answered by number, so several may be
//! open at a time.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use slipring::rpc::{self, Call, Pending};
use slipring::{Canceller, Deadline, Options};

use crate::arguments::{Given, SLIPRING_ANY, SLIPRING_MPMC, Wait, bytes, out, slipring_options};
use crate::error::{Failure, SLIPRING_ENOTHELD, count, opened, status};
use crate::handle::unsupported;
use crate::producer::is_endpoint;
use crate::table::{self, Object};

/// Sends requests and finds the reply of each.
pub struct slipring_client(());

/// Takes requests and answers them.
pub struct slipring_server(());

struct Client {
    client: rpc::Client,
    calls: Vec<(i64, Call)>,
    next: i64,
}

struct Server {
    server: rpc::Server,
    open: Vec<(i64, Pending)>,
    next: i64,
}

// SAFETY: the type's number is its alone.
unsafe impl Object for Client {
    const TYPE: u8 = 14;
}

// SAFETY: the same.
unsafe impl Object for Server {
    const TYPE: u8 = 15;
}

pub(crate) fn close(handle: *const c_void) -> Option<Result<(), Failure>> {
    match table::type_of(handle) {
        Client::TYPE => Some(table::close::<Client>(handle)),
        Server::TYPE => Some(table::close::<Server>(handle)),
        _ => None,
    }
}

pub(crate) fn canceller(handle: *const c_void) -> Option<Result<Canceller, Failure>> {
    match table::type_of(handle) {
        Client::TYPE => {
            Some(table::with(handle, |client: &mut Client| client.client.canceller().ok_or_else(unsupported)))
        }
        Server::TYPE => {
            Some(table::with(handle, |server: &mut Server| server.server.canceller().ok_or_else(unsupported)))
        }
        _ => None,
    }
}

/// Requests go over an mpmc ring by default.
pub(crate) fn ring_options(options: &Given<'_>) -> Result<Options, Failure> {
    let kind = if options.raw.kind == SLIPRING_ANY { SLIPRING_MPMC } else { options.raw.kind };
    options.expect_for(kind)?;
    options.ring(kind)
}

/// Opens a client of the server `name`, which must have been started once; or of a server behind an
/// endpoint of two directions, such as "unix:/run/user/1000/app.sock". `options` as the server's:
/// an mpmc ring (the default), or SLIPRING_SPSC for one client; calls have no `message_type`.
/// Errors as for slipring_producer_open(); -SLIPRING_ETOOMANY if all reply lanes are taken.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_client_open(
    name: *const c_char,
    options: *const slipring_options,
    client: *mut *mut slipring_client,
) -> c_int {
    opened(client, || {
        let options = Given::new(options)?;
        options.expect_untyped()?;
        let client = match options.name(name)?.ok_or(Failure::NULL)? {
            endpoint if is_endpoint(endpoint) => {
                let (sender, receiver) = options.duplex(name)?;
                rpc::Client::from_transport(sender, receiver)?
            }
            name => rpc::Client::open(name, &ring_options(&options)?)?,
        };
        table::insert(Client { client, calls: Vec::new(), next: 1 })
    })
}

/// Sends a request and waits for its reply, which is at `*reply` until the next call on the client,
/// with `*reply_len` bytes. Waits first until there is a server, as slipring_call_start().
///
/// Returns 0; -SLIPRING_EPEERDEAD or -SLIPRING_EPIPE as soon as the server has ended: it may have
/// handled the request or not, and the library does not repeat it; -SLIPRING_ETIMEDOUT, after which
/// the request is cancelled; -SLIPRING_EUNANSWERED; -SLIPRING_EMSGSIZE; -SLIPRING_ECANCELED. A
/// `timeout_ns` of 0 has passed at once: pass a positive one, or a negative one for no limit.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_call(
    client: *mut slipring_client,
    request: *const c_void,
    len: usize,
    reply: *mut *const c_void,
    reply_len: *mut usize,
    timeout_ns: i64,
) -> c_int {
    status(table::with(client.cast(), |client: &mut Client| {
        let (reply, reply_len) = no_reply(reply, reply_len)?;
        let got = client.client.call(bytes(request, len)?, Wait::of(timeout_ns).deadline())?;
        (*reply, *reply_len) = (got.as_ptr().cast(), got.len());
        Ok(0)
    }))
}

fn no_reply<'a>(reply: *mut *const c_void, len: *mut usize) -> Result<(&'a mut *const c_void, &'a mut usize), Failure> {
    let (reply, len) = (out(reply)?, out(len)?);
    (*reply, *len) = (ptr::null(), 0);
    Ok((reply, len))
}

/// Sends a request and does not wait for its reply. Waits first, up to `timeout_ns`, until a server
/// has answered from within slipring_server_recv(), which it does once (so the client needs a
/// thread of its own), and until there is room. The server skips the request if it comes to it
/// after `timeout_ns`. Returns the number of the call, from 1, for slipring_call_finish() or
/// slipring_call_cancel(); errors as for slipring_call().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_call_start(
    client: *mut slipring_client,
    request: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> i64 {
    count(table::with(client.cast(), |client: &mut Client| {
        let call = client.client.start(bytes(request, len)?, Wait::of(timeout_ns).deadline())?;
        let number = client.next;
        client.next += 1;
        client.calls.push((number, call));
        Ok(number)
    }))
}

impl Client {
    fn take(&mut self, number: i64) -> Result<Call, Failure> {
        let at = self.calls.iter().position(|call| call.0 == number).ok_or(NO_CALL)?;
        Ok(self.calls.swap_remove(at).1)
    }
}

const NO_CALL: Failure =
    Failure::Told(SLIPRING_ENOTHELD, c"no call or request of that number is open: it was finished already");

/// Waits for the reply of a call. Whatever it returns, the call has ended. Otherwise as
/// slipring_call().
#[unsafe(no_mangle)]
pub extern "C" fn slipring_call_finish(
    client: *mut slipring_client,
    call: i64,
    reply: *mut *const c_void,
    reply_len: *mut usize,
    timeout_ns: i64,
) -> c_int {
    status(table::with(client.cast(), |client: &mut Client| {
        let (reply, reply_len) = no_reply(reply, reply_len)?;
        let call = client.take(call)?;
        let got = client.client.finish(call, Wait::of(timeout_ns).deadline())?;
        (*reply, *reply_len) = (got.as_ptr().cast(), got.len());
        Ok(0)
    }))
}

/// Cancels a call: its reply is discarded, and the server is told.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_call_cancel(client: *mut slipring_client, call: i64) -> c_int {
    status(table::with(client.cast(), |client: &mut Client| {
        let call = client.take(call)?;
        client.client.cancel(call);
        Ok(0)
    }))
}

/// Opens a server for up to `clients` clients at a time: creates its rings, `name` for requests and
/// one for each reply lane, or opens them. Or a server for the one client of an endpoint of two
/// directions. -SLIPRING_EROLETAKEN while another server runs.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_server_open(
    name: *const c_char,
    clients: u16,
    options: *const slipring_options,
    server: *mut *mut slipring_server,
) -> c_int {
    opened(server, || {
        let options = Given::new(options)?;
        options.expect_untyped()?;
        let server = match options.name(name)?.ok_or(Failure::NULL)? {
            endpoint if is_endpoint(endpoint) => {
                let (sender, receiver) = options.duplex(name)?;
                rpc::Server::from_transport(receiver, sender)?
            }
            name => rpc::Server::open(name, clients, &ring_options(&options)?)?,
        };
        table::insert(Server { server, open: Vec::new(), next: 1 })
    })
}

/// A request that a server received.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_request {
    /// Its number, for slipring_reply().
    pub id: i64,
    /// Its payload, until the next call of slipring_server_recv().
    pub data: *const c_void,
    /// Bytes of the payload.
    pub len: usize,
    /// Nanoseconds until its caller stops waiting; INT64_MAX for no limit.
    pub remaining_ns: i64,
}

/// Receives a request: answer it by its number, now or after others, with slipring_reply() or
/// slipring_refuse(). Time-outs and errors as for slipring_recv(). Requests of which the caller has
/// gone, or whose time has passed, are skipped.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_server_recv(
    server: *mut slipring_server,
    request: *mut slipring_request,
    timeout_ns: i64,
) -> c_int {
    status(table::with(server.cast(), |server: &mut Server| {
        let request = out(request)?;
        let got = match Wait::of(timeout_ns) {
            Wait::Not => server.server.try_recv()?,
            Wait::Forever => server.server.recv()?,
            Wait::Until(deadline) => server.server.recv_deadline(deadline)?,
        };
        let remaining_ns = match got.deadline() {
            deadline if deadline == Deadline::never() => i64::MAX,
            deadline => i64::try_from(deadline.remaining().as_nanos()).unwrap_or(i64::MAX),
        };
        // The server keeps the payload until it takes the next request.
        let (data, len) = (got.payload().as_ptr().cast(), got.payload().len());
        let pending = got.defer();
        let id = server.next;
        server.next += 1;
        server.open.push((id, pending));
        *request = slipring_request { id, data, len, remaining_ns };
        Ok(0)
    }))
}

impl Server {
    fn take(&mut self, id: i64) -> Result<Pending, Failure> {
        Ok(self.open.swap_remove(self.find(id)?).1)
    }

    fn find(&self, id: i64) -> Result<usize, Failure> {
        self.open.iter().position(|open| open.0 == id).ok_or(NO_CALL)
    }
}

/// Answers a request. Waits for room in its caller's lane, until the caller's deadline. Returns 0;
/// -SLIPRING_ENOTHELD for an unknown number; -SLIPRING_EMSGSIZE, of which the caller is told;
/// -SLIPRING_EPIPE, -SLIPRING_EPEERDEAD or -SLIPRING_ETIMEDOUT if the caller waits no longer, which
/// ends this request only: go on with the next.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_reply(server: *mut slipring_server, id: i64, reply: *const c_void, len: usize) -> c_int {
    status(table::with(server.cast(), |server: &mut Server| {
        let reply = bytes(reply, len)?;
        let pending = server.take(id)?;
        server.server.reply(pending, reply)?;
        Ok(0)
    }))
}

/// Tells the caller of a request that it gets no answer: -SLIPRING_EUNANSWERED.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_refuse(server: *mut slipring_server, id: i64) -> c_int {
    status(table::with(server.cast(), |server: &mut Server| {
        let pending = server.take(id)?;
        server.server.refuse(pending);
        Ok(0)
    }))
}

/// Returns 1 if the caller of a request has cancelled it or waits no longer, otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_is_cancelled(server: *mut slipring_server, id: i64) -> c_int {
    status(table::with(server.cast(), |server: &mut Server| {
        let at = server.find(id)?;
        Ok(server.server.is_cancelled(&server.open[at].1).into())
    }))
}
