//! Tasks that subscribe to a broadcast ring: what wakes them, and that a dropped future loses and
//! doubles nothing, and holds the publisher back no longer than it should.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use slipring::broadcast::{
    self, AsyncLossySubscriber, AsyncPublisher, AsyncSubscriber, Publisher, Received, SlowPolicy, Start, Subscriber,
};
use slipring::frame::Header;
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

fn full_pair(policy: SlowPolicy) -> (AsyncPublisher, Subscriber) {
    let (mut tx, rx) = broadcast::pair(4096).unwrap();
    tx.set_policy(policy);
    while tx.try_send(&[1; 500]).is_ok() {}
    (tx.into(), rx)
}

/// Frames up to the next one without room.
fn drain(rx: &mut Subscriber) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| rx.try_recv().ok().map(|view| view.to_vec())).collect()
}

#[test]
fn a_dropped_send_of_a_publisher_sends_nothing_unless_it_was_ready() {
    for stage in STAGES {
        for how in 0..4 {
            let (mut tx, mut rx) = full_pair(SlowPolicy::Block);
            let mut received = Vec::new();
            let mut make_room = || received.append(&mut drain(&mut rx));
            match how {
                0 => drop_at(stage, tx.send(&[2; 500]), &mut make_room),
                1 => drop_at(stage, tx.send_frame(Header { stream: 3, ..Header::PLAIN }, &[2; 500]), &mut make_room),
                2 => drop_at(stage, tx.reserve(500), &mut make_room), // a grant that is dropped aborts
                _ => {
                    Pin::new(&mut tx).start_send(vec![2; 500]).unwrap();
                    drop_at(stage, poll_fn(|cx| Pin::new(&mut tx).poll_flush(cx)), &mut make_room);
                }
            }
            assert!(received.iter().all(|frame| *frame == [1; 500]) && !received.is_empty());
            // The frame of the sink stays in the handle, and goes first.
            block_on(tx.send(&[3; 500])).unwrap();
            let sent = stage == Stage::Ready && how != 2 || how == 3;
            let expected: &[u8] = if sent { &[2, 3] } else { &[3] };
            assert_eq!(drain(&mut rx).iter().map(|frame| frame[0]).collect::<Vec<_>>(), expected, "{stage:?}, {how}");
        }
    }
}

#[test]
fn a_publishers_task_is_woken_when_an_eviction_is_due() {
    let (mut tx, mut slow) = full_pair(SlowPolicy::Evict { after: Duration::from_millis(5) });
    let count = Count::new();
    {
        let mut send = pin!(tx.send(&[2; 500]));
        assert!(count.poll(send.as_mut()).is_pending());
        count.wait(1);
        assert!(matches!(count.poll(send.as_mut()), Poll::Ready(Ok(()))));
    }
    assert_eq!(tx.get_ref().evicted(), 1);
    assert!(matches!(slow.try_recv(), Err(Error::Evicted)));
}

#[test]
fn a_publishers_task_does_not_wait_if_its_policy_is_to_fail() {
    let (mut tx, _slow) = full_pair(SlowPolicy::Fail);
    let count = Count::new();
    assert!(matches!(count.poll(pin!(tx.send(&[2; 500]))), Poll::Ready(Err(Error::Full))));
    assert!(matches!(
        count.poll(pin!(tx.reserve(500)).as_mut()).map(|grant| grant.err()),
        Poll::Ready(Some(Error::Full))
    ));
}

#[test]
fn a_publishers_task_streams_through_a_small_ring() {
    const FRAMES: u64 = 20_000;
    let ring = Ring::create_anonymous(&Options::broadcast(4096)).unwrap();
    let mut tx = AsyncPublisher::new(Publisher::attach(&ring).unwrap());
    let subscribers = [(); 2].map(|()| AsyncSubscriber::new(Subscriber::attach(&ring, Start::Oldest).unwrap()));
    std::thread::scope(|scope| {
        for mut rx in subscribers {
            scope.spawn(move || {
                block_on(async {
                    for n in 0..FRAMES {
                        assert_eq!(*rx.recv().await.unwrap(), n.to_le_bytes());
                    }
                    assert!(matches!(rx.recv().await, Err(Error::Closed)));
                });
            });
        }
        block_on(async move {
            for n in 0..FRAMES {
                if n % 3 == 0 {
                    let mut grant = tx.reserve(8).await.unwrap();
                    grant.write_at(0, &n.to_le_bytes());
                    grant.commit(8);
                } else {
                    tx.send(&n.to_le_bytes()).await.unwrap();
                }
            }
        });
    });
}
