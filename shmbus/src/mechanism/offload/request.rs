//! What a sender leaves to the interface.

use super::capabilities::Capabilities;
use super::headers::{Family, Transport};

/// What was left undone of a frame. Nothing, to begin with: such a frame is sent as it is.
///
/// ```
/// use shmbus::offload::Offload;
///
/// // Both checksums, whatever stands in their places:
/// let datagram = Offload::new().ipv4_header().transport();
/// // What a virtio-net header says of a partial checksum, and of one with segmentation:
/// let partial = Offload::new().partial(34, 6);
/// let super_frame = Offload::new().partial(34, 16).segments(1_448);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offload {
    pub(super) ipv4_header: bool,
    pub(super) sum: Sum,
    /// Bytes of payload in a segment.
    pub(super) segment: Option<u16>,
}

/// What is to be done about the checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Sum {
    #[default]
    Done,
    /// To be made from the packet alone.
    Whole,
    /// The field holds the sum of the pseudo header.
    Partial { start: u16, offset: u16 },
}

impl Offload {
    /// Nothing was left undone.
    #[must_use]
    pub const fn new() -> Self {
        Self { ipv4_header: false, sum: Sum::Done, segment: None }
    }

    /// The checksum of the IPv4 header is to be filled in, on fragments too.
    #[must_use]
    pub const fn ipv4_header(mut self) -> Self {
        self.ipv4_header = true;
        self
    }

    /// The checksum of TCP or UDP is to be filled in. What stands in its place does not matter.
    #[must_use]
    pub const fn transport(mut self) -> Self {
        self.sum = Sum::Whole;
        self
    }

    /// The checksum of TCP or UDP is to be finished: its field holds the sum of the pseudo header. It covers the packet from
    /// `start` on, in bytes from the start of the frame, and belongs `offset` bytes behind that; both must be where TCP or
    /// UDP have it. This works behind IPv6 extension headers, too.
    #[must_use]
    pub const fn partial(mut self, start: u16, offset: u16) -> Self {
        self.sum = Sum::Partial { start, offset };
        self
    }

    /// TCP is to be cut into segments with at most `payload` bytes of payload (the maximum segment size without TCP
    /// options). Their checksums are part of this, IPv4's included, and what stands in their places does not matter.
    ///
    /// The super-frame is as long as its IP header says, 64 KiB and headers at most; a length of 0 there means all of it. What
    /// follows is dropped.
    #[must_use]
    pub const fn segments(mut self, payload: u16) -> Self {
        self.segment = Some(payload);
        self
    }

    /// Whether nothing was left undone.
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        !self.ipv4_header && self.segment.is_none() && matches!(self.sum, Sum::Done)
    }

    /// What must be enabled for this on a packet of `family` that carries `transport`, if that matters.
    pub(super) fn needs(self, family: Family, transport: Option<Transport>) -> Capabilities {
        if self.segment.is_some() {
            return family.segmentation();
        }
        let header = if self.ipv4_header { Capabilities::IPV4_TX } else { Capabilities::NONE };
        let sum = match transport {
            Some(transport) if self.sum != Sum::Done => transport.tx(family),
            _ => Capabilities::NONE,
        };
        header | sum
    }
}

/// A frame, and what was left undone of it.
#[derive(Clone, Copy, Debug)]
pub struct TxRequest<'f> {
    /// The frame, from its destination address on, without check sequence.
    pub frame: &'f [u8],
    /// What was left undone.
    pub offload: Offload,
}

impl<'f> TxRequest<'f> {
    /// This frame with this left undone.
    #[must_use]
    pub const fn new(frame: &'f [u8], offload: Offload) -> Self {
        Self { frame, offload }
    }
}
