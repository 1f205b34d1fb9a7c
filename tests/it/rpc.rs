//! Calls: over every carrier, with deadlines, cancellation, and the death of clients and servers.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use slipring::endpoint::Endpoint;
use slipring::rpc::{self, AsyncClient, AsyncServer, Client, Server};
use slipring::transport::{pipe, ring};
use slipring::{Deadline, Error, Options, Ring, latest, spsc};

use crate::common::dir::TestDir;
use crate::common::tasks::{Count, block_on};
use crate::common::this_test::{start_until_ready, this_test};

const SOON: Duration = Duration::from_secs(120);
const CLIENTS: u16 = 16;
const KILLS: u64 = 100;

/// What a server answers.
fn answer(request: &[u8]) -> Vec<u8> {
    request.iter().rev().map(|byte| byte ^ 0x5A).collect()
}

/// Serves until the clients have ended.
fn serve(mut server: Server) -> Error {
    loop {
        match server.recv() {
            Ok(request) => {
                let reply = answer(request.payload());
                let _ = request.reply(&reply);
            }
            Err(error) => return error,
        }
    }
}

fn options(dir: &TestDir) -> Options {
    Options::mpmc(32, 256).directory(&dir.0)
}

#[test]
fn over_a_pair_of_rings() {
    let (mut client, server) = rpc::pair(1 << 16).unwrap();
    let serving = std::thread::spawn(|| serve(server));
    for len in [0, 1, 7, 8, 100, 10_000, client.max_request()] {
        let request: Vec<_> = (0..len).map(|n| n as u8).collect();
        assert_eq!(client.call(&request, SOON).unwrap_or_else(|e| panic!("{len}: {e}")), answer(&request));
    }
    let max = client.max_request();
    assert_eq!(client.call(&vec![0; max + 1], SOON), Err(Error::TooLarge { max }));
    drop(client);
    assert_eq!(serving.join().unwrap(), Error::Closed);
}

#[test]
fn over_a_socket() {
    let dir = TestDir::new("rpc-socket");
    let socket = dir.socket();
    let listening = Endpoint::parse(&format!("unix:{}?listen", socket.display())).unwrap();
    let serving = std::thread::spawn(move || {
        let (tx, rx) = listening.open_duplex(SOON).unwrap();
        serve(Server::from_transport(rx, tx).unwrap())
    });
    let (tx, rx) = Endpoint::parse(&format!("unix:{}", socket.display())).unwrap().open_duplex(SOON).unwrap();
    let mut client = Client::from_transport(tx, rx).unwrap();
    for n in 0..100u8 {
        assert_eq!(client.call(&[n; 300], SOON).unwrap(), answer(&[n; 300]));
    }
    drop(client);
    assert_eq!(serving.join().unwrap(), Error::Closed);
}

#[test]
fn a_transport_that_may_lose_frames_is_refused() {
    let tx = ring::Sender::from(latest::pair(1, 64).unwrap().0);
    let (_, rx) = pipe::pair(&Default::default()).unwrap();
    assert!(matches!(Client::from_transport(Box::new(tx), Box::new(rx)), Err(Error::Unsupported { .. })));
}

#[test]
fn many_clients_get_their_own_replies() {
    let dir = TestDir::new("rpc-many");
    let options = options(&dir);
    let server = Server::open("service", CLIENTS, &options).unwrap();
    assert!(matches!(Server::open("service", CLIENTS, &options), Err(Error::RoleTaken { .. })));
    let canceller = server.canceller().unwrap();
    let serving = std::thread::spawn(|| serve(server));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let options = &options;
            scope.spawn(move || {
                let mut client = Client::open("service", options).unwrap();
                for n in 0..500u32 {
                    let request = [&number.to_le_bytes()[..], &n.to_le_bytes()].concat();
                    assert_eq!(client.call(&request, SOON).unwrap(), answer(&request));
                }
            });
        }
    });
    // The lanes are free again.
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::open("service", &options).unwrap()).collect();
    assert_eq!(Client::open("service", &options).unwrap_err(), Error::TooManyParticipants { max: CLIENTS.into() });
    drop(clients);
    canceller.cancel();
    assert_eq!(serving.join().unwrap(), Error::Cancelled);
    Server::remove("service", &options).unwrap();
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn a_call_that_is_too_late_is_cancelled_and_its_reply_discarded() {
    let (mut client, mut server) = rpc::pair(1 << 16).unwrap();
    assert_eq!(client.call(b"no welcome", Duration::ZERO), Err(Error::Timeout));
    std::thread::scope(|scope| {
        scope.spawn(|| server.recv().unwrap().reply(b"first").unwrap());
        assert_eq!(client.call(b"1", SOON).unwrap(), b"first");
    });
    // Taken in time, answered too late.
    let late = client.start(b"2", Deadline::never()).unwrap();
    let taken = server.recv().unwrap().defer();
    assert!(!server.is_cancelled(&taken));
    assert_eq!(client.finish(late, Duration::ZERO), Err(Error::Timeout));
    assert!(server.is_cancelled(&taken));
    server.reply(taken, b"too late").unwrap();
    // Cancelled, or out of date, before the server takes it.
    let cancelled = client.start(b"3", Deadline::never()).unwrap();
    client.cancel(cancelled);
    let expired = client.start(b"4", Duration::from_nanos(1)).unwrap();
    let call = client.start(b"5", Deadline::never()).unwrap();
    let mut request = server.recv().unwrap();
    assert_eq!(request.payload(), b"3", "its cancellation comes behind it");
    assert!(request.is_cancelled());
    assert_eq!(request.payload(), b"3");
    drop(request);
    let request = server.recv().unwrap();
    assert_eq!(request.payload(), b"5");
    request.reply(b"fifth").unwrap();
    assert_eq!(client.finish(call, SOON).unwrap(), b"fifth");
    assert_eq!(client.finish(expired, Duration::ZERO), Err(Error::Timeout));
}

