//! Arbitrary bytes into the decoder: no panic, no allocation beyond the limit, linear work, and the
//! same events however the bytes are cut into chunks.
//!
//! Relies on `slipring::frame` and on `watch` for the allocations.

use slipring::Error;
use slipring::frame::{
    Decoder, Event, Form, Frame, Header, Hello, MAX_HEADER, OnCorrupt, Reassembler, Sequencer, control, padded,
};

use super::draw::Draw;
use super::watch::largest_allocation;

/// Room for the table of streams, which the decoder may allocate whatever the limit is.
const TABLES: usize = 16 << 10;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let max_payload = draw.one_of(&[64, 0, 8, 1000, 16 << 20, usize::MAX]);
    let on_corrupt = draw.one_of(&[OnCorrupt::Resync, OnCorrupt::Close]);
    let cuts: Vec<usize> = (0..1 + draw.below(6)).map(|_| 1 + draw.below(64)).collect();
    let wire = if draw.flag() { draw.bytes(4096).to_vec() } else { wire(&mut draw) };

    let whole = hear(&wire, &[wire.len().max(1)], max_payload, on_corrupt);
    for cuts in [&cuts[..], &[1], &[16], &[24, 8]] {
        assert_eq!(hear(&wire, cuts, max_payload, on_corrupt), whole, "cut into {cuts:?}");
    }
    message(&wire, max_payload);
    reassemble(&whole, max_payload);
}

/// The decoder's events, as values.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Frame(Header, u64, Vec<u8>),
    Duplicate(Header, Vec<u8>, u32),
    Gap(u16, u32, u32),
    Skipped(u64, &'static str),
    Error(String),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Frame(Frame { header, stamp, payload }) => Heard::Frame(header, stamp, payload.to_vec()),
            Event::Duplicate { frame, expected } => Heard::Duplicate(frame.header, frame.payload.to_vec(), expected),
            Event::Gap { stream, expected, found } => Heard::Gap(stream, expected, found),
            Event::Skipped { bytes, what } => Heard::Skipped(bytes, what),
        }
    }
}

/// Decodes `wire` in chunks of the lengths `cuts`, repeated.
fn hear(wire: &[u8], cuts: &[usize], max_payload: usize, on_corrupt: OnCorrupt) -> Vec<Heard> {
    let mut decoder = Decoder::new(max_payload, on_corrupt);
    let largest_frame = MAX_HEADER + padded(max_payload.min(1 << 30));
    let mut heard = Vec::new();
    let check = |decoder: &Decoder, heard: &Vec<Heard>, allocated: usize| {
        let stats = decoder.stats();
        let received = stats.received as usize;
        assert!(allocated <= TABLES.max(largest_frame.min(2 * received + 64)), "{allocated} bytes for {received}");
        assert!(stats.work <= 80 * stats.received + 5 * largest_frame as u64, "{stats:?}");
        assert!(heard.len() <= 4 * wire.len() + 8, "more events than bytes can mean");
    };
    let mut rest = wire;
    for cut in cuts.iter().cycle() {
        let (mut piece, more) = rest.split_at(rest.len().min(*cut));
        if piece.is_empty() {
            break;
        }
        rest = more;
        loop {
            let (event, allocated) = largest_allocation(|| decoder.decode(&mut piece));
            let end = match event {
                Ok(None) => true,
                Ok(Some(event)) => {
                    heard.push(Heard::from(event));
                    false
                }
                Err(error) => {
                    heard.push(Heard::Error(error.to_string()));
                    if on_corrupt == OnCorrupt::Close {
                        assert!(decoder.decode(&mut piece).is_err(), "an error is final");
                        return heard;
                    }
                    assert!(matches!(error, Error::Incompatible { .. }), "{error}");
                    false
                }
            };
            check(&decoder, &heard, allocated);
            if end {
                break;
            }
        }
        assert!(piece.is_empty(), "None means that the chunk is taken in");
    }
    loop {
        match decoder.finish() {
            Ok(None) => break,
            Ok(Some(event)) => heard.push(Heard::from(event)),
            Err(error) => {
                heard.push(Heard::Error(error.to_string()));
                if on_corrupt == OnCorrupt::Close {
                    break;
                }
            }
        }
        check(&decoder, &heard, 0);
    }
    heard
}

