//! Sending and receiving.

use std::ffi::{c_int, c_void};
use std::slice;

use nix::libc::iovec;
use shmbus::SendError;

use super::{call, is_usable};
use crate::failure::Failure;
use crate::frames::{Buffers, Frame, bytes_of};
use crate::handles::{HANDLES, Handle};

/// Sends one frame.
///
/// # Safety
/// `frame` must be NULL or valid for reads of `length` bytes, which nothing writes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_send(bus: Handle, frame: *const c_void, length: usize) -> c_int {
    call(|| {
        if frame.is_null() {
            return Err(Failure::pointer("frame"));
        }
        let frame = iovec { iov_base: frame.cast_mut(), iov_len: length };
        // SAFETY: the same contract, and not NULL.
        let bytes = unsafe { bytes_of(&frame) };
        HANDLES.with(bus, |endpoint| {
            endpoint.station()?.send(bytes)?;
            Ok(1)
        })
    })
}

/// Sends frames, in order, and wakes the other stations once.
///
/// # Safety
/// `frames` must be NULL or point to `count` places with their lengths, each of which is NULL or
/// valid for reads of that many bytes. Nothing may write any of it meanwhile. `sent` must be NULL or
/// point to a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_send_burst(
    bus: Handle,
    frames: *const iovec,
    count: usize,
    sent: *mut usize,
) -> c_int {
    let mut on_bus = 0;
    let result = call(|| {
        if !sent.is_aligned() {
            return Err(Failure::pointer("sent"));
        }
        let all = c_int::try_from(count)
            .map_err(|_| Failure::argument(format!("{count} frames are too many for a burst")))?;
        if !is_usable(frames) {
            return Err(Failure::pointer("frames"));
        }
        // SAFETY: valid by the contract above, and neither NULL nor too long.
        let frames = unsafe { slice::from_raw_parts(frames, count) };
        if let Some(index) = frames.iter().position(|frame| frame.iov_base.is_null()) {
            return Err(Failure::argument(format!("frame {index} of the burst is NULL")));
        }
        HANDLES.with(bus, |endpoint| {
            // SAFETY: valid by the contract above, and not NULL.
            let frames = frames.iter().map(|frame| unsafe { bytes_of(frame) });
            match endpoint.station()?.send_burst(frames) {
                Ok(number) => {
                    on_bus = number;
                    Ok(all)
                }
                Err(error) => {
                    if let SendError::Busy { sent, .. } = &error {
                        on_bus = *sent;
                    }
                    Err(error.into())
                }
            }
        })
    });
    if is_usable(sent) {
        // SAFETY: to be written, by the contract above.
        unsafe { sent.write(on_bus) };
    }
    result
}

/// Sends a wake-up that was put off.
#[unsafe(no_mangle)]
pub extern "C" fn shmbus_flush(bus: Handle) -> c_int {
    call(|| {
        HANDLES.with(bus, |endpoint| {
            endpoint.station()?.flush()?;
            Ok(0)
        })
    })
}

/// Receives one frame; returns its length, or 0.
///
/// # Safety
/// `buffer` must be NULL or valid for writes of `size` bytes, which nothing else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_recv(bus: Handle, buffer: *mut c_void, size: usize) -> c_int {
    call(|| {
        if buffer.is_null() {
            return Err(Failure::pointer("buffer"));
        }
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let mut frame =
            Frame { data: buffer, size, length: 0, seconds: 0, microseconds: 0, sender: 0 };
        // SAFETY: the same contract.
        let received = unsafe { recv(bus, slice::from_mut(&mut frame)) }?;
        // A frame has some thousand bytes at most.
        Ok(if received == 0 { 0 } else { c_int::try_from(frame.length).unwrap_or(c_int::MAX) })
    })
}

/// Receives frames; returns how many.
///
/// # Safety
/// `frames` must be NULL or point to `count` structures, whose `data` must be NULL or valid for
/// writes of `size` bytes. Nothing else may use any of it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmbus_recv_burst(bus: Handle, frames: *mut Frame, count: usize) -> c_int {
    call(|| {
        if !is_usable(frames) {
            return Err(Failure::pointer("frames"));
        }
        // More than fit on any bus.
        let count = count.min(c_int::MAX as usize);
        // SAFETY: valid by the contract above, and neither NULL nor too long.
        let frames = unsafe { slice::from_raw_parts_mut(frames, count) };
        if let Some(index) = frames.iter().position(|frame| !frame.has_room()) {
            return Err(Failure::argument(format!("buffer {index} of the burst is NULL")));
        }
        // SAFETY: the same contract, and all have room.
        unsafe { recv(bus, frames) }
    })
}

/// Fills buffers that have room.
///
/// # Safety
/// As for [`Buffers::new`].
#[inline]
unsafe fn recv(bus: Handle, frames: &mut [Frame]) -> Result<c_int, Failure> {
    let count = frames.len();
    // SAFETY: the same contract.
    let mut buffers = unsafe { Buffers::new(frames) };
    let received = HANDLES.with(bus, |endpoint| endpoint.recv(&mut buffers, count))?;
    Ok(c_int::try_from(received).unwrap_or(c_int::MAX))
}
