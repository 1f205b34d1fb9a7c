//! Tests of the whole frame floor: the golden bytes of `docs/framing.md`, and properties that hold
//! for all bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::Error;

const DOC: &str = include_str!("../../docs/framing.md");

/// A frame as an owned value, which outlives the decoder's buffer.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    header: Header,
    stamp: u64,
    payload: Vec<u8>,
}

impl Owned {
    fn view(&self) -> Frame<'_> {
        Frame { header: self.header, stamp: self.stamp, payload: &self.payload }
    }
}

impl From<Frame<'_>> for Owned {
    fn from(frame: Frame<'_>) -> Self {
        Owned { header: frame.header, stamp: frame.stamp, payload: frame.payload.to_vec() }
    }
}

/// Everything that a decoder reported.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    frames: Vec<Owned>,
    duplicates: Vec<Owned>,
    gaps: Vec<(u16, u32, u32)>,
    skipped: u64,
    errors: Vec<String>,
}

/// Feeds `bytes` in pieces of the given sizes (then the rest), to the end of the stream, and checks
/// the bounds meanwhile.
fn listen(decoder: &mut Decoder, bytes: &[u8], pieces: &[usize], max_payload: usize) -> Heard {
    let mut heard = Heard::default();
    let mut rest = bytes;
    let mut sizes = pieces.iter();
    let mut ended = false;
    while !ended {
        let (mut piece, behind) = rest.split_at(sizes.next().map_or(rest.len(), |size| rest.len().min(*size)));
        rest = behind;
        ended = piece.is_empty() && rest.is_empty();
        loop {
            let event = if ended { decoder.finish() } else { decoder.decode(&mut piece) };
            match event {
                Ok(None) => break,
                Ok(Some(Event::Frame(frame))) => heard.frames.push(frame.into()),
                Ok(Some(Event::Duplicate { frame, .. })) => heard.duplicates.push(frame.into()),
                Ok(Some(Event::Gap { stream, expected, found })) => heard.gaps.push((stream, expected, found)),
                Ok(Some(Event::Skipped { bytes, .. })) => heard.skipped += bytes,
                Err(error) => {
                    heard.errors.push(error.to_string());
                    if !matches!(error, Error::Incompatible { .. }) || decoder.on_corrupt() == OnCorrupt::Close {
                        return heard;
                    }
                }
            }
        }
        assert!(piece.is_empty(), "None means that the chunk is consumed");
        assert!(decoder.buffer_capacity() <= MAX_HEADER + padded(max_payload));
    }
    let stats = decoder.stats();
    assert_eq!(stats.received, bytes.len() as u64);
    assert_eq!(stats.skipped, heard.skipped);
    // Linear: the factor is the largest cost of crafted headers, the constant is the credit that a
    // decoder starts with.
    let bound = 80 * stats.received + 5 * (MAX_HEADER + padded(max_payload)) as u64;
    assert!(stats.work <= bound, "work {} for {} bytes", stats.work, stats.received);
    heard
}

fn wire<'a>(form: Form, frames: impl IntoIterator<Item = &'a Owned>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.into_iter().for_each(|frame| frame.view().encode(form, &mut bytes).unwrap());
    bytes
}

/// Application frames on three streams, numbered as a sender would, with payloads that never
/// contain a sync byte.
fn frames(max_len: usize) -> impl Strategy<Value = Vec<Owned>> {
    let frame = (0x0100..=u16::MAX, 0..3u16, any::<u64>(), vec(0..0xB7u8, 0..max_len));
    vec(frame, 0..12).prop_map(|drafts| {
        let mut sequencer = Sequencer::new();
        sequencer.advance(2, u32::MAX - 1);
        let number = |(kind, stream, stamp, payload): (u16, u16, u64, Vec<u8>)| {
            let seq = sequencer.next(stream);
            sequencer.advance(stream, 1);
            let header = Header { stream, seq, ..Header::new(kind, payload.len()).unwrap() };
            Owned { header, stamp, payload }
        };
        drafts.into_iter().map(number).collect()
    })
}

