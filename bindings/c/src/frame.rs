//! A received frame as C sees it.
//!
//! Used by `consumer.rs` and `batch.rs`.

use std::ffi::{c_int, c_void};
use std::ptr;

use slipring::frame::{Event, Flags, Frame, Header};

/// slipring_recv() received frames. 0.
pub const SLIPRING_FRAME: c_int = 0;
/// slipring_recv() reports that frames were lost before the next one: see `missed`.
pub const SLIPRING_GAP: c_int = 1;
/// slipring_recv() reports that a producer of an mpsc ring has closed its lane, or died: see `lane`,
/// `producer` and SLIPRING_FRAME_DIED.
pub const SLIPRING_ENDED: c_int = 2;
/// slipring_recv() received a frame that this receiver has received before.
pub const SLIPRING_DUPLICATE: c_int = 3;
/// slipring_recv() reports bytes that no correct peer sends, and skipped them: `missed` of them.
pub const SLIPRING_SKIPPED: c_int = 4;

/// The frame was received before, by a consumer that died or left without releasing it.
pub const SLIPRING_FRAME_REDELIVERED: u32 = 1;
/// A fragment of a longer message: not the first part, not the last part, or neither.
pub const SLIPRING_FRAME_FRAGMENT: u32 = 2;
/// The producer of the lane died without closing (SLIPRING_ENDED).
pub const SLIPRING_FRAME_DIED: u32 = 4;
/// A control frame of the transport.
pub const SLIPRING_FRAME_CONTROL: u32 = 8;

/// The kind of frames that state none.
pub const SLIPRING_DEFAULT_KIND: u16 = 0x0100;

/// A received frame, or a report about the channel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_frame {
    /// The payload, in place: valid until the frame is released. Not to be written to. On a ring it
    /// is aligned to 8 bytes, so it may be cast to a struct of the size `len`; of a transport it may
    /// have any address: copy it.
    pub data: *const c_void,
    /// Bytes of the payload.
    pub len: usize,
    /// What the sender said the frame is: SLIPRING_DEFAULT_KIND, or as in slipring_send_frame().
    pub kind: u16,
    /// The stream within the channel.
    pub stream: u16,
    /// The number of the frame in its stream, from 0, by the sender.
    pub seq: u32,
    /// SLIPRING_FRAME_REDELIVERED and so on, combined.
    pub flags: u32,
    /// The lane of an mpsc ring.
    pub lane: u16,
    /// The participant that held the lane.
    pub producer: u16,
    /// Frames that were lost (SLIPRING_GAP), or bytes (SLIPRING_SKIPPED).
    pub missed: u64,
}

impl slipring_frame {
    pub(crate) const NOTHING: slipring_frame = slipring_frame {
        data: ptr::null(),
        len: 0,
        kind: 0,
        stream: 0,
        seq: 0,
        flags: 0,
        lane: 0,
        producer: 0,
        missed: 0,
    };

    #[inline(always)]
    pub(crate) fn set(&mut self, header: Header, payload: &[u8]) {
        *self = slipring_frame {
            data: payload.as_ptr().cast(),
            len: payload.len(),
            kind: header.kind,
            stream: header.stream,
            seq: header.seq,
            flags: flags(header.flags),
            ..slipring_frame::NOTHING
        };
    }

    pub(crate) fn set_frame(&mut self, frame: Frame<'_>) {
        self.set(frame.header, frame.payload);
    }

    /// Returns the status of the call.
    pub(crate) fn set_event(&mut self, event: Event<'_>) -> c_int {
        *self = slipring_frame::NOTHING;
        match event {
            Event::Frame(frame) => {
                self.set_frame(frame);
                SLIPRING_FRAME
            }
            Event::Duplicate { frame, .. } => {
                self.set_frame(frame);
                SLIPRING_DUPLICATE
            }
            Event::Gap { stream, expected, found } => {
                self.stream = stream;
                self.seq = expected;
                self.missed = found.wrapping_sub(expected).into();
                SLIPRING_GAP
            }
            Event::Skipped { bytes, .. } => {
                self.missed = bytes;
                SLIPRING_SKIPPED
            }
        }
    }
}

#[inline(always)]
fn flags(flags: Flags) -> u32 {
    if flags == Flags::WHOLE {
        return 0;
    }
    let bits = [(Flags::REDELIVERED, SLIPRING_FRAME_REDELIVERED), (Flags::CONTROL, SLIPRING_FRAME_CONTROL)];
    let mut all = if flags.contains(Flags::WHOLE) { 0 } else { SLIPRING_FRAME_FRAGMENT };
    for (flag, ours) in bits {
        if flags.contains(flag) {
            all |= ours;
        }
    }
    all
}
