//! Typed messages: both sides agree on the type over every ring and transport, also across
//! processes.

use std::time::Duration;

use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, ring, udp};
use slipring::typed::{Codec, Plain, Postcard, Typed};
use slipring::{Error, Options, Ring, broadcast, latest, mpmc, mpsc, spsc, stream};

use crate::common::dir::TestDir;
use crate::common::this_test::this_test;

const SOON: Duration = Duration::from_secs(60);

slipring::message! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Quote { bid: i64, ask: i64 }
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Trade { price: i64, size: u64 }
}

mod newer {
    slipring::message! {
        #[derive(Debug, PartialEq)]
        pub struct Quote { pub ask: i64, pub bid: i64 }
    }
}

const QUOTE: Quote = Quote { bid: 1, ask: 2 };

fn describe<T, C: Codec<T>>() -> String {
    C::describe()
}

fn refused<H: std::fmt::Debug>(outcome: Result<H, Error>, expected: &str, found: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error, Error::OtherType { expected: expected.into(), found: found.into() });
    assert!(error.to_string().contains(expected) && error.to_string().contains(found), "{error}");
}

#[test]
fn every_kind_of_ring_keeps_the_type_of_its_first_handle() {
    let (quote, trade) = (describe::<Quote, Plain>(), describe::<Trade, Plain>());
    macro_rules! check {
        ($options:expr, $tx:ident, $rx:ident, $($module:ident)::+ $(, $start:expr)?) => {{
            let ring = Ring::create_anonymous(&$options).unwrap();
            assert_eq!(ring.message_type(), None);
            let tx = Typed::<Quote, _>::new($($module)::+::$tx::attach(&ring).unwrap()).unwrap();
            assert_eq!(ring.message_type().as_ref(), Some(&quote));
            drop(tx);
            refused(Typed::<Trade, _>::new($($module)::+::$tx::attach(&ring).unwrap()), &trade, &quote);
            refused(Typed::<Trade, _>::new($($module)::+::$rx::attach(&ring $(, $start)?).unwrap()), &trade, &quote);
            Typed::<Quote, _>::new($($module)::+::$rx::attach(&ring $(, $start)?).unwrap()).unwrap();
        }};
    }
    check!(Options::spsc(4096), Producer, Consumer, spsc);
    check!(Options::mpmc(4, 64), Producer, Consumer, mpmc);
    check!(Options::mpsc(4096, 4), Producer, Consumer, mpsc);
    check!(Options::stream(4096), Producer, Consumer, stream);
    check!(Options::latest(1, 64), Writer, Reader, latest);
    check!(Options::broadcast(4096), Publisher, Subscriber, broadcast, broadcast::Start::Oldest);
}

#[test]
fn fields_in_another_order_are_another_type() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let _tx = Typed::<Quote, _>::new(spsc::Producer::attach(&ring).unwrap()).unwrap();
    let other = Typed::<newer::Quote, _>::new(spsc::Consumer::attach(&ring).unwrap());
    refused(other, &describe::<newer::Quote, Plain>(), &describe::<Quote, Plain>());
    let other = Typed::<(i64, i64), _, Postcard>::new(spsc::Consumer::attach(&ring).unwrap());
    refused(other, "Postcard", &describe::<Quote, Plain>());
}

#[test]
fn a_frame_of_another_type_is_an_error_and_not_a_value() {
    let ring = Ring::create_anonymous(&Options::mpmc(8, 64)).unwrap();
    let mut untyped = mpmc::Producer::attach(&ring).unwrap();
    let mut tx = Typed::<Quote, _>::new(mpmc::Producer::attach(&ring).unwrap()).unwrap();
    let mut rx = Typed::<Quote, _>::new(mpmc::Consumer::attach(&ring).unwrap()).unwrap();
    untyped.send(&[0; 16]).unwrap();
    tx.try_send(&QUOTE).unwrap();
    untyped.send_frame(tx.header(), &[0; 15]).unwrap();
    assert!(matches!(rx.recv(), Err(Error::Incompatible { found: 0x0100, .. })));
    assert_eq!(rx.recv().unwrap(), QUOTE);
    assert!(matches!(rx.recv(), Err(Error::Incompatible { expected: 16, found: 15, .. })));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    let _ = &mut untyped;
}

#[test]
fn a_boxed_ring_and_a_handle_of_it_understand_each_other() {
    let (tx, rx) = spsc::pair(4096).unwrap();
    let mut tx: Typed<Quote, Box<dyn FrameSender>> = Typed::new(Box::new(ring::Sender::from(tx)) as _).unwrap();
    let mut rx: Typed<Quote, _> = Typed::new(rx).unwrap();
    tx.send(&QUOTE).unwrap();
    tx.send(&QUOTE).unwrap();
    assert_eq!((rx.recv().unwrap(), rx.recv().unwrap()), (QUOTE, QUOTE));
}