fn long_or_short() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Short), Just(Form::Long)]
}

fn as_received(form: Form, frames: &[Owned]) -> Vec<Owned> {
    let stamp = |frame: &Owned| if form == Form::Long { frame.stamp } else { 0 };
    frames.iter().map(|frame| Owned { stamp: stamp(frame), ..frame.clone() }).collect()
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(form in long_or_short(), sent in frames(200), pieces in vec(0..64usize, 0..200)) {
        let bytes = wire(form, &sent);
        for on_corrupt in [OnCorrupt::Close, OnCorrupt::Resync] {
            let heard = listen(&mut Decoder::new(200, on_corrupt), &bytes, &pieces, 200);
            prop_assert_eq!(heard, Heard { frames: as_received(form, &sent), ..Heard::default() });
        }
    }

    #[test]
    fn a_message_is_its_frame(form in long_or_short(), sent in frames(100)) {
        for (frame, expect) in sent.iter().zip(as_received(form, &sent)) {
            let message = [&frame.view().head(form).unwrap(), &frame.payload[..]].concat();
            prop_assert_eq!(message.len(), frame.view().message_len(form));
            prop_assert_eq!(Owned::from(Frame::from_message(&message, 100).unwrap()), expect);
            prop_assert!(Frame::from_message(&message[..message.len() - 1], 100).is_err());
            prop_assert!(Frame::from_message(&[&message[..], &[0]].concat(), 100).is_err());
        }
    }

    /// Garbage without sync bytes: every frame comes through, every other byte is accounted for.
    #[test]
    fn garbage_around_frames_is_skipped(
        form in long_or_short(),
        sent in frames(100),
        garbage in vec(vec(0..0xB7u8, 0..60), 13),
        pieces in vec(0..64usize, 0..100),
    ) {
        let mut bytes = Vec::new();
        for (frame, noise) in sent.iter().zip(&garbage) {
            bytes.extend_from_slice(noise);
            bytes.extend(wire(form, [frame]));
        }
        bytes.extend_from_slice(&garbage[sent.len()]);
        let skipped = garbage[..=sent.len()].iter().map(Vec::len).sum::<usize>() as u64;
        let heard = listen(&mut Decoder::new(100, OnCorrupt::Resync), &bytes, &pieces, 100);
        prop_assert_eq!(heard, Heard { frames: as_received(form, &sent), skipped, ..Heard::default() });
    }

    /// A writer dies anywhere inside header or payload, and another continues: the long form loses
    /// that frame and no other.
    #[test]
    fn a_torn_frame_loses_only_itself(sent in frames(300), cut in any::<prop::sample::Index>(), pieces in vec(0..99usize, 0..50)) {
        let Some(first) = sent.first() else { return Ok(()) };
        let torn = wire(Form::Long, &sent[..1]);
        let cut = cut.index(first.view().message_len(Form::Long));
        let bytes = [&torn[..cut], &wire(Form::Long, &sent[1..])].concat();
        let heard = listen(&mut Decoder::new(300, OnCorrupt::Resync), &bytes, &pieces, 300);
        prop_assert_eq!(heard.frames, &sent[1..]);
        prop_assert_eq!(heard.skipped, cut as u64);
        // If the cut is behind the sync bytes, the bytes that follow may look like another version.
        // That is reported, and the search continues.
        prop_assert_eq!(heard.errors.len(), usize::from((2..4).contains(&cut) && sent.len() > 1));
    }

    /// One flipped bit anywhere but in the padding: the frame is not delivered.
    #[test]
    fn the_long_form_detects_any_flipped_bit(sent in frames(80), bit in any::<prop::sample::Index>()) {
        let Some(first) = sent.first() else { return Ok(()) };
        let frame = first.view();
        let mut bytes = wire(Form::Long, &sent[..1]);
        let bit = bit.index(frame.message_len(Form::Long) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let heard = listen(&mut Decoder::new(1 << 20, OnCorrupt::Close), &bytes, &[], 1 << 20);
        // A header length may turn into "short", which has no checksum; then it is another frame,
        // and no frame follows.
        prop_assert!(!heard.frames.contains(first));
        prop_assert_eq!(heard.errors.len(), 1);
        prop_assert!(Frame::from_message(&bytes[..frame.message_len(Form::Long)], 1 << 20).is_err());
    }

    /// Any bytes, any split: no panic, bounded buffer, linear work, and the split makes no
    /// difference.
    #[test]
    fn any_bytes_are_handled_without_a_panic(
        parts in vec(prop_oneof![
            3 => vec(any::<u8>(), 0..40),
            3 => header_like(),
            1 => frames(60).prop_map(|sent| wire(Form::Long, &sent)),
            1 => frames(60).prop_map(|sent| wire(Form::Short, &sent)),
        ], 0..30),
        pieces in vec(0..50usize, 0..200),
        max_payload in 0..5000usize,
    ) {
        let bytes = parts.concat();
        for on_corrupt in [OnCorrupt::Close, OnCorrupt::Resync] {
            let whole = listen(&mut Decoder::new(max_payload, on_corrupt), &bytes, &[], max_payload);
            let split = listen(&mut Decoder::new(max_payload, on_corrupt), &bytes, &pieces, max_payload);
            prop_assert_eq!(whole, split);
        }
        let _ = Frame::from_message(&bytes, max_payload);
        let _ = Hello::decode(&bytes);
    }

    #[test]
    fn fragments_are_reassembled(sent in frames(300), max_fragment in 1..100usize, lost in any::<Option<prop::sample::Index>>()) {
        let mut sequencer = Sequencer::new();
        let mut parts = Vec::new();
        for frame in &sent {
            let header = Header { seq: sequencer.next(frame.header.stream), ..frame.header };
            let pieces = fragments(header, &frame.payload, max_fragment).unwrap();
            sequencer.advance(header.stream, pieces.len() as u32);
            parts.extend(pieces.map(|(header, payload)| Owned { header, stamp: 0, payload: payload.to_vec() }));
        }
        let lost = lost.filter(|_| !parts.is_empty()).map(|lost| parts.remove(lost.index(parts.len())));
        let mut reassembler = Reassembler::new(300);
        let mut whole = Vec::new();
        for part in &parts {
            prop_assert!(part.payload.len() <= max_fragment);
            whole.extend(reassembler.push(part.view()).unwrap().map(|frame| (frame.header.kind, frame.payload.to_vec())));
        }
        let expect: Vec<_> = sent.iter().map(|frame| (frame.header.kind, frame.payload.clone())).collect();
        match lost {
            None => prop_assert_eq!(whole, expect),
            Some(_) => prop_assert_eq!(whole.len(), expect.len() - 1),
        }
    }
}

/// Bytes that begin like a header, with a valid checksum half of the time; random bytes would
/// hardly ever do that.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), 2..=15u8, any::<u8>(), 0..6000u32, vec(any::<u8>(), 112)).prop_map(
        |(sealed, units, flags, len, rest)| {
            let size = usize::from(units) * 8;
            let mut bytes = [&[0xB7, 0x52, 0x10 | units, flags][..], &len.to_le_bytes(), &rest].concat();
            bytes.truncate(size);
            if sealed && size >= LONG {
                let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), &bytes[LONG..]);
                bytes[28..LONG].copy_from_slice(&crc.to_le_bytes());
            }
            bytes
        },
    )
}

