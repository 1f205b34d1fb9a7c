//! Owned events as a `Stream`, owned frames as a `Sink`: the ends of transports under the
//! combinators of `futures`.
//!
//! Relies on `mod.rs` for the waiting.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{AsyncReceiver, AsyncSender, Close, Receive, Send, What};
use crate::error::{Error, Result};
use crate::frame::{OwnedEvent, OwnedFrame};

/// The events, with their payloads, until the sender has closed ([`Error::Closed`]). Any other
/// error is the last item. It may be polled again after its end: another sender may have come.
/// Allocates for each frame; [`AsyncReceiver::recv`] does not.
///
/// ```
/// use futures_core::Stream;
/// use slipring::frame::{Header, OwnedEvent};
/// use slipring::transport::{AsyncReceiver, FrameSender, FrameSenderExt, pipe, stream::Options};
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// let (mut tx, rx) = pipe::pair(&Options::new())?;
/// let mut rx = pin!(AsyncReceiver::new(Box::new(rx)));
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(rx.as_mut().poll_next(&mut cx).is_pending());
/// tx.try_send(Header::PLAIN, b"tick")?;
/// tx.close(slipring::Deadline::never())?;
/// let Poll::Ready(Some(Ok(OwnedEvent::Frame(frame)))) = rx.as_mut().poll_next(&mut cx) else { panic!() };
/// assert_eq!(frame.payload, b"tick");
/// assert!(matches!(rx.as_mut().poll_next(&mut cx), Poll::Ready(None)));
/// # Ok::<(), slipring::Error>(())
/// ```
impl futures_core::Stream for AsyncReceiver {
    type Item = Result<OwnedEvent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<OwnedEvent>>> {
        let AsyncReceiver { end, wait, payload, has_ended } = self.get_mut();
        if std::mem::take(has_ended) {
            return Poll::Ready(None);
        }
        let received = ready!(wait.poll_until(cx, &mut Receive { end: &mut **end, payload }));
        Poll::Ready(match received {
            Err(Error::Closed) => None,
            received => {
                *has_ended = received.is_err();
                Some(received.map(|shape| shape.event(payload).into()))
            }
        })
    }
}

/// Sends frames; `Vec<u8>` converts into one. A frame that finds no room waits in the end, until
/// the sink is polled for the next one or flushed: flush it before it is dropped. Closing flushes,
/// and then does what [`AsyncSender::close`] does.
impl futures_sink::Sink<OwnedFrame> for AsyncSender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_staged(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: OwnedFrame) -> Result<()> {
        let this = self.get_mut();
        if this.staged.is_some() {
            return Err(Error::Full); // not ready
        }
        match this.end.try_send(frame.header, &frame.payload) {
            Err(Error::Full) => this.staged = Some(frame),
            outcome => return outcome,
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_staged(cx))?;
        this.wait.poll_until(cx, &mut Send { end: &mut *this.end, what: What::Flush })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_staged(cx))?;
        this.wait.poll_until(cx, &mut Close(&mut *this.end))
    }
}

impl AsyncSender {
    /// Sends the frame that a `Sink` left, if there is one. An error drops it.
    fn poll_staged(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(frame) = self.staged.take() else { return Poll::Ready(Ok(())) };
        let what = What::Frame(frame.header, &frame.payload);
        let outcome = self.wait.poll_until(cx, &mut Send { end: &mut *self.end, what });
        if outcome.is_pending() {
            self.staged = Some(frame);
        }
        outcome
    }

    /// [`AsyncSender::poll_staged`], for the calls that are awaited.
    pub(super) async fn send_staged(&mut self) -> Result<()> {
        let AsyncSender { end, wait, staged } = self;
        let Some(OwnedFrame { header, payload, .. }) = staged else { return Ok(()) };
        let what = What::Frame(*header, payload);
        let outcome = wait.until(&mut Send { end: &mut **end, what }).await;
        *staged = None;
        outcome
    }
}
