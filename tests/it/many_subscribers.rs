//! A broadcast ring with many subscribers: 64, or 1,024 with `SLIPRING_TESTS=full`.

use std::time::{Duration, Instant};

use slipring::broadcast::{LossySubscriber, Mode, Publisher, Received, SlowPolicy, Start, Subscriber};
use slipring::{Error, Options, Ring};

fn is_full() -> bool {
    std::env::var_os("SLIPRING_TESTS").is_some_and(|form| form == "full")
}

/// How many subscribers there may be. Each holds its locks by a descriptor.
fn most() -> usize {
    if !is_full() {
        return 64;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    1024
}

/// Nanoseconds of one `try_send`, while `rx` receives everything.
fn cost(tx: &mut Publisher, rx: &mut Subscriber) -> f64 {
    const FRAMES: u64 = 20_000;
    let mut spent = Duration::ZERO;
    for _ in 0..FRAMES {
        let start = Instant::now();
        tx.try_send(&tx.published().to_le_bytes()).unwrap();
        spent += start.elapsed();
        drop(rx.try_recv().unwrap());
    }
    spent.as_nanos() as f64 / FRAMES as f64
}

#[test]
fn every_one_of_many_subscribers_gets_everything() {
    let most = most();
    let options = Options::broadcast(1 << 16).participants(1 + most);
    let ring = Ring::create_anonymous(&options).unwrap();
    let per_subscriber = (ring.total_len() - (1 << 16)) / most;
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut first = Subscriber::attach(&ring, Start::Latest).unwrap();
    let alone = cost(&mut tx, &mut first);
    let mut lossy: Vec<_> = (1..most / 2).map(|_| LossySubscriber::attach(&ring, Start::Latest).unwrap()).collect();
    let beside_lossy = cost(&mut tx, &mut first);
    let mut reliable: Vec<_> = (most / 2..most).map(|_| Subscriber::attach(&ring, Start::Latest).unwrap()).collect();
    assert_eq!(ring.subscribers().len(), most);
    // One more is refused, and the error says how many there may be.
    let max = most as u32 + 1;
    let refused =
        [Subscriber::attach(&ring, Start::Latest).map(drop), LossySubscriber::attach(&ring, Start::Latest).map(drop)];
    assert!(refused.iter().all(|end| matches!(end, Err(Error::TooManyParticipants { max: told }) if *told == max)));
    let beyond = Ring::create_anonymous(&Options::broadcast(4096).participants(4096));
    assert!(matches!(beyond, Err(Error::Invalid { .. })));
    let from = tx.published();
    let mut watched: Vec<u64> = vec![0; lossy.len()];
    let mut buffer = [0; 8];
    for n in from..from + 3000 {
        tx.send(&n.to_le_bytes()).unwrap();
        for rx in reliable.iter_mut().chain([&mut first]) {
            assert_eq!(*rx.try_recv().unwrap(), n.to_le_bytes());
        }
        // The lossy ones are slow by turns.
        let at = n as usize % lossy.len();
        while let Ok(received) = lossy[at].try_recv_into(&mut buffer) {
            match received {
                Received::Frame(_) => watched[at] += 1,
                Received::Gap { missed } => watched[at] += missed,
            }
        }
    }
    for (rx, count) in lossy.iter_mut().zip(&mut watched) {
        while let Ok(received) = rx.try_recv_into(&mut buffer) {
            match received {
                Received::Frame(_) => *count += 1,
                Received::Gap { missed } => *count += missed,
            }
        }
    }
    // Those that joined before `beside_lossy` was measured have seen these frames, too.
    assert!(watched.iter().all(|count| *count == tx.published() - 20_000), "{watched:?}");
    // All but one are slow: the publisher lets all of them go.
    tx.set_policy(SlowPolicy::Evict { after: Duration::ZERO });
    for _ in 0..10_000 {
        tx.try_send(b"evicting").unwrap();
        drop(first.try_recv().unwrap());
    }
    assert_eq!(tx.evicted(), reliable.len() as u64);
    let evicted = ring.subscribers().iter().filter(|one| one.mode == Mode::Evicted).count();
    assert_eq!(evicted, reliable.len());
    assert!(reliable.iter_mut().all(|rx| matches!(rx.try_recv(), Err(Error::Evicted))));
    println!(
        "{most} subscribers: {per_subscriber} bytes each; a frame costs the publisher {alone:.0} ns with one, \
         {beside_lossy:.0} ns beside {} lossy ones (with the clock's part)",
        lossy.len()
    );
}
