//! `ring:`, both kinds.

use slipring::transport::ring::{MPMC, Receiver, SPSC, Sender};
use slipring::{Options, Ring};

use super::cases;
use super::subject::{Meeting, Subject, unique};

pub fn spsc() -> Subject {
    let meet = || meet("kind=spsc&capacity=64KiB");
    Subject {
        capabilities: &SPSC,
        meet,
        longest: 65_512,
        edges: &[4064, 8192, 65_000],
        sees_receiver_go: true,
        wire: None,
    }
}

pub fn mpmc() -> Subject {
    let meet = || meet("kind=mpmc&slots=16&slot=4KiB");
    Subject { capabilities: &MPMC, meet, longest: 4096, edges: &[40, 4088], sees_receiver_go: true, wire: None }
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
    for options in [Options::spsc(64 << 10), Options::mpmc(16, 4096)] {
        let ring = Ring::create_anonymous(&options).unwrap();
        let mut tx = Sender::attach(&ring).unwrap().with_doorbell().unwrap();
        let mut rx = Receiver::attach(&ring).unwrap();
        cases::room_is_polled_over(&mut tx, &mut rx, true);
    }
}
