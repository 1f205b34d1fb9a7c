//! Calls of `slipring::rpc` over queries of Zenoh.
//!
//! `rpc:NAME zenoh:KEY` answers the local callers of NAME with what a query of KEY brings;
//! `zenoh:KEY rpc:NAME` answers queries of KEY with what the local server of NAME replies. A query
//! without an answer is told to the caller as [`Error::Unanswered`]. The attachment of a query is the
//! time that its caller waits, in nanoseconds (8 bytes, little-endian).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use slipring::rpc::{Client, Server};
use slipring::{Canceller, Error};
use zenoh::query::{ConsolidationMode, Query};
use zenoh::{Session, Wait};

use crate::forward::Options;
use crate::report::{Calls, Context, FAILED, Failure, Outcome};
use crate::stop::Stop;

/// Callers at a time, on this side. Each has a lane for its replies with room for as many bytes as
/// the requests: 17 MiB in all.
const CALLERS: u16 = 16;
/// Requests that wait, and the bytes of one.
const REQUESTS: (usize, usize) = (64, (16 << 10) - 32);
/// Queries that are answered at a time: so many clients of the server.
const WORKERS: usize = 4;
/// How long a caller that sets no deadline waits.
const LONGEST: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_millis(100);

fn within(directory: Option<&Path>, options: slipring::Options) -> slipring::Options {
    directory.iter().fold(options, slipring::Options::directory)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(FAILED, error)
}

/// What a query brings; sent when the query is over.
struct Answer {
    call: u64,
    reply: Option<Vec<u8>>,
    to: Sender<(u64, Option<Vec<u8>>)>,
    wake: Option<Canceller>,
}

impl Answer {
    fn set(&mut self, reply: Vec<u8>) {
        self.reply = Some(reply);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // The bridge may have ended.
        let _ = self.to.send((self.call, self.reply.take()));
        if let Some(server) = &self.wake {
            server.cancel();
        }
    }
}

/// Passes the calls of local clients on, until an end is requested.
pub(crate) fn ask(
    session: &Session,
    name: &str,
    directory: Option<&Path>,
    key: &str,
    options: &Options,
    stop: &Stop,
    context: &Context,
) -> Outcome {
    let tally = Calls::new();
    let mut server = Server::open(name, CALLERS, &within(directory, slipring::Options::mpmc(REQUESTS.0, REQUESTS.1)))?;
    let (tx, answers) = mpsc::channel();
    let mut pending = HashMap::new();
    let mut call = 0;
    let wake = server.canceller();
    while !stop.asked() {
        match server.recv_deadline(SLICE) {
            Ok(request) => {
                let (time, payload) = (request.deadline().remaining().min(LONGEST), request.payload().to_vec());
                call += 1;
                tally.calls.fetch_add(1, Ordering::Relaxed);
                pending.insert(call, request.defer());
                let mut answer = Answer { call, reply: None, to: tx.clone(), wake: wake.clone() };
                let query = session.get(key).payload(payload).attachment((time.as_nanos() as u64).to_le_bytes());
                let query = query.timeout(time).consolidation(ConsolidationMode::None);
                let query = query.callback_mut(move |reply| {
                    if let Ok(sample) = reply.result() {
                        answer.set(sample.payload().to_bytes().into_owned());
                    }
                });
                query.wait().map_err(failed)?;
            }
            Err(Error::Cancelled | Error::Timeout) => {}
            Err(Error::Closed | Error::PeerDead) => stop.sleep(Duration::from_millis(1)), // a client has left
            Err(error) => return Err(error.into()),
        }
        for (call, reply) in answers.try_iter() {
            match (pending.remove(&call), reply) {
                (Some(pending), Some(reply)) => {
                    // A caller that has left needs no reply.
                    let is_sent = server.reply(pending, &reply).is_ok();
                    tally.answered.fetch_add(is_sent.into(), Ordering::Relaxed);
                }
                (Some(pending), None) => server.refuse(pending),
                (None, _) => {}
            }
        }
        tally.say(&options.names, options.stats, false, context);
    }
    tally.say(&options.names, options.stats, true, context);
    Ok(())
}

/// Answers queries by calls of the local server, until an end is requested.
pub(crate) fn answer(
    session: &Session,
    key: &str,
    name: &str,
    directory: Option<&Path>,
    options: &Options,
    stop: &Stop,
    context: &Context,
) -> Outcome {
    let tally = &Calls::new();
    let clients = clients(name, directory, stop)?;
    let cancellers: Vec<_> = clients.iter().filter_map(Client::canceller).collect();
    let (tx, queries) = mpsc::channel::<Query>();
    let queries = &Mutex::new(queries);
    // From now on: calls before end unanswered at once.
    let queryable = session.declare_queryable(key).callback(move |query| drop(tx.send(query)));
    let _queryable = queryable.wait().map_err(failed)?;
    std::thread::scope(|scope| {
        let work = |client| scope.spawn(move || work(client, queries, tally, stop));
        let workers: Vec<_> = clients.into_iter().map(work).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(SLICE / 2);
            tally.say(&options.names, options.stats, false, context);
            if stop.asked() {
                cancellers.iter().for_each(Canceller::cancel);
            }
        }
    });
    tally.say(&options.names, options.stats, true, context);
    Ok(())
}

/// Waits for the server, and opens clients: fewer if it has no lanes for more.
fn clients(name: &str, directory: Option<&Path>, stop: &Stop) -> Outcome<Vec<Client>> {
    let options = within(directory, slipring::Options::any());
    let mut clients = Vec::new();
    while clients.len() < WORKERS && !stop.asked() {
        match Client::open(name, &options) {
            Ok(client) => clients.push(client),
            Err(Error::NotFound) => stop.sleep(SLICE), // no server has been started yet
            Err(Error::TooManyParticipants { .. }) if !clients.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(clients)
}

fn work(mut client: Client, queries: &Mutex<Receiver<Query>>, tally: &Calls, stop: &Stop) {
    while !stop.asked() {
        let query = queries.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(SLICE);
        let Ok(query) = query else { continue };
        let request = query.payload().map(|payload| payload.to_bytes()).unwrap_or_default();
        tally.calls.fetch_add(1, Ordering::Relaxed);
        let reply = client.call(&request, time(&query));
        tally.answered.fetch_add(reply.is_ok().into(), Ordering::Relaxed);
        // The one who asked may have left.
        let _ = match reply {
            Ok(reply) => query.reply(query.key_expr().clone(), reply).wait(),
            Err(error) => query.reply_err(error.to_string()).wait(),
        };
    }
}

/// How long the one who asked waits; other programs do not say so.
fn time(query: &Query) -> Duration {
    let bytes = query.attachment().map(|attachment| attachment.to_bytes()).unwrap_or_default();
    bytes.first_chunk().map_or(LONGEST, |ns| Duration::from_nanos(u64::from_le_bytes(*ns)).min(LONGEST))
}
