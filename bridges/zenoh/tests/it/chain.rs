//! Ring, bridge, bridge, ring on a healthy link.

use std::time::Duration;

use slipring::frame::Header;
use slipring::{Options, spsc};

use crate::common::{Bridge, Rings, Seen, address, consume, header, payload};

#[test]
fn a_million_frames_arrive_in_order_without_a_gap() {
    const FRAMES: u64 = 1_000_000;
    let rings = Rings::new();
    let at = address();
    let there = Bridge::start(&rings, None, &["zenoh:site1/ticks", "ring:there", "--listen", &at]);
    let here = Bridge::start(&rings, None, &["ring:here", "zenoh:site1/ticks", "--connect", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 20))).unwrap();
    let sender = std::thread::spawn({
        let options = rings.options(Options::spsc(1 << 20));
        move || {
            let mut tx = spsc::Producer::open("here", &options).unwrap();
            for n in 0..FRAMES {
                tx.send_frame(header(), &payload(n)).unwrap();
            }
        }
    });
    let seen = consume(&mut rx, FRAMES - 1);
    assert_eq!(seen, Seen { delivered: FRAMES, ..Seen::default() });
    sender.join().unwrap();
    for bridge in [here, there] {
        let (status, counters) = bridge.end();
        assert_eq!(status.code(), Some(0));
        assert_eq!((&counters["frames"], &counters["missing"]), (&FRAMES.into(), &0.into()), "{counters}");
    }
    assert!(matches!(rx.recv_deadline(Duration::from_secs(10)), Err(slipring::Error::Closed)));
}

#[test]
fn a_frame_that_nothing_follows_is_not_held_back() {
    let rings = Rings::new();
    let at = address();
    let _there = Bridge::start(&rings, None, &["zenoh:one", "ring:there", "--listen", &at]);
    let _here = Bridge::start(&rings, None, &["ring:here", "zenoh:one", "--connect", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    for n in 0..50u64 {
        tx.send_frame(Header { stream: n as u16, ..Header::PLAIN }, &n.to_le_bytes()).unwrap();
        let view = rx.recv_deadline(Duration::from_secs(60)).unwrap();
        assert_eq!((view.header().stream, view.header().seq), (n as u16, 0));
        assert_eq!(*view, n.to_le_bytes());
    }
}
