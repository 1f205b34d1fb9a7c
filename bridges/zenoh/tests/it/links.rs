//! Between network namespaces: links are cut, and a router is lost.

use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use slipring::{Options, spsc};

use crate::common::{Bridge, Rate, Rings, consume_until, has_namespaces, send_until, wait_for_more};

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two namespaces and a link between them, removed when it is dropped.
struct Net {
    names: [String; 2],
}

impl Net {
    fn new(what: &str) -> Self {
        let id = format!("{}{what}", std::process::id());
        let names = ["a", "b"].map(|side| format!("sz{id}{side}"));
        let net = Net { names };
        for name in &net.names {
            ip(&["netns", "add", name]);
        }
        let [a, b] = &net.names;
        ip(&["link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b]);
        for (name, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "eth0"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        net
    }

    fn set(&self, state: &str) {
        ip(&["-n", &self.names[0], "link", "set", "eth0", state]);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A configuration with a lease of a second, so that a cut is noticed soon.
fn configuration(rings: &Rings) -> String {
    let path = rings.path().join(".zenoh.json5");
    let text = "{ mode: 'peer', scouting: { multicast: { enabled: false } }, listen: { endpoints: [] }, \
                 connect: { retry: { period_init_ms: 100, period_max_ms: 200, period_increase_factor: 1 } }, \
                 transport: { link: { tx: { lease: 800, keep_alive: 4, queue: { congestion_control: \
                 { block: { wait_before_close: 1000000 } } } } } } }";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_25_cuts_of_a_link_lose_is_told_exactly() {
    const CUTS: usize = 25;
    if !has_namespaces() {
        return;
    }
    let (net, rings) = (Net::new("c"), Rings::new());
    let config = configuration(&rings);
    let at = "tcp/10.77.0.1:7447";
    let receiving = ["zenoh:k", "ring:there", "--config", &config, "--listen", at, "--reconnect", "60s"];
    let there = Bridge::start(&rings, Some(&net.names[0]), &receiving);
    let here =
        Bridge::start(&rings, Some(&net.names[1]), &["ring:here", "zenoh:k", "--config", &config, "--connect", at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    let (last, delivered) = (&AtomicU64::new(u64::MAX), &AtomicU64::new(0));
    let (seen, sent) = std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            for _ in 0..CUTS {
                wait_for_more(delivered);
                net.set("down");
                std::thread::sleep(Duration::from_millis(2000)); // longer than the lease
                net.set("up");
            }
        });
        let tx = &mut tx;
        let sender = scope.spawn(move || send_until(tx, Rate::Paced, || cutter.is_finished(), last));
        let seen = consume_until(&mut rx, last, delivered);
        (seen, sender.join().unwrap())
    });
    println!("{sent} sent: {seen:?}");
    assert_eq!((seen.delivered + seen.missed, seen.unmarked, seen.marked), (sent, 0, 0));
    drop(tx);
    let ((status, counted), errors) = (here.end(), there.errors());
    assert_eq!((status.code(), &counted["frames"]), (Some(0), &sent.into()), "{errors}");
    // The receiving bridge has reported the same.
    let (status, counted) = there.end();
    assert_eq!(status.code(), Some(if seen.missed > 0 { 4 } else { 0 }), "{errors}");
    assert_eq!((&counted["missing"], &counted["frames"]), (&seen.missed.into(), &seen.delivered.into()), "{errors}");
}

#[test]
fn what_a_lost_router_loses_is_told_exactly() {
    if !has_namespaces() {
        return;
    }
    let (net, rings) = (Net::new("r"), Rings::new());
    let config = configuration(&rings);
    // The router is a bridge in router mode, whose own ring stays empty.
    let (at, idle) = ("tcp/10.77.0.1:7447", ["ring:idle", "zenoh:idle", "--mode", "router"]);
    let router = [&idle[..], &["--config", &config, "--listen", at]].concat();
    let mut router = Bridge::start(&rings, Some(&net.names[0]), &router);
    let client = ["--mode", "client", "--config", &config, "--connect", at];
    let receiving = [&["zenoh:k", "ring:there", "--reconnect", "60s"], &client[..]].concat();
    let there = Bridge::start(&rings, Some(&net.names[1]), &receiving);
    let here = Bridge::start(&rings, Some(&net.names[1]), &[&["ring:here", "zenoh:k"], &client[..]].concat());
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    let (last, delivered) = (&AtomicU64::new(u64::MAX), &AtomicU64::new(0));
    let (seen, sent) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for _ in 0..5 {
                wait_for_more(delivered);
                router.kill_and_restart();
            }
        });
        let tx = &mut tx;
        let sender = scope.spawn(move || send_until(tx, Rate::Paced, || killer.is_finished(), last));
        let seen = consume_until(&mut rx, last, delivered);
        (seen, sender.join().unwrap())
    });
    println!("{sent} sent: {seen:?}");
    assert_eq!((seen.delivered + seen.missed, seen.unmarked, seen.marked), (sent, 0, 0));
    drop(tx);
    assert_eq!(here.end().0.code(), Some(0));
    let (_, counted) = there.end();
    assert_eq!((&counted["missing"], &counted["frames"]), (&seen.missed.into(), &seen.delivered.into()));
}
