//! How far a receiver reads ahead of the frames that it returns.
//!
//! Used by `receiver.rs`. Bytes that were read from a pipe or a FIFO are lost to its next reader.
//! So a receiver that will stop after a number of frames, or that is stopping, does not read past
//! those frames.

use crate::frame::SHORT;

/// The limit of the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Everything that is available.
    Free,
    /// The least size of this many frames; near the last of them, a header at a time.
    Frames(u64),
    /// This many bytes, which the kernel had when the receiver was stopped, and then the rest of
    /// the frame that has begun.
    Stopped(u64),
}

impl Ahead {
    /// The most bytes that the next read may take, 0 for none. `held` bytes have been read and not
    /// decoded. The decoder needs `missing` more to continue; `begun` is whether a frame has begun.
    pub(super) fn most(self, held: usize, missing: usize, begun: bool) -> usize {
        match self {
            Ahead::Free => usize::MAX,
            Ahead::Frames(frames) => {
                let least = usize::try_from(frames).unwrap_or(usize::MAX).saturating_mul(SHORT);
                least.saturating_sub(held).max(missing)
            }
            Ahead::Stopped(left) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                if begun { left.max(missing) } else { left }
            }
        }
    }

    /// Records that another frame was returned.
    pub(super) fn gave(&mut self) {
        if let Ahead::Frames(frames) = self {
            *frames = frames.saturating_sub(1);
        }
    }

    /// Records that this many bytes were read.
    pub(super) fn read(&mut self, bytes: usize) {
        if let Ahead::Stopped(left) = self {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    pub(super) fn is_stopped(self) -> bool {
        matches!(self, Ahead::Stopped(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_never_reaches_behind_the_last_frame() {
        assert_eq!(Ahead::Free.most(5, 11, true), usize::MAX);
        // Two frames have at least 32 bytes, of which 5 have been read.
        assert_eq!(Ahead::Frames(2).most(5, 11, true), 27);
        assert_eq!(Ahead::Frames(1).most(16, 100, true), 100);
        assert_eq!(Ahead::Frames(0).most(0, 16, false), 16);
        assert_eq!(Ahead::Stopped(0).most(0, 16, false), 0);
        assert_eq!(Ahead::Stopped(0).most(3, 13, true), 13);
        assert_eq!(Ahead::Stopped(40).most(3, 13, true), 40);
    }
}
