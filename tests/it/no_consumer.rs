//! A producer with the option `fail_without_consumer` fails as soon as no consumer is attached: on
//! every kind of ring, by every call that sends, whether the consumer never attached, has left or
//! was killed.
//!
//! The consumer is this test program, started again with a role in its environment.

use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use slipring::endpoint::Endpoint;
use slipring::frame::Header;
use slipring::transport::FrameSender;
use slipring::{Error, Kind, Options, Ring, WakeMode, mpmc, spsc, stream};

use crate::common::dir::TestDir;
use crate::common::this_test::{start_until_ready, this_test};

/// Far longer than any call here takes: a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const KINDS: [&str; 3] = ["spsc", "mpmc", "stream"];

/// Large enough that no test fills it by accident.
fn options(kind: &str) -> Options {
    match kind {
        "spsc" => Options::spsc(1 << 20),
        "mpmc" => Options::mpmc(1 << 14, 8),
        _ => Options::stream(1 << 20),
    }
}

/// A producer of any kind.
enum Tx {
    Spsc(spsc::Producer),
    Mpmc(mpmc::Producer),
    Stream(stream::Producer),
}

impl Tx {
    fn attach(ring: &Ring) -> Self {
        match ring.kind() {
            Kind::Spsc => Tx::Spsc(spsc::Producer::attach(ring).unwrap()),
            Kind::Mpmc => Tx::Mpmc(mpmc::Producer::attach(ring).unwrap()),
            _ => Tx::Stream(stream::Producer::attach(ring).unwrap()),
        }
    }

    fn spsc(&mut self) -> &mut spsc::Producer {
        let Tx::Spsc(tx) = self else { panic!("another kind") };
        tx
    }

    fn mpmc(&mut self) -> &mut mpmc::Producer {
        let Tx::Mpmc(tx) = self else { panic!("another kind") };
        tx
    }

    fn stream(&mut self) -> &mut stream::Producer {
        let Tx::Stream(tx) = self else { panic!("another kind") };
        tx
    }
}

type Call = fn(&mut Tx) -> Result<(), Error>;

/// Every call that sends or reserves.
fn calls(kind: &str) -> Vec<(&'static str, Call)> {
    match kind {
        "spsc" => vec![
            ("try_send", |tx| tx.spsc().try_send(b"x")),
            ("send", |tx| tx.spsc().send(b"x")),
            ("send_deadline", |tx| tx.spsc().send_deadline(b"x", SOON)),
            ("try_send_frame", |tx| tx.spsc().try_send_frame(Header::PLAIN, b"x")),
            ("send_frame", |tx| tx.spsc().send_frame(Header::PLAIN, b"x")),
            ("send_frame_deadline", |tx| tx.spsc().send_frame_deadline(Header::PLAIN, b"x", SOON)),
            ("try_reserve", |tx| tx.spsc().try_reserve(1).map(drop)),
            ("reserve", |tx| tx.spsc().reserve(1).map(drop)),
            ("reserve_deadline", |tx| tx.spsc().reserve_deadline(1, SOON).map(drop)),
            ("batch", |tx| tx.spsc().batch().push(b"x")),
        ],
        "mpmc" => vec![
            ("try_send", |tx| tx.mpmc().try_send(b"x")),
            ("send", |tx| tx.mpmc().send(b"x")),
            ("send_deadline", |tx| tx.mpmc().send_deadline(b"x", SOON)),
            ("send_frame", |tx| tx.mpmc().send_frame(Header::PLAIN, b"x")),
            ("try_send_batch", |tx| tx.mpmc().try_send_batch([b"x".as_slice()]).map(drop)),
            ("try_reserve", |tx| tx.mpmc().try_reserve(1).map(drop)),
            ("reserve", |tx| tx.mpmc().reserve(1).map(drop)),
            ("reserve_deadline", |tx| tx.mpmc().reserve_deadline(1, SOON).map(drop)),
        ],
        _ => vec![
            ("try_write", |tx| tx.stream().try_write(b"x").map(drop)),
            ("try_write of nothing", |tx| tx.stream().try_write(b"").map(drop)),
            ("write_all", |tx| tx.stream().write_all(b"x")),
            ("write_all_deadline", |tx| tx.stream().write_all_deadline(b"x", SOON).map_err(|partial| partial.error)),
            ("try_reserve", |tx| tx.stream().try_reserve(1).map(drop)),
            ("reserve_deadline", |tx| tx.stream().reserve_deadline(1, SOON).map(drop)),
        ],
    }
}

