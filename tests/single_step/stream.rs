//! Every operation on a stream of bytes.

use slipring::stream::{Consumer, Producer};
use slipring::{Error, Options, Ring};

use crate::process::{Page, SOON};
use crate::{Case, Fate, Pace, Scene};

const CAPACITY: usize = 4096;
/// How many bytes an operation moves.
const BLOCK: usize = 64;

/// The byte at a position.
fn byte(position: usize) -> u8 {
    (position as u32).wrapping_mul(0x9E37_79B1).to_be_bytes()[0]
}

fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// Name, position at which the stream starts, number of bytes that wait.
const STATES: [(&str, usize, usize); 5] = [
    ("empty", 0, 0),
    ("100 bytes", 0, 100),
    ("full", 0, CAPACITY),
    ("empty, at the wrap", CAPACITY - 10, 0),
    ("100 bytes, at the wrap", CAPACITY - 10, 100),
];

type Write = fn(&Ring, &mut Option<Producer>, usize);
type Read = fn(&Ring, &mut Option<Consumer>, &Page);

/// Name, bytes that it writes, the operation at a position.
const WRITES: [(&str, usize, Write); 5] = [
    ("stream try_write", BLOCK, |_, tx, at| _ = tx.as_mut().unwrap().try_write(&bytes(at, BLOCK))),
    ("stream write chunk, commit", BLOCK, |_, tx, at| {
        if let Ok(mut chunk) = tx.as_mut().unwrap().try_reserve(BLOCK) {
            chunk.iter_mut().enumerate().for_each(|(i, b)| *b = byte(at + i));
            chunk.commit(BLOCK);
        }
    }),
    ("stream write chunk, abort", 0, |_, tx, _| {
        if let Ok(mut chunk) = tx.as_mut().unwrap().try_reserve(BLOCK) {
            chunk.fill(7);
        }
    }),
    ("stream close producer", 0, |_, tx, _| tx.take().unwrap().close()),
    ("stream attach producer", 0, |ring, tx, _| *tx = Some(Producer::attach(ring).unwrap())),
];

/// Name, bytes that it reads, the operation.
const READS: [(&str, usize, Read); 4] = [
    ("stream try_read", BLOCK, |_, rx, page| _ = rx.as_mut().unwrap().try_read(page.buffer(BLOCK))),
    ("stream read chunk, release", BLOCK, |_, rx, page| {
        if let Ok(chunk) = rx.as_mut().unwrap().try_read_view(BLOCK) {
            page.buffer(BLOCK).copy_from_slice(&chunk);
            chunk.release(BLOCK);
        }
    }),
    ("stream close consumer", 0, |_, rx, _| rx.take().unwrap().close()),
    ("stream attach consumer", 0, |ring, rx, _| *rx = Some(Consumer::attach(ring).unwrap())),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, start, waiting) in STATES {
        for (operation, writes, does) in WRITES {
            let scene = Box::new(move || writing(operation, writes, does, start, waiting));
            cases.push(Case { operation, state: name.into(), pace: Pace::Sample, scene });
        }
        for (operation, reads, does) in READS {
            let scene = Box::new(move || reading(operation, reads, does, start, waiting));
            cases.push(Case { operation, state: name.into(), pace: Pace::Sample, scene });
        }
    }
    cases
}

fn ring(start: usize) -> Ring {
    let ring = Ring::create_anonymous(&Options::stream(CAPACITY).participants(4)).unwrap();
    let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    assert_eq!(tx.try_write(&bytes(0, start)).unwrap(), start);
    assert_eq!(rx.try_read(&mut vec![0; start]).unwrap(), start);
    ring.clone()
}

