//! A foreign program: Python code written from `docs/framing.md` alone exchanges frames with the
//! library over a Unix socket, a pair of FIFOs and TCP. Without Python the tests print that they
//! are skipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, fifo, stream, tcp, unix};
use slipring::{Deadline, Error};

/// Sends frames of 0 to 5,000 bytes to the library, which returns them reversed. With the manners
/// `polite` it also sends HELLO and BYE, which are optional.
const PEER: &str = r#"
import os, socket, struct, sys

def crc32c(data, crc=0xFFFFFFFF):
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

def frame(payload, kind=0x0100, flags=3, seq=0):
    head = struct.pack("<2sBBIHHI", b"\xB7\x52", 0x14 if long else 0x12, flags, len(payload), kind, 0, seq)
    if long:
        head += struct.pack("<QI", 0, crc32c(payload))
        head += struct.pack("<I", crc32c(head))
    return head + payload + bytes(-len(payload) % 8)

def frames(whole=b""):
    while len(head := source.read(16)) == 16:
        sync, form, flags, length, kind, stream, seq = struct.unpack("<2sBBIHHI", head)
        assert sync == b"\xB7\x52" and form >> 4 == 1 and not flags & 0x30
        head += source.read((form & 15) * 8 - 16)
        payload = source.read(length)
        source.read(-length % 8)
        if form & 15 >= 4:
            body_crc, head_crc = struct.unpack_from("<II", head, 24)
            assert (body_crc, head_crc) == (crc32c(payload), crc32c(head[:28] + head[32:]))
        if flags & 4:
            yield kind, payload
            continue
        whole = payload if flags & 1 else whole + payload
        if flags & 2:
            yield None, whole
    assert head == b"", "the stream ended inside a frame"

scheme, polite, *places = sys.argv[1:]
long, polite = scheme == "tcp", polite == "polite"
if scheme == "fifo":
    sink, source = open(places[0], "wb", buffering=0), open(places[1], "rb")
else:
    family = socket.AF_UNIX if scheme == "unix" else socket.AF_INET
    peer = socket.socket(family)
    peer.connect(places[0] if scheme == "unix" else ("127.0.0.1", int(places[0])))
    sink, source = peer.makefile("wb", buffering=0), peer.makefile("rb")

came = frames()
kind, hello = next(came)
assert kind == 1 and struct.unpack_from("<BBHI", hello) == (1, 0 if long else 1, 0, 16 << 20)
first = 7 if polite else 1000
if polite:
    mine = struct.pack("<BBHIQQII", 1, 0, 0, 1 << 20, 0, int.from_bytes(os.urandom(8), "little"), first, 0)
    sink.write(frame(mine, kind=1, flags=7))
for n in range(60):
    payload = bytes((n + i) % 256 for i in range((0, 1, 7, 8, 100, 5000)[n % 6]))
    sink.write(frame(payload, seq=first + n))
    assert next(came) == (None, payload[::-1])
if polite:
    sink.write(frame(b"", kind=9, flags=7))
sink.close()
if scheme != "fifo":
    peer.shutdown(socket.SHUT_WR)
assert list(came) == [(9, b"")], "BYE, and the end"
"#;

/// A process that is killed when its test ends.
struct Python(Child);

impl Python {
    /// Starts Python; `None` if it is not installed.
    fn start(scheme: &str, manners: &str, places: &[&str]) -> Option<Python> {
        let found = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("python3 is not installed: skipped");
            return None;
        }
        let child = Command::new("python3").args(["-c", PEER, scheme, manners]).args(places).spawn();
        Some(Python(child.expect("python3 starts")))
    }

    fn finish(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the peer in Python: {status}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn soon() -> Deadline {
    Duration::from_secs(60).into()
}

/// Returns each frame reversed, until the sender ends.
fn answer(mut tx: impl FrameSender, mut rx: impl FrameReceiver) {
    let mut count = 0;
    let end = loop {
        match rx.recv_deadline(soon()) {
            Ok(Event::Frame(frame)) => {
                assert_eq!((frame.header.kind, frame.header.is_whole()), (Header::PLAIN.kind, true));
                let backwards: Vec<u8> = frame.payload.iter().rev().copied().collect();
                tx.send_deadline(Header::PLAIN, &backwards, soon()).unwrap();
                count += 1;
            }
            Ok(other) => panic!("after {count} frames: {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::Closed), "after {count} frames: {end}");
    assert_eq!(count, 60);
    tx.close(soon()).unwrap();
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("slipring-python-{name}-{}", std::process::id()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn over_a_unix_socket() {
    for manners in ["polite", "curt"] {
        let path = place(&format!("unix-{manners}"));
        let listener = unix::Listener::bind(&path, &unix::Options::default()).unwrap();
        let Some(python) = Python::start("unix", manners, &[text(&path)]) else { return };
        let (tx, rx) = listener.accept(soon()).unwrap();
        answer(tx, rx);
        python.finish();
    }
}

#[test]
fn over_fifos() {
    for manners in ["polite", "curt"] {
        let (there, back) = (place(&format!("there-{manners}")), place(&format!("back-{manners}")));
        let options = stream::Options::new();
        let rx = fifo::receiver(&there, &options).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &back, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        if let Some(python) = Python::start("fifo", manners, &[text(&there), text(&back)]) {
            let tx = fifo::sender(&back, &options, soon()).unwrap();
            answer(tx, rx);
            python.finish();
        }
        std::fs::remove_file(there).unwrap();
        std::fs::remove_file(back).unwrap();
    }
}

#[test]
fn over_tcp() {
    for manners in ["polite", "curt"] {
        let listener = tcp::Listener::bind("127.0.0.1:0", &tcp::Options::default()).unwrap();
        let port = listener.local_address().unwrap().port().to_string();
        let Some(python) = Python::start("tcp", manners, &[&port]) else { return };
        let (tx, rx) = listener.accept(soon()).unwrap();
        answer(tx, rx);
        python.finish();
    }
}
