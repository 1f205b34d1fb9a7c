//! `fd:N`: a pipe that a parent passes; `-` and `pipe:` work the same way.

use std::fs::File;
use std::io::Write;

use rustix::pipe::{PipeFlags, pipe_with};
use slipring::transport::pipe::CAPABILITIES;

use super::subject::{Keeps, Meeting, Subject, Wire};

pub fn subject() -> Subject {
    let wire = |meeting: &Meeting| {
        let mut writer = File::from(meeting.take(&meeting.sender).unwrap());
        Box::new(move |bytes: &[u8]| _ = writer.write_all(bytes)) as Wire
    };
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[1024, 4096, 65_520],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

fn meet() -> Meeting {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    Meeting::of_descriptors(reader, writer)
}
