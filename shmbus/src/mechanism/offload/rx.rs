//! Verifies the checksums of received frames.

use super::capabilities::Capabilities;
use super::checksum::Checksum;
use super::headers::{Family, Packet, Segment, Transport, get16};

/// Whether a checksum of a frame is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was not checked: it is not enabled, there is none, or it cannot be checked.
    #[default]
    NotChecked,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

/// Whether the checksums of a received frame are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RxVerdict {
    /// The checksum of the IPv4 header. IPv6 has none.
    pub ip: Verdict,
    /// The checksum of TCP or UDP.
    pub l4: Verdict,
}

impl RxVerdict {
    /// Returns whether one of them is wrong.
    #[must_use]
    pub fn is_bad(self) -> bool {
        self.ip == Verdict::Bad || self.l4 == Verdict::Bad
    }
}

/// Verifies the checksums of the `enabled` classes in a frame.
///
/// - The IPv4 header is checked on fragments too.
/// - TCP and UDP are not checked in fragments, after IPv6 extension headers, and where the frame is
///   shorter than its headers say. A wrong IPv4 header does not change that.
/// - UDP over IPv4 with a checksum of 0 has none, and is not checked; over IPv6 that is wrong.
/// - Bytes after the packet are padding, and are ignored.
#[must_use]
#[inline]
pub fn verify(frame: &[u8], enabled: Capabilities) -> RxVerdict {
    if enabled.intersects(Capabilities::RX) { check(frame, enabled) } else { RxVerdict::default() }
}

fn check(frame: &[u8], enabled: Capabilities) -> RxVerdict {
    let mut verdict = RxVerdict::default();
    let Ok(packet) = Packet::parse(frame) else { return verdict };
    if packet.family == Family::V4 && enabled.contains(Capabilities::IPV4_RX) {
        verdict.ip = Verdict::of(Checksum::new().with(&frame[packet.ip..packet.ip_end]).is_good());
    }
    if let Some(segment) = packet.received_segment(frame)
        && enabled.contains(segment.transport.rx(packet.family))
    {
        verdict.l4 = check_segment(frame, &packet, &segment);
    }
    verdict
}

fn check_segment(frame: &[u8], packet: &Packet, segment: &Segment) -> Verdict {
    if segment.transport == Transport::Udp && get16(frame, segment.checksum()) == 0 {
        return match packet.family {
            Family::V4 => Verdict::NotChecked,
            Family::V6 => Verdict::Bad,
        };
    }
    let bytes = &frame[segment.start..segment.end];
    Verdict::of(packet.pseudo_header(frame, segment.transport, bytes.len()).with(bytes).is_good())
}