fn consumer(ring: &Ring) -> Box<dyn std::any::Any> {
    match ring.kind() {
        Kind::Spsc => Box::new(spsc::Consumer::attach(ring).unwrap()),
        Kind::Mpmc => Box::new(mpmc::Consumer::attach(ring).unwrap()),
        _ => Box::new(stream::Consumer::attach(ring).unwrap()),
    }
}

fn sent(ring: &Ring) -> u64 {
    ring.stats().counts.sent
}

#[test]
fn every_call_fails_before_a_consumer_attaches_and_after_it_has_left() {
    for kind in KINDS {
        for wake in [WakeMode::Asymmetric, WakeMode::Poll] {
            for (name, call) in calls(kind) {
                let ring = Ring::create_anonymous(&options(kind).wake_mode(wake).fail_without_consumer(true)).unwrap();
                let mut tx = Tx::attach(&ring);
                let early = call(&mut tx);
                assert!(matches!(early, Err(Error::NoConsumer)), "{kind}, {name}: {early:?}");
                for _ in 0..2 {
                    let before = sent(&ring);
                    let rx = consumer(&ring);
                    assert_eq!(sent(&ring), before, "{kind}, {name}: the call that failed sent nothing");
                    call(&mut tx).unwrap_or_else(|e| panic!("{kind}, {name}: a consumer is attached: {e}"));
                    drop(rx);
                    let (before, late) = (sent(&ring), call(&mut tx));
                    assert!(matches!(late, Err(Error::Closed)), "{kind}, {name}: {late:?}");
                    assert_eq!(sent(&ring), before, "{kind}, {name}: the call that failed sent nothing");
                }
            }
        }
    }
}

#[test]
fn without_the_option_frames_wait_for_a_consumer() {
    for kind in KINDS {
        for (name, call) in calls(kind) {
            let mut tx = Tx::attach(&Ring::create_anonymous(&options(kind)).unwrap());
            call(&mut tx).unwrap_or_else(|e| panic!("{kind}, {name}: {e}"));
        }
    }
}

