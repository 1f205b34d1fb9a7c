//! Which of the public types may be sent to other threads (`Send`) and shared among them (`Sync`):
//! a change is a change of the API, so it fails to compile here.
//!
//! The handles of [`spsc`] and [`stream`] belong to one thread at a time, and so do their guards.
//! All others may be shared; every end of a transport may be sent, which its trait demands.

use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::*;

assert_impl_all!(spsc::Producer: Send);
assert_impl_all!(spsc::Consumer: Send);
assert_impl_all!(spsc::UntrustedConsumer: Send);
assert_impl_all!(spsc::WriteGrant<'_>: Send);
assert_impl_all!(spsc::WriteBatch<'_>: Send);
assert_impl_all!(spsc::ReadView<'_>: Send);
assert_impl_all!(spsc::ReadBatch<'_>: Send);
assert_impl_all!(stream::Producer: Send);
assert_impl_all!(stream::Consumer: Send);
assert_impl_all!(stream::WriteGrant<'_>: Send);
assert_impl_all!(stream::ReadView<'_>: Send);
assert_not_impl_any!(spsc::Producer: Sync, Clone);
assert_not_impl_any!(spsc::Consumer: Sync, Clone);
assert_not_impl_any!(stream::Producer: Sync, Clone);
assert_not_impl_any!(stream::Consumer: Sync, Clone);

assert_impl_all!(mpmc::Producer: Send, Sync, Clone);
assert_impl_all!(mpmc::Consumer: Send, Sync, Clone);
assert_impl_all!(mpmc::WriteGrant<'_>: Send, Sync);
assert_impl_all!(mpmc::ReadView<'_>: Send, Sync);
assert_impl_all!(mpmc::ReadBatch<'_>: Send, Sync);

assert_impl_all!(Ring: Send, Sync, Clone);
assert_impl_all!(Mutex: Send, Sync, Clone);
assert_impl_all!(MutexGuard<'_>: Send, Sync);
assert_impl_all!(Semaphore: Send, Sync, Clone);
assert_impl_all!(Permit<'_>: Send, Sync);
assert_impl_all!(SignalSemaphore: Send, Sync, Clone);
assert_impl_all!(Event: Send, Sync, Clone);
#[cfg(feature = "async")]
assert_impl_all!(spsc::AsyncProducer: Send);
#[cfg(feature = "async")]
assert_impl_all!(spsc::AsyncConsumer: Send);
#[cfg(feature = "async")]
assert_impl_all!(mpmc::AsyncProducer: Send, Sync, Clone);
#[cfg(feature = "async")]
assert_impl_all!(mpmc::AsyncConsumer: Send, Sync, Clone);
#[cfg(all(feature = "async", feature = "transports"))]
assert_impl_all!(transport::AsyncSender: Send);
#[cfg(all(feature = "async", feature = "transports"))]
assert_impl_all!(transport::AsyncReceiver: Send);
#[cfg(feature = "async")]
assert_impl_all!(broadcast::AsyncPublisher: Send);
#[cfg(feature = "async")]
assert_impl_all!(broadcast::AsyncSubscriber: Send);
#[cfg(feature = "async")]
assert_impl_all!(broadcast::AsyncLossySubscriber: Send);
#[cfg(feature = "async")]
assert_impl_all!(AsyncSemaphore: Send, Sync, Clone);
#[cfg(feature = "async")]
assert_impl_all!(AsyncSignalSemaphore: Send, Sync, Clone);
#[cfg(feature = "async")]
assert_impl_all!(AsyncMutex: Send, Sync, Clone);
#[cfg(feature = "async")]
assert_impl_all!(AsyncEvent: Send, Sync, Clone);
assert_impl_all!(Canceller: Send, Sync, Clone);
assert_impl_all!(Options: Send, Sync, Clone);
assert_impl_all!(Error: Send, Sync, std::error::Error, PartialEq);
assert_impl_all!(stream::PartialWrite: Send, Sync, std::error::Error, PartialEq);

#[cfg(feature = "transports")]
mod transports {
    use super::*;

    assert_impl_all!(endpoint::Endpoint: Send, Sync, Clone);
    assert_impl_all!(transport::Doorbell: Send, Sync, std::os::fd::AsFd);
    assert_impl_all!(transport::FrameDoorbell: Send, Sync);
    assert_impl_all!(transport::ring::Sender: Send);
    assert_impl_all!(transport::ring::Receiver: Send);
}