#[test]
fn a_request_that_is_dropped_is_unanswered_at_once() {
    let (mut client, mut server) = rpc::pair(1 << 16).unwrap();
    let serving = std::thread::spawn(move || {
        drop(server.recv().unwrap());
        let too_long = vec![0; server.max_reply() + 1];
        let refused = server.recv().unwrap().reply(&too_long);
        (server, refused)
    });
    assert_eq!(client.call(b"drop it", SOON), Err(Error::Unanswered));
    assert_eq!(client.call(b"too long a reply", SOON), Err(Error::Unanswered));
    let (server, refused) = serving.join().unwrap();
    assert_eq!(refused, Err(Error::TooLarge { max: server.max_reply() }));
    drop(server);
    assert_eq!(client.call(b"after its end", Duration::ZERO), Err(Error::Timeout));
}

#[test]
fn a_successor_of_the_server_ends_the_calls_of_the_first() {
    let (requests, replies) = (Options::spsc(4096), Options::spsc(4096));
    let requests = slipring::Ring::create_anonymous(&requests).unwrap();
    let replies = slipring::Ring::create_anonymous(&replies).unwrap();
    let server = || {
        let (rx, tx) = (spsc::Consumer::attach(&requests), spsc::Producer::attach(&replies));
        Server::from_rings(rx.unwrap(), tx.unwrap()).unwrap()
    };
    let client = (spsc::Producer::attach(&requests).unwrap(), spsc::Consumer::attach(&replies).unwrap());
    let mut first = server();
    let mut client = Client::from_rings(client.0, client.1).unwrap();
    let taken = client.start(b"taken", SOON).unwrap();
    let waiting = client.start(b"waiting", SOON).unwrap();
    let _ = first.recv().unwrap().defer();
    drop(first);
    let mut second = server();
    assert_eq!(client.finish(taken, SOON), Err(Error::PeerDead));
    assert_eq!(client.finish(waiting, SOON), Err(Error::PeerDead));
    assert!(matches!(second.try_recv(), Err(Error::Empty)), "the old requests are gone");
    let call = client.start(b"new", SOON).unwrap();
    second.recv().unwrap().reply(b"reply").unwrap();
    assert_eq!(client.finish(call, SOON).unwrap(), b"reply");
}

