//! The virtio-net header, which precedes each frame of a [`Form::Virtio`](crate::Form::Virtio) TAP.
//!
//! It says which checksum and which segmentation the sender has left undone, and which checksums
//! need no further check (Virtio 1.x, "Network Device", without the field for merged buffers).
//! Numbers are in the machine's byte order.

/// The length of a header, in bytes.
pub const LEN: usize = 10;

/// A virtio-net header.
///
/// ```
/// use tapdev::header::{self, Header};
///
/// // A TCP segment over IPv4 whose checksum is still to be completed.
/// let header = Header {
///     flags: header::NEEDS_CSUM,
///     csum_start: 14 + 20,
///     csum_offset: 16,
///     ..Header::default()
/// };
/// assert_eq!(Header::from_bytes(header.to_bytes()), header);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Any of [`NEEDS_CSUM`] and [`DATA_VALID`].
    pub flags: u8,
    /// One of [`GSO_NONE`], [`GSO_TCPV4`] and [`GSO_TCPV6`], the latter two optionally with
    /// [`GSO_ECN`].
    pub gso_type: u8,
    /// The length of all headers of the frame in bytes, as a hint.
    pub hdr_len: u16,
    /// The payload of each segment that a super-frame is to be cut into, in bytes.
    pub gso_size: u16,
    /// Where the part that the checksum covers starts, in bytes from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum is stored, in bytes from `csum_start`.
    pub csum_offset: u16,
}

/// Flag: the checksum field holds the sum of the pseudo header, and the receiver adds the rest.
pub const NEEDS_CSUM: u8 = 1;
/// Flag: the sender has checked the checksums, and they are right.
pub const DATA_VALID: u8 = 2;

/// GSO type: an ordinary frame.
pub const GSO_NONE: u8 = 0;
/// GSO type: a super-frame of TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// GSO type: a super-frame of TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// Bit added to a GSO type: the first segment has the TCP flag CWR.
pub const GSO_ECN: u8 = 0x80;

impl Header {
    /// Returns the header that these bytes hold.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        let [flags, gso_type, numbers @ ..] = bytes;
        let number =
            |index: usize| u16::from_ne_bytes([numbers[2 * index], numbers[2 * index + 1]]);
        Self {
            flags,
            gso_type,
            hdr_len: number(0),
            gso_size: number(1),
            csum_start: number(2),
            csum_offset: number(3),
        }
    }

    /// Returns the bytes of the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let numbers = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset];
        for (place, number) in bytes[2..].chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 66,
            gso_size: 1_448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
        assert_eq!(Header::default().to_bytes(), [0; LEN]);
    }
}
