//! Random histories of one ring with several handles that close and are killed, against a model of
//! the frames: each is delivered until it is released, first unmarked and then marked, and in order
//! as long as no participant dies.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::forget;

use proptest::prelude::*;

use super::super::{Consumer, Producer};
use crate::error::Error;
use crate::frame::{Flags, Header};
use crate::ring::{Options, Ring};

const SLOTS: usize = 8;
const HANDLES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    SendBatch(usize, usize),
    /// Claim, then abort or forget.
    Claim(usize, bool),
    Recv(usize),
    /// Read this many; then drop the batch, or forget it.
    RecvBatch(usize, usize, bool),
    /// This handle closes, or is killed, and another attaches.
    NextProducer(usize, bool),
    NextConsumer(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..HANDLES;
    prop_oneof![
        8 => who().prop_map(Step::Send),
        2 => (who(), 0..10usize).prop_map(|(w, n)| Step::SendBatch(w, n)),
        2 => (who(), any::<bool>()).prop_map(|(w, f)| Step::Claim(w, f)),
        8 => who().prop_map(Step::Recv),
        3 => (who(), 1..10usize, any::<bool>()).prop_map(|(w, n, d)| Step::RecvBatch(w, n, d)),
        2 => (who(), any::<bool>()).prop_map(|(w, k)| Step::NextProducer(w, k)),
        2 => (who(), any::<bool>()).prop_map(|(w, k)| Step::NextConsumer(w, k)),
    ]
}

#[derive(Default)]
struct Model {
    next: u64,
    /// Committed, and not yet taken.
    ready: BTreeSet<u64>,
    /// Taken and forgotten, by consumer.
    held: [Vec<u64>; HANDLES],
    /// Recovered from participants that left or died.
    again: BTreeSet<u64>,
    /// Claims that were forgotten, by producer.
    claims: [usize; HANDLES],
    sent: u64,
    received: u64,
    redelivered: u64,
}

impl Model {
    fn sent(&mut self) {
        self.ready.insert(self.next);
        self.next += 1;
        self.sent += 1;
    }

    /// This frame has just been received.
    fn taken(&mut self, header: Header, payload: &[u8], batch: bool) -> u64 {
        let number = u64::from_le_bytes(payload.try_into().unwrap());
        if header.flags.contains(Flags::REDELIVERED) {
            assert!(self.again.remove(&number), "{number} is marked");
        } else {
            assert!(batch || self.again.is_empty(), "what comes again comes first");
            assert_eq!(self.ready.pop_first(), Some(number), "in order");
        }
        number
    }

    fn released(&mut self, header: Header) {
        self.received += 1;
        self.redelivered += u64::from(header.flags.contains(Flags::REDELIVERED));
    }

    /// Whether the ring may look empty: it has no frame, or the next position is an unfinished
    /// claim.
    fn may_be_empty(&self) -> bool {
        self.again.is_empty() && (self.ready.is_empty() || self.claims.iter().sum::<usize>() > 0)
    }
}

fn play(steps: &[Step]) {
    let ring = Ring::heap(&Options::mpmc(SLOTS, 8)).unwrap();
    let mut tx: [Producer; HANDLES] = std::array::from_fn(|_| Producer::attach(&ring).unwrap());
    let mut rx: [Consumer; HANDLES] = std::array::from_fn(|_| Consumer::attach(&ring).unwrap());
    let mut model = Model::default();
    for step in steps {
        match *step {
            Step::Send(who) => match tx[who].try_send(&model.next.to_le_bytes()) {
                Ok(()) => model.sent(),
                Err(e) => assert!(matches!(e, Error::Full), "{e}"),
            },
            Step::SendBatch(who, n) => {
                let numbers: Vec<_> = (0..n as u64).map(|i| (model.next + i).to_le_bytes()).collect();
                let sent = tx[who].try_send_batch(numbers.iter().map(<[u8; 8]>::as_slice));
                (0..sent.unwrap_or(0)).for_each(|_| model.sent());
            }
            Step::Claim(who, forgotten) => {
                if let Ok(grant) = tx[who].try_reserve(8) {
                    if forgotten {
                        forget(grant);
                        model.claims[who] += 1;
                    }
                }
            }
            Step::Recv(who) => match rx[who].try_recv() {
                Ok(view) => {
                    model.taken(view.header(), &view, false);
                    model.released(view.header());
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.may_be_empty(), "{e}"),
            },
            Step::RecvBatch(who, n, release) => match rx[who].try_recv_batch(n) {
                Ok(mut batch) => {
                    assert!(batch.iter().len() <= n);
                    for frame in batch.iter() {
                        let number = model.taken(frame.header, frame.payload, true);
                        if release {
                            model.released(frame.header);
                        } else {
                            model.held[who].push(number);
                        }
                    }
                    if !release {
                        forget(batch);
                    }
                }
                Err(e) => assert!(matches!(e, Error::Empty) && model.may_be_empty(), "{e}"),
            },
            Step::NextProducer(who, killed) => {
                let next = Producer::attach(&ring).unwrap();
                let old = std::mem::replace(&mut tx[who], next);
                if killed {
                    old.kill_for_test()
                } else {
                    old.close()
                }
                ring.reap_dead().unwrap();
                model.claims[who] = 0;
            }
            Step::NextConsumer(who, killed) => {
                let next = Consumer::attach(&ring).unwrap();
                let old = std::mem::replace(&mut rx[who], next);
                if killed {
                    old.kill_for_test()
                } else {
                    old.close()
                }
                ring.reap_dead().unwrap();
                model.again.extend(std::mem::take(&mut model.held[who]));
            }
        }
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let expected = (model.ready.len(), model.again.len(), model.claims.iter().sum::<usize>());
        assert_eq!((report.frames as usize, report.redeliver as usize, report.writing as usize), expected);
        assert_eq!(report.reading as usize, model.held.iter().map(Vec::len).sum::<usize>());
    }
    // All handles close; a new consumer finds all frames that were not released.
    drop((tx, rx));
    model.held.iter_mut().for_each(|held| model.again.extend(held.drain(..)));
    let rx = Consumer::attach(&ring).unwrap();
    let mut rest = BTreeMap::new();
    while let Ok(view) = rx.try_recv() {
        rest.insert(u64::from_le_bytes((*view).try_into().unwrap()), view.header().flags.contains(Flags::REDELIVERED));
        model.released(view.header());
    }
    let expected = model.ready.iter().map(|n| (*n, false)).chain(model.again.iter().map(|n| (*n, true)));
    assert_eq!(rest, expected.collect());
    let counts = ring.stats().counts;
    assert_eq!((counts.sent, counts.received, counts.lost), (model.sent, model.received, 0));
    assert_eq!(counts.redelivered, model.redelivered);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_that_of_a_work_queue(steps in proptest::collection::vec(step(), 0..150)) {
        play(&steps);
    }
}
