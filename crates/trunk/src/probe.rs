//! The datagrams with which two ends find out whether they reach each other, and agree on a change of
//! the way.
//!
//! They go where frames go, from a socket that frames leave from. A VXLAN header begins them, without
//! the flag that says that there is a number: any other receiver of VXLAN drops such a datagram.
//!
//! ```text
//!  0  flags, 0           8  sender    24  stamp, which the answer repeats   40  after, era
//!  1  "trk"              16 receiver  32  era                               48  after, messages
//!  4  VNI, 3 bytes
//!  7  kind                                    56  forced, 1 byte; then zeros up to the length wanted
//! ```

use crate::token::EndId;

/// The bytes that have a meaning.
pub(crate) const LEN: usize = 57;
const MAGIC: [u8; 4] = [0, b't', b'r', b'k'];

/// What a probe asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Do you hear me? With an era: will you take datagrams as frames in that era?
    Question,
    /// I hear you. The era is the one in which datagrams are taken; 0: in none.
    Answer,
    /// I hear you, and another end has your address.
    Refusal,
}

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) vni: u32,
    pub(crate) kind: Kind,
    pub(crate) from: EndId,
    pub(crate) to: EndId,
    /// A random number.
    pub(crate) stamp: u64,
    pub(crate) era: u64,
    /// The last era with messages before that one, and how many they were.
    pub(crate) after: (u64, u64),
    /// Whether to wait for those messages no longer.
    pub(crate) forced: bool,
}

impl Probe {
    /// Returns the datagram, of `len` bytes or more.
    pub(crate) fn to_datagram(self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(LEN)];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..7].copy_from_slice(&self.vni.to_be_bytes()[1..]);
        bytes[7] = match self.kind {
            Kind::Question => 1,
            Kind::Answer => 2,
            Kind::Refusal => 3,
        };
        let numbers = [self.from.0, self.to.0, self.stamp, self.era, self.after.0, self.after.1];
        for (place, number) in bytes[8..56].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes[56] = self.forced.into();
        bytes
    }

    /// Reads a datagram.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let (bytes, _) = datagram.split_first_chunk::<LEN>()?;
        let kind = match bytes[7] {
            1 => Kind::Question,
            2 => Kind::Answer,
            3 => Kind::Refusal,
            _ => return None,
        };
        let number =
            |at: usize| bytes[at..].first_chunk().map_or(0, |part| u64::from_be_bytes(*part));
        (bytes[..4] == MAGIC && bytes[56] < 2).then(|| Self {
            vni: u32::from_be_bytes([0, bytes[4], bytes[5], bytes[6]]),
            kind,
            from: EndId(number(8)),
            to: EndId(number(16)),
            stamp: number(24),
            era: number(32),
            after: (number(40), number(48)),
            forced: bytes[56] == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_probe_is_read_as_it_is_written(
            numbers: [u64; 6],
            vni in 0_u32..1 << 24,
            kind in prop_oneof![Just(Kind::Question), Just(Kind::Answer), Just(Kind::Refusal)],
            forced: bool,
            len in 0_usize..2_000,
        ) {
            let [from, to, stamp, era, after, messages] = numbers;
            let (from, to) = (EndId(from), EndId(to));
            let probe = Probe { vni, kind, from, to, stamp, era, after: (after, messages), forced };
            let datagram = probe.to_datagram(len);
            prop_assert_eq!(datagram.len(), len.max(LEN));
            prop_assert_eq!(Probe::parse(&datagram), Some(probe));
            prop_assert_eq!(Probe::parse(&datagram[..LEN - 1]), None);
            // No VXLAN has a number without this flag.
            prop_assert_eq!(datagram[0] & 0x08, 0);
        }

        #[test]
        fn any_bytes_are_a_probe_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let with_magic = [&MAGIC[..], &bytes].concat();
            for datagram in [&bytes, &with_magic] {
                if let Some(probe) = Probe::parse(datagram) {
                    prop_assert_eq!(&probe.to_datagram(0)[..], &datagram[..LEN]);
                }
            }
        }
    }
}