/// Decodes the same bytes as a datagram.
fn message(wire: &[u8], max_payload: usize) {
    let (frame, allocated) = largest_allocation(|| Frame::from_message(wire, max_payload));
    assert_eq!(allocated, 0);
    if let Ok(frame) = frame {
        assert!(frame.payload.len() <= max_payload);
        assert_eq!(frame.payload.len(), frame.header.len as usize);
    }
    let _ = Hello::decode(wire);
}

/// Passes all events to the reassembler, as fragments.
fn reassemble(heard: &[Heard], max_payload: usize) {
    let mut reassembler = Reassembler::new(max_payload);
    for event in heard {
        let Heard::Frame(header, stamp, payload) = event else { continue };
        let part = Frame { header: *header, stamp: *stamp, payload };
        if let Ok(Some(whole)) = reassembler.push(part) {
            assert!(whole.payload.len() <= max_payload);
            assert_eq!(whole.payload.len(), whole.header.len as usize);
        }
    }
}

/// Frames as a sender writes them, some of them damaged.
fn wire(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut sequencer = Sequencer::new();
    while draw.more() && wire.len() < 4096 {
        let start = wire.len();
        match draw.below(8) {
            0 => wire.extend_from_slice(draw.bytes(1 + start % 40)),
            1 => wire.extend_from_slice(&forged(draw)),
            2 => {
                // A frame that contains frames, which a search in a damaged payload finds.
                let inner = [frame(draw, &mut sequencer), frame(draw, &mut sequencer)].concat();
                let header = Header { seq: sequencer.next(0), ..Header::PLAIN };
                Frame::new(header, &inner).unwrap().encode(Form::Long, &mut wire).unwrap();
            }
            3 => {
                let hello = Hello { first_seq: draw.word() as u32, ..Hello::new(1 << 20) }.encode();
                let header = Header { stream: draw.below(3) as u16, ..Header::control(control::HELLO, 0).unwrap() };
                Frame::new(header, &hello).unwrap().encode(Form::Long, &mut wire).unwrap();
            }
            _ => wire.extend_from_slice(&frame(draw, &mut sequencer)),
        }
        match draw.below(6) {
            0 if wire.len() > start => {
                let at = start + draw.below(wire.len() - start);
                wire[at] ^= 1 << draw.below(8);
            }
            1 => wire.truncate(start + draw.below(wire.len() - start + 1)),
            _ => {}
        }
    }
    wire
}

fn frame(draw: &mut Draw<'_>, sequencer: &mut Sequencer) -> Vec<u8> {
    let stream = draw.below(4) as u16;
    let mut header = Header { stream, seq: sequencer.next(stream), ..Header::PLAIN };
    match draw.below(8) {
        0 => header = Header::control(u16::from(draw.byte()), 0).unwrap(),
        1 => header.seq = header.seq.wrapping_add(draw.word() as u32),
        2 => header.flags = slipring::frame::Flags::from_bits(draw.byte()),
        _ => sequencer.advance(stream, 1),
    }
    let len = draw.below(120);
    let payload = draw.payload(len);
    let form = draw.one_of(&[Form::Long, Form::Short]);
    let mut bytes = Vec::new();
    Frame { stamp: 7, ..Frame::new(header, &payload).unwrap() }.encode(form, &mut bytes).unwrap();
    bytes
}

/// A long header with a correct checksum and arbitrary contents: any length, extensions, flags.
fn forged(draw: &mut Draw<'_>) -> Vec<u8> {
    let units = draw.one_of(&[4, 5, 6, 15, 4]);
    let mut head = vec![0; 8 * units];
    head[..3].copy_from_slice(&[0xB7, 0x52, 0x10 | units as u8]);
    head[3] = draw.byte();
    head[4..8].copy_from_slice(&(draw.nasty() as u32).to_le_bytes());
    head[9] = 1;
    head[12..16].copy_from_slice(&(draw.byte() as u32).to_le_bytes());
    let extensions = draw.bytes(8 * units - 32);
    head[32..32 + extensions.len()].copy_from_slice(extensions);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..28]), &head[32..]);
    head[28..32].copy_from_slice(&crc.to_le_bytes());
    head
}
