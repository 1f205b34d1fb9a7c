//! Random histories of one ring, with every operation and end of its two handles, against a queue.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::{Consumer, Producer};
use crate::error::Error;
use crate::frame::{Flags, Header};
use crate::ring::{Options, Ring};

const CAPACITY: usize = 4096;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    /// Reserve this much; commit this much of it, or nothing.
    Grant(usize, Option<usize>),
    /// Push frames of these lengths; then commit or abort.
    Batch(Vec<usize>, bool),
    Recv,
    /// One, and up to so many behind it in the same view.
    Next(usize),
    Keep,
    /// Into a buffer of this length.
    RecvInto(usize),
    /// Read this many; then drop the batch, or forget it.
    RecvBatch(usize, bool),
    /// The handle closes, or is killed (a producer with this many frames staged), and another
    /// attaches.
    NextProducer(Option<usize>),
    NextConsumer {
        killed: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..64usize, 2 => 0..1000usize, 1 => 4000..4100usize];
    prop_oneof![
        8 => len().prop_map(Step::Send),
        3 => (len(), proptest::option::of(0..4096usize)).prop_map(|(n, k)| Step::Grant(n, k.map(|k| k % (n + 1)))),
        3 => (proptest::collection::vec(len(), 0..12), any::<bool>()).prop_map(|(l, c)| Step::Batch(l, c)),
        8 => Just(Step::Recv),
        4 => (1..20usize).prop_map(Step::Next),
        2 => Just(Step::Keep),
        2 => (0..1000usize).prop_map(Step::RecvInto),
        3 => (0..20usize, any::<bool>()).prop_map(|(n, drop)| Step::RecvBatch(n, drop)),
        1 => proptest::option::of(0..4usize).prop_map(Step::NextProducer),
        2 => any::<bool>().prop_map(|killed| Step::NextConsumer { killed }),
    ]
}

struct Frame {
    payload: Vec<u8>,
    seq: u32,
}

/// The expected state of the ring.
#[derive(Default)]
struct Model {
    waiting: VecDeque<Frame>,
    used: usize,
    /// A dead consumer held this many frames at the front.
    marked: usize,
    /// This many frames at the front have been read, and not released.
    shown: usize,
    /// Of this producer.
    seq: u32,
    sent: u64,
    received: u64,
    redelivered: u64,
    bytes: u64,
}

fn size(len: usize) -> usize {
    (16 + len).next_multiple_of(8)
}

impl Model {
    fn fits(&self, staged: usize, len: usize) -> bool {
        self.used + staged + size(len) + 8 <= CAPACITY
    }

    fn sent(&mut self, payload: Vec<u8>) {
        self.used += size(payload.len());
        self.sent += 1;
        self.bytes += payload.len() as u64;
        self.waiting.push_back(Frame { payload, seq: self.seq });
        self.seq += 1;
    }

    fn released(&mut self) {
        let frame = self.waiting.pop_front().unwrap();
        self.used -= size(frame.payload.len());
        self.received += 1;
        self.bytes += frame.payload.len() as u64;
        self.redelivered += u64::from(self.marked > 0);
        self.marked = self.marked.saturating_sub(1);
        self.shown = self.shown.saturating_sub(1);
    }

    /// The `i`-th frame is what was received.
    fn check(&mut self, i: usize, header: Header, payload: &[u8]) {
        let frame = &self.waiting[i];
        assert_eq!((payload, header.seq), (frame.payload.as_slice(), frame.seq));
        assert_eq!(header.flags.contains(Flags::REDELIVERED), i < self.marked);
        self.shown = self.shown.max(i + 1);
    }
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| (i ^ seed.wrapping_mul(0x9E37_79B9)) as u8).collect()
}

