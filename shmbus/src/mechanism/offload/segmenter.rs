//! Frames finished for a program that keeps them, and not for the bus.

use std::iter;

use super::capabilities::Capabilities;
use super::error::OffloadError;
use super::request::TxRequest;
use super::tx::Finisher;
use crate::mechanism::frame::{FrameSlot, FrameSource as _};

/// Does the work that a [`TxRequest`] leaves to a station, for a program that looks at the finished
/// frames before they go anywhere. A station that sends does this by itself.
///
/// ```
/// use shmbus::offload::{Offload, Segmenter, TxRequest};
///
/// let frame = [b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5".as_slice(), b"hello"].concat();
/// let mut finished = Vec::new();
/// Segmenter::default().finish(TxRequest::new(&frame, Offload::new()), 1_514, &mut |frame| {
///     finished.push(frame.to_vec());
/// })?;
/// assert_eq!(finished, [frame]);
/// # Ok::<(), shmbus::offload::OffloadError>(())
/// ```
#[derive(Debug, Default)]
pub struct Segmenter {
    finisher: Finisher,
    frame: Vec<u8>,
}

impl Segmenter {
    /// Fills in the checksums of a frame, or cuts it into segments, none longer than `longest`
    /// bytes. Passes each finished frame to `each`, in order.
    ///
    /// # Errors
    /// [`OffloadError`] when the frame is not one for which this can be done. Nothing is passed
    /// then.
    pub fn finish(
        &mut self,
        request: TxRequest<'_>,
        longest: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), OffloadError> {
        let Self { finisher, frame } = self;
        finisher.clear();
        finisher.finish(0, request, Capabilities::ALL, longest)?;
        for piece in finisher.frames(iter::once(request)) {
            frame.clear();
            let len = piece.frame_len();
            piece.write_to(&mut FrameSlot::staged(frame, len));
            each(frame);
        }
        Ok(())
    }
}
