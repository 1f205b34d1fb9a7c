//! `unix:`, `seqpacket:`, `dgram:`, `tcp:`, `udp:`.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use slipring::transport::{dgram, seqpacket, tcp, udp, unix, upgrade};

use super::address::unused_address;
use super::subject::{Keeps, Meeting, Place, Subject, Wire};

pub fn unix() -> Subject {
    let meet = || {
        let place = Place::new();
        let sender = format!("unix:{}/socket", place.0.display());
        Meeting::new(format!("{sender}?listen"), sender, place)
    };
    let wire = |meeting: &Meeting| {
        let path = meeting.sender.strip_prefix("unix:").unwrap();
        write_to(patiently(|| UnixStream::connect(path)))
    };
    Subject {
        capabilities: &unix::CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[1024, 65_520],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

pub fn unix_upgraded() -> Subject {
    let meet = || {
        let place = Place::new();
        let sender = format!("unix:{}/socket?upgrade=ring", place.0.display());
        Meeting::new(format!("{sender}&listen"), sender, place)
    };
    Subject {
        capabilities: &upgrade::CAPABILITIES,
        meet,
        longest: upgrade::CAPABILITIES.max_payload,
        edges: &[],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: None,
    }
}

pub fn tcp() -> Subject {
    let meet = || {
        let address = unused_address();
        Meeting::new(format!("tcp:{address}?listen"), format!("tcp:{address}"), ())
    };
    let wire = |meeting: &Meeting| {
        let address = meeting.sender.strip_prefix("tcp:").unwrap();
        write_to(patiently(|| TcpStream::connect(address)))
    };
    Subject {
        capabilities: &tcp::CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[1024, 65_520],
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

/// Connects to a receiver that is being opened.
fn patiently<T>(connect: impl Fn() -> std::io::Result<T>) -> T {
    loop {
        match connect() {
            Ok(connection) => return connection,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// A receiver that has refused the connection for good may close it before it has read everything.
fn write_to(mut stream: impl Write + 'static) -> Wire {
    Box::new(move |bytes| _ = stream.write_all(bytes))
}

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
        keeps: Keeps::Everything,
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
        keeps: Keeps::Everything,
        sees_receiver_go: true,
        wire: Some(wire),
    }
}

pub fn udp() -> Subject {
    let meet = || {
        let endpoint = format!("udp:{}", unused_address());
        Meeting::new(endpoint.clone(), endpoint, ())
    };
    let wire = |meeting: &Meeting| {
        let address = meeting.sender.strip_prefix("udp:").unwrap().to_owned();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        Box::new(move |bytes: &[u8]| {
            // No receiver yet: the kernel reports that with the next call.
            while socket.send(bytes).is_err() {}
        }) as Wire
    };
    Subject {
        capabilities: &udp::CAPABILITIES,
        meet,
        longest: 4096,
        edges: &[1440, 2880],
        keeps: Keeps::Last(16),
        sees_receiver_go: false,
        wire: Some(wire),
    }
}
