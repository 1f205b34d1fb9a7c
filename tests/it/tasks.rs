//! Tasks at rings: what wakes them, and that a dropped future loses and doubles nothing, whatever
//! it was waiting for. Futures are polled by hand, with wakers that count.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::process::Child;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_sink::Sink;
use slipring::{Error, Options, mpmc, spsc};

use crate::common::dir::TestDir;
use crate::common::tasks::{Count, block_on};
use crate::common::this_test::{start_until_ready, this_test};

fn spsc_pair() -> (spsc::AsyncProducer, spsc::AsyncConsumer) {
    let (tx, rx) = spsc::pair(4096).unwrap();
    (tx.into(), rx.into())
}

fn mpmc_pair() -> (mpmc::AsyncProducer, mpmc::AsyncConsumer) {
    let (tx, rx) = mpmc::pair(8, 1000).unwrap();
    (tx.into(), rx.into())
}

/// Where a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// Before it is polled.
    New,
    /// When its waker is registered.
    Pending,
    /// When it was polled twice, by different tasks.
    Moved,
    /// When it was woken, and not polled since.
    Woken,
    /// When it is ready, with what it yields.
    Ready,
}

pub const STAGES: [Stage; 5] = [Stage::New, Stage::Pending, Stage::Moved, Stage::Woken, Stage::Ready];

/// Polls `future` up to a stage, then drops it. `event` makes it ready.
pub fn drop_at<F: Future>(stage: Stage, future: F, event: impl FnOnce()) {
    let mut future = pin!(future);
    let (first, second) = (Count::new(), Count::new());
    if stage == Stage::New {
        return event();
    }
    assert!(first.poll(future.as_mut()).is_pending());
    if stage == Stage::Pending {
        return event();
    }
    assert!(second.poll(future.as_mut()).is_pending());
    if stage == Stage::Moved {
        return event();
    }
    event();
    second.wait(1); // the one that polled it last
    if stage == Stage::Ready {
        assert!(second.poll(future.as_mut()).is_ready());
    }
}

