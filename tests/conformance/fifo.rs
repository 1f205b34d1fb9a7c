//! `fifo:`.

use std::fs::OpenOptions;
use std::io::Write;

use slipring::transport::fifo::CAPABILITIES;

use super::subject::{Keeps, Meeting, Place, Subject};

pub fn subject() -> Subject {
    let wire = |meeting: &Meeting| {
        let path = meeting.sender.strip_prefix("fifo:").unwrap();
        let mut file = loop {
            match OpenOptions::new().write(true).open(path) {
                Ok(file) => break file,
                Err(_) => std::thread::yield_now(), // its receiver is being opened
            }
        };
        Box::new(move |bytes: &[u8]| file.write_all(bytes).unwrap()) as super::subject::Wire
    };
    // Frames longer than PIPE_BUF are sent in fragments.
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[4064, 4080, 8160, 65_536],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

fn meet() -> Meeting {
    let place = Place::new();
    let endpoint = format!("fifo:{}/fifo", place.0.display());
    Meeting::new(endpoint.clone(), endpoint, place)
}