/// The most expensive bytes: headers with valid checksums that announce the largest payload, one
/// after the other, so that each begins a frame that is found damaged after many others have begun;
/// and the densest sequence of headers whose checksum fails.
#[test]
fn work_is_linear_on_hostile_bytes() {
    let max_payload = 1 << 16;
    let header = Header::new(Header::DEFAULT_KIND, 0).unwrap();
    let claim = vec![1; max_payload];
    let nested = Frame::new(header, &claim).unwrap().head(Form::Long).unwrap().repeat(10_000);
    // `B7 52 1F 00`, repeated, gives a header 120 bytes long every 4 bytes, each announcing
    // 0x1F52B7 bytes.
    let dense = [0xB7, 0x52, 0x1F, 0x00].repeat(100_000);
    for (bytes, max_payload) in [(nested, max_payload), (dense, 0x20_0000)] {
        for piece in [1, 777, bytes.len()] {
            let pieces = vec![piece; bytes.len() / piece];
            let heard = listen(&mut Decoder::new(max_payload, OnCorrupt::Resync), &bytes, &pieces, max_payload);
            assert_eq!((heard.frames.len(), heard.skipped), (0, bytes.len() as u64));
        }
    }
}

#[test]
fn a_claim_alone_allocates_nothing() {
    let mut decoder = Decoder::new(MAX_LEN as usize, OnCorrupt::Close);
    let header = Header::new(Header::DEFAULT_KIND, MAX_LEN as usize).unwrap();
    let mut bytes = [header.commit_word().to_le_bytes(), header.tail_word().to_le_bytes()].concat();
    bytes.extend_from_slice(b"and little more");
    assert!(decoder.decode(&mut &bytes[..]).unwrap().is_none());
    assert!(decoder.buffer_capacity() <= 2 * bytes.len());
    assert!(matches!(decoder.finish(), Err(Error::Corrupt { .. })));
}