/// The tests of one kind of ring, whose handles `pair` makes.
macro_rules! kind {
    ($name:ident, $kind:ident, $pair:ident) => {
        #[allow(unused_mut, reason = "the calls of slot rings share their handle")]
        mod $name {
            use super::*;

            #[test]
            fn a_frame_wakes_the_task_once() {
                let (mut tx, mut rx) = $pair();
                for n in 0..200u64 {
                    let count = Count::new();
                    {
                        let mut recv = pin!(rx.recv());
                        assert!(count.poll(recv.as_mut()).is_pending());
                        tx.get_mut().try_send(&n.to_le_bytes()).unwrap();
                        count.wait(1);
                        let Poll::Ready(Ok(frame)) = count.poll(recv.as_mut()) else { panic!("woken for nothing") };
                        assert_eq!(*frame, n.to_le_bytes());
                    }
                    assert_eq!(count.get(), 1);
                }
            }

            #[test]
            fn room_wakes_the_task() {
                let (mut tx, mut rx) = $pair();
                while tx.get_mut().try_send(&[0; 1000]).is_ok() {}
                let count = Count::new();
                let mut send = pin!(tx.send(&[1; 1000]));
                assert!(count.poll(send.as_mut()).is_pending());
                while rx.get_mut().try_recv().is_ok() {}
                count.wait(1);
                assert!(matches!(count.poll(send.as_mut()), Poll::Ready(Ok(()))));
                assert_eq!(*rx.get_mut().try_recv().unwrap(), [1; 1000]);
            }

            #[test]
            fn a_dropped_receive_loses_and_doubles_nothing() {
                let (mut tx, mut rx) = $pair();
                let (mut sent, mut received) = (0u64, 0);
                for round in 0..200 {
                    let stage = STAGES[round % STAGES.len()];
                    let mut send = || {
                        tx.get_mut().try_send(&sent.to_le_bytes()).unwrap();
                        sent += 1;
                    };
                    match round % 3 {
                        0 => drop_at(stage, rx.recv(), &mut send),
                        1 => drop_at(stage, rx.recv_batch(8), &mut send),
                        _ => drop_at(stage, poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)), &mut send),
                    }
                    // What was ready and dropped is what a dropped view releases: one frame. A
                    // batch releases what was read of it, and nothing was.
                    let taken = stage == Stage::Ready && round % 3 != 1;
                    received += u64::from(taken);
                    if !taken {
                        let frame = block_on(rx.recv()).unwrap();
                        assert_eq!(*frame, received.to_le_bytes(), "{stage:?}");
                        received += 1;
                    }
                    assert!(matches!(rx.get_mut().try_recv(), Err(Error::Empty)), "{stage:?}");
                }
            }

            #[test]
            fn a_dropped_send_sends_nothing_unless_it_was_ready() {
                for stage in STAGES {
                    for reserve in [false, true] {
                        let (mut tx, mut rx) = $pair();
                        let (mut sent, mut payload) = (0u64, [0; 1000]);
                        let mut fill = |tx: &mut _, sent: &mut u64| loop {
                            payload[..8].copy_from_slice(&sent.to_le_bytes());
                            let tx: &mut $kind::AsyncProducer = tx;
                            match tx.get_mut().try_send(&payload) {
                                Ok(()) => *sent += 1,
                                Err(error) => break assert!(matches!(error, Error::Full), "{error}"),
                            }
                        };
                        fill(&mut tx, &mut sent);
                        let next = [sent.to_le_bytes().as_slice(), &[0; 992]].concat();
                        let mut received = 0u64;
                        let mut drain = || {
                            while let Ok(frame) = rx.get_mut().try_recv() {
                                assert_eq!(frame[..8], received.to_le_bytes());
                                received += 1;
                            }
                        };
                        if reserve {
                            drop_at(stage, tx.reserve(1000), &mut drain); // a grant that is dropped aborts
                        } else {
                            drop_at(stage, tx.send(&next), &mut drain);
                            sent += u64::from(stage == Stage::Ready);
                        }
                        fill(&mut tx, &mut sent);
                        drain();
                        assert_eq!(received, sent, "{stage:?}");
                    }
                }
            }

            #[test]
            fn two_tasks_stream_through_a_small_ring() {
                const FRAMES: u64 = 20_000;
                let (mut tx, mut rx) = $pair();
                let sending = std::thread::spawn(move || {
                    block_on(async {
                        for n in 0..FRAMES {
                            if n % 3 == 0 {
                                let mut grant = tx.reserve(8).await.unwrap();
                                grant.copy_from_slice(&n.to_le_bytes());
                                grant.commit(8);
                            } else {
                                tx.send(&n.to_le_bytes()).await.unwrap();
                            }
                            if n % 256 == 0 {
                                std::thread::yield_now(); // let the ring run dry now and then
                            }
                        }
                    });
                });
                block_on(async {
                    for n in 0..FRAMES {
                        assert_eq!(*rx.recv().await.unwrap(), n.to_le_bytes());
                    }
                    assert!(matches!(rx.recv().await, Err(Error::Closed)));
                });
                sending.join().unwrap();
            }

            #[test]
            fn a_sink_and_a_stream_of_owned_frames() {
                const FRAMES: u64 = 1_000;
                let (mut tx, mut rx) = $pair();
                let sending = std::thread::spawn(move || {
                    block_on(async {
                        for n in 0..FRAMES {
                            poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)).await.unwrap();
                            // Two frames or so fill the ring.
                            Pin::new(&mut tx).start_send(vec![n as u8; 900]).unwrap();
                        }
                        poll_fn(|cx| Pin::new(&mut tx).poll_close(cx)).await.unwrap();
                    });
                });
                block_on(async {
                    for n in 0..FRAMES {
                        let frame = poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)).await;
                        assert_eq!(frame.unwrap().unwrap(), [n as u8; 900]);
                    }
                    assert!(poll_fn(|cx| Pin::new(&mut rx).poll_next(cx)).await.is_none());
                });
                sending.join().unwrap();
            }

            #[test]
            fn an_end_wakes_the_task() {
                let (tx, mut rx) = $pair();
                let count = Count::new();
                let mut recv = pin!(rx.recv());
                assert!(count.poll(recv.as_mut()).is_pending());
                drop(tx);
                count.wait(1);
                assert!(matches!(count.poll(recv.as_mut()), Poll::Ready(Err(Error::Closed))));
            }

            #[test]
            fn futures_may_move_between_threads() {
                fn is_send<T: Send>(_: T) {}
                let (mut tx, mut rx) = $pair();
                is_send(tx.send(b""));
                is_send(tx.reserve(1));
                is_send(rx.recv());
                is_send(rx.recv_batch(1));
                is_send((tx, rx));
            }
        }
    };
}

kind!(byte_ring, spsc, spsc_pair);
kind!(slot_ring, mpmc, mpmc_pair);

