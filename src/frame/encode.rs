//! A frame as a view, and its encodings: appended to a buffer, written in place, or as a header to
//! be sent beside the payload.
//!
//! Used by every transport and by the recorder. Relies on the header and on `crc32c`.

use std::ops::Deref;

use super::header::{Header, IDENTIFIED, LONG, MAX_LEN, SENDER, SHORT, header_byte, padded};
use crate::error::{Error, Result};

/// The form of an encoded frame's header. Receivers accept both.
///
/// Local byte streams and messages use the short form, because the kernel already guarantees the
/// bytes. Networks and files use the long form; its checksums cost about 0.1 ns a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 16 bytes, no checksum, no stamp.
    Short,
    /// 32 bytes, with a stamp and two CRC32C.
    Long,
}

impl Form {
    /// Bytes of the header: 16 or 32.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Form::Short => SHORT,
            Form::Long => LONG,
        }
    }
}

/// One frame whose payload is borrowed: from the sender, a decoder's buffer, or a chunk just read.
///
/// ```
/// use slipring::frame::{Form, Frame, Header};
/// let frame = Frame::new(Header::new(0x0100, 3)?, b"abc")?;
/// let mut wire = [0xFF; 64];
/// assert_eq!(frame.encode_into(Form::Short, &mut wire)?, 24); // 16 + 3, padded to 8
/// assert_eq!(wire[16..24], *b"abc\0\0\0\0\0");
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header. Encoding takes `len` from the payload, not from here.
    pub header: Header,
    /// Nanoseconds of the clock that the sender's HELLO named; 0 for none. The short form does not
    /// carry it.
    pub stamp: u64,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame without a stamp; `header.len` becomes the payload's length.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 2^30 bytes.
    pub fn new(header: Header, payload: &'a [u8]) -> Result<Frame<'a>> {
        let len = payload_len(payload)?;
        Ok(Frame { header: Header { len, ..header }, stamp: 0, payload })
    }

    /// Bytes of the frame on a byte stream: header, payload, and padding to a multiple of 8.
    #[inline]
    #[must_use]
    pub const fn encoded_len(&self, form: Form) -> usize {
        form.header_len() + padded(self.payload.len())
    }

    /// Bytes of the frame as a separate message (datagram, queue): header and payload, no padding.
    #[inline]
    #[must_use]
    pub const fn message_len(&self, form: Form) -> usize {
        form.header_len() + self.payload.len()
    }

    /// The bytes of the header, for `writev(header, payload, padding)`. Reads the whole payload in
    /// the long form.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 2^30 bytes of payload.
    ///
    /// ```
    /// use slipring::frame::{Form, Frame, Header, padding};
    /// let frame = Frame::new(Header::new(0x0100, 5)?, b"hello")?;
    /// let parts: [&[u8]; 3] = [&frame.head(Form::Short)?, frame.payload, padding(5)];
    /// assert_eq!(parts.concat().len(), frame.encoded_len(Form::Short));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn head(&self, form: Form) -> Result<Head> {
        let header = Header { len: payload_len(self.payload)?, ..self.header };
        let mut bytes = [0; IDENTIFIED];
        bytes[..8].copy_from_slice(&header.first_word(form.header_len()).to_le_bytes());
        bytes[8..16].copy_from_slice(&header.tail_word().to_le_bytes());
        if form == Form::Long {
            bytes[16..24].copy_from_slice(&self.stamp.to_le_bytes());
            bytes[24..28].copy_from_slice(&crc32c::crc32c(self.payload).to_le_bytes());
            let head_crc = crc32c::crc32c(&bytes[..28]);
            bytes[28..LONG].copy_from_slice(&head_crc.to_le_bytes());
        }
        Ok(Head { bytes, len: form.header_len() })
    }

    /// The bytes of a long header with the sender's identity: the epoch of its HELLO, as the TLV
    /// `SENDER`. For channels with several senders that the kernel does not tell apart (message
    /// queues). 48 bytes.
    ///
    /// # Errors
    /// As [`Frame::head`].
    ///
    /// ```
    /// use slipring::frame::{Frame, Header, sender_of};
    /// let frame = Frame::new(Header::new(0x0100, 5)?, b"hello")?;
    /// let message = [&frame.head_from(0x5EED)?, frame.payload].concat();
    /// assert_eq!(Frame::from_message(&message, 1024)?, frame);
    /// assert_eq!(sender_of(&message), Some(0x5EED));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn head_from(&self, sender: u64) -> Result<Head> {
        let mut head = self.head(Form::Long)?;
        head.len = IDENTIFIED;
        head.bytes[2] = header_byte(head.len);
        head.bytes[LONG..LONG + 2].copy_from_slice(&SENDER.to_le_bytes());
        head.bytes[LONG + 2..LONG + 4].copy_from_slice(&8u16.to_le_bytes());
        head.bytes[LONG + 4..LONG + 12].copy_from_slice(&sender.to_le_bytes());
        let head_crc = crc32c::crc32c_append(crc32c::crc32c(&head.bytes[..28]), &head.bytes[LONG..]);
        head.bytes[28..LONG].copy_from_slice(&head_crc.to_le_bytes());
        Ok(head)
    }

    /// Appends the frame, padded, to `out`. Allocates only if `out` must grow.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 2^30 bytes of payload; `out` is then unchanged.
    pub fn encode(&self, form: Form, out: &mut Vec<u8>) -> Result<()> {
        let head = self.head(form)?;
        out.reserve(self.encoded_len(form));
        out.extend_from_slice(&head);
        out.extend_from_slice(self.payload);
        out.extend_from_slice(padding(self.payload.len()));
        Ok(())
    }

    /// Writes the frame, padded, to the beginning of `out`, and returns its number of bytes. No
    /// allocation.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it does not fit into `out`, or above 2^30 bytes of payload; `out` is
    /// then unchanged.
    pub fn encode_into(&self, form: Form, out: &mut [u8]) -> Result<usize> {
        let (header_len, total) = (form.header_len(), self.encoded_len(form));
        let room = out.len().saturating_sub(header_len) & !7;
        let Some(out) = out.get_mut(..total) else { return Err(Error::TooLarge { max: room }) };
        out[..header_len].copy_from_slice(&self.head(form)?);
        let (payload, zeros) = out[header_len..].split_at_mut(self.payload.len());
        payload.copy_from_slice(self.payload);
        zeros.fill(0);
        Ok(total)
    }
}