#[test]
fn one_of_several_consumers_is_enough() {
    let ring = Ring::create_anonymous(&Options::mpmc(16, 8).fail_without_consumer(true)).unwrap();
    let tx = mpmc::Producer::attach(&ring).unwrap();
    let (one, two) = (mpmc::Consumer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
    drop(one);
    tx.try_send(b"x").unwrap();
    drop(two);
    assert!(matches!(tx.try_send(b"x"), Err(Error::Closed)));
}

#[test]
fn a_grant_reserved_before_is_committed_and_the_rest_of_a_batch_is_refused() {
    let ring = Ring::create_anonymous(&Options::spsc(4096).fail_without_consumer(true)).unwrap();
    let (mut tx, rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
    let mut batch = tx.batch();
    batch.push(b"one").unwrap();
    drop(rx);
    assert!(matches!(batch.push(b"two"), Err(Error::Closed)));
    batch.commit();
    assert_eq!(sent(&ring), 1);

    let ring = Ring::create_anonymous(&Options::mpmc(16, 8).fail_without_consumer(true)).unwrap();
    let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
    let grant = tx.try_reserve(3).unwrap();
    drop(rx);
    grant.commit(3);
    assert_eq!(sent(&ring), 1);
}

#[test]
fn a_killed_consumer_is_noticed_although_there_is_room() {
    for (n, kind) in KINDS.into_iter().enumerate() {
        for (m, (name, call)) in calls(kind).into_iter().enumerate() {
            let dir = TestDir::new(&format!("no-consumer-{n}-{m}"));
            let ring = Ring::create("ring", &options(kind).directory(&dir.0).fail_without_consumer(true)).unwrap();
            let mut victim = start(kind, &dir.0);
            let mut tx = Tx::attach(&ring);
            call(&mut tx).unwrap_or_else(|e| panic!("{kind}, {name}: a consumer is attached: {e}"));
            victim.kill().unwrap();
            victim.wait().unwrap();
            let killed = Instant::now();
            let told = loop {
                match call(&mut tx) {
                    Ok(()) => assert!(killed.elapsed() < SOON, "{kind}, {name}: never noticed"),
                    told => break told,
                }
                std::thread::sleep(Duration::from_micros(100)); // so that the ring does not fill up meanwhile
            };
            assert!(matches!(told, Err(Error::PeerDead)), "{kind}, {name}: {told:?}");
            let used = ring.stats().used();
            assert!(used < ring.capacity() as u64 / 2, "{kind}, {name}: noticed only when the ring was full");
            let rx = consumer(&ring);
            call(&mut tx).unwrap_or_else(|e| panic!("{kind}, {name}: another consumer is attached: {e}"));
            drop(rx);
        }
    }
}

#[test]
fn a_call_that_waits_for_room_ends_with_the_consumer() {
    for kind in KINDS {
        for killed in [true, false] {
            let dir = TestDir::new(&format!("no-consumer-full-{kind}-{killed}"));
            let options = match kind {
                "spsc" => Options::spsc(4096),
                "mpmc" => Options::mpmc(4, 8),
                _ => Options::stream(4096),
            };
            let ring = Ring::create("ring", &options.directory(&dir.0).fail_without_consumer(true)).unwrap();
            let mut other = start(kind, &dir.0);
            let mut tx = Tx::attach(&ring);
            let (_, try_call) = calls(kind)[0];
            while try_call(&mut tx).is_ok() {}
            assert!(matches!(try_call(&mut tx), Err(Error::Full)));
            let told = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| match &mut tx {
                    Tx::Spsc(tx) => tx.send(b"x"),
                    Tx::Mpmc(tx) => tx.send(b"x"),
                    Tx::Stream(tx) => tx.write_all(b"x"),
                });
                if killed {
                    other.kill().unwrap();
                } else {
                    drop(other.stdin.take()); // it leaves
                }
                waiting.join().unwrap()
            });
            other.wait().unwrap();
            match killed {
                true => assert!(matches!(told, Err(Error::PeerDead)), "{kind}: {told:?}"),
                false => assert!(matches!(told, Err(Error::Closed)), "{kind}: {told:?}"),
            }
        }
    }
}

#[test]
fn an_endpoint_has_the_option_too() {
    let dir = TestDir::new("no-consumer-endpoint");
    for (name, options) in [("a", "capacity=64K"), ("b", "slots=16")] {
        let Endpoint::Ring(ring) = Endpoint::parse(&format!("ring:{name}?{options}&fail_without_consumer")).unwrap()
        else {
            unreachable!()
        };
        let ring = ring.in_directory(&dir.0);
        let mut tx = ring.open_sender().unwrap();
        assert!(matches!(tx.send(Header::PLAIN, b"x"), Err(Error::NoConsumer)));
        let rx = ring.open_receiver().unwrap();
        tx.send(Header::PLAIN, b"x").unwrap();
        drop(rx);
        assert!(matches!(tx.try_send(Header::PLAIN, b"x"), Err(Error::Closed)));
    }
}

/// Not a test: the consumer in another process. It receives nothing, and leaves when its stdin
/// ends.
#[test]
fn other_process() {
    let (Ok(kind), Some(dir)) = (std::env::var("SLIPRING_TEST_KIND"), std::env::var_os("SLIPRING_TEST_DIR")) else {
        return;
    };
    let _rx = consumer(&Ring::open("ring", &options(&kind).directory(dir)).unwrap());
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Starts a consumer in another process, and waits until it has attached.
fn start(kind: &str, dir: &Path) -> Child {
    let mut command = this_test(module_path!(), "other_process");
    start_until_ready(command.env("SLIPRING_TEST_KIND", kind).env("SLIPRING_TEST_DIR", dir))
}
