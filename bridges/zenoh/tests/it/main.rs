//! The bridge between processes, and between network namespaces.

mod calls;
mod chain;
mod common;
mod ends;
mod kills;
mod links;
#[cfg(feature = "tls")]
mod tls;
mod usage;
