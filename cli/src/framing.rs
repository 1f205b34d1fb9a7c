//! How frames are separated on stdin and stdout, which carry bytes only.

use std::fmt;
use std::str::FromStr;

use slipring::frame::Header;

/// What `--framing` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A frame per line, without its newline.
    Lines,
    /// Each frame ends with a zero byte, as `find -print0` writes names.
    Nul,
    /// Each frame follows its length: four bytes, little-endian.
    Len32,
    /// Every frame has this many bytes.
    Fixed(usize),
    /// Plain bytes; the ends of frames are not marked.
    Raw,
}

pub(crate) const HELP: &str = "\
How bytes become frames: lines, nul, len32 (u32 little-endian length first), fixed:N (bytes), raw \
[default: lines; raw on kind=stream]";

impl Framing {
    /// Appends a frame to `out`. Returns false if the frame cannot be written in this format.
    #[inline]
    pub(crate) fn encode(self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Framing::Lines | Framing::Nul => {
                out.extend_from_slice(payload);
                out.push(if self == Framing::Lines { b'\n' } else { 0 });
            }
            Framing::Len32 => {
                let Ok(len) = u32::try_from(payload.len()) else { return false };
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Framing::Fixed(len) if payload.len() != len => return false,
            Framing::Fixed(_) | Framing::Raw => out.extend_from_slice(payload),
        }
        true
    }
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lines" => Ok(Framing::Lines),
            "nul" => Ok(Framing::Nul),
            "len32" => Ok(Framing::Len32),
            "raw" => Ok(Framing::Raw),
            _ => {
                let fixed = text.strip_prefix("fixed:").and_then(|size| crate::units::size(size).ok());
                fixed.filter(|size| *size > 0).map(Framing::Fixed).ok_or_else(|| {
                    "lines, nul, len32, raw, or fixed:N with N bytes, at least 1, as in fixed:64 or fixed:4KiB"
                        .to_owned()
                })
            }
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Lines => f.write_str("lines"),
            Framing::Nul => f.write_str("nul"),
            Framing::Len32 => f.write_str("len32"),
            Framing::Fixed(size) => write!(f, "fixed:{size}"),
            Framing::Raw => f.write_str("raw"),
        }
    }
}

/// A frame as a line of JSON.
#[derive(serde::Serialize)]
struct Record<'a> {
    seq: u32,
    kind: u16,
    stream: u16,
    flags: u8,
    len: u32,
    redelivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// Appends a frame to `out` as a line of JSON; bytes that are no UTF-8 as base64.
pub(crate) fn encode_json(header: Header, payload: &[u8], out: &mut Vec<u8>) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use slipring::frame::Flags;
    let text = std::str::from_utf8(payload).ok();
    let record = Record {
        seq: header.seq,
        kind: header.kind,
        stream: header.stream,
        flags: header.flags.bits(),
        len: header.len,
        redelivered: header.flags.contains(Flags::REDELIVERED),
        payload: text,
        payload_base64: if text.is_none() { Some(STANDARD.encode(payload)) } else { None },
    };
    // Numbers and strings are written to memory, which cannot fail.
    let _ = serde_json::to_writer(&mut *out, &record);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_printed() {
        for text in ["lines", "nul", "len32", "raw", "fixed:7"] {
            assert_eq!(text.parse::<Framing>().unwrap().to_string(), text);
        }
        assert_eq!("fixed:4KiB".parse(), Ok(Framing::Fixed(4096)));
        for text in ["", "line", "fixed", "fixed:", "fixed:0", "fixed:-1"] {
            assert!(text.parse::<Framing>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_keeps_every_byte() {
        let mut out = Vec::new();
        let header = Header { seq: 7, ..Header::new(0x0107, 2).unwrap() };
        encode_json(header, b"h\"", &mut out);
        encode_json(header, b"\xFF\0", &mut out);
        let lines: Vec<serde_json::Value> =
            out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
        assert_eq!(
            (&lines[0]["payload"], &lines[0]["seq"], &lines[0]["kind"]),
            (&"h\"".into(), &7.into(), &0x0107.into())
        );
        assert_eq!((&lines[1]["payload_base64"], lines[1].get("payload")), (&"/wA=".into(), None));
    }
}
