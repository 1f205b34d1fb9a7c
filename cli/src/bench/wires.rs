//! An exchange through the kernel, for `bench transports`: as frames, and with the bare system
//! calls of the same mechanism.
//!
//! Each direction is a channel of its own, or one direction of a connection. Once both sides are
//! connected, all names are removed, except those of System V queues, which [`Names`] removes.

use std::fs::{DirBuilder, OpenOptions};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use slipring::frame::{Event, Header, control};
use slipring::probe::{SignalReceives, SignalSends, SysvCalls};
use slipring::transport::{
    FrameReceiver, FrameSender, dgram, fifo, mq, pipe, seqpacket, signal, stream, sysv, tcp, udp, unix,
};
use slipring::{Deadline, Error};

use super::bare::{BareMq, BareReceive, BareSend, BareSignals, Calls};
use super::payload;
use super::ports::{Rx, Tx};
use crate::failure::{FAILED, Failure, Outcome};

/// The mechanism that carries the messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, clap::ValueEnum)]
pub(super) enum Mechanism {
    Pipe,
    Fifo,
    Mq,
    Sysv,
    Unix,
    Seqpacket,
    Dgram,
    Tcp,
    Udp,
    Signal,
    /// A frame that is one signal.
    Bell,
}

/// How messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum Form {
    /// As frames, through the library.
    Frames,
    /// With the bare system calls.
    Bare,
}

/// Where the two sides connect, and the parameters. What `out` (to the peer) and `back` are depends
/// on the mechanism.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meeting {
    mechanism: Mechanism,
    form: Form,
    size: usize,
    pid: u32,
    out: String,
    back: String,
}

/// Longer than any call that works takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn patience() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Names of objects that exist. Removed when dropped.
#[derive(Default)]
pub(super) struct Names {
    directories: Vec<PathBuf>,
    mq: Vec<String>,
    keys: Vec<sysv::Key>,
    queues: Vec<i32>,
}

/// Shared with the thread that cleans up if the bench ends otherwise.
pub(super) type Shared = Arc<Mutex<Names>>;

