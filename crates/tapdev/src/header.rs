//! The virtio-net header (Virtio 1.x, "Network Device", without the field for merged buffers): what was left undone of the
//! frame behind it, or need not be looked at again. Numbers are in the machine's byte order.

/// Bytes of a header.
pub const LEN: usize = 10;

/// A header as it is read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// [`NEEDS_CSUM`] and [`DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`], [`GSO_TCPV4`] or [`GSO_TCPV6`]; the latter two perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// Bytes of all headers of the frame; a hint.
    pub hdr_len: u16,
    /// Bytes of payload in each segment of a super-frame.
    pub gso_size: u16,
    /// Where the part begins that the checksum covers, in bytes from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum belongs, in bytes from there.
    pub csum_offset: u16,
}

/// The checksum's place holds the sum of the pseudo header; the rest is to be added.
pub const NEEDS_CSUM: u8 = 1;
/// The checksums were found to be right.
pub const DATA_VALID: u8 = 2;

/// A frame and no more.
pub const GSO_NONE: u8 = 0;
/// A super-frame of TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// A super-frame of TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// Added: the first segment has the flag CWR.
pub const GSO_ECN: u8 = 0x80;

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        let [flags, gso_type, numbers @ ..] = bytes;
        let number = |index: usize| u16::from_ne_bytes([numbers[2 * index], numbers[2 * index + 1]]);
        Self {
            flags,
            gso_type,
            hdr_len: number(0),
            gso_size: number(1),
            csum_start: number(2),
            csum_offset: number(3),
        }
    }

    /// The header as it is written.
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
    fn what_is_written_reads_back() {
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
