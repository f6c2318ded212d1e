//! The probe: a small frame that a guarded port sends to find out whether it closes a loop.
//!
//! It is a frame of the Ethernet configuration testing protocol (`EtherType` 0x9000, "loopback"),
//! addressed to that protocol's group. To a station that knows the protocol it is a reply, which
//! asks for nothing. Every other station ignores it; switches and bridges forward it as they
//! forward any frame to a group.

/// The group of stations that take part in the protocol. Bridges forward it.
const GROUP: [u8; 6] = [0xcf, 0, 0, 0, 0, 0];
/// The `EtherType` of the protocol.
const ETHERTYPE: [u8; 2] = [0x90, 0x00];
/// The protocol's fields, little endian: nothing to skip, function 1 (a reply), receipt number 0.
const REPLY: [u8; 6] = [0, 0, 1, 0, 0, 0];
/// Tells a probe from the data of any other program that uses the protocol.
const MAGIC: [u8; 8] = *b"shmloop1";

/// The length of a probe in bytes.
pub(super) const LEN: usize = 65;
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
    /// Reads a frame. Returns `None` when it is no probe.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; LEN] = frame.try_into().ok()?;
        let rest = frame.strip_prefix(&GROUP)?;
        let (source, rest) = rest.split_first_chunk()?;
        let rest = rest.strip_prefix(&ETHERTYPE)?.strip_prefix(&REPLY)?.strip_prefix(&MAGIC)?;
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

    /// Returns the frame.
    pub(super) fn to_frame(self) -> [u8; LEN] {
        let mut frame = [0; LEN];
        let (origin, highest) = (self.origin.to_be_bytes(), self.highest.to_be_bytes());
        let (count, hops) = (self.count.to_be_bytes(), [self.hops]);
        let parts: [&[u8]; 9] =
            [&GROUP, &self.source, &ETHERTYPE, &REPLY, &MAGIC, &origin, &highest, &count, &hops];
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
        assert_eq!(Probe::parse(&PROBE.to_frame()), Some(PROBE));
    }

    #[test]
    fn other_frames_of_the_protocol_are_no_probes() {
        let frame = PROBE.to_frame();
        for index in (0..6).chain(12..28) {
            let mut other = frame;
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
