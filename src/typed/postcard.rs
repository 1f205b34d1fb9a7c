//! The codec for every type of `serde`: `postcard`, a compact binary encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use crate::error::{Error, Result};

/// The codec of types that derive `serde`'s traits, by the crate `postcard`. Encoding allocates
/// only while the buffer of the handle grows.
///
/// `serde` does not describe a type's fields. So both sides agree on `Postcard`, and not on the type
/// of the values: bytes of another type are an error only if they cannot be decoded, or if some are
/// left.
///
/// ```
/// use slipring::typed::{Postcard, Typed};
///
/// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
/// enum Order {
///     Buy { symbol: String, lots: u32 },
///     Cancel(u64),
/// }
///
/// let (tx, rx) = slipring::spsc::pair(4096)?;
/// let mut tx: Typed<Order, _, Postcard> = Typed::new(tx)?;
/// let mut rx: Typed<Order, _, Postcard> = Typed::new(rx)?;
/// tx.send(&Order::Buy { symbol: "EURUSD".to_owned(), lots: 3 })?;
/// assert_eq!(rx.recv()?, Order::Buy { symbol: "EURUSD".to_owned(), lots: 3 });
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match postcard::to_extend(value, std::mem::take(buffer)) {
            Ok(encoded) => {
                *buffer = encoded;
                Ok(buffer)
            }
            Err(_) => Err(Error::Invalid { what: "value: postcard cannot encode it" }),
        }
    }

    fn decode(payload: &[u8]) -> Result<T> {
        match postcard::take_from_bytes(payload) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(Error::Corrupt { what: "message: bytes behind the value" }),
            Err(_) => Err(Error::Corrupt { what: "message: postcard cannot decode it as this type" }),
        }
    }
}
