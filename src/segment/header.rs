//! The immutable header: written once before a segment becomes visible, checked once by each
//! process that opens it.
//!
//! Used by `create.rs` and `open.rs`. The bytes are copied into private memory before any check,
//! and no field is used before the whole header has been recomputed from a few independent fields.
//!
//! ```text
//!   0 magic 8 | 8 endian tag 4, layout version 4 | 16 must-understand features 8 | 24 kind 4, participants 4
//!  32 capacity 8 | 40 slots 8 | 48 stride 8 | 56 max payload 8 | 64 alignment unit 8 | 72 wake mode 4, redelivery 4
//!  80 data offset 8 | 88 file length 8 | 96 generation 8 | 104 creator's pid 4, uid 4 | 112 creation time 8
//! 120 zero 4 | 124 CRC32C of bytes 0..124, 4
//! ```

use super::geometry::{Geometry, Kind, Redelivery, Settings, WakeMode};
use super::layout::{ENDIAN_TAG, LAYOUT_VERSION, MAGIC};
use crate::error::{Error, Result};

/// Length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 128;
/// Features of this version that an older one must not ignore: none yet.
const KNOWN_FEATURES: u64 = 0;

/// The validated header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) geometry: Geometry,
    /// Random, not zero: distinguishes segments of the same name.
    pub(crate) generation: u64,
    pub(crate) creator_pid: u32,
    pub(crate) creator_uid: u32,
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
}

impl Header {
    /// The bytes of the header.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let g = &self.geometry;
        let mut bytes = [0; HEADER_LEN];
        let words = [
            MAGIC,
            pair(ENDIAN_TAG, LAYOUT_VERSION),
            KNOWN_FEATURES,
            pair(g.kind as u32, g.participants as u32),
            g.capacity as u64,
            g.slots as u64,
            g.stride as u64,
            g.max_payload as u64,
            g.page as u64,
            pair(g.wake as u32, g.redelivery as u32),
            g.data_offset as u64,
            g.total_len as u64,
            self.generation,
            pair(self.creator_pid, self.creator_uid),
            self.created,
        ];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Checks a private copy of a segment's first bytes against the length of its file (from
    /// `fstat`).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if no version of this library writes such a header,
    /// [`Error::Incompatible`] if another version does.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], file_len: u64) -> Result<Self> {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[8 * i + k]));
        let halves = |i: usize| (word(i) as u32, (word(i) >> 32) as u32);
        let corrupt = |what| Err(Error::Corrupt { what });

        if word(0) != MAGIC {
            return corrupt("the file is not a slipring segment (wrong magic)");
        }
        let (endian_tag, version) = halves(1);
        expect("byte order", ENDIAN_TAG, endian_tag)?;
        expect("layout version", LAYOUT_VERSION, version)?;
        if crc32c::crc32c(&bytes[..HEADER_LEN - 4]) != halves(15).1 {
            return corrupt("header: checksum mismatch");
        }
        expect("features", KNOWN_FEATURES, word(2) & !KNOWN_FEATURES)?;

