//! Tasks at transports: over the reactor under any executor, and in a runtime of Tokio.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_sink::Sink;
use slipring::frame::{Event, Header, OwnedEvent, OwnedFrame};
use slipring::transport::{AsyncReceiver, AsyncSender, FrameReceiver, FrameSender, pipe, ring, stream};
use slipring::{Error, Options, spsc};

use crate::common::dir::TestDir;
use crate::common::tasks::{Count, block_on};

type Ends = (Box<dyn FrameSender>, Box<dyn FrameReceiver>);

fn through_pipe() -> Ends {
    let (tx, rx) = pipe::pair(&stream::Options::new()).unwrap();
    (Box::new(tx), Box::new(rx))
}

fn through_ring() -> Ends {
    let (tx, rx) = spsc::pair(4096).unwrap();
    (Box::new(ring::Sender::from(tx)), Box::new(ring::Receiver::from(rx).with_doorbell().unwrap()))
}

/// Its sender has no descriptor, and its receiver none either.
fn without_descriptors() -> Ends {
    let (tx, rx) = spsc::pair(4096).unwrap();
    (Box::new(ring::Sender::from(tx)), Box::new(ring::Receiver::from(rx)))
}

const ALL: [fn() -> Ends; 3] = [through_pipe, through_ring, without_descriptors];

async fn send(mut tx: AsyncSender, frames: u64) {
    for n in 0..frames {
        let payload = [n.to_le_bytes().as_slice(), &[n as u8; 300]].concat();
        tx.send(Header::PLAIN, &payload).await.unwrap();
    }
    tx.flush().await.unwrap();
    tx.close().await.unwrap();
}

