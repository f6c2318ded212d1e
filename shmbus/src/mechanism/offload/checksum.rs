//! The Internet checksum (RFC 1071), a wide word at a time.
//!
//! A ones' complement sum does not care about the width of its words, nor about the byte order as
//! long as the result is stored in the one it was read in. So the bytes are summed as native 32-bit
//! words into 64-bit lanes, which cannot overflow and which a compiler keeps in vector registers,
//! and folded to 16 bits once at the end.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes summed at a time.
const STRIDE: usize = 32;

/// A checksum under construction. Pieces of any length and alignment are added in the order in
/// which they lie in the packet; after a piece of odd length the next one continues in the middle
/// of a word.
///
/// ```
/// use shmbus::offload::Checksum;
///
/// let mut header = *b"\x45\0\0\x73\0\0\x40\0\x40\x11\0\0\xc0\xa8\0\x01\xc0\xa8\0\xc7";
/// let sum = Checksum::new().with(&header);
/// assert_eq!(sum.value(), 0xb861);
///
/// header[10..12].copy_from_slice(&sum.value().to_be_bytes());
/// assert!(Checksum::new().with(&header).is_good());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// The folded sum, its words in memory order.
    sum: u16,
    /// The next byte is the second half of a word.
    odd: bool,
}

impl Checksum {
    /// Returns the sum of no bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Returns the sum of an IPv4 pseudo header: both addresses, the `protocol` number, and the
    /// length `len` in bytes of header and payload. Add the TCP or UDP header (with a checksum of
    /// 0) and the payload to it.
    #[must_use]
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> Self {
        Self::new()
            .with(&source.octets())
            .with(&destination.octets())
            .add_trailer(protocol, u32::from(len))
    }

    /// Returns the same for IPv6.
    #[must_use]
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: u32) -> Self {
        Self::new().with(&source.octets()).with(&destination.octets()).add_trailer(protocol, len)
    }

    /// Adds what both kinds of pseudo header have besides addresses. Zeros add nothing, so their
    /// different layouts do not matter.
    fn add_trailer(self, protocol: u8, len: u32) -> Self {
        self.with(&len.to_be_bytes()).with(&[0, protocol])
    }

    /// Adds the next bytes.
    #[must_use]
    #[inline]
    pub fn with(self, bytes: &[u8]) -> Self {
        let sum = sum(bytes);
        // Begun in the middle of a word, every byte weighs what its neighbour should.
        let sum = if self.odd { sum.swap_bytes() } else { sum };
        Self { sum: add_folded(self.sum, sum), odd: self.odd ^ (bytes.len() % 2 == 1) }
    }

    /// Returns the checksum, a number to be stored in network byte order.
    #[must_use]
    pub fn value(self) -> u16 {
        u16::from_be(!self.sum)
    }

    /// Returns whether the added bytes, checksum field included, are undamaged.
    #[must_use]
    pub fn is_good(self) -> bool {
        self.sum == u16::MAX
    }
}

/// Adds with end-around carry.
fn add_folded(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // 0xffff + 0xffff leaves 0xfffe: the carry always fits.
    sum + u16::from(carry)
}

/// The folded sum of native 16-bit words; an odd byte at the end is followed by 0.
#[inline]
fn sum(bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let mut lanes = [0_u64; STRIDE / 4];
    for stride in strides {
        for (lane, word) in lanes.iter_mut().zip(stride.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    let mut total: u64 = lanes.iter().sum();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    fold(total + u64::from(u32::from_ne_bytes(last)))
}

/// Folds to 16 bits. What is congruent modulo 0xffff is one sum, and only a sum of zeros is 0.
#[expect(clippy::cast_possible_truncation, reason = "the upper halves are added in the same step")]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    add_folded(sum as u16, (sum >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mechanism::offload::testing::naive_checksum;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let sum = Checksum::new().with(b"\x00\x01\xf2\x03\xf4\xf5\xf6\xf7");
        assert_eq!(!sum.value(), 0xddf2);
        assert!(!sum.is_good());
    }

    #[test]
    fn sums_of_nothing_and_of_everything_are_told_apart() {
        assert_eq!(Checksum::new().value(), 0xffff);
        assert_eq!(Checksum::new().with(&[0; 100]).value(), 0xffff);
        assert_eq!(Checksum::new().with(&vec![0xff; 65_536]).value(), 0);
        assert!(Checksum::new().with(&[0xff; 2]).is_good());
    }

    proptest! {
        #[test]
        fn any_bytes_sum_as_simple_code_sums_them(bytes: Vec<u8>, skip in 0..40_usize) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(Checksum::new().with(bytes).value(), naive_checksum(&[bytes]));
        }

        #[test]
        fn full_frames_sum_as_simple_code_sums_them(bytes in prop::collection::vec(any::<u8>(), 1400..1600)) {
            prop_assert_eq!(Checksum::new().with(&bytes).value(), naive_checksum(&[&bytes]));
        }

        #[test]
        fn pieces_sum_as_the_whole(pieces: Vec<Vec<u8>>) {
            let sum = pieces.iter().fold(Checksum::new(), |sum, piece| sum.with(piece));
            prop_assert_eq!(sum.value(), naive_checksum(&[&pieces.concat()]));
        }

        #[test]
        fn a_sum_put_in_its_place_is_good(mut bytes in prop::collection::vec(any::<u8>(), 2..200), at: prop::sample::Index) {
            let at = at.index(bytes.len() / 2) * 2;
            bytes[at..at + 2].fill(0);
            let value = Checksum::new().with(&bytes).value();
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
            // Of zeros alone there is no good sum: 0xffff is their checksum and sums up to itself.
            prop_assert!(Checksum::new().with(&bytes).is_good());
        }

        #[test]
        fn tcp_over_ipv4_sums_as_in_pnet(
            segment in prop::collection::vec(any::<u8>(), 20..2000), source: u32, destination: u32,
        ) {
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            let packet = pnet_packet::tcp::TcpPacket::new(&segment).unwrap();
            let theirs = pnet_packet::tcp::ipv4_checksum(&packet, &source, &destination);
            let len = u16::try_from(segment.len()).unwrap();
            let ours = Checksum::pseudo_v4(source, destination, 6, len).with(&segment[..16]).with(&segment[18..]);
            prop_assert_eq!(ours.value(), theirs);
        }

        #[test]
        fn udp_over_ipv6_sums_as_in_pnet(
            datagram in prop::collection::vec(any::<u8>(), 8..2000), source: u128, destination: u128,
        ) {
            let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
            let packet = pnet_packet::udp::UdpPacket::new(&datagram).unwrap();
            let theirs = pnet_packet::udp::ipv6_checksum(&packet, &source, &destination);
            let len = u32::try_from(datagram.len()).unwrap();
            let ours = Checksum::pseudo_v6(source, destination, 17, len).with(&datagram[..6]).with(&datagram[8..]);
            prop_assert_eq!(ours.value(), theirs);
        }
    }
}