#[test]
fn a_refused_stream_stays_refused() {
    let mut decoder = Decoder::new(8, OnCorrupt::Close);
    let mut bytes = Vec::new();
    Frame::new(Header::new(0x0100, 0).unwrap(), &[0; 9]).unwrap().encode(Form::Short, &mut bytes).unwrap();
    assert!(matches!(decoder.decode(&mut &bytes[..]), Err(Error::TooLarge { max: 8 })));
    assert!(matches!(decoder.decode(&mut &bytes[..]), Err(Error::Corrupt { .. })));
    assert!(matches!(decoder.finish(), Err(Error::Corrupt { .. })));
}

#[test]
fn control_frames_are_skipped_or_delivered_but_not_counted() {
    let hello = Hello { first_seq: 5, ..Hello::new(64) }.encode();
    let application = |seq| Header { seq, ..Header::new(0x0100, 0).unwrap() };
    let mut bytes = Vec::new();
    for (header, payload) in [
        (application(90), &b""[..]),
        (Header::control(control::HELLO, 0).unwrap(), &hello),
        (application(5), b""),
        (Header::control(0x00FE, 0).unwrap(), b"of a later version"),
        (application(6), b""),
        (application(8), b"after a gap"),
        (application(7), b"late"),
        (application(9), b""),
    ] {
        Frame::new(header, payload).unwrap().encode(Form::Short, &mut bytes).unwrap();
    }
    let mut decoder = Decoder::new(64, OnCorrupt::Close);
    let heard = listen(&mut decoder, &bytes, &[], 64);
    let sequence: Vec<_> = heard.frames.iter().map(|frame| frame.header.seq).collect();
    assert_eq!(sequence, [90, 0, 5, 6, 8, 9]);
    assert_eq!(heard.gaps, [(0, 7, 8)]);
    assert_eq!(heard.duplicates[0].payload, b"late");
    assert_eq!(heard.errors, [""; 0]);
    let stats = decoder.stats();
    assert_eq!((stats.frames, stats.gaps, stats.duplicates, stats.unknown_control), (7, 1, 1, 1));
}

#[test]
fn must_understand_bits_are_an_error_even_when_searching() {
    let good = Header::new(0x0100, 0).unwrap();
    let strange = Header { flags: Flags::from_bits(0x13), ..good };
    let bytes = [strange, good].map(|h| [h.commit_word().to_le_bytes(), h.tail_word().to_le_bytes()].concat()).concat();
    let heard = listen(&mut Decoder::new(64, OnCorrupt::Resync), &bytes, &[3, 14], 64);
    assert_eq!((heard.errors.len(), heard.skipped, heard.frames.len()), (1, 16, 1));

    for (kind, len, expect) in [(0x7FFF_u16, 4, "delivered"), (0x8000, 4, "understood"), (1, 5, "exceeds")] {
        let mut bytes = documented("tlv");
        bytes[32..36].copy_from_slice(&[kind.to_le_bytes(), u16::to_le_bytes(len)].concat());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), &bytes[32..40]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        let heard = listen(&mut Decoder::new(64, OnCorrupt::Close), &bytes, &[], 64);
        let said = heard.errors.first().map_or("delivered", |error| error);
        assert!(said.contains(expect), "{said}");
    }
}

