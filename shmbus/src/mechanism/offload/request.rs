//! The work that a sender leaves to the station.

use super::capabilities::Capabilities;
use super::headers::{Family, Transport};

/// The work on a frame that is left to the station. A new value asks for nothing: the frame is sent
/// as it is.
///
/// ```
/// use shmbus::offload::Offload;
///
/// // Both checksums, whatever their fields hold:
/// let datagram = Offload::new().ipv4_header().transport();
/// // A partial checksum as in a virtio-net header, and one with segmentation:
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

/// The work on the checksum of TCP or UDP.
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
    /// Returns a request for no work.
    #[must_use]
    pub const fn new() -> Self {
        Self { ipv4_header: false, sum: Sum::Done, segment: None }
    }

    /// Requests the checksum of the IPv4 header, on fragments too.
    #[must_use]
    pub const fn ipv4_header(mut self) -> Self {
        self.ipv4_header = true;
        self
    }

    /// Requests the checksum of TCP or UDP. What its field holds does not matter.
    #[must_use]
    pub const fn transport(mut self) -> Self {
        self.sum = Sum::Whole;
        self
    }

    /// Requests that the checksum of TCP or UDP be finished: its field holds the sum of the pseudo
    /// header. It covers the packet from `start` on, in bytes from the start of the frame, and its
    /// field lies `offset` bytes after that; both must be where TCP or UDP have it. This works
    /// after IPv6 extension headers, too.
    #[must_use]
    pub const fn partial(mut self, start: u16, offset: u16) -> Self {
        self.sum = Sum::Partial { start, offset };
        self
    }

    /// Requests that TCP be cut into segments with at most `payload` bytes of payload (the maximum
    /// segment size without TCP options). All checksums of the segments are filled in, IPv4's
    /// included, whatever their fields hold.
    ///
    /// The super-frame is as long as its IP header says, 64 KiB and headers at most; a length of 0
    /// there means the whole frame. Bytes after it are dropped.
    #[must_use]
    pub const fn segments(mut self, payload: u16) -> Self {
        self.segment = Some(payload);
        self
    }

    /// Returns whether no work is requested.
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        !self.ipv4_header && self.segment.is_none() && matches!(self.sum, Sum::Done)
    }

    /// What must be enabled for this on a packet of `family` that carries `transport`, if that
    /// matters.
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

/// A frame, and the work on it that is left to the station.
#[derive(Clone, Copy, Debug)]
pub struct TxRequest<'f> {
    /// The frame: it begins with the destination address and has no check sequence.
    pub frame: &'f [u8],
    /// The work left to the station.
    pub offload: Offload,
}

impl<'f> TxRequest<'f> {
    /// Makes a request.
    #[must_use]
    pub const fn new(frame: &'f [u8], offload: Offload) -> Self {
        Self { frame, offload }
    }
}
