//! The probe: a small frame that a guarded port sends to find out whether it closes a loop.
//!
//! It is a frame of the Ethernet configuration testing protocol (`EtherType` 0x9000, "loopback"),
//! addressed to that protocol's group. To a station that knows the protocol it is a reply, which
//! asks for nothing. Every other station ignores it; switches and bridges forward it as they
//! forward any frame to a group.

/// The group of stations that take part in the protocol. Bridges forward it.
const GROUP: [u8; 6] = [0xcf, 0, 0, 0, 0, 0];
/// The `EtherType` of probes for loops, which is that of the protocol.
pub const PROBE_ETHERTYPE: [u8; 2] = [0x90, 0x00];
/// The protocol's fields, little endian: nothing to skip, function 1 (a reply), receipt number 0.
const REPLY: [u8; 6] = [0, 0, 1, 0, 0, 0];
/// Tells a probe from the data of any other program that uses the protocol.
const MAGIC: [u8; 8] = *b"shmloop1";

/// The length of a probe without a VLAN tag, in bytes.
pub(super) const LEN: usize = 65;
/// The length of a probe with a VLAN tag, in bytes.
pub(super) const TAGGED_LEN: usize = LEN + 4;
/// The relays after which a probe is dropped.
const MAX_HOPS: u8 = 64;

/// Identifies a port from the moment it comes up. The first half is that moment, in milliseconds of
/// wall time, so that of two ports the one that came up later has the higher identity. The second
/// half is random: only a station that has received a probe of the port can forge one.
pub(super) type Identity = u128;

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// The source address: one that each guarded port has for this alone.
    pub(super) source: [u8; 6],
    /// The port that has sent it.
    pub(super) origin: Identity,
    /// The highest identity of the ports that have sent or relayed it.
    pub(super) highest: Identity,
    /// Counts the probes of its origin.
    pub(super) count: u32,
    /// How often it was relayed.
    pub(super) hops: u8,
}

impl Probe {
    /// Reads a frame with or without a VLAN tag. Returns the VLAN, and the probe; `None` when the
    /// frame is no probe.
    pub(super) fn parse(frame: &[u8]) -> Option<(Option<u16>, Self)> {
        let Some((addresses, [0x81, 0x00, high, low, rest @ ..])) = frame.split_at_checked(12)
        else {
            return Some((None, Self::parse_untagged(frame)?));
        };
        let mut untagged = [0; LEN];
        let (to_addresses, to_rest) = untagged.split_at_mut(addresses.len());
        to_addresses.copy_from_slice(addresses);
        to_rest.copy_from_slice(rest.get(..to_rest.len()).filter(|_| rest.len() == LEN - 12)?);
        let vlan = u16::from_be_bytes([*high, *low]) & 0x0fff;
        Some((Some(vlan), Self::parse_untagged(&untagged)?))
    }

    fn parse_untagged(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; LEN] = frame.try_into().ok()?;
        let rest = frame.strip_prefix(&GROUP)?;
        let (source, rest) = rest.split_first_chunk()?;
        let rest =
            rest.strip_prefix(&PROBE_ETHERTYPE)?.strip_prefix(&REPLY)?.strip_prefix(&MAGIC)?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (highest, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        Some(Self {
            source: *source,
            origin: Identity::from_be_bytes(*origin),
            highest: Identity::from_be_bytes(*highest),
            count: u32::from_be_bytes(*count),
            hops: *rest.first()?,
        })
    }

    /// Returns the frame, with the tag of a VLAN if there is one.
    pub(super) fn to_frame(self, vlan: Option<u16>) -> Vec<u8> {
        let mut frame = self.untagged().to_vec();
        if let Some(vlan) = vlan {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        frame
    }

    fn untagged(self) -> [u8; LEN] {
        let mut frame = [0; LEN];
        let (origin, highest) = (self.origin.to_be_bytes(), self.highest.to_be_bytes());
        let (count, hops) = (self.count.to_be_bytes(), [self.hops]);
        let parts: [&[u8]; 9] = [
            &GROUP,
            &self.source,
            &PROBE_ETHERTYPE,
            &REPLY,
            &MAGIC,
            &origin,
            &highest,
            &count,
            &hops,
        ];
        let mut at = 0;
        for part in parts {
            frame[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        frame
    }

    /// Returns the probe as the port `relay` passes it on, unless it has been relayed too often.
    pub(super) fn relayed_by(self, relay: Identity) -> Option<Self> {
        let hops = self.hops.checked_add(1).filter(|hops| *hops <= MAX_HOPS)?;
        Some(Self { hops, highest: self.highest.max(relay), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Probe =
        Probe { source: [2, 0, 0, 0, 0, 7], origin: 5 << 64, highest: 9 << 64, count: 3, hops: 1 };

    #[test]
    fn a_probe_is_read_as_it_was_written() {
        for (vlan, len) in [(None, LEN), (Some(10), TAGGED_LEN)] {
            let frame = PROBE.to_frame(vlan);
            assert_eq!((frame.len(), Probe::parse(&frame)), (len, Some((vlan, PROBE))));
        }
    }

    #[test]
    fn other_frames_of_the_protocol_are_no_probes() {
        let frame = PROBE.to_frame(None);
        for index in (0..6).chain(12..28) {
            let mut other = frame.clone();
            other[index] ^= 0x10;
            assert_eq!(Probe::parse(&other), None, "byte {index}");
        }
        assert_eq!(Probe::parse(&frame[..LEN - 1]), None);
        assert_eq!(Probe::parse(&[&frame[..], &[0]].concat()), None);
    }

    #[test]
    fn a_relay_adds_itself_and_relays_end() {
        let relayed = PROBE.relayed_by(7 << 64).expect("relayed");
        assert_eq!((relayed.highest, relayed.hops), (9 << 64, 2));
        let relayed = relayed.relayed_by(10 << 64).expect("relayed");
        assert_eq!((relayed.highest, relayed.hops), (10 << 64, 3));
        assert_eq!(Probe { hops: MAX_HOPS, ..PROBE }.relayed_by(1), None);
        assert_eq!(Probe { hops: u8::MAX, ..PROBE }.relayed_by(1), None);
    }
}
