//! `ring:`, all kinds that carry frames.

use slipring::broadcast::{LossySubscriber, Start};
use slipring::frame::Header;
use slipring::transport::FrameSender;
use slipring::transport::ring::{BROADCAST, LATEST, LOSSY, MPMC, MPSC, Receiver, SPSC, Sender};
use slipring::{Options, Ring};

use super::subject::{Keeps, Meeting, Subject, unique};
use super::{cases, edges};

pub fn spsc() -> Subject {
    let meet = || meet("kind=spsc&capacity=64KiB");
    Subject {
        capabilities: &SPSC,
        meet,
        longest: 65_512,
        edges: &[4064, 8192, 65_000],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: None,
    }
}

pub fn mpmc() -> Subject {
    let meet = || meet("kind=mpmc&slots=16&slot=4KiB");
    Subject {
        capabilities: &MPMC,
        meet,
        longest: 4096,
        edges: &[40, 4088],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: None,
    }
}

pub fn mpsc() -> Subject {
    let meet = || meet("kind=mpsc&lanes=4&capacity=64KiB");
    Subject { capabilities: &MPSC, meet, ..spsc() }
}

/// A reliable receiver.
pub fn broadcast() -> Subject {
    let meet = || meet("kind=broadcast&capacity=64KiB");
    Subject {
        capabilities: &BROADCAST,
        meet,
        longest: 65_512,
        edges: &[4064, 8192, 65_000],
        keeps: Keeps::ForAttached,
        sees_receiver_go: false,
        wire: None,
    }
}

pub fn lossy() -> Subject {
    let meet = || {
        let name = unique();
        let sender = format!("ring:{name}?kind=broadcast&capacity=4MiB");
        Meeting::new(format!("{sender}&subscribe=lossy"), sender, Remove(name))
    };
    Subject {
        capabilities: &LOSSY,
        meet,
        longest: cases::LONGEST,
        edges: &[4064, 8192, 65_000],
        keeps: Keeps::Last(16),
        sees_receiver_go: false,
        wire: None,
    }
}

pub fn latest() -> Subject {
    let meet = || meet("kind=latest&cells=3&size=4KiB");
    Subject {
        capabilities: &LATEST,
        meet,
        longest: 4096,
        edges: &[40, 4088],
        keeps: Keeps::Newest,
        sees_receiver_go: false,
        wire: None,
    }
}

/// Removes a ring from the user's directory.
struct Remove(String);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = Ring::remove(&self.0, &Options::any());
    }
}

fn meet(options: &str) -> Meeting {
    let name = unique();
    let endpoint = format!("ring:{name}?{options}");
    Meeting::new(endpoint.clone(), endpoint, Remove(name))
}

#[test]
fn room_is_polled_with_a_doorbell() {
    for options in
        [Options::spsc(64 << 10), Options::mpmc(16, 4096), Options::mpsc(64 << 10, 2), Options::broadcast(64 << 10)]
    {
        let ring = Ring::create_anonymous(&options).unwrap();
        let mut tx = Sender::attach(&ring).unwrap().with_doorbell().unwrap();
        let mut rx = Receiver::attach(&ring).unwrap();
        cases::room_is_polled_over(&mut tx, &mut rx, true);
    }
}

#[test]
fn doorbells_are_edges() {
    for (options, subject) in [
        (Options::spsc(64 << 10), spsc()),
        (Options::mpmc(16, 4096), mpmc()),
        (Options::mpsc(64 << 10, 2), mpsc()),
        (Options::broadcast(64 << 10), broadcast()),
        (Options::broadcast(4 << 20), lossy()),
        (Options::latest(3, 4096), latest()),
    ] {
        let ring = Ring::create_anonymous(&options).unwrap();
        let rx = match subject.keeps {
            Keeps::Last(_) => LossySubscriber::attach(&ring, Start::Oldest).map(Receiver::from),
            _ => Receiver::attach(&ring),
        };
        let mut tx = Sender::attach(&ring).unwrap();
        if subject.keeps != Keeps::Newest {
            tx = tx.with_doorbell().unwrap(); // latest values always have room
        }
        edges::edges_over(&subject, &mut tx, &mut rx.unwrap().with_doorbell().unwrap());
    }
}

#[test]
fn the_doorbell_of_the_newest_value_is_an_edge() {
    let ring = Ring::create_anonymous(&Options::latest(1, 8)).unwrap();
    let mut rx = Receiver::attach(&ring).unwrap().with_doorbell().unwrap();
    let mut tx = Sender::attach(&ring).unwrap();
    edges::newest_value(move |value| tx.try_send(Header::PLAIN, &value.to_le_bytes()).unwrap(), &mut rx);
}