        let Some(geometry) = recompute(word, halves) else {
            return corrupt("header: invalid geometry");
        };
        let (slots, stride) = (geometry.slots as u64, geometry.stride as u64);
        let shape = [geometry.capacity as u64, slots, stride, geometry.max_payload as u64];
        let place = [geometry.data_offset as u64, geometry.total_len as u64];
        if shape != [word(4), word(5), word(6), word(7)] || place != [word(10), word(11)] {
            return corrupt("header: inconsistent geometry");
        }
        if geometry.total_len as u64 != file_len {
            return corrupt("file size differs from the geometry");
        }
        if word(12) == 0 || halves(15).0 != 0 {
            return corrupt("header: invalid generation or reserved word");
        }
        let (creator_pid, creator_uid) = halves(13);
        Ok(Header { geometry, generation: word(12), creator_pid, creator_uid, created: word(14) })
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn expect<T: Into<u64> + Copy>(what: &'static str, expected: T, found: T) -> Result<()> {
    let (expected, found) = (expected.into(), found.into());
    if found == expected { Ok(()) } else { Err(Error::Incompatible { what, expected, found }) }
}

/// Recomputes the geometry from the fields that a creator chose, with the same checked arithmetic.
fn recompute(word: impl Fn(usize) -> u64, halves: impl Fn(usize) -> (u32, u32)) -> Option<Geometry> {
    let size = |i| usize::try_from(word(i)).ok();
    let (kind, participants) = halves(3);
    let (wake, redelivery) = halves(9);
    let settings = Settings {
        participants: usize::try_from(participants).ok()?,
        wake: [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced].into_iter().find(|m| *m as u32 == wake)?,
        redelivery: [Redelivery::AtLeastOnce, Redelivery::AtMostOnce].into_iter().find(|r| *r as u32 == redelivery)?,
        page: size(8)?,
    };
    use Kind::{Broadcast, Event, Latest, Mpmc, Mpsc, Mutex, Semaphore, SignalSemaphore, Spsc, Stream};
    let kinds = [Spsc, Mpmc, Stream, Semaphore, Mutex, Latest, SignalSemaphore, Event, Broadcast, Mpsc];
    match kinds.into_iter().find(|k| *k as u32 == kind)? {
        Spsc => Geometry::spsc(size(4)?, &settings),
        Stream => Geometry::stream(size(4)?, &settings),
        Broadcast => Geometry::broadcast(size(4)?, &settings),
        Mpsc => Geometry::mpsc(size(6)?, size(5)?, &settings),
        Mpmc => Geometry::mpmc(size(5)?, size(7)?, &settings),
        Latest => Geometry::latest(size(5)?, size(7)?, &settings),
        plain @ (Semaphore | Mutex | SignalSemaphore | Event) => Geometry::plain(plain, size(4)?, &settings),
    }
    .ok()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn samples() -> Vec<Header> {
        let settings = Settings { participants: 7, wake: WakeMode::Fenced, ..Settings::default() };
        let geometries = [
            Geometry::spsc(100_000, &settings),
            Geometry::stream(1 << 20, &settings),
            Geometry::broadcast(1 << 16, &settings),
            Geometry::mpsc(1 << 16, 16, &settings),
            Geometry::mpsc(4096, 1024, &Settings::default()),
            Geometry::mpmc(100, 1000, &Settings::default()),
            Geometry::mpmc(2, 1 << 30, &Settings::default()),
            Geometry::latest(100, 1000, &settings),
            Geometry::latest(2, 1 << 30, &Settings::default()),
            Geometry::plain(Kind::Semaphore, 64, &settings),
            Geometry::plain(Kind::Mutex, 8, &settings),
            Geometry::plain(Kind::SignalSemaphore, 64, &settings),
            Geometry::plain(Kind::Event, 64, &settings),
        ];
        let header =
            |geometry| Header { geometry, generation: 7, creator_pid: 1, creator_uid: 2, created: 1_700_000_000 };
        geometries.into_iter().map(|g| header(g.unwrap())).collect()
    }

    fn reseal(bytes: &mut [u8; HEADER_LEN]) {
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn every_kind_survives_the_round_trip() {
        for header in samples() {
            assert_eq!(Header::decode(&header.encode(), header.geometry.total_len as u64).unwrap(), header);
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for header in samples() {
            for bit in 0..8 * HEADER_LEN {
                let mut bytes = header.encode();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let error = Header::decode(&bytes, header.geometry.total_len as u64).unwrap_err();
                assert!(matches!(error, Error::Corrupt { .. } | Error::Incompatible { .. }), "bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn a_forged_checksum_does_not_hide_an_inconsistency() {
        let header = samples()[0];
        let len = header.geometry.total_len as u64;
        // Every geometry field, the kind, the modes, the features, the generation.
        for (at, value) in [
            (16, 1),
            (24, 99),
            (28, 0),
            (32, 1),
            (40, 2),
            (48, 64),
            (56, 1),
            (64, 4097),
            (72, 3),
            (80, 1),
            (88, 1),
            (96, 0),
        ] {
            let mut bytes = header.encode();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            reseal(&mut bytes);
            assert!(Header::decode(&bytes, len).is_err(), "offset {at}");
        }
        assert!(matches!(Header::decode(&header.encode(), len - 4096), Err(Error::Corrupt { .. })));
        for found in [1, LAYOUT_VERSION as u8 + 1] {
            let mut other = header.encode();
            other[12] = found;
            reseal(&mut other);
            let message = format!("incompatible layout version: expected {LAYOUT_VERSION}, found {found}");
            assert_eq!(Header::decode(&other, len).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn random_images_never_panic() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed ^ seed >> 29
        };
        let good = samples();
        for round in 0..20_000 {
            let mut bytes = good[round % good.len()].encode();
            for _ in 0..1 + next() % 6 {
                let at = next() as usize % 15 * 8 + 8 * usize::from(round % 2 == 0);
                bytes[at..at + 8].copy_from_slice(&(next() >> (next() % 64)).to_le_bytes());
            }
            bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[8..16].copy_from_slice(&pair(ENDIAN_TAG, LAYOUT_VERSION).to_le_bytes());
            reseal(&mut bytes);
            let _ = Header::decode(&bytes, next());
        }
    }
}