/// The bytes of one header, 16, 32 or 48, on the stack; dereferences to them.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; IDENTIFIED],
    len: usize,
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The 0 to 7 zeros that follow a payload of `len` bytes on a byte stream.
#[inline]
#[must_use]
pub fn padding(len: usize) -> &'static [u8] {
    &[0; 7][..padded(len) - len]
}

fn payload_len(payload: &[u8]) -> Result<u32> {
    match u32::try_from(payload.len()) {
        Ok(len) if len <= MAX_LEN => Ok(len),
        _ => Err(Error::TooLarge { max: MAX_LEN as usize }),
    }
}

/// The first of some encoded frames of the short form: its header, and the bytes it takes.
#[cfg(feature = "transports")]
#[inline]
pub(crate) fn first_encoded(frames: &[u8]) -> Result<(Header, usize)> {
    // No error is made before there is one: it would have to be dropped for every frame.
    let Some(head) = frames.first_chunk() else {
        return Err(Error::Corrupt { what: "encoded frames: cut off" });
    };
    let (header, header_len) = Header::from_bytes(head)?;
    let end = SHORT + padded(header.len as usize);
    if header_len != SHORT || frames.len() < end {
        return Err(Error::Corrupt { what: "encoded frames: cut off, or not of the short form" });
    }
    Ok((header, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_give_the_same_bytes() {
        for form in [Form::Short, Form::Long] {
            for len in 0..=17 {
                let payload = vec![0xA5; len];
                let frame =
                    Frame { stamp: 99, ..Frame::new(Header::new(Header::DEFAULT_KIND, 0).unwrap(), &payload).unwrap() };
                let mut appended = vec![1, 2, 3];
                frame.encode(form, &mut appended).unwrap();
                let parts: [&[u8]; 3] = [&frame.head(form).unwrap(), &payload, padding(len)];
                let mut written = [0xEE; 64];
                let total = frame.encode_into(form, &mut written).unwrap();
                assert_eq!(appended[3..], parts.concat());
                assert_eq!(appended[3..], written[..total]);
                assert_eq!(total, frame.encoded_len(form));
                assert!(written[total..].iter().all(|b| *b == 0xEE));
            }
        }
    }

    #[test]
    fn a_slice_that_is_too_small_is_refused_and_unchanged() {
        let frame = Frame::new(Header::new(Header::DEFAULT_KIND, 0).unwrap(), &[7; 20]).unwrap();
        let mut out = [0xEE; 39];
        assert!(matches!(frame.encode_into(Form::Short, &mut out), Err(Error::TooLarge { max: 16 })));
        assert_eq!(out, [0xEE; 39]);
        assert!(matches!(frame.encode_into(Form::Long, &mut []), Err(Error::TooLarge { max: 0 })));
    }
}