fn play(steps: &[Step]) {
    let ring = Ring::create_anonymous(&Options::spsc(CAPACITY)).unwrap();
    let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let max = tx.max_payload();
    let mut model = Model::default();
    for (number, step) in (0..).zip(steps) {
        match step {
            &Step::Send(len) => match tx.try_send(&payload(len, number)) {
                Ok(()) => {
                    assert!(model.fits(0, len));
                    model.sent(payload(len, number));
                }
                Err(Error::Full) => assert!(!model.fits(0, len) && len <= max),
                Err(Error::TooLarge { .. }) => assert!(len > max),
                Err(e) => panic!("{e}"),
            },
            &Step::Grant(len, commit) => match tx.try_reserve(len) {
                Ok(mut grant) => {
                    assert!(model.fits(0, len));
                    grant.copy_from_slice(&payload(len, number));
                    if let Some(n) = commit {
                        grant.commit(n);
                        model.sent(payload(len, number)[..n].to_vec());
                    }
                }
                Err(Error::Full) => assert!(!model.fits(0, len) && len <= max),
                Err(_) => assert!(len > max),
            },
            Step::Batch(lengths, commit) => {
                let mut batch = tx.batch();
                let (mut staged, mut pushed) = (0, Vec::new());
                for &len in lengths {
                    let bytes = payload(len, number + pushed.len() as u64);
                    match batch.push(&bytes) {
                        Ok(()) => {
                            assert!(model.fits(staged, len));
                            staged += size(len);
                            pushed.push(bytes);
                        }
                        Err(Error::Full) => assert!(!model.fits(staged, len)),
                        Err(_) => assert!(len > max),
                    }
                }
                assert_eq!(batch.len(), pushed.len());
                if *commit {
                    batch.commit();
                    pushed.into_iter().for_each(|bytes| model.sent(bytes));
                }
            }
            Step::Recv => match rx.try_recv() {
                Ok(view) => {
                    model.check(0, view.header(), &view);
                    drop(view);
                    model.released();
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.waiting.is_empty(), "{e}"),
            },
            &Step::Next(n) => match rx.try_recv() {
                Ok(mut view) => {
                    model.check(0, view.header(), &view);
                    for _ in 0..n {
                        if !view.next_if_ready() {
                            break;
                        }
                        model.released();
                        model.check(0, view.header(), &view);
                    }
                    model.check(0, view.header(), &view);
                    drop(view);
                    model.released();
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.waiting.is_empty(), "{e}"),
            },
            Step::Keep => match rx.try_recv() {
                Ok(view) => {
                    model.check(0, view.header(), &view);
                    view.keep();
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.waiting.is_empty(), "{e}"),
            },
            &Step::RecvInto(len) => {
                let mut buffer = vec![0; len];
                match rx.try_recv_into(&mut buffer) {
                    Ok(header) => {
                        model.check(0, header, &buffer[..header.len as usize]);
                        model.released();
                    }
                    Err(Error::TooLarge { max }) => {
                        assert!(max > len && max == model.waiting[0].payload.len());
                        model.shown = model.shown.max(1);
                    }
                    Err(e) => assert!(matches!(e, Error::Empty) && model.waiting.is_empty(), "{e}"),
                }
            }
            &Step::RecvBatch(n, release) => match rx.try_recv_batch(usize::MAX) {
                Ok(mut batch) => {
                    model.shown = model.shown.max(1);
                    let mut seen = 0;
                    for frame in batch.iter().take(n) {
                        model.check(seen, frame.header, frame.payload);
                        seen += 1;
                    }
                    assert_eq!(seen, n.min(model.waiting.len()));
                    if release {
                        drop(batch);
                        (0..seen).for_each(|_| model.released());
                    } else {
                        std::mem::forget(batch);
                    }
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.waiting.is_empty(), "{e}"),
            },
            &Step::NextProducer(killed) => {
                if let Some(staged) = killed {
                    let mut batch = tx.batch();
                    (0..staged).for_each(|_| _ = batch.push(b"never sent"));
                    tx.kill_for_test();
                } else {
                    tx.close();
                }
                tx = Producer::attach(&ring).unwrap();
                model.seq = 0;
            }
            &Step::NextConsumer { killed } => {
                if killed {
                    rx.kill_for_test();
                    model.marked = model.shown;
                } else {
                    rx.close();
                    model.shown = model.marked;
                }
                rx = Consumer::attach(&ring).unwrap();
            }
        }
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.frames, model.waiting.len() as u64);
        assert_eq!(ring.stats().used(), model.used as u64);
    }
    let counts = ring.stats().counts;
    assert_eq!((counts.sent, counts.received, counts.bytes), (model.sent, model.received, model.bytes));
    assert_eq!((counts.redelivered, counts.lost), (model.redelivered, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_that_of_a_queue(steps in proptest::collection::vec(step(), 0..150)) {
        play(&steps);
    }
}
