//! Verifying what was received.

use super::capabilities::Capabilities;
use super::checksum::Checksum;
use super::headers::{Family, Packet, Segment, Transport, get16};

/// What was found of a part of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not looked at: not enabled, nothing to check there, or not possible. Whoever cares has to look for themselves.
    #[default]
    NotChecked,
    /// The checksum is right.
    Good,
    /// The checksum is wrong.
    Bad,
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

/// What was found of a received frame's checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RxVerdict {
    /// Of the IPv4 header. IPv6 has nothing to be checked.
    pub ip: Verdict,
    /// Of TCP or UDP.
    pub l4: Verdict,
}

impl RxVerdict {
    /// Whether something was found to be wrong.
    #[must_use]
    pub fn is_bad(self) -> bool {
        self.ip == Verdict::Bad || self.l4 == Verdict::Bad
    }
}

/// Verifies the checksums of the `enabled` classes in a frame.
///
/// - The IPv4 header is checked on fragments too.
/// - TCP and UDP are not checked in fragments, behind IPv6 extension headers, and where the frame is shorter than its headers
///   say. Whether they are does not depend on the IPv4 header's verdict.
/// - UDP over IPv4 with a checksum of 0 has none, and is not checked; over IPv6 that is bad.
/// - What follows the packet in its frame is padding, and of no account.
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
