//! Frames in the caller's memory.

use std::ffi::c_void;
use std::slice;

use nix::libc::iovec;
use shmbus::{FrameSink, RingFrame};

/// `struct shmbus_frame`: a buffer for a frame, and what was received into it.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// Where to copy the frame. NULL only if `size` is 0.
    pub data: *mut c_void,
    /// How many bytes fit there.
    pub size: u32,
    /// The length of the frame, which may exceed `size`.
    pub length: u32,
    /// The sender's clock, in seconds.
    pub seconds: u32,
    /// The sender's clock, in microseconds.
    pub microseconds: u32,
    /// Random identity of the sending station.
    pub sender: u64,
}

impl Frame {
    /// Whether there is a place for the bytes.
    pub(crate) fn has_room(&self) -> bool {
        self.size == 0 || !self.data.is_null()
    }
}

/// Buffers that are filled with frames, in order.
pub(crate) struct Buffers<'c> {
    frames: &'c mut [Frame],
    taken: usize,
    /// Frames known to be whole.
    whole: usize,
}

impl<'c> Buffers<'c> {
    /// Makes a sink of buffers that have room.
    ///
    /// # Safety
    /// Each frame's `data` must be valid for writes of `size` bytes while this lives, unless `size`
    /// is 0.
    pub(crate) unsafe fn new(frames: &'c mut [Frame]) -> Self {
        Self { frames, taken: 0, whole: 0 }
    }
}

impl FrameSink for Buffers<'_> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let Some(buffer) = self.frames.get_mut(self.taken) else { return false };
        if buffer.size > 0 {
            // SAFETY: valid by the contract of `new`. Nothing else refers to it during the call, by
            // the contract of the functions in the header.
            let room = unsafe {
                slice::from_raw_parts_mut(buffer.data.cast::<u8>(), buffer.size as usize)
            };
            frame.copy_to(room);
        }
        let info = frame.info();
        // A frame has some thousand bytes at most.
        buffer.length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        (buffer.seconds, buffer.microseconds) = (info.seconds, info.microseconds);
        buffer.sender = info.sender;
        self.taken += 1;
        true
    }

    fn commit(&mut self) {
        self.whole = self.taken;
    }

    fn discard(&mut self) {
        self.taken = self.whole;
    }
}

/// Returns the bytes of a frame to send.
///
/// # Safety
/// `frame.iov_base` must be valid for reads of `frame.iov_len` bytes, which nothing writes while the
/// slice lives.
#[inline]
pub(crate) unsafe fn bytes_of(frame: &iovec) -> &[u8] {
    // No object is larger; a frame of that length is refused.
    let len = frame.iov_len.min(isize::MAX.unsigned_abs());
    // SAFETY: valid by the contract above.
    unsafe { slice::from_raw_parts(frame.iov_base.cast::<u8>().cast_const(), len) }
}