/// Each call of 16 clients gets its own answer or a typed error.
#[test]
fn nothing_is_lost_or_doubled_while_the_server_is_killed() {
    let dir = TestDir::new("rpc-kills");
    let options = options(&dir);
    drop(Server::open("service", CLIENTS, &options).unwrap()); // creates the rings
    let (stop, answered, told) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut server = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (options, stop, answered, told) = (&options, &stop, &answered, &told);
            scope.spawn(move || {
                let mut client = Client::open("service", options).unwrap();
                let mut n = 0u32;
                // The last call must be answered: the last server lives.
                while !stop.load(Relaxed) {
                    n += 1;
                    let request = [&number.to_le_bytes()[..], &n.to_le_bytes(), &[n as u8; 60]].concat();
                    match client.call(&request, SOON) {
                        Ok(reply) => {
                            assert_eq!(reply, answer(&request), "client {number}, call {n}");
                            answered.fetch_add(1, Relaxed);
                        }
                        Err(Error::PeerDead | Error::Closed) => {
                            told.fetch_add(1, Relaxed);
                        }
                        Err(error) => panic!("client {number}, call {n}: {error}"),
                    }
                }
                assert_eq!(client.call(b"last", SOON).unwrap(), answer(b"last"));
            });
        }
        let start =
            || start_until_ready(this_test(module_path!(), "server").arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
        let mut server = start();
        for kill in 0..KILLS {
            let before = answered.load(Relaxed);
            while answered.load(Relaxed) < before + 1 + kill % 7 * 20 {
                std::thread::yield_now();
            }
            server.kill().unwrap();
            server.wait().unwrap();
            server = start();
        }
        stop.store(true, Relaxed);
        server
    });
    server.kill().unwrap();
    server.wait().unwrap();
    println!("{} calls answered, {} told of a death, {KILLS} deaths", answered.load(Relaxed), told.load(Relaxed));
    assert!(told.load(Relaxed) > 0);
    Server::remove("service", &options).unwrap();
}

#[test]
#[ignore = "run by others as a child"]
fn server() {
    let Some(dir) = std::env::var_os("SLIPRING_TEST_DIR") else { return };
    let server = Server::open("service", CLIENTS, &Options::mpmc(32, 256).directory(dir)).unwrap();
    println!("ready");
    panic!("{}", serve(server));
}

/// The welcome of a server that has ended, which its client takes when the next one has attached.
#[test]
fn a_welcome_from_before_is_not_that_of_the_next_server() {
    let dir = TestDir::new("rpc-stale-welcome");
    let options = options(&dir);
    drop(Server::open("service", 1, &options).unwrap()); // creates the rings
    let mut client = Client::open("service", &options).unwrap();
    drop(Server::open("service", 1, &options).unwrap()); // welcomes the client, and ends
    let lane = Ring::open("service.0", &Options::spsc(4096).directory(&dir.0)).unwrap();
    let starting = spsc::Producer::attach(&lane).unwrap();
    let early = client.start(b"early", Duration::from_millis(30));
    assert_eq!(early, Err(Error::Timeout), "the next server has not welcomed it");
    drop(starting);
    let server = Server::open("service", 1, &options).unwrap();
    let canceller = server.canceller().unwrap();
    let serving = std::thread::spawn(|| serve(server));
    assert_eq!(client.call(b"now", SOON).unwrap(), answer(b"now"));
    canceller.cancel();
    assert_eq!(serving.join().unwrap(), Error::Cancelled);
    drop(client);
    Server::remove("service", &options).unwrap();
}

#[test]
fn the_death_of_a_client_frees_its_lane() {
    let dir = TestDir::new("rpc-client");
    let options = options(&dir);
    let server = Server::open("service", 1, &options).unwrap();
    let canceller = server.canceller().unwrap();
    let serving = std::thread::spawn(|| serve(server));
    for _ in 0..5 {
        let mut child =
            start_until_ready(this_test(module_path!(), "client").arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut client = Client::open("service", &options).unwrap();
    assert_eq!(client.call(b"mine", SOON).unwrap(), answer(b"mine"));
    drop(client);
    canceller.cancel();
    assert_eq!(serving.join().unwrap(), Error::Cancelled);
    Server::remove("service", &options).unwrap();
}

#[test]
#[ignore = "run by others as a child"]
fn client() {
    let Some(dir) = std::env::var_os("SLIPRING_TEST_DIR") else { return };
    let mut client = Client::open("service", &Options::mpmc(32, 256).directory(dir)).unwrap();
    assert_eq!(client.call(b"first", SOON).unwrap(), answer(b"first"));
    println!("ready");
    loop {
        client.call(b"more", SOON).unwrap();
    }
}

#[test]
fn tasks_that_share_a_client_get_their_own_replies() {
    let dir = TestDir::new("rpc-tasks");
    let options = options(&dir);
    let mut server = AsyncServer::new(Server::open("service", 2, &options).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                loop {
                    let (request, call) = server.recv().await.unwrap();
                    server.reply(call, &answer(&request)).await.unwrap();
                    if request == b"last" {
                        break;
                    }
                }
            });
        });
        let client = AsyncClient::new(Client::open("service", &options).unwrap());
        std::thread::scope(|scope| {
            for number in 0..4u8 {
                let client = client.clone();
                scope.spawn(move || {
                    for n in 0..200u32 {
                        let request = [&[number][..], &n.to_le_bytes()].concat();
                        let reply = block_on(client.call(&request, SOON)).unwrap();
                        assert_eq!(reply, answer(&request));
                    }
                });
            }
        });
        // A call that is dropped in the middle does not disturb the next one.
        let mut dropped = Box::pin(client.call(b"dropped", SOON));
        let _ = Count::new().poll(dropped.as_mut());
        drop(dropped);
        assert_eq!(block_on(client.call(b"last", SOON)).unwrap(), answer(b"last"));
    });
    Server::remove("service", &options).unwrap();
}

