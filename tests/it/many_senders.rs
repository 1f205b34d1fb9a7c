//! Hundreds of senders, each in the middle of a fragmented frame: every frame arrives, and the
//! receiver sees the end after the last sender.

use std::sync::Barrier;
use std::time::Duration;

use slipring::Error;
use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiverExt, FrameSenderExt, mq, sysv};

use crate::common::queues::queue_permit;

const SOON: Duration = Duration::from_secs(120);
const SENDERS: usize = 300;
const BYTES: usize = 70_000;

/// A file or queue that the test has to remove.
struct Guard(std::path::PathBuf, String);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = mq::remove(&self.1);
        let _ = sysv::Key::path(&self.0.join("key")).and_then(sysv::remove);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn all_arrives(scheme: &str) {
    let name = format!("slipring-many-{scheme}-{}", std::process::id());
    let guard = Guard(std::env::temp_dir().join(&name), format!("/{name}"));
    std::fs::create_dir(&guard.0).unwrap();
    std::fs::write(guard.0.join("key"), b"").unwrap();
    let endpoint = match scheme {
        "mq" => format!("mq:{}", guard.1),
        "sysv" => format!("sysv:{}", guard.0.join("key").display()),
        scheme => format!("{scheme}:{}", guard.0.join("file").display()),
    };
    let endpoint = Endpoint::parse(&endpoint).unwrap();
    let mut rx = endpoint.open_receiver(SOON).unwrap();
    let (opened, sent) = (Barrier::new(SENDERS), Barrier::new(SENDERS));
    let mut frames = 0;
    let end = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (endpoint, opened, sent) = (&endpoint, &opened, &sent);
            let run = move || {
                let mut tx = endpoint.open_sender(SOON).unwrap();
                opened.wait();
                tx.send(Header::PLAIN, &vec![sender as u8; BYTES]).unwrap();
                tx.flush(SOON).unwrap();
                sent.wait();
                tx.close(SOON).unwrap();
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).unwrap();
        }
        loop {
            match rx.recv_deadline(SOON) {
                Ok(Event::Frame(frame)) => {
                    assert_eq!(frame.payload.len(), BYTES);
                    assert!(frame.payload.iter().all(|byte| *byte == frame.payload[0]));
                    frames += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        }
    });
    assert!(matches!(end, Error::Closed), "{end:?}");
    assert_eq!(frames, SENDERS);
}

#[test]
fn over_unix_datagrams() {
    all_arrives("dgram");
}

#[test]
fn through_a_fifo() {
    all_arrives("fifo");
}

#[test]
fn through_a_posix_queue() {
    let _permit = queue_permit();
    all_arrives("mq");
}

#[test]
fn through_a_system_v_queue() {
    all_arrives("sysv");
}
