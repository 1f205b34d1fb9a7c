//! How values become payloads: as they lie in memory, or by an encoding.
//!
//! Used by [`Typed`](super::Typed). Relies on `zerocopy`, and on `postcard` with the feature
//! `serde`.

use super::message::Message;
use crate::error::Result;
use crate::frame::value;

/// Encodes values of a type as payloads, and decodes them. [`Plain`] needs no encoding; with the
/// feature `serde`, `Postcard` takes every type of `serde`. An encoding of one's own is two
/// functions:
///
/// ```
/// use slipring::typed::{Codec, Typed};
/// use slipring::{Error, Result, spsc};
///
/// struct Text;
///
/// impl Codec<f64> for Text {
///     fn encode<'a>(value: &'a f64, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
///         buffer.extend_from_slice(value.to_string().as_bytes());
///         Ok(buffer)
///     }
///
///     fn decode(payload: &[u8]) -> Result<f64> {
///         let text = std::str::from_utf8(payload).ok();
///         text.and_then(|text| text.parse().ok()).ok_or(Error::Corrupt { what: "message: not a number" })
///     }
/// }
///
/// let (tx, rx) = spsc::pair(4096)?;
/// let mut tx: Typed<f64, _, Text> = Typed::new(tx)?;
/// let mut rx: Typed<f64, _, Text> = Typed::new(rx)?;
/// tx.send(&1.5)?;
/// assert_eq!(rx.recv()?, 1.5);
/// # Ok::<(), Error>(())
/// ```
pub trait Codec<T> {
    /// The payload of `value`. `buffer` is empty, and keeps its room between messages; a codec that
    /// needs none returns the bytes of the value.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the value has no encoding.
    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]>;

    /// The value of a payload, which may be unaligned.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or
    /// [`Error::Incompatible`](crate::Error::Incompatible) if it is none.
    fn decode(payload: &[u8]) -> Result<T>;

    /// The description on which both sides have to agree: by default the name of the codec, and not
    /// the type of the values.
    #[must_use]
    fn describe() -> String {
        let name = std::any::type_name::<Self>();
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }
}

/// The codec of a [`Message`]: its bytes, as they lie in memory. No copy but that into the ring and
/// out of it.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl<T: Message> Codec<T> for Plain {
    #[inline]
    fn encode<'a>(value: &'a T, _: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        Ok(value.as_bytes())
    }

    #[inline]
    fn decode(payload: &[u8]) -> Result<T> {
        value::copy(payload)
    }

    fn describe() -> String {
        let mut text = String::new();
        T::describe(&mut text);
        text
    }
}
