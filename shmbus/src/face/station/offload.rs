//! Checksums and segmentation that a station does for its user: see [`offload`](crate::offload).

use std::mem;

use super::Station;
use crate::error::SendError;
use crate::mechanism::offload::{Capabilities, Finisher, Offload, RxVerdict, TxRequest, verify};

/// Finished frames that go onto the bus together. Only super-frames that are cut very small make as
/// many.
const BATCH: usize = 1024;

impl Station {
    /// Returns which checksums and segmentations the station does for its user.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Changes which checksums and segmentations the station does for its user, from the next frame
    /// on.
    pub fn set_capabilities(&mut self, capabilities: Capabilities) {
        self.capabilities = capabilities;
    }

    /// Finishes a frame and sends it, or the segments it is cut into. A burst costs less for each
    /// frame: see [`send_offload_burst`](Self::send_offload_burst).
    ///
    /// # Errors
    /// As for [`send_offload_burst`](Self::send_offload_burst).
    pub fn send_offload(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        self.send_offload_burst([TxRequest::new(frame, offload)]).map(|_sent| ())
    }

    /// Finishes frames, which may be as long as their requests allow, and sends them, in order.
    /// Returns how many went onto the bus, where each segment of a super-frame counts. None of them
    /// is longer than the [`mtu`](Self::mtu) allows. The iterator is cloned for each pass: it
    /// should be cheap to clone.
    ///
    /// # Errors
    /// [`SendError::Offload`] when a frame was dropped because it is not one for which this can be
    /// done, or the station's [`capabilities`](Self::capabilities) do not include it; the others
    /// were sent. An error that keeps all of them from being sent comes first: it is as for
    /// [`send_burst`](Self::send_burst), with frames counted as they go onto the bus.
    pub fn send_offload_burst<'f, I>(&mut self, requests: I) -> Result<usize, SendError>
    where
        I: IntoIterator<Item = TxRequest<'f>>,
        I::IntoIter: Clone,
    {
        let mut finisher = mem::take(&mut self.finisher);
        let done = self.finish_and_send(&mut finisher, requests.into_iter());
        self.finisher = finisher;
        done
    }

    fn finish_and_send<'f>(
        &mut self,
        finisher: &mut Finisher,
        mut requests: impl Iterator<Item = TxRequest<'f>> + Clone,
    ) -> Result<usize, SendError> {
        let (mut index, mut before) = (0, 0);
        let (mut dropped, longest) = (None, self.max_frame());
        loop {
            let (batch, begin) = (requests.clone(), index);
            finisher.clear();
            while finisher.len() < BATCH
                && let Some(request) = requests.next()
            {
                let result = finisher.finish(index - begin, request, self.capabilities, longest);
                if let Err(source) = result {
                    self.reader.stats.tx_offload_refused += 1;
                    dropped.get_or_insert((index, source));
                }
                index += 1;
            }
            if index == begin {
                return match dropped {
                    None => Ok(before),
                    Some((index, source)) => {
                        Err(SendError::Offload { index, sent: before, source })
                    }
                };
            }
            before += self.send_burst(finisher.frames(batch)).map_err(|error| match error {
                SendError::Busy { sent, source } => SendError::Busy { sent: before + sent, source },
                other => other,
            })?;
        }
    }

    /// Verifies the checksums of a received frame that the station's
    /// [`capabilities`](Self::capabilities) include. The station hands up every frame, bad or not,
    /// as a card does; where nothing is enabled this costs nothing.
    ///
    /// `frame` begins with the destination address and has no check sequence.
    #[must_use]
    #[inline]
    pub fn verify(&self, frame: &[u8]) -> RxVerdict {
        verify(frame, self.capabilities)
    }

    /// Counts a received frame that its receiver dropped because of its verdict, in
    /// [`Stats::rx_csum_errors`](crate::Stats::rx_csum_errors).
    pub fn count_bad_checksum(&mut self) {
        self.reader.stats.rx_csum_errors += 1;
    }
}
