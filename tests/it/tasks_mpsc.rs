//! Tasks at a ring with lanes: what wakes them, and that a dropped future loses and doubles nothing.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use slipring::Error;
use slipring::mpsc::{self, AsyncConsumer, AsyncProducer, Producer, Received};

use crate::common::tasks::block_on;
use crate::tasks::{STAGES, Stage, drop_at};

#[test]
fn a_dropped_receive_loses_and_doubles_nothing() {
    let (mut tx, rx) = mpsc::pair(4096, 4).unwrap();
    let mut rx = AsyncConsumer::new(rx);
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
        // A view that was ready is dropped, which releases its frame; nothing was read of a batch.
        let taken = stage == Stage::Ready && round % 3 != 1;
        if !taken {
            assert_eq!(*block_on(rx.recv()).unwrap().frame().unwrap(), received.to_le_bytes(), "{stage:?}");
        }
        received += 1;
        assert!(matches!(rx.get_mut().try_recv(), Err(Error::Empty)), "{stage:?}");
    }
}

#[test]
fn tasks_wait_for_frames_for_room_and_for_ends() {
    const FRAMES: u64 = 2000;
    let (tx, rx) = mpsc::pair(4096, 3).unwrap();
    let producers = [tx, Producer::attach(rx.ring()).unwrap(), Producer::attach(rx.ring()).unwrap()];
    let mut rx = AsyncConsumer::from(rx);
    std::thread::scope(|scope| {
        for tx in producers {
            scope.spawn(|| {
                let mut tx = AsyncProducer::new(tx);
                block_on(async {
                    for n in 0..FRAMES {
                        let mut grant = tx.reserve(100).await.unwrap();
                        grant[..8].copy_from_slice(&n.to_le_bytes());
                        grant.commit(100);
                    }
                });
            });
        }
        block_on(async {
            let (mut next, mut ended) = ([0u64; 3], 0);
            loop {
                match rx.recv().await {
                    Ok(Received::Frame(view)) => {
                        let next = &mut next[usize::from(view.source().lane)];
                        assert_eq!((&view[..8], view.len()), (&next.to_le_bytes()[..], 100));
                        *next += 1;
                    }
                    Ok(Received::Ended(end)) => ended += u32::from(!end.died),
                    Err(Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!((next, ended), ([FRAMES; 3], 3));
        });
    });
}