/// The bytes of the block that begins with "```hex NAME" in docs/framing.md.
fn documented(name: &str) -> Vec<u8> {
    let start = format!("```hex {name}\n");
    let at = DOC.find(&start).expect("the example is in docs/framing.md") + start.len();
    let block = &DOC[at..at + DOC[at..].find("```").unwrap()];
    block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn golden_frame(kind: u16, stream: u16, seq: u32, stamp: u64, payload: &[u8]) -> Owned {
    let header = Header { stream, seq, ..Header::new(kind, payload.len()).unwrap() };
    Owned { header, stamp, payload: payload.to_vec() }
}

#[test]
fn golden_bytes() {
    let short = golden_frame(0x0100, 0, 0, 0, b"hello");
    let short_bytes = *b"\xB7\x52\x12\x03\x05\0\0\0\0\x01\0\0\0\0\0\0hello\0\0\0";
    assert_eq!(wire(Form::Short, [&short]), short_bytes);
    assert_eq!(documented("short"), short_bytes);

    let long = golden_frame(0x0107, 3, 42, 1_700_000_000_000_000_000, b"slip ring");
    let long_bytes = [
        0xB7, 0x52, 0x14, 0x03, 9, 0, 0, 0, 0x07, 0x01, 3, 0, 42, 0, 0, 0, //
        0x00, 0x00, 0x2A, 0x36, 0xFE, 0x9C, 0x97, 0x17, 0x8A, 0x12, 0xDE, 0xF9, 0x8A, 0x7B, 0xE3, 0x9A, //
        b's', b'l', b'i', b'p', b' ', b'r', b'i', b'n', b'g', 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(wire(Form::Long, [&long]), long_bytes);
    assert_eq!(documented("long"), long_bytes);

    let heard = listen(&mut Decoder::new(64, OnCorrupt::Close), &documented("tlv"), &[], 64);
    assert_eq!(heard, Heard { frames: vec![long], ..Heard::default() });
}

#[test]
fn documented_fragments_and_hello() {
    let header = Header { stream: 1, seq: u32::MAX, ..Header::new(0x0100, 0).unwrap() };
    let parts: Vec<Owned> =
        fragments(header, b"abcdef", 4).unwrap().map(|(h, p)| Frame::new(h, p).unwrap().into()).collect();
    assert_eq!(wire(Form::Short, &parts), documented("fragments"));

    let hello =
        Hello { clock: Clock::Monotonic, epoch: 0x0123_4567_89AB_CDEF, first_seq: 7, ..Hello::new(16 << 20) }.encode();
    let frame = Frame::new(Header::control(control::HELLO, 0).unwrap(), &hello).unwrap();
    assert_eq!(wire(Form::Long, [&frame.into()]), documented("hello"));
}

#[test]
fn the_checksum_is_the_documented_one() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    assert!(DOC.contains("CRC32C(\"123456789\") = 0xE3069283"));
}

/// Runs the Python peer of docs/framing.md, where there is a Python, and compares its frames with
/// the examples.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn the_documented_python_peer_agrees() {
    let at = DOC.find("```python\n").unwrap() + "```python\n".len();
    let program = &DOC[at..at + DOC[at..].find("```").unwrap()];
    let Ok(output) = std::process::Command::new("python3").args(["-c", program]).output() else {
        eprintln!("no python3 here: nothing to compare");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 5);
    for line in lines.lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let expect: String = documented(name).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expect, "{name}");
    }
}