async fn receive(mut rx: AsyncReceiver, frames: u64) {
    for n in 0..frames {
        match rx.recv().await.unwrap() {
            Event::Frame(frame) => {
                assert_eq!(frame.payload[..8], n.to_le_bytes());
                assert_eq!(frame.payload[8..], [n as u8; 300]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(rx.recv().await, Err(Error::Closed)));
}

#[test]
fn frames_go_through_every_kind_of_end_under_any_executor() {
    for ends in ALL {
        let (tx, rx) = ends();
        let sending = std::thread::spawn(move || block_on(send(AsyncSender::new(tx), 500)));
        block_on(receive(AsyncReceiver::new(rx), 500));
        sending.join().unwrap();
    }
}

fn in_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn frames_go_through_every_kind_of_end_in_tokio() {
    for ends in ALL {
        let (tx, rx) = ends();
        in_tokio(async {
            let sending = tokio::spawn(send(AsyncSender::in_tokio(tx), 500));
            receive(AsyncReceiver::in_tokio(rx), 500).await;
            sending.await.unwrap();
        });
    }
}

#[test]
fn rings_need_nothing_of_tokio_and_time_out_by_it() {
    let (tx, rx) = spsc::pair(4096).unwrap();
    let (mut tx, mut rx) = (spsc::AsyncProducer::from(tx), spsc::AsyncConsumer::from(rx));
    in_tokio(async {
        assert!(tokio::time::timeout(Duration::from_millis(5), rx.recv()).await.is_err());
        let sending = tokio::spawn(async move {
            for n in 0..10_000u32 {
                tx.send(&n.to_le_bytes()).await.unwrap();
                if n % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        for n in 0..10_000u32 {
            assert_eq!(*rx.recv().await.unwrap(), n.to_le_bytes());
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_dropped_wait_loses_nothing() {
    for tokio in [false, true] {
        for ends in ALL {
            in_tokio(async {
                let (mut tx, rx) = ends();
                let mut rx = if tokio { AsyncReceiver::in_tokio(rx) } else { AsyncReceiver::new(rx) };
                for n in 0..20u8 {
                    {
                        let count = Count::new();
                        let mut recv = pin!(rx.recv());
                        assert!(count.poll(recv.as_mut()).is_pending());
                        if n % 2 == 0 {
                            tx.send(Header::PLAIN, &[n]).unwrap();
                        }
                    }
                    if n % 2 != 0 {
                        tx.send(Header::PLAIN, &[n]).unwrap();
                    }
                    let event = rx.recv().await.unwrap();
                    assert!(matches!(event, Event::Frame(frame) if frame.payload == [n]), "{event:?}");
                }
            });
        }
    }
}

fn stream_of(rx: &mut AsyncReceiver) -> impl Future<Output = Option<slipring::Result<OwnedEvent>>> {
    poll_fn(|cx| Pin::new(&mut *rx).poll_next(cx))
}

#[test]
fn a_sink_and_a_stream_of_owned_frames() {
    const FRAMES: u64 = 500;
    for tokio in [false, true] {
        for ends in ALL {
            let (tx, rx) = ends();
            let sending = std::thread::spawn(move || {
                in_tokio(async {
                    let mut tx = if tokio { AsyncSender::in_tokio(tx) } else { AsyncSender::new(tx) };
                    for n in 0..FRAMES {
                        poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)).await.unwrap();
                        let header = Header { stream: 3, ..Header::PLAIN };
                        // Two frames or so fill the ring.
                        let frame = OwnedFrame::new(header, vec![n as u8; 1900]);
                        Pin::new(&mut tx).start_send(frame).unwrap();
                        if n % 50 == 0 {
                            poll_fn(|cx| Pin::new(&mut tx).poll_flush(cx)).await.unwrap();
                        }
                    }
                    poll_fn(|cx| Pin::new(&mut tx).poll_close(cx)).await.unwrap();
                });
            });
            in_tokio(async {
                let mut rx = if tokio { AsyncReceiver::in_tokio(rx) } else { AsyncReceiver::new(rx) };
                for n in 0..FRAMES {
                    match stream_of(&mut rx).await {
                        Some(Ok(OwnedEvent::Frame(frame))) => {
                            assert_eq!((frame.header.stream, frame.header.seq), (3, n as u32));
                            assert_eq!(frame.payload, [n as u8; 1900]);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert!(stream_of(&mut rx).await.is_none());
            });
            sending.join().unwrap();
        }
    }
}

#[test]
fn a_dropped_poll_of_a_sink_or_a_stream_loses_nothing() {
    for tokio in [false, true] {
        for ends in [through_ring, without_descriptors] {
            in_tokio(async {
                let (tx, rx) = ends();
                let (mut tx, mut rx) = match tokio {
                    true => (AsyncSender::in_tokio(tx), AsyncReceiver::in_tokio(rx)),
                    false => (AsyncSender::new(tx), AsyncReceiver::new(rx)),
                };
                let count = Count::new();
                assert!(count.poll(pin!(stream_of(&mut rx))).is_pending());
                let mut sent = 0u8;
                loop {
                    Pin::new(&mut tx).start_send(vec![sent; 1000].into()).unwrap();
                    sent += 1;
                    if count.poll(pin!(poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)))).is_pending() {
                        break;
                    }
                }
                // The last one waits in the sink. It goes before what is sent otherwise.
                assert!(matches!(Pin::new(&mut tx).start_send(vec![0].into()), Err(Error::Full)), "not ready");
                assert!(count.poll(pin!(tx.send(Header::PLAIN, &[sent; 1000]))).is_pending());
                for n in 0..sent - 1 {
                    assert!(matches!(rx.recv().await.unwrap(), Event::Frame(frame) if frame.payload == [n; 1000]));
                }
                tx.send(Header::PLAIN, &[sent; 1000]).await.unwrap();
                for n in sent - 1..=sent {
                    let event = stream_of(&mut rx).await.unwrap().unwrap();
                    assert!(matches!(event.as_event(), Event::Frame(frame) if frame.payload == [n; 1000]), "{event:?}");
                }
            });
        }
    }
}

#[test]
fn what_is_no_frame_is_an_item_of_the_stream() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut rx = AsyncReceiver::new(Box::new(pipe::receiver(reader.into(), &stream::Options::new()).unwrap()));
    std::io::Write::write_all(&mut writer, &[0xFF; 9]).unwrap();
    drop(writer);
    let item = block_on(stream_of(&mut rx));
    assert!(matches!(item, Some(Ok(OwnedEvent::Skipped { bytes: 9, .. }))), "{item:?}");
}

#[test]
fn without_a_runtime_of_tokio_the_wait_is_refused() {
    let (_tx, rx) = through_pipe();
    let mut rx = AsyncReceiver::in_tokio(rx);
    assert!(matches!(block_on(rx.recv()), Err(Error::Unsupported { .. })));
}

/// The peer sees that an end was closed, although the task's handle of it lives on.
#[test]
fn a_closed_sender_keeps_no_descriptor() {
    for tokio in [false, true] {
        in_tokio(async {
            let (reader, writer) = std::io::pipe().unwrap();
            let tx = Box::new(pipe::sender(writer.into(), &stream::Options::new()).unwrap());
            let mut tx = if tokio { AsyncSender::in_tokio(tx) } else { AsyncSender::new(tx) };
            let mut sent = 0;
            loop {
                // Until the pipe is full, and the sender waits.
                let mut send = pin!(tx.send(Header::PLAIN, &[0; 4000]));
                match Count::new().poll(send.as_mut()) {
                    std::task::Poll::Ready(outcome) => outcome.unwrap(),
                    std::task::Poll::Pending => break,
                }
                sent += 1;
            }
            let reading = std::thread::spawn(move || {
                let mut all = Vec::new();
                std::io::Read::read_to_end(&mut { reader }, &mut all).unwrap();
                all.len()
            });
            tx.close().await.unwrap();
            assert!(reading.join().unwrap() > sent * 4000);
            drop(tx);
        });
    }
}

/// 8 senders, busy and idle in turn: every frame arrives, in order. Prints the longest time from
/// the send to the receipt by a task.
#[test]
fn eight_senders_and_one_thread_of_tasks() {
    const RINGS: u64 = 8;
    let full = std::env::var("SLIPRING_TESTS").is_ok_and(|form| form == "full");
    let frames: u64 = if full { 125_000 } else { 2_000 };
    let dir = TestDir::new("tasks-eight");
    let options = Options::spsc(1 << 16).directory(&dir.0);
    let start = Instant::now();
    let now = move || start.elapsed().as_nanos() as u64;
    let senders: Vec<_> = (0..RINGS)
        .map(|ring| {
            let mut tx = spsc::Producer::open(&format!("ring{ring}"), &options).unwrap();
            std::thread::spawn(move || {
                for n in 0..frames {
                    if n % (1 << (ring + 3)) == 0 {
                        std::thread::sleep(Duration::from_micros(50 << (ring % 4)));
                    }
                    let message = [n, now()].map(u64::to_le_bytes).concat();
                    tx.send(&message).unwrap();
                }
            })
        })
        .collect();
    let longest = in_tokio(async {
        let tasks: Vec<_> = (0..RINGS)
            .map(|ring| {
                let rx = spsc::Consumer::open(&format!("ring{ring}"), &options).unwrap();
                let mut rx = spsc::AsyncConsumer::new(rx);
                tokio::spawn(async move {
                    let mut longest = 0;
                    for n in 0..frames {
                        {
                            let frame = rx.recv().await.unwrap();
                            assert_eq!(frame[..8], n.to_le_bytes());
                            let sent = u64::from_le_bytes(frame[8..].try_into().unwrap());
                            longest = longest.max(now().saturating_sub(sent));
                        }
                        if n % 64 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                    assert!(matches!(rx.recv().await, Err(Error::Closed)));
                    longest
                })
            })
            .collect();
        let mut longest = 0;
        for task in tasks {
            longest = longest.max(task.await.unwrap());
        }
        longest
    });
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    println!("{} frames, the latest after {:?}", RINGS * frames, Duration::from_nanos(longest));
}
