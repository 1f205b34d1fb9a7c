//! The guide: one page per question, as modules without items. Their examples run as tests.
//!
//! - [`choosing`]: which ring for which purpose.
//! - [`waiting`]: how calls wait, and how a wait ends.
//! - [`event_loops`]: one wait for rings, descriptors, timers and signals.
//! - [`sizes`]: capacity, payload, memory.
//! - `messages` (`docs/guide/messages.md`, with the feature `serde`): values instead of bytes;
//!   requests and replies.
//! - [`real_time`]: threads with deadlines.
//! - [`containers`]: sharing rings between containers.
//! - [`other_languages`]: C and C++.
//! - [`troubleshooting`]: by symptom.

#[doc = include_str!("../docs/guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("../docs/guide/waiting.md")]
pub mod waiting {}

#[doc = include_str!("../docs/guide/event_loops.md")]
pub mod event_loops {}

#[doc = include_str!("../docs/guide/sizes.md")]
pub mod sizes {}

#[cfg(feature = "serde")]
#[doc = include_str!("../docs/guide/messages.md")]
pub mod messages {}

#[doc = include_str!("../docs/guide/real_time.md")]
pub mod real_time {}

#[doc = include_str!("../docs/guide/containers.md")]
pub mod containers {}

#[doc = include_str!("../docs/guide/other_languages.md")]
pub mod other_languages {}

#[doc = include_str!("../docs/guide/troubleshooting.md")]
pub mod troubleshooting {}