#[test]
fn a_transport_names_both_types_and_goes_on_with_the_right_one() {
    let (tx, rx) = pipe::pair(&Default::default()).unwrap();
    let mut tx: Typed<Trade, Box<dyn FrameSender>> = Typed::new(Box::new(tx) as _).unwrap();
    let mut rx: Typed<Quote, Box<dyn FrameReceiver>> = Typed::new(Box::new(rx) as _).unwrap();
    tx.send(&Trade { price: 1, size: 2 }).unwrap();
    // The same sender, with the right type.
    let mut tx: Typed<Quote, Box<dyn FrameSender>> = Typed::new(tx.into_inner()).unwrap();
    tx.send_deadline(&QUOTE, SOON).unwrap();
    tx.get_mut().flush(SOON).unwrap();
    refused(rx.recv_deadline(SOON), &describe::<Quote, Plain>(), &describe::<Trade, Plain>());
    assert_eq!(rx.recv_deadline(SOON).unwrap(), QUOTE);
    assert_eq!(rx.take_missed(), 0);
}

#[test]
fn a_message_without_its_announcement_is_recognised_by_its_kind() {
    let (tx, rx) = pipe::pair(&Default::default()).unwrap();
    let other: Typed<Trade, _> = Typed::new(spsc::pair(4096).unwrap().0).unwrap();
    let mut rx: Typed<Quote, Box<dyn FrameReceiver>> = Typed::new(Box::new(rx) as _).unwrap();
    let mut tx: Box<dyn FrameSender> = Box::new(tx);
    tx.send(other.header(), &[0; 16]).unwrap();
    tx.flush(SOON).unwrap();
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Incompatible { .. })));
    let _ = udp::CAPABILITIES; // the transport that may lose an announcement
}

#[test]
fn a_lossy_subscriber_receives_values_of_any_size_and_counts_the_others() {
    let (tx, rx) = broadcast::overwriting(4096).unwrap();
    refused(
        Typed::<Trade, _>::new(rx).and_then(|_| Typed::<Quote, _>::new(tx).map(|_| ())),
        &describe::<Quote, Plain>(),
        &describe::<Trade, Plain>(),
    );
    let (tx, rx) = broadcast::overwriting(4096).unwrap();
    let mut tx: Typed<(u64, String), _, Postcard> = Typed::new(tx).unwrap();
    let mut rx: Typed<(u64, String), _, Postcard> = Typed::new(rx).unwrap();
    let value = |n: u64| (n, "x".repeat(n as usize % 700));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    let mut next = 0;
    for sent in 0..2000 {
        tx.send(&value(sent)).unwrap();
        if sent % 97 != 0 {
            continue;
        }
        while let Ok(received) = rx.try_recv() {
            next += rx.take_missed();
            assert_eq!(received, value(next));
            next += 1;
        }
    }
    drop(tx);
    while let Ok(received) = rx.recv_deadline(SOON) {
        next += rx.take_missed();
        assert_eq!(received, value(next));
        next += 1;
    }
    assert_eq!(next, 2000);
}

#[test]
fn bytes_that_are_no_value_are_an_error() {
    let (tx, rx) = spsc::pair(4096).unwrap();
    let mut tx: Typed<(u32, String), _, Postcard> = Typed::new(tx).unwrap();
    let mut rx: Typed<(u32, String), _, Postcard> = Typed::new(rx).unwrap();
    let header = tx.header();
    for bytes in [&[][..], &[0xFF; 20], &[1, 200, b'a'], &[1, 1, b'a', 0]] {
        tx.get_mut().send_frame(header, bytes).unwrap();
        assert!(matches!(rx.recv(), Err(Error::Corrupt { .. })));
    }
    for n in 0..100u32 {
        let value = (n, "x".repeat(n as usize));
        tx.send(&value).unwrap();
        assert_eq!(rx.recv().unwrap(), value);
    }
}

#[test]
fn another_process_with_another_type_is_refused() {
    let dir = TestDir::new("typed");
    let options = Options::spsc(4096).directory(&dir.0);
    let mut tx = Typed::<Quote, _>::new(spsc::Producer::open("quotes", &options).unwrap()).unwrap();
    tx.send(&QUOTE).unwrap();
    let run = |wrong: &str| {
        let mut child = this_test(module_path!(), "consume");
        child.arg("--ignored");
        child.env("SLIPRING_TYPED_DIR", &dir.0).env("SLIPRING_TYPED_WRONG", wrong);
        assert!(child.status().unwrap().success());
    };
    run("yes");
    run("no");
    assert!(tx.get_ref().is_empty());
    drop(tx);
    Ring::remove("quotes", &options).unwrap();
}

#[test]
#[ignore = "run by others as a child"]
fn consume() {
    let Some(dir) = std::env::var_os("SLIPRING_TYPED_DIR") else { return };
    let options = Options::spsc(4096).directory(dir);
    let rx = spsc::Consumer::open("quotes", &options).unwrap();
    if std::env::var("SLIPRING_TYPED_WRONG").unwrap() == "yes" {
        refused(Typed::<Trade, _>::new(rx), &describe::<Trade, Plain>(), &describe::<Quote, Plain>());
    } else {
        assert_eq!(Typed::<Quote, _>::new(rx).unwrap().recv_deadline(SOON).unwrap(), QUOTE);
    }
}