/// The child is the producer; the consumer is attached from the start.
fn writing(operation: &'static str, writes: usize, does: Write, start: usize, waiting: usize) -> Scene {
    let ring = ring(start);
    let mut rx = Consumer::attach(&ring).unwrap();
    let attaches = operation == "stream attach producer";
    let fill = move |ring: &Ring| {
        let mut tx = Producer::attach(ring).unwrap();
        assert!(waiting == 0 || tx.try_write(&bytes(start, waiting)).unwrap() == waiting);
        tx
    };
    if attaches {
        drop(fill(&ring));
    }
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut tx = (!attaches).then(|| fill(&theirs));
            Box::new(move |_| does(&theirs, &mut tx, start + waiting))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let mut found = vec![0; CAPACITY];
            let mut len = 0;
            loop {
                // The consumer must not wait for a dead producer. (A producer that died before it
                // attached is not reported.)
                let read =
                    if attaches { rx.try_read(&mut found[len..]) } else { rx.read_deadline(&mut found[len..], SOON) };
                match read {
                    Ok(0) => break,
                    Ok(n) => len += n,
                    Err(Error::Closed | Error::PeerDead) => break,
                    Err(Error::Empty) if attaches => break,
                    Err(e) => return Err(format!("a survivor got: {e}")),
                }
            }
            let written = if waiting + writes > CAPACITY { 0 } else { writes };
            if len != waiting + written && (page.is_complete() || len != waiting) {
                return Err(format!("{len} bytes came, of {waiting} and {written}"));
            }
            if found[..len] != bytes(start, len) {
                return Err("torn".into());
            }
            go_on(&ring, None, Some(rx), start + len)?;
            Ok((len - waiting) as u64)
        })),
    }
}

/// The child is the consumer; the producer is attached from the start.
fn reading(operation: &'static str, reads: usize, does: Read, start: usize, waiting: usize) -> Scene {
    let ring = ring(start);
    let mut tx = Producer::attach(&ring).unwrap();
    assert!(waiting == 0 || tx.try_write(&bytes(start, waiting)).unwrap() == waiting);
    let theirs = ring.clone();
    Scene {
        child: Box::new(move |_| {
            let mut rx = (operation != "stream attach consumer").then(|| Consumer::attach(&theirs).unwrap());
            Box::new(move |page| does(&theirs, &mut rx, page))
        }),
        fate: Fate::Kill(Box::new(move |page| {
            let mut rx = Consumer::attach(&ring).map_err(|e| e.to_string())?;
            let there = rx.len();
            let freed = waiting - there;
            let reads = if waiting < reads { 0 } else { reads };
            if freed != reads && (page.is_complete() || freed != 0) {
                return Err(format!("{freed} of {reads} bytes were freed"));
            }
            if freed > 0 && page.buffer(BLOCK) != bytes(start, BLOCK) {
                return Err("bytes were freed before they were read".into());
            }
            let mut found = vec![0; there];
            if there > 0 && (rx.try_read(&mut found).ok() != Some(there) || found != bytes(start + freed, there)) {
                return Err("torn".into());
            }
            go_on(&ring, Some(tx), Some(rx), start + waiting)?;
            Ok(0)
        })),
    }
}

/// The stream works as a new one.
fn go_on(ring: &Ring, tx: Option<Producer>, rx: Option<Consumer>, at: usize) -> Result<(), String> {
    let fail = |e: Error| format!("a survivor got: {e}");
    let mut tx = tx.map_or_else(|| Producer::attach(ring), Ok).map_err(fail)?;
    let mut rx = rx.map_or_else(|| Consumer::attach(ring), Ok).map_err(fail)?;
    let sent = bytes(at, CAPACITY);
    let mut found = vec![0; CAPACITY];
    if tx.try_write(&sent).map_err(fail)? != CAPACITY || !matches!(tx.try_write(&[0]), Err(Error::Full)) {
        return Err("less fits than in a new ring".into());
    }
    if rx.try_read(&mut found).map_err(fail)? != CAPACITY || found != sent {
        return Err("torn, later".into());
    }
    let report = ring.verify().map_err(fail)?;
    if !report.is_clean() || report.bytes != 0 {
        return Err(format!("{report:?}"));
    }
    crate::segment::only_the_living(ring, 2)?;
    drop((tx, rx));
    crate::segment::only_the_living(ring, 0)
}