#[test]
fn a_task_that_replies_to_a_full_lane_does_not_block_its_thread() {
    let (mut client, server) = rpc::pair(4096).unwrap();
    let mut server = AsyncServer::new(server);
    let calls: Vec<_> = (0..8u8).map(|n| client.start(&[n], Deadline::never()).unwrap()).collect();
    let reply = |request: &[u8]| vec![request[0]; 1000];
    let (mut requests, mut replied) = (0, 0);
    let count = Count::new();
    loop {
        let (request, call) = block_on(server.recv()).unwrap();
        let reply = reply(&request);
        requests += 1;
        let mut replying = pin!(server.reply(call, &reply));
        if let Poll::Ready(sent) = count.poll(replying.as_mut()) {
            sent.unwrap();
            replied += 1;
            continue;
        }
        // The lane is full: the task waits, and its thread takes the replies that are there.
        let mut calls = calls.into_iter();
        for n in 0..replied {
            assert_eq!(client.finish(calls.next().unwrap(), SOON).unwrap(), vec![n; 1000]);
        }
        count.wait(1);
        block_on(replying).unwrap();
        assert_eq!(client.finish(calls.next().unwrap(), SOON).unwrap(), reply);
        break;
    }
    assert!((2..8).contains(&requests), "{requests} replies of 1000 bytes fit");
}

/// Larger than what a socket takes at once: the rest is sent when the other side reads.
#[test]
fn tasks_send_large_requests_and_replies_over_a_socket() {
    let dir = TestDir::new("rpc-tasks-socket");
    let socket = dir.socket();
    let listening = Endpoint::parse(&format!("unix:{}?listen", socket.display())).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (tx, rx) = listening.open_duplex(SOON).unwrap();
            let mut server = AsyncServer::new(Server::from_transport(rx, tx).unwrap());
            let (request, call) = block_on(server.recv()).unwrap();
            block_on(server.reply(call, &answer(&request))).unwrap();
        });
        let (tx, rx) = Endpoint::parse(&format!("unix:{}", socket.display())).unwrap().open_duplex(SOON).unwrap();
        let client = Client::from_transport(tx, rx).unwrap();
        let request: Vec<u8> = (0..client.max_request().min(3_000_000)).map(|n| (n % 251) as u8).collect();
        assert!(request.len() > 500_000);
        let client = AsyncClient::new(client);
        let reply = block_on(client.call(&request, SOON)).unwrap();
        assert!(reply == answer(&request));
    });
}

#[test]
fn tasks_are_told_of_the_death_of_the_server() {
    let dir = TestDir::new("rpc-tasks-death");
    let options = options(&dir);
    drop(Server::open("service", CLIENTS, &options).unwrap());
    let client = AsyncClient::new(Client::open("service", &options).unwrap());
    let mut child =
        start_until_ready(this_test(module_path!(), "silent").arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| block_on(client.call(b"lost", SOON)))).collect();
        let mut line = String::new();
        while !line.ends_with("4 taken\n") {
            line.clear();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
                .unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for call in calls {
            assert_eq!(call.join().unwrap(), Err(Error::PeerDead));
        }
    });
    let server = Server::open("service", CLIENTS, &options).unwrap();
    let canceller = server.canceller().unwrap();
    let serving = std::thread::spawn(|| serve(server));
    assert_eq!(block_on(client.call(b"again", SOON)).unwrap(), answer(b"again"));
    canceller.cancel();
    assert_eq!(serving.join().unwrap(), Error::Cancelled);
    Server::remove("service", &options).unwrap();
}

/// Takes four requests and answers none.
#[test]
#[ignore = "run by others as a child"]
fn silent() {
    let Some(dir) = std::env::var_os("SLIPRING_TEST_DIR") else { return };
    let mut server = Server::open("service", CLIENTS, &Options::mpmc(32, 256).directory(dir)).unwrap();
    println!("ready");
    let taken: Vec<_> = (0..4).map(|_| server.recv().unwrap().defer()).collect();
    println!("{} taken", taken.len());
    loop {
        std::thread::park();
    }
}
