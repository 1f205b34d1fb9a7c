//! `seqpacket:`, `dgram:`, `udp:`.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use slipring::transport::{dgram, seqpacket, udp};

use super::subject::{Meeting, Place, Subject, Wire};

pub fn seqpacket() -> Subject {
    let meet = || {
        let place = Place::new();
        let sender = format!("seqpacket:{}/socket", place.0.display());
        Meeting::new(format!("{sender}?listen"), sender, place)
    };
    Subject {
        capabilities: &seqpacket::CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[8176, 65_520],
        sees_receiver_go: true,
        wire: None,
    }
}

pub fn dgram() -> Subject {
    let meet = || {
        let place = Place::new();
        let endpoint = format!("dgram:{}/socket", place.0.display());
        Meeting::new(endpoint.clone(), endpoint, place)
    };
    let wire = |meeting: &Meeting| {
        let path = meeting.sender.strip_prefix("dgram:").unwrap().to_owned();
        let socket = UnixDatagram::unbound().unwrap();
        while socket.connect(&path).is_err() {
            std::thread::yield_now(); // its receiver is being opened
        }
        Box::new(move |bytes: &[u8]| _ = socket.send(bytes).unwrap()) as Wire
    };
    Subject {
        capabilities: &dgram::CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[8176, 65_520],
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

pub fn udp() -> Subject {
    // A port that is free now, and that the kernel does not give to somebody else so soon.
    let meet = || {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = format!("udp:127.0.0.1:{port}");
        Meeting::new(endpoint.clone(), endpoint, ())
    };
    let wire = |meeting: &Meeting| {
        let address = meeting.sender.strip_prefix("udp:").unwrap().to_owned();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        Box::new(move |bytes: &[u8]| {
            // Nobody there yet: the kernel says so with the next call.
            while socket.send(bytes).is_err() {}
        }) as Wire
    };
    Subject {
        capabilities: &udp::CAPABILITIES,
        meet,
        longest: 4096,
        edges: &[1440, 2880],
        sees_receiver_go: false,
        wire: Some(wire),
    }
}