impl Names {
    /// A private directory.
    fn directory(&mut self) -> Outcome<PathBuf> {
        let path = std::env::temp_dir().join(format!("slipring-bench-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| Failure::new(FAILED, e).at(path.display()))?;
        self.directories.push(path.clone());
        Ok(path)
    }

    /// Removes the names that are not needed once the sides are connected.
    pub(super) fn remove_early(&mut self) {
        self.directories.drain(..).for_each(|directory| drop(std::fs::remove_dir_all(directory)));
        self.mq.drain(..).for_each(|name| drop(mq::remove(&name)));
    }

    /// Removes all names.
    pub(super) fn remove(&mut self) {
        self.remove_early();
        self.keys.drain(..).for_each(|key| drop(sysv::remove(key)));
        self.queues.drain(..).for_each(|id| drop(SysvCalls::with_id(id).remove()));
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Both ends of an exchange, as one side holds them.
pub(super) struct Talk {
    pub(super) tx: Sends,
    pub(super) rx: Receives,
}

/// The sending end.
pub(super) enum Sends {
    Frames(Box<dyn FrameSender>, Vec<u8>),
    /// Sends DOORBELL frames: for messages of 8 bytes whose number fits into 32 bits, or is the
    /// last one.
    Bells(Box<signal::Sender>, Vec<u8>),
    Bare(Box<dyn BareSend>, Vec<u8>),
}

/// The receiving end.
pub(super) enum Receives {
    Frames(Box<dyn FrameReceiver>),
    Bells(Box<signal::Receiver>),
    Bare(Box<dyn BareReceive>),
}

/// The channels for ordinary messages and for the last one.
const MESSAGE: u16 = 0;
const LAST: u16 = 1;

impl Tx for Sends {
    fn send(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> slipring::Result<()> {
        let (Sends::Frames(_, message) | Sends::Bells(_, message) | Sends::Bare(_, message)) = self;
        message.resize(len, 0);
        fill(message);
        match self {
            Sends::Frames(tx, message) => tx.send(Header::PLAIN, message),
            Sends::Bells(tx, message) => {
                let number = payload::number(message).unwrap_or(payload::STOP);
                let channel = if number == payload::STOP { LAST } else { MESSAGE };
                let bell = signal::Bell::new(channel, number as u32)?.payload();
                tx.send(Header::control(control::DOORBELL, bell.len())?, &bell)
            }
            Sends::Bare(tx, message) => tx.send(message),
        }
    }
}

impl Rx for Receives {
    fn recv<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> slipring::Result<T> {
        match self {
            Receives::Frames(rx) => match rx.recv()? {
                Event::Frame(frame) => Ok(look(frame.payload)),
                _ => Err(Error::Corrupt { what: "a frame that is not the next one" }),
            },
            Receives::Bells(rx) => {
                let bell = match rx.recv()? {
                    Event::Frame(frame) => signal::Bell::from_payload(frame.payload),
                    _ => None,
                };
                let bell = bell.ok_or(Error::Corrupt { what: "no doorbell" })?;
                let number = if bell.channel() == LAST { payload::STOP } else { bell.value().into() };
                Ok(look(&number.to_le_bytes()))
            }
            Receives::Bare(rx) => rx.receive().map(look),
        }
    }
}

fn failed(error: impl Into<std::io::Error>) -> Failure {
    Failure::new(FAILED, error.into())
}

/// This side, as far as it can be opened before the other side is.
pub(super) enum Begun {
    /// The receiving end; opening the sending end needs the other side's answer.
    Receiving(Receives),
    /// Both ends. The descriptors belong to the other side, which opens them by their numbers in
    /// this process.
    Whole(Talk, [OwnedFd; 2]),
    /// The other side connects.
    Unix(unix::Listener),
    Seqpacket(seqpacket::Listener),
    Tcp(tcp::Listener),
    BareUnix(OwnedFd),
    BareTcp(TcpListener),
}

impl Meeting {
    /// Opens what this side needs before the other side knows of it.
    pub(super) fn begin(mechanism: Mechanism, form: Form, size: usize, names: &mut Names) -> Outcome<(Self, Begun)> {
        let (out, back) = (String::new(), String::new());
        let mut meeting = Meeting { mechanism, form, size, pid: std::process::id(), out, back };
        let begun = begin(&mut meeting, names)?;
        Ok((meeting, begun))
    }

    /// Connects this side to the other one, `pid`, which receives at `out`.
    pub(super) fn finish(&self, begun: Begun, out: &str, pid: u32) -> Outcome<Talk> {
        Ok(match begun {
            Begun::Receiving(rx) => Talk { tx: sender(self, out, pid)?, rx },
            Begun::Whole(talk, theirs) => {
                drop(theirs);
                talk
            }
            Begun::Unix(listener) => listener.accept(patience())?.into(),
            Begun::Seqpacket(listener) => listener.accept(patience())?.into(),
            Begun::Tcp(listener) => listener.accept(patience())?.into(),
            Begun::BareUnix(socket) => connected(accept(&socket).map_err(failed)?, self.size),
            Begun::BareTcp(listener) => {
                let (socket, _) = listener.accept().map_err(failed)?;
                socket.set_nodelay(true).map_err(failed)?;
                connected(socket.into(), self.size)
            }
        })
    }
}

/// The other side of a meeting: its ends, and where it receives.
pub(super) fn attend(meeting: &Meeting) -> Outcome<(Talk, String)> {
    let bare = meeting.form == Form::Bare;
    let (out, back, size) = (meeting.out.as_str(), meeting.back.as_str(), meeting.size);
    let talk = match meeting.mechanism {
        Mechanism::Pipe => {
            let reader = OpenOptions::new().read(true).open(out).map_err(failed)?;
            let writer = OpenOptions::new().write(true).open(back).map_err(failed)?;
            pipes(reader.into(), writer.into(), bare, size)?
        }
        Mechanism::Unix if !bare => unix::connect(out, &unix::Options::default(), patience())?.into(),
        Mechanism::Seqpacket if !bare => seqpacket::connect(out, &seqpacket::Options::default(), patience())?.into(),
        Mechanism::Unix | Mechanism::Seqpacket => {
            let socket = bare_unix(meeting.mechanism)?;
            connect(&socket, &SocketAddrUnix::new(out).map_err(failed)?).map_err(failed)?;
            connected(socket, size)
        }
        Mechanism::Tcp if bare => {
            let socket = TcpStream::connect(out).map_err(failed)?;
            socket.set_nodelay(true).map_err(failed)?;
            connected(socket.into(), size)
        }
        Mechanism::Tcp => tcp::connect(out, &tcp::Options::default(), patience())?.into(),
        _ => {
            let (rx, address) = receiver(meeting, out)?;
            return Ok((Talk { tx: sender(meeting, back, meeting.pid)?, rx }, address));
        }
    };
    Ok((talk, String::new()))
}

/// Opens what this side needs before the other side knows of it.
fn begin(meeting: &mut Meeting, names: &mut Names) -> Outcome<Begun> {
    let bare = meeting.form == Form::Bare;
    match meeting.mechanism {
        Mechanism::Pipe => {
            let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
            let ((their_reader, writer), (reader, their_writer)) = (pipe()?, pipe()?);
            let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", meeting.pid, fd.as_raw_fd());
            (meeting.out, meeting.back) = (path(&their_reader), path(&their_writer));
            return Ok(Begun::Whole(pipes(reader, writer, bare, meeting.size)?, [their_reader, their_writer]));
        }
        Mechanism::Unix | Mechanism::Seqpacket => {
            let path = names.directory()?.join("socket");
            meeting.out = path.to_string_lossy().into_owned();
            return Ok(match meeting.mechanism {
                _ if bare => {
                    let socket = bare_unix(meeting.mechanism)?;
                    bind(&socket, &SocketAddrUnix::new(&path).map_err(failed)?).map_err(failed)?;
                    listen(&socket, 1).map_err(failed)?;
                    Begun::BareUnix(socket)
                }
                Mechanism::Unix => Begun::Unix(unix::Listener::bind(&path, &unix::Options::default())?),
                _ => Begun::Seqpacket(seqpacket::Listener::bind(&path, &seqpacket::Options::default())?),
            });
        }
        Mechanism::Tcp if bare => {
            let listener = TcpListener::bind(ANY_PORT).map_err(failed)?;
            meeting.out = listener.local_addr().map_err(failed)?.to_string();
            return Ok(Begun::BareTcp(listener));
        }
        Mechanism::Tcp => {
            let listener = tcp::Listener::bind(ANY_PORT, &tcp::Options::default())?;
            meeting.out = listener.local_address()?.to_string();
            return Ok(Begun::Tcp(listener));
        }
        Mechanism::Fifo | Mechanism::Dgram => {
            let directory = names.directory()?;
            for (way, name) in [(&mut meeting.out, "out"), (&mut meeting.back, "back")] {
                let path = directory.join(name);
                if bare && meeting.mechanism == Mechanism::Fifo {
                    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(failed)?;
                }
                *way = path.to_string_lossy().into_owned();
            }
        }
        Mechanism::Mq => {
            for (way, name) in [(&mut meeting.out, "out"), (&mut meeting.back, "back")] {
                *way = format!("/slipring-bench-{}-{name}", meeting.pid);
                names.mq.push(way.clone());
            }
        }
        Mechanism::Sysv => {
            for (way, n) in [(&mut meeting.out, 0), (&mut meeting.back, 1)] {
                *way = if bare {
                    let id = SysvCalls::create()?.id();
                    names.queues.push(id);
                    id.to_string()
                } else {
                    // A number that other programs are unlikely to use.
                    let key = sysv::Key::number(0x5B00_0000 | (meeting.pid & 0x7F_FFFF) << 1 | n)?;
                    names.keys.push(key);
                    key.get().to_string()
                };
            }
        }
        // The system chooses ports; signals go to processes.
        Mechanism::Udp | Mechanism::Signal | Mechanism::Bell => {}
    }
    let (rx, address) = receiver(meeting, &meeting.back)?;
    meeting.back = address;
    Ok(Begun::Receiving(rx))
}

const ANY_PORT: &str = "127.0.0.1:0";

/// Opens the receiving end of one direction. Returns it, and its address.
fn receiver(meeting: &Meeting, place: &str) -> Outcome<(Receives, String)> {
    let rx = match (meeting.mechanism, meeting.form) {
        (Mechanism::Fifo, Form::Frames) => frames(fifo::receiver(place, &stream::Options::new())?),
        (Mechanism::Fifo, Form::Bare) => {
            // Opened without waiting for a writer; later reads wait for one.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = open(place, flags, Mode::empty()).map_err(failed)?;
            fcntl_setfl(&fd, OFlags::empty()).map_err(failed)?;
            bare(Calls::new(fd.into(), false, meeting.size))
        }
        (Mechanism::Mq, Form::Frames) => frames(mq::Receiver::open(place, &queue_of_few())?),
        (Mechanism::Mq, Form::Bare) => bare(BareMq::open(place, meeting.size)?),
        (Mechanism::Sysv, Form::Frames) => {
            frames(sysv::Receiver::open(sysv::Key::parse(place)?, &sysv::Options::default())?)
        }
        (Mechanism::Sysv, Form::Bare) => bare(SysvCalls::with_id(place.parse().unwrap_or_default())),
        (Mechanism::Dgram, Form::Frames) => frames(dgram::Receiver::bind(place, &dgram::Options::default())?),
        (Mechanism::Dgram, Form::Bare) => {
            let socket = UnixDatagram::bind(place).map_err(failed)?;
            bare(Calls::new(OwnedFd::from(socket).into(), true, meeting.size))
        }
        (Mechanism::Udp, Form::Frames) => {
            let rx = udp::Receiver::bind(ANY_PORT, &udp::Options::default())?;
            let address = rx.local_address()?.to_string();
            return Ok((frames(rx), address));
        }
        (Mechanism::Udp, Form::Bare) => {
            let socket = UdpSocket::bind(ANY_PORT).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?.to_string();
            return Ok((bare(Calls::new(OwnedFd::from(socket).into(), true, meeting.size)), address));
        }
        (Mechanism::Signal, Form::Frames) => frames(signal::Receiver::open(&by_signal(meeting)?)?),
        (Mechanism::Bell, Form::Frames) => Receives::Bells(Box::new(signal::Receiver::open(&by_signal(meeting)?)?)),
        (Mechanism::Signal | Mechanism::Bell, Form::Bare) => {
            bare(BareSignals::new(SignalReceives::open(signo(meeting)?)?, meeting.size))
        }
        _ => return Err(Failure::new(FAILED, "this mechanism has connections")),
    };
    Ok((rx, place.to_owned()))
}

/// Opens the sending end of one direction.
fn sender(meeting: &Meeting, place: &str, pid: u32) -> Outcome<Sends> {
    fn frames(tx: impl FrameSender + 'static) -> Sends {
        Sends::Frames(Box::new(tx), Vec::new())
    }
    fn bare(tx: impl BareSend + 'static) -> Sends {
        Sends::Bare(Box::new(tx), Vec::new())
    }
    Ok(match (meeting.mechanism, meeting.form) {
        (Mechanism::Fifo, Form::Frames) => frames(fifo::sender(place, &stream::Options::new(), patience())?),
        (Mechanism::Fifo, Form::Bare) => {
            let fd = OpenOptions::new().write(true).open(place).map_err(failed)?;
            bare(Calls::new(OwnedFd::from(fd).into(), false, meeting.size))
        }
        (Mechanism::Mq, Form::Frames) => frames(mq::Sender::open(place, &queue_of_few())?),
        (Mechanism::Mq, Form::Bare) => bare(BareMq::open(place, meeting.size)?),
        (Mechanism::Sysv, Form::Frames) => {
            frames(sysv::Sender::open(sysv::Key::parse(place)?, &sysv::Options::default())?)
        }
        (Mechanism::Sysv, Form::Bare) => bare(SysvCalls::with_id(place.parse().unwrap_or_default())),
        (Mechanism::Dgram, Form::Frames) => {
            frames(dgram::Sender::connect(place, &dgram::Options::default(), patience())?)
        }
        (Mechanism::Dgram, Form::Bare) => {
            let socket = UnixDatagram::unbound().map_err(failed)?;
            socket.connect(place).map_err(failed)?;
            bare(Calls::new(OwnedFd::from(socket).into(), true, meeting.size))
        }
        (Mechanism::Udp, Form::Frames) => frames(udp::Sender::connect(place, &udp::Options::default(), patience())?),
        (Mechanism::Udp, Form::Bare) => {
            let socket = UdpSocket::bind(ANY_PORT).map_err(failed)?;
            socket.connect(place).map_err(failed)?;
            bare(Calls::new(OwnedFd::from(socket).into(), true, meeting.size))
        }
        (Mechanism::Signal, Form::Frames) => frames(signal::Sender::open(pid, &by_signal(meeting)?, patience())?),
        (Mechanism::Bell, Form::Frames) => {
            Sends::Bells(Box::new(signal::Sender::open(pid, &by_signal(meeting)?, patience())?), Vec::new())
        }
        (Mechanism::Signal | Mechanism::Bell, Form::Bare) => bare(SignalSends::open(pid, signo(meeting)?)?),
        _ => return Err(Failure::new(FAILED, "this mechanism has connections")),
    })
}

fn frames(rx: impl FrameReceiver + 'static) -> Receives {
    Receives::Frames(Box::new(rx))
}

fn bare(rx: impl BareReceive + 'static) -> Receives {
    Receives::Bare(Box::new(rx))
}

impl<T: FrameSender + 'static, R: FrameReceiver + 'static> From<(T, R)> for Talk {
    fn from((tx, rx): (T, R)) -> Self {
        Talk { tx: Sends::Frames(Box::new(tx), Vec::new()), rx: frames(rx) }
    }
}

/// Both directions over a bare socket.
fn connected(socket: OwnedFd, size: usize) -> Talk {
    let socket = Arc::new(socket);
    let tx = Sends::Bare(Box::new(Calls::new(Arc::clone(&socket), true, size)), Vec::new());
    Talk { tx, rx: bare(Calls::new(socket, true, size)) }
}

fn pipes(reader: OwnedFd, writer: OwnedFd, is_bare: bool, size: usize) -> Outcome<Talk> {
    if is_bare {
        let tx = Sends::Bare(Box::new(Calls::new(writer.into(), false, size)), Vec::new());
        return Ok(Talk { tx, rx: bare(Calls::new(reader.into(), false, size)) });
    }
    let options = stream::Options::new();
    Ok((pipe::sender(writer, &options)?, pipe::receiver(reader, &options)?).into())
}

fn bare_unix(mechanism: Mechanism) -> Outcome<OwnedFd> {
    let kind = if mechanism == Mechanism::Unix { SocketType::STREAM } else { SocketType::SEQPACKET };
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(failed)
}

/// Small queues, because the bytes that a user may have in queues are limited.
fn queue_of_few() -> mq::Options {
    mq::Options::default().messages(4)
}

/// Each exchange by signals has a signal number of its own.
pub(super) const SIGNALS: u32 = 4;

fn signo(meeting: &Meeting) -> Outcome<signal::Signo> {
    let of_mechanism = if meeting.mechanism == Mechanism::Bell { 2 } else { 0 };
    Ok(signal::Signo::realtime(of_mechanism + meeting.form as u32)?)
}

fn by_signal(meeting: &Meeting) -> Outcome<signal::Options> {
    Ok(signal::Options::default().signo(signo(meeting)?))
}
