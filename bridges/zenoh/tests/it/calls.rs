//! Requests and replies over queries.

use std::time::{Duration, Instant};

use slipring::rpc::{Client, Server};
use slipring::{Error, Options};

use crate::common::{Bridge, PATIENCE, Rings, address};

/// Opens a client of the server `prices`, once there is one.
fn client(rings: &Rings) -> Client {
    let start = Instant::now();
    loop {
        match Client::open("prices", &rings.options(Options::any())) {
            Err(Error::NotFound) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            opened => break opened.unwrap(),
        }
    }
}

#[test]
fn a_call_is_answered_by_a_server_behind_two_bridges() {
    const CALLS: u64 = 100;
    let rings = [Rings::new(), Rings::new()];
    let at = address();
    let there = Bridge::start(&rings[1], None, &["zenoh:prices", "rpc:prices", "--listen", &at]);
    let here = Bridge::start(&rings[0], None, &["rpc:prices", "zenoh:prices", "--connect", &at]);
    let mut client = client(&rings[0]);
    // While there is no server: at once.
    assert!(matches!(client.call(b"early", PATIENCE), Err(Error::Unanswered)));

    let mut server = Server::open("prices", 16, &rings[1].options(Options::mpmc(64, 256))).unwrap();
    let serving = std::thread::spawn(move || {
        loop {
            let request = server.recv_deadline(2 * PATIENCE).unwrap();
            assert!(request.deadline().remaining() <= PATIENCE, "the deadline of the caller");
            match request.payload() {
                b"" => return,
                b"no reply" => drop(request),
                payload => {
                    let reply = [payload, b"!"].concat();
                    request.reply(&reply).unwrap();
                }
            }
        }
    });
    let start = Instant::now();
    let mut answered = 0;
    while answered < CALLS {
        match client.call(format!("call {answered}").as_bytes(), PATIENCE) {
            Ok(reply) => assert_eq!(reply, format!("call {answered}!").as_bytes()),
            // The bridge has not found the server yet.
            Err(Error::Unanswered) if answered == 0 && start.elapsed() < PATIENCE => continue,
            Err(error) => panic!("{error}"),
        }
        answered += 1;
    }
    assert!(matches!(client.call(b"no reply", PATIENCE), Err(Error::Unanswered)));

    // The server ends with a call under way; the next one waits for its successor until its deadline.
    assert!(matches!(client.call(b"", PATIENCE), Err(Error::Unanswered)));
    serving.join().unwrap();
    let late = client.call(b"late", Duration::from_millis(300));
    assert!(matches!(late, Err(Error::Timeout | Error::Unanswered)), "{late:?}");

    // A signal ends a bridge that waits for an answer, and the call with it.
    let waiting = std::thread::spawn(move || client.call(b"last", PATIENCE).map(<[u8]>::to_vec));
    there.terminate();
    assert_eq!(there.end().0.code(), Some(143));
    assert!(matches!(waiting.join().unwrap(), Err(Error::Unanswered)));
    here.terminate();
    let (status, counters) = here.end();
    assert_eq!((status.code(), &counters["answered"]), (Some(143), &CALLS.into()), "{counters}");
}
