//! The eight bytes between UDP and the frame (RFC 7348, section 5).

/// The bytes of a header.
pub(super) const HEADER: usize = 8;
/// The greatest number of a VXLAN: it has 24 bits.
pub const MAX_VNI: u32 = (1 << 24) - 1;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The flag that says that there is a number.
const HAS_VNI: u8 = 0x08;

/// Why a datagram is no frame of this VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It is too short, or its header has no number.
    #[error("no VXLAN")]
    NoVxlan,
    /// It belongs to another VXLAN.
    #[error("VXLAN {0}")]
    OtherVni(u32),
}

/// Returns the number of the VXLAN of a name, which all ends that know the name compute (FNV-1a).
#[must_use]
pub fn vni_of(name: &str) -> u32 {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 24) & MAX_VNI
}

/// Returns the header of frames of the VXLAN `vni`.
pub(super) fn header(vni: u32) -> [u8; HEADER] {
    let [_, high, middle, low] = vni.to_be_bytes();
    [HAS_VNI, 0, 0, 0, high, middle, low, 0]
}

/// Returns the frame in a datagram, if it belongs to the VXLAN `vni`. Bits that the RFC reserves are
/// not looked at.
pub(super) fn frame(datagram: &[u8], vni: u32) -> Result<&[u8], Malformed> {
    let (header, frame) = datagram.split_first_chunk::<HEADER>().ok_or(Malformed::NoVxlan)?;
    if header[0] & HAS_VNI == 0 || frame.len() < ETHERNET {
        return Err(Malformed::NoVxlan);
    }
    let theirs = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    if theirs == vni { Ok(frame) } else { Err(Malformed::OtherVni(theirs)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_that_of_the_rfc() {
        assert_eq!(header(0x12_34_56), [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let datagram = [&header(MAX_VNI)[..], &[7; ETHERNET]].concat();
        assert_eq!(frame(&datagram, MAX_VNI), Ok(&[7; ETHERNET][..]));
        assert_eq!(frame(&datagram, 1), Err(Malformed::OtherVni(MAX_VNI)));
        assert_eq!(frame(&datagram[..datagram.len() - 1], MAX_VNI), Err(Malformed::NoVxlan));
        assert_eq!(frame(&datagram[..3], MAX_VNI), Err(Malformed::NoVxlan));
    }

    #[test]
    fn reserved_bits_do_not_matter() {
        let mut datagram = [0xff; HEADER + ETHERNET];
        datagram[4..7].copy_from_slice(&[0, 0, 42]);
        assert!(frame(&datagram, 42).is_ok());
        datagram[0] = !HAS_VNI;
        assert_eq!(frame(&datagram, 42), Err(Malformed::NoVxlan));
    }
}
