//! Typed messages over the boxed ends of transports.
//!
//! Relies on `transport/`. A sender announces its type by a control frame before its first message.
//! The announcement may be lost where frames may be, and senders may share a channel; so each frame
//! has the kind of its type as well, and the announcement only serves to name the type.

use super::ends::{Handle, Sealed};
use super::{Codec, State, Typed, decode};
use crate::error::{Error, Result};
use crate::frame::{Event, Header, control};
use crate::transport::{FrameReceiver, FrameSender};
use crate::wait::deadline::Deadline;

impl Sealed for Box<dyn FrameSender> {}
impl Sealed for Box<dyn FrameReceiver> {}

impl Handle for Box<dyn FrameSender> {
    /// By the announcement.
    fn agree(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
}

impl Handle for Box<dyn FrameReceiver> {
    /// By the sender's announcement.
    fn agree(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
}

impl<T, C: Codec<T>> Typed<T, Box<dyn FrameSender>, C> {
    /// Sends a value without waiting.
    ///
    /// # Errors
    /// As [`FrameSender::try_send`]; the codec's.
    ///
    /// ```
    /// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, stream::Options};
    /// use slipring::typed::Typed;
    /// let (tx, rx) = pipe::pair(&Options::new())?;
    /// let mut tx: Typed<[u32; 2], Box<dyn FrameSender>> = Typed::new(Box::new(tx) as _)?;
    /// let mut rx: Typed<[f32; 2], Box<dyn FrameReceiver>> = Typed::new(Box::new(rx) as _)?;
    /// tx.try_send(&[17, 4])?;
    /// tx.get_mut().flush(slipring::Deadline::never())?;
    /// let wrong = rx.recv().unwrap_err().to_string();
    /// assert_eq!(wrong, "the messages have another type: expected [f32; 2], found [u32; 2]");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_send(&mut self, value: &T) -> Result<()> {
        self.announce(|handle, header, text| handle.try_send(header, text))?;
        let Typed { handle, state, .. } = self;
        state.buffer.clear();
        handle.try_send(state.header, C::encode(value, &mut state.buffer)?)
    }

    /// Sends a value; waits for room.
    ///
    /// # Errors
    /// As [`FrameSender::send`]; the codec's.
    pub fn send(&mut self, value: &T) -> Result<()> {
        self.send_deadline(value, Deadline::never())
    }

    /// [`Typed::send`], until a deadline.
    ///
    /// # Errors
    /// As there, and [`Error::Timeout`].
    pub fn send_deadline(&mut self, value: &T, deadline: impl Into<Deadline>) -> Result<()> {
        let deadline = deadline.into();
        self.announce(|handle, header, text| handle.send_until(header, text, deadline))?;
        let Typed { handle, state, .. } = self;
        state.buffer.clear();
        handle.send_until(state.header, C::encode(value, &mut state.buffer)?, deadline)
    }

    fn announce(&mut self, send: impl FnOnce(&mut dyn FrameSender, Header, &[u8]) -> Result<()>) -> Result<()> {
        if !self.state.is_unannounced {
            return Ok(());
        }
        let text = self.state.description.as_bytes();
        match send(&mut *self.handle, Header::control(control::TYPE, text.len())?, text) {
            // A transport for small messages, such as signals: the kind of each frame has to do.
            Ok(()) | Err(Error::TooLarge { .. } | Error::Unsupported { .. } | Error::Invalid { .. }) => {}
            Err(error) => return Err(error),
        }
        self.state.is_unannounced = false;
        Ok(())
    }
}

impl<T, C: Codec<T>> Typed<T, Box<dyn FrameReceiver>, C> {
    /// The next value, if there is one.
    ///
    /// # Errors
    /// As [`FrameReceiver::try_recv`]; [`Error::OtherType`] or [`Error::Incompatible`] for a frame
    /// of another type, which is consumed; the codec's.
    pub fn try_recv(&mut self) -> Result<T> {
        self.next(|handle| handle.try_recv())
    }

    /// The next value; waits for it.
    ///
    /// # Errors
    /// As [`FrameReceiver::recv`] and [`Typed::try_recv`].
    pub fn recv(&mut self) -> Result<T> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Typed::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Typed::recv`], and [`Error::Timeout`].
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<T> {
        let deadline = deadline.into();
        self.next(|handle| handle.recv_until(deadline))
    }

    /// How many times the transport has reported missing, repeated or unreadable frames since this
    /// was called last. On transports that lose nothing, 0.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.state.missed)
    }

    fn next(&mut self, mut receive: impl FnMut(&mut dyn FrameReceiver) -> Result<Event<'_>>) -> Result<T> {
        let Typed { handle, state, .. } = self;
        loop {
            match receive(&mut **handle)? {
                Event::Frame(frame) if frame.header.is_control() => {
                    if frame.header.kind == control::TYPE {
                        state.note(frame.payload);
                    }
                }
                Event::Frame(frame) => {
                    let kind = state.header.kind;
                    if let (true, Some(found)) = (frame.header.kind != kind, &state.other) {
                        return Err(Error::OtherType { expected: state.description.clone(), found: found.clone() });
                    }
                    return decode::<T, C>(kind, frame.header, frame.payload);
                }
                Event::Gap { .. } | Event::Duplicate { .. } | Event::Skipped { .. } => state.missed += 1,
            }
        }
    }
}

impl State {
    /// Notes what a sender announced.
    fn note(&mut self, text: &[u8]) {
        if text != self.description.as_bytes() {
            self.other = Some(String::from_utf8_lossy(text).into());
        }
    }
}
