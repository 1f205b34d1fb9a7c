//! The description of a message's type.
//!
//! Used by `codec.rs`. Relies on `zerocopy` for the proof that any bytes are a valid value.

use std::fmt::Write;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A type of messages that are sent as they lie in memory, and that describes itself: name, size,
/// alignment, and fields with their types and offsets.
///
/// Implemented for integers, floats and arrays, and by [`message!`](crate::message) for structs.
pub trait Message: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Appends the description. Two programs agree if they append the same text.
    fn describe(text: &mut String);
}

macro_rules! primitives {
    ($($type:ty, $text:literal;)*) => { $(
        impl Message for $type {
            fn describe(text: &mut String) {
                text.push_str($text);
            }
        }
    )* };
}

primitives! {
    u8, "u8"; u16, "u16"; u32, "u32"; u64, "u64"; u128, "u128";
    i8, "i8"; i16, "i16"; i32, "i32"; i64, "i64"; i128, "i128";
    f32, "f32"; f64, "f64";
    zerocopy::little_endian::U16, "u16 (little-endian)"; zerocopy::little_endian::I16, "i16 (little-endian)";
    zerocopy::little_endian::U32, "u32 (little-endian)"; zerocopy::little_endian::I32, "i32 (little-endian)";
    zerocopy::little_endian::U64, "u64 (little-endian)"; zerocopy::little_endian::I64, "i64 (little-endian)";
    zerocopy::little_endian::F32, "f32 (little-endian)"; zerocopy::little_endian::F64, "f64 (little-endian)";
}

impl<T: Message, const N: usize> Message for [T; N] {
    fn describe(text: &mut String) {
        text.push('[');
        T::describe(text);
        let _ = write!(text, "; {N}]");
    }
}

/// Declares structs that are messages: `#[repr(C)]`, with the traits of `zerocopy`, and with a
/// [description](crate::typed::Message) of their fields. A struct with padding does not compile.
///
/// ```
/// slipring::message! {
///     /// A price on both sides.
///     #[derive(Clone, Copy, Debug, PartialEq)]
///     pub struct Quote {
///         /// In points.
///         pub bid: i64,
///         pub ask: i64,
///         sizes: [u32; 2],
///     }
/// }
/// use slipring::typed::Message;
/// let mut text = String::new();
/// Quote::describe(&mut text);
/// assert_eq!(text, "Quote { bid: i64 @ 0, ask: i64 @ 8, sizes: [u32; 2] @ 16 } of 24 bytes, aligned to 8");
/// ```
#[macro_export]
macro_rules! message {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $( $(#[$field_attribute:meta])* $field_visibility:vis $field:ident : $type:ty ),* $(,)?
        }
    )*) => { $(
        $(#[$attribute])*
        #[derive(
            $crate::typed::zerocopy::FromBytes,
            $crate::typed::zerocopy::IntoBytes,
            $crate::typed::zerocopy::Immutable,
            $crate::typed::zerocopy::KnownLayout,
        )]
        #[zerocopy(crate = "slipring::typed::zerocopy")]
        #[repr(C)]
        $visibility struct $name {
            $( $(#[$field_attribute])* $field_visibility $field : $type ),*
        }

        impl $crate::typed::Message for $name {
            fn describe(text: &mut ::std::string::String) {
                text.push_str(::std::concat!(::std::stringify!($name), " { "));
                let mut separator = "";
                $(
                    text.push_str(separator);
                    text.push_str(::std::concat!(::std::stringify!($field), ": "));
                    <$type as $crate::typed::Message>::describe(text);
                    text.push_str(&::std::format!(" @ {}", ::std::mem::offset_of!($name, $field)));
                    separator = ", ";
                )*
                let _ = separator;
                text.push_str(&::std::format!(
                    " }} of {} bytes, aligned to {}",
                    ::std::mem::size_of::<$name>(),
                    ::std::mem::align_of::<$name>(),
                ));
            }
        }
    )* };
}
