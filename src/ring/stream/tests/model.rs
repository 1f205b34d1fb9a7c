//! Random histories of one stream, with every operation and end of its two handles, against a queue
//! of bytes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::{Consumer, Producer};
use crate::error::Error;
use crate::ring::{Options, Ring};

const CAPACITY: usize = 4096;

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    /// Reserve; commit so much of it, or nothing.
    Reserve(usize, Option<usize>),
    Read(usize),
    View(usize, Option<usize>),
    NextProducer(bool),
    NextConsumer(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![3 => 0..200usize, 2 => 0..3000usize, 1 => 4000..4200usize];
    let part = || (len(), proptest::option::of(0..5000usize)).prop_map(|(n, k)| (n, k.map(|k| k % (n + 1))));
    prop_oneof![
        4 => len().prop_map(Step::Write),
        4 => part().prop_map(|(n, k)| Step::Reserve(n, k)),
        4 => len().prop_map(Step::Read),
        4 => part().prop_map(|(n, k)| Step::View(n, k)),
        1 => any::<bool>().prop_map(Step::NextProducer),
        1 => any::<bool>().prop_map(Step::NextConsumer),
    ]
}

fn play(steps: &[Step]) {
    let ring = Ring::create_anonymous(&Options::stream(CAPACITY)).unwrap();
    let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let mut model: VecDeque<u8> = VecDeque::new();
    let mut bytes = (0u32..).map(|i| (i * 7 + i / 256) as u8);
    for step in steps {
        match *step {
            Step::Write(len) => {
                let some: Vec<u8> = bytes.by_ref().take(len).collect();
                let free = CAPACITY - model.len();
                match tx.try_write(&some) {
                    Ok(n) => {
                        assert_eq!(n, len.min(free));
                        model.extend(&some[..n]);
                    }
                    Err(e) => assert!(matches!(e, Error::Full) && free == 0, "{e}"),
                }
            }
            Step::Reserve(len, commit) => match tx.try_reserve(len) {
                Ok(mut grant) => {
                    assert!(len <= CAPACITY - model.len());
                    grant.iter_mut().zip(bytes.by_ref()).for_each(|(to, byte)| *to = byte);
                    if let Some(n) = commit {
                        model.extend(&grant[..n]);
                        grant.commit(n);
                    }
                }
                Err(Error::Full) => assert!(len > CAPACITY - model.len()),
                Err(_) => assert!(len > CAPACITY),
            },
            Step::Read(len) => {
                let mut buffer = vec![0; len];
                match rx.try_read(&mut buffer) {
                    Ok(n) => {
                        assert_eq!(n, len.min(model.len()));
                        assert!(model.drain(..n).eq(buffer[..n].iter().copied()));
                    }
                    Err(e) => assert!(matches!(e, Error::Empty) && model.is_empty(), "{e}"),
                }
            }
            Step::View(len, release) => match rx.try_read_view(len) {
                Ok(view) => {
                    assert!(model.iter().take(len).eq(view.iter()) && len <= model.len());
                    match release {
                        Some(n) if n == len => drop(view),
                        Some(n) => view.release(n),
                        None => view.keep(),
                    }
                    model.drain(..release.unwrap_or(0));
                }
                Err(Error::Empty) => assert!(len > model.len()),
                Err(_) => assert!(len > CAPACITY),
            },
            Step::NextProducer(killed) => {
                if killed {
                    tx.kill_for_test()
                } else {
                    tx.close()
                }
                tx = Producer::attach(&ring).unwrap();
            }
            Step::NextConsumer(killed) => {
                if killed {
                    rx.kill_for_test()
                } else {
                    rx.close()
                }
                rx = Consumer::attach(&ring).unwrap();
            }
        }
        assert!(ring.verify().unwrap().is_clean());
        assert_eq!(ring.stats().used(), model.len() as u64);
        assert_eq!((tx.len(), rx.len(), tx.is_full()), (model.len(), model.len(), model.len() == CAPACITY));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_that_of_a_queue_of_bytes(steps in proptest::collection::vec(step(), 0..120)) {
        play(&steps);
    }
}
