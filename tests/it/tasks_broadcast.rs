//! Tasks that subscribe to a broadcast ring: what wakes them, and that a dropped future loses and
//! doubles nothing, and holds the publisher back no longer than it should.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use slipring::broadcast::{self, AsyncLossySubscriber, AsyncSubscriber, Publisher, Received, SlowPolicy, Start};
use slipring::{Error, Options, Ring};

use crate::common::tasks::{Count, block_on};
use crate::tasks::{STAGES, Stage, drop_at};

fn pair() -> (Publisher, AsyncSubscriber) {
    let (tx, rx) = broadcast::pair(4096).unwrap();
    (tx, rx.into())
}

#[test]
fn a_dropped_receive_loses_and_doubles_nothing() {
    let (mut tx, mut rx) = pair();
    let (mut sent, mut received) = (0u64, 0u64);
    for round in 0..300 {
        let stage = STAGES[round % STAGES.len()];
        let mut send = || {
            tx.try_send(&sent.to_le_bytes()).unwrap();
            sent += 1;
        };
        match round % 3 {
            0 => drop_at(stage, rx.recv(), &mut send),
            1 => drop_at(stage, rx.recv_batch(8), &mut send),
            _ => drop_at(stage, poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)), &mut send),
        }
        // What was ready and dropped is what a dropped view releases: one frame. A batch releases
        // what was read of it, and nothing was.
        let taken = stage == Stage::Ready && round % 3 != 1;
        if !taken {
            assert_eq!(*block_on(rx.recv()).unwrap(), received.to_le_bytes(), "{stage:?}");
        }
        received += 1;
        assert!(matches!(rx.get_mut().try_recv(), Err(Error::Empty)), "{stage:?}");
    }
}

#[test]
fn a_dropped_lossy_receive_loses_and_doubles_nothing() {
    let (mut tx, rx) = broadcast::overwriting(4096).unwrap();
    let mut rx = AsyncLossySubscriber::new(rx);
    let mut buffer = [0; 8];
    for n in 0..100u64 {
        let stage = STAGES[n as usize % STAGES.len()];
        drop_at(stage, rx.recv_into(&mut buffer), || tx.try_send(&n.to_le_bytes()).unwrap());
        if stage != Stage::Ready {
            let received = block_on(rx.recv_into(&mut buffer)).unwrap();
            assert!(matches!(received, Received::Frame(header) if header.len == 8), "{stage:?}: {received:?}");
        }
        assert_eq!(buffer, n.to_le_bytes(), "{stage:?}");
        assert!(matches!(rx.get_mut().try_recv_into(&mut buffer), Err(Error::Empty)), "{stage:?}");
    }
}

/// Whatever stage it is dropped at, it holds no guard: the publisher may evict the subscriber.
#[test]
fn a_dropped_receive_does_not_keep_the_subscriber_from_being_evicted() {
    for stage in STAGES {
        let (mut tx, mut rx) = pair();
        tx.set_policy(SlowPolicy::Evict { after: Duration::ZERO });
        drop_at(stage, rx.recv(), || tx.try_send(b"frame").unwrap());
        while tx.evicted() == 0 {
            tx.try_send(&[0; 500]).unwrap();
        }
        assert!(matches!(block_on(rx.recv()), Err(Error::Evicted)), "{stage:?}");
    }
}

#[test]
fn a_frame_wakes_the_tasks_of_all_subscribers() {
    let ring = Ring::create_anonymous(&Options::broadcast(4096)).unwrap();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut all = [(); 3].map(|()| AsyncSubscriber::new(broadcast::Subscriber::attach(&ring, Start::Latest).unwrap()));
    for n in 0..100u64 {
        let counts = [(); 3].map(|()| Count::new());
        let mut futures: Vec<_> = all.iter_mut().map(|rx| Box::pin(rx.recv())).collect();
        for (count, future) in counts.iter().zip(&mut futures) {
            assert!(count.poll(future.as_mut()).is_pending());
        }
        tx.try_send(&n.to_le_bytes()).unwrap();
        for (count, future) in counts.iter().zip(&mut futures) {
            count.wait(1);
            let Poll::Ready(Ok(frame)) = count.poll(future.as_mut()) else { panic!("woken for nothing") };
            assert_eq!(*frame, n.to_le_bytes());
        }
    }
}

#[test]
fn the_end_of_the_publisher_wakes_the_task() {
    let (tx, mut rx) = pair();
    let count = Count::new();
    let mut recv = pin!(rx.recv());
    assert!(count.poll(recv.as_mut()).is_pending());
    drop(tx);
    count.wait(1);
    assert!(matches!(count.poll(recv.as_mut()), Poll::Ready(Err(Error::Closed))));
}

#[test]
fn tasks_receive_a_stream_through_a_small_ring() {
    const FRAMES: u64 = 20_000;
    let (mut tx, mut rx) = pair();
    let mut lossy = AsyncLossySubscriber::new(broadcast::LossySubscriber::attach(tx.ring(), Start::Oldest).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..FRAMES {
                tx.send(&n.to_le_bytes()).unwrap();
                if n % 256 == 0 {
                    std::thread::yield_now(); // let the ring run dry now and then
                }
            }
        });
        scope.spawn(|| {
            block_on(async {
                let (mut next, mut buffer) = (0, [0; 8]);
                loop {
                    match lossy.recv_into(&mut buffer).await {
                        Ok(Received::Frame(_)) => {
                            assert_eq!(u64::from_le_bytes(buffer), next);
                            next += 1;
                        }
                        Ok(Received::Gap { missed }) => next += missed,
                        Err(error) => break assert!(matches!(error, Error::Closed), "{error}"),
                    }
                }
                assert_eq!(next, FRAMES);
            });
        });
        block_on(async {
            for n in 0..FRAMES {
                assert_eq!(*rx.recv().await.unwrap(), n.to_le_bytes());
            }
            assert!(matches!(rx.recv().await, Err(Error::Closed)));
        });
    });
}