#[test]
fn a_frame_of_the_sink_that_found_no_room_goes_before_later_ones() {
    let (mut tx, mut rx) = spsc_pair();
    while tx.get_mut().try_send(&[0; 1000]).is_ok() {}
    Pin::new(&mut tx).start_send(vec![2; 1000]).unwrap();
    assert!(matches!(Pin::new(&mut tx).start_send(vec![3]), Err(Error::Full)), "not ready");
    let mut send = pin!(tx.send(&[3; 8]));
    let count = Count::new();
    assert!(count.poll(send.as_mut()).is_pending());
    let mut received: Vec<Vec<u8>> = rx.get_mut().try_iter().map(Result::unwrap).collect();
    count.wait(1);
    assert!(count.poll(send.as_mut()).is_ready());
    received.extend(rx.get_mut().try_iter().map(Result::unwrap));
    assert_eq!(received[received.len() - 2..], [vec![2; 1000], vec![3; 8]]);
}

/// Of three tasks that wait, each frame wakes one. One that is dropped after that passes it on.
#[test]
fn one_frame_wakes_one_of_several_tasks() {
    let (tx, rx) = mpmc_pair();
    let rx = [rx.clone(), rx.clone(), rx];
    for drop_it in [false, true] {
        let counts = [(); 3].map(|()| Count::new());
        let mut futures: Vec<_> = rx.iter().map(|rx| Box::pin(rx.recv())).collect();
        for (count, future) in counts.iter().zip(&mut futures) {
            assert!(count.poll(future.as_mut()).is_pending());
        }
        tx.get_ref().try_send(b"frame").unwrap();
        counts[0].wait(1);
        let mut futures = futures.into_iter();
        let mut first = futures.next().unwrap();
        if drop_it {
            drop(first);
            counts[1].wait(1);
            assert_eq!(&*block_on(futures.next().unwrap()).unwrap(), b"frame");
        } else {
            let Poll::Ready(Ok(frame)) = counts[0].poll(first.as_mut()) else { panic!("woken for nothing") };
            assert_eq!(&*frame, b"frame");
        }
    }
}

/// A task that was woken and is not polled does not keep the others from the frame for long.
#[test]
fn a_task_that_is_not_polled_holds_no_other_one_up() {
    let (tx, rx) = mpmc_pair();
    let (idle, other) = (rx.clone(), rx);
    let (first, second) = (Count::new(), Count::new());
    let (mut ignored, mut recv) = (pin!(idle.recv()), pin!(other.recv()));
    assert!(first.poll(ignored.as_mut()).is_pending());
    assert!(second.poll(recv.as_mut()).is_pending());
    tx.get_ref().try_send(b"frame").unwrap();
    second.wait(1);
    assert!(matches!(second.poll(recv.as_mut()), Poll::Ready(Ok(frame)) if *frame == *b"frame"));
}

/// Tasks on clones and threads with blocking calls share a ring; each frame is received once.
#[test]
fn tasks_and_threads_share_a_slot_ring() {
    const FRAMES: u64 = 4_000;
    let (tx, rx) = mpmc::pair(8, 8).unwrap();
    let consumer = mpmc::AsyncConsumer::new(rx.clone());
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let rx = consumer.clone();
                scope.spawn(move || {
                    block_on(async {
                        let mut mine = Vec::new();
                        while let Ok(frame) = rx.recv().await {
                            mine.push(u64::from_le_bytes((*frame).try_into().unwrap()));
                        }
                        mine
                    })
                })
            })
            .chain([scope.spawn(|| {
                let mut mine = Vec::new();
                while let Ok(frame) = rx.recv() {
                    mine.push(u64::from_le_bytes((*frame).try_into().unwrap()));
                }
                mine
            })])
            .collect();
        for n in 0..FRAMES {
            tx.send(&n.to_le_bytes()).unwrap();
            if n % 16 == 0 {
                std::thread::yield_now(); // let them fall asleep now and then
            }
        }
        drop(tx);
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..FRAMES), "{} frames", all.len());
}

