//! What has arrived at one end of a VXLAN and waits for the bus.

use std::ops::Range;

use super::Overlay;
use super::udp::Udp;
use crate::port::BURST;

/// Frames that have arrived and wait for the bus, as places in the receiver's buffer, or in the batch
/// of the overlay.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) frames: Vec<Range<usize>>,
    pub(super) consumed: usize,
    pub(super) is_batch: bool,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.consumed == self.frames.len()
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.consumed = 0;
    }

    /// Returns the next frames, a burst at most.
    pub(super) fn burst<'b>(
        &'b self,
        udp: Option<&'b Udp>,
        overlay: Option<&'b dyn Overlay>,
    ) -> impl Iterator<Item = &'b [u8]> + Clone {
        let bytes = if self.is_batch {
            overlay.map(|overlay| overlay.batch().0)
        } else {
            udp.map(|udp| udp.receiver.bytes())
        };
        let bytes = bytes.unwrap_or_default();
        self.frames[self.consumed..].iter().take(BURST).filter_map(|range| bytes.get(range.clone()))
    }
}
