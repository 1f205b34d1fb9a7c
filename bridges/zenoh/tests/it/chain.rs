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

#[test]
fn clients_that_are_started_before_their_router_wait_for_it() {
    let rings = Rings::new();
    let at = address();
    let client = ["--mode", "client", "--connect", &at];
    let there = Bridge::start(&rings, None, &[&["zenoh:one", "ring:there"], &client[..]].concat());
    let here = Bridge::start(&rings, None, &[&["ring:here", "zenoh:one"], &client[..]].concat());
    let waiting = Bridge::start(&rings, None, &[&["ring:waiting", "zenoh:two"], &client[..]].concat());
    let timeout = ["--timeout", "300ms"];
    let timed = Bridge::start(&rings, None, &[&["ring:timed", "zenoh:two"], &client[..], &timeout].concat());
    assert_eq!(timed.end().0.code(), Some(124));
    waiting.terminate();
    assert_eq!(waiting.end().0.code(), Some(143));
    let _router = Bridge::start(&rings, None, &["ring:idle", "zenoh:idle", "--mode", "router", "--listen", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    tx.send_frame(header(), &payload(0)).unwrap();
    assert_eq!(*rx.recv_deadline(Duration::from_secs(60)).unwrap(), *payload(0));
    drop(tx);
    assert_eq!((here.end().0.code(), there.end().0.code()), (Some(0), Some(0)));
}

#[test]
fn a_receiver_that_does_not_keep_up_holds_up_the_sender() {
    let rings = Rings::new();
    let at = address();
    let there = Bridge::start(&rings, None, &["zenoh:one", "ring:there", "--listen", &at]);
    let here = Bridge::start(&rings, None, &["ring:here", "zenoh:one", "--connect", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    // Rings, windows and queues have room for a part of 16 MiB only.
    let mut sent = 0u64;
    while tx.send_frame_deadline(header(), &[7; 1024], Duration::from_secs(2)).is_ok() {
        sent += 1;
        assert!(sent < 16 << 10, "nothing holds up the sender");
    }
    for n in 0..sent {
        let view = rx.recv_deadline(Duration::from_secs(30)).unwrap();
        assert_eq!(view.header().seq, n as u32);
    }
    drop(tx);
    assert_eq!(here.end().0.code(), Some(0));
    assert_eq!(there.end().1["missing"], 0);
}

#[test]
fn what_the_policy_drop_drops_is_told_exactly() {
    const FRAMES: u64 = 200_000;
    let rings = Rings::new();
    let at = address();
    let policy = ["--policy", "drop"];
    let there = Bridge::start(&rings, None, &[&["zenoh:one", "ring:there", "--listen", &at], &policy[..]].concat());
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let _here = Bridge::start(&rings, None, &["ring:here", "zenoh:one", "--connect", &at]);
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    for n in 0..FRAMES {
        tx.send_frame(header(), &payload(n)).unwrap();
    }
    // The ring has been full for long: everything else has been dropped. The next frame says so.
    let mut expected = 0u32;
    let mut missed = 0;
    let mut delivered = 0;
    loop {
        match rx.recv_deadline(Duration::from_millis(500)) {
            Ok(view) => {
                missed += view.header().seq - expected;
                expected = view.header().seq + 1;
                delivered += 1;
            }
            Err(slipring::Error::Timeout) if u64::from(expected) == FRAMES + 1 => break,
            Err(slipring::Error::Timeout) if u64::from(expected) <= FRAMES => {
                tx.send_frame(header(), b"the last").unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        if u64::from(expected) > FRAMES {
            break;
        }
    }
    assert_eq!(u64::from(missed) + delivered, u64::from(expected));
    there.terminate();
    let (_, counted) = there.end();
    assert_eq!(counted["frames"], delivered);
    let [dropped, missing] = ["dropped", "missing"].map(|what| counted[what].as_u64().unwrap());
    assert!(dropped + missing > 0, "{counted}");
    assert_eq!(delivered + dropped + missing, u64::from(expected), "{counted}");
}

#[test]
fn a_receiver_that_comes_later_gets_the_latest_value() {
    use slipring::latest::{Reader, Writer};
    let rings = Rings::new();
    let at = address();
    let mut writer = Writer::open("here", &rings.options(Options::latest(2, 16))).unwrap();
    writer.write(1, b"before").unwrap();
    let _here = Bridge::start(&rings, None, &["ring:here", "zenoh:board", "--listen", &at]);
    let _early = Bridge::start(&rings, None, &["zenoh:board", "ring:early?cells=2&size=16", "--connect", &at]);
    let read = |name: &str| {
        let mut reader = Reader::open(name, &rings.options(Options::latest(2, 16))).unwrap();
        let mut buffer = [0; 16];
        reader.read_deadline(1, &mut buffer, Duration::from_secs(60)).unwrap().value.to_vec()
    };
    assert_eq!(read("early"), b"before");
    let _late = Bridge::start(&rings, None, &["zenoh:board", "ring:late?cells=2&size=16", "--connect", &at]);
    assert_eq!(read("late"), b"before");
}

#[test]
fn rings_by_pattern_have_a_key_and_a_ring_each_also_those_that_come_later() {
    let rings = [Rings::new(), Rings::new()];
    let at = address();
    let there = Bridge::start(&rings[1], None, &["zenoh:site1/ticks/**", "ring:far-*?capacity=64K", "--listen", &at]);
    let here = Bridge::start(&rings[0], None, &["ring:ticks-*", "zenoh:site1/ticks/**", "--connect", &at]);
    for name in ["eur", "usd"] {
        let options = Options::spsc(1 << 16);
        let mut tx = spsc::Producer::open(&format!("ticks-{name}"), &rings[0].options(options.clone())).unwrap();
        let mut rx = spsc::Consumer::open(&format!("far-{name}"), &rings[1].options(options)).unwrap();
        for n in 0..10 {
            tx.send_frame(header(), &payload(n)).unwrap();
            assert_eq!(*rx.recv_deadline(Duration::from_secs(60)).unwrap(), *payload(n));
        }
    }
    for bridge in [here, there] {
        bridge.terminate();
        assert_eq!(bridge.end().0.code(), Some(143));
    }
}