/// Attaches as the producer of the ring, and stays until it is killed.
#[test]
#[ignore = "run by others as a child"]
fn peer() {
    let Ok(dir) = std::env::var("SLIPRING_TEST_DIR") else { return };
    let _tx = spsc::Producer::open("ring", &Options::spsc(4096).directory(dir)).unwrap();
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn the_death_of_a_peer_wakes_the_task() {
    let dir = TestDir::new("tasks-killed");
    let rx = spsc::Consumer::open("ring", &Options::spsc(4096).directory(&dir.0)).unwrap();
    let mut rx = spsc::AsyncConsumer::new(rx);
    let mut command = this_test(module_path!(), "peer");
    let mut peer: Child = start_until_ready(command.arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
    let count = Count::new();
    let mut recv = pin!(rx.recv());
    assert!(count.poll(recv.as_mut()).is_pending());
    peer.kill().unwrap();
    peer.wait().unwrap();
    let mut woken = 0;
    loop {
        woken += 1;
        count.wait(woken);
        match count.poll(recv.as_mut()) {
            Poll::Pending => {} // its attaching was told, too
            Poll::Ready(end) => break assert!(matches!(end, Err(Error::PeerDead))),
        }
    }
}

/// Every future of a copy is refused in a forked child, and dropping it there has no effect here. A
/// new handle has a reactor of its own there.
#[test]
fn a_forked_child_has_its_own_reactor() {
    let (mut tx, mut rx) = spsc_pair();
    let count = Count::new();
    {
        let mut recv = Box::pin(rx.recv());
        assert!(count.poll(recv.as_mut()).is_pending());
        // SAFETY: the child calls what is safe after a fork of a program with threads, apart from
        // the allocator, which glibc makes usable there.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert!(matches!(count.poll(recv.as_mut()), Poll::Ready(Err(Error::Forked))));
                drop(recv);
                let (mut tx, mut rx) = spsc_pair();
                let sending = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(5)); // mostly asleep by then
                    block_on(tx.send(b"frame")).unwrap();
                });
                assert_eq!(&*block_on(rx.recv()).unwrap(), b"frame");
                sending.join().unwrap();
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        let mut status = -1;
        // SAFETY: `pid` is our child, and `status` lives through the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        tx.get_mut().try_send(b"frame").unwrap();
        count.wait(1);
        assert!(matches!(count.poll(recv.as_mut()), Poll::Ready(Ok(frame)) if *frame == *b"frame"));
    }
}

fn threads_of_the_reactor() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "slipring-react").count()
}

/// A thread gives itself its name, and is listed for a moment after it was joined.
fn wait_for_threads_of_the_reactor(expected: usize) {
    let start = Instant::now();
    while threads_of_the_reactor() != expected {
        assert!(start.elapsed() < Duration::from_secs(60), "{} threads, not {expected}", threads_of_the_reactor());
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "run by others as a child"]
fn the_only_handles_of_a_process() {
    if std::env::var_os("SLIPRING_TEST_ALONE").is_none() {
        return;
    }
    let count = Count::new();
    let mut pairs: Vec<_> = (0..10).map(|_| spsc_pair()).collect();
    assert_eq!(threads_of_the_reactor(), 0, "a handle that does not wait needs no thread");
    for (tx, rx) in &mut pairs {
        tx.get_mut().try_send(b"frame").unwrap();
        assert!(count.poll(pin!(rx.recv())).is_ready());
    }
    assert_eq!(threads_of_the_reactor(), 0, "nor does one that finds a frame");
    for (_, rx) in &mut pairs {
        assert!(count.poll(pin!(rx.recv())).is_pending());
    }
    wait_for_threads_of_the_reactor(1);
    pairs.truncate(1);
    assert_eq!(threads_of_the_reactor(), 1);
    pairs.clear();
    wait_for_threads_of_the_reactor(0); // it ends with its last user
    println!("done");
}

#[test]
fn the_reactor_is_started_by_its_first_user_and_ends_with_its_last() {
    let mut command = this_test(module_path!(), "the_only_handles_of_a_process");
    let output = command.arg("--ignored").env("SLIPRING_TEST_ALONE", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).lines().any(|line| line.ends_with("done")), "{output:?}");
}

#[test]
fn a_byte_stream_goes_through_readers_and_writers() {
    use std::io::{Read, Write};
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let (mut tx, mut rx) = slipring::stream::pair(4096).unwrap();
    std::thread::scope(|scope| {
        let written = &bytes;
        scope.spawn(move || Write::write_all(&mut tx, written).unwrap());
        let mut read = Vec::new();
        rx.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    });
    let (tx, mut rx) = slipring::stream::pair(4096).unwrap();
    drop(rx);
    let mut tx = tx;
    let error = Write::write_all(&mut tx, &bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    (tx, rx) = slipring::stream::pair(4096).unwrap();
    let (mut tx, mut rx) = (slipring::stream::AsyncProducer::new(tx), slipring::stream::AsyncConsumer::new(rx));
    std::thread::scope(|scope| {
        let mut rest = &bytes[..];
        scope.spawn(move || {
            block_on(async {
                while !rest.is_empty() {
                    rest = &rest[tx.write(rest).await.unwrap()..];
                }
            });
        });
        let mut read = Vec::new();
        let mut block = [0; 1000];
        let end = block_on(async {
            loop {
                match rx.read(&mut block).await {
                    Ok(n) => read.extend_from_slice(&block[..n]),
                    Err(end) => break end,
                }
            }
        });
        assert!(matches!(end, slipring::Error::Closed));
        assert_eq!(read, bytes);
    });
}
