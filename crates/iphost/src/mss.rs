//! The maximum segment size in TCP's first packets.
//!
//! The stack counts on packets of 64 KiB, as far as it knows: the link below it cuts longer ones
//! into fragments. TCP is not to use fragments, so both sides' first packets name the size that fits
//! a frame.

use smoltcp::wire::checksum;

use neighbor::frame::{ETHERNET_HEADER, IPV4, IPV4_HEADER, IPV6, IPV6_HEADER};

const TCP: u8 = 6;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
const SYN: u8 = 0x02;
/// TCP options.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the maximum segment size in a frame that begins a TCP connection, if it is over what fits
/// packets of `mtu` bytes, and corrects the checksum. Returns whether it did.
pub(crate) fn clamp(frame: &mut [u8], mtu: usize) -> bool {
    let Some((option, limit)) = find(frame, mtu) else { return false };
    let tcp = ETHERNET_HEADER + ip_header_len(frame);
    // RFC 1624: the sum changes by what its words do. A value at an odd byte is in two words.
    let odd = (option - tcp) & 1;
    let words = option - odd..option + 2 + odd;
    let before = checksum::data(&frame[words.clone()]);
    frame[option..option + 2].copy_from_slice(&limit.to_be_bytes());
    let after = checksum::data(&frame[words]);
    let sum = &mut frame[tcp + 16..tcp + 18];
    let old = u16::from_be_bytes([sum[0], sum[1]]);
    sum.copy_from_slice(&(!checksum::combine(&[!old, !before, after])).to_be_bytes());
    true
}

/// Returns whether [`clamp`] would change the frame.
pub(crate) fn is_too_large(frame: &[u8], mtu: usize) -> bool {
    find(frame, mtu).is_some()
}

fn ip_header_len(frame: &[u8]) -> usize {
    if frame[12..14] == IPV6 { IPV6_HEADER } else { usize::from(frame[14] & 0x0f) * 4 }
}

/// Returns where the value is that is too large, and what it may be at most.
fn find(frame: &[u8], mtu: usize) -> Option<(usize, u16)> {
    // Most frames are looked at no further than this.
    let (protocol, shortest) = match [*frame.get(12)?, *frame.get(13)?] {
        IPV4 => (*frame.get(ETHERNET_HEADER + 9)?, IPV4_HEADER),
        IPV6 => (*frame.get(ETHERNET_HEADER + 6)?, IPV6_HEADER),
        _ => return None,
    };
    let ip = ip_header_len(frame);
    let tcp = ETHERNET_HEADER + ip;
    if protocol != TCP || ip < shortest || *frame.get(tcp + 13)? & SYN == 0 {
        return None;
    }
    let limit = u16::try_from(mtu.saturating_sub(shortest + TCP_HEADER)).unwrap_or(u16::MAX);
    let end = tcp + usize::from(*frame.get(tcp + 12)? >> 4) * 4;
    let options = frame.get(tcp + TCP_HEADER..end)?;
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            END => return None,
            NO_OPERATION => at += 1,
            MAXIMUM_SEGMENT_SIZE if options.get(at + 1) == Some(&4) => {
                let value = u16::from_be_bytes([*options.get(at + 2)?, *options.get(at + 3)?]);
                return (value > limit).then_some((tcp + TCP_HEADER + at + 2, limit));
            }
            _ => at += usize::from(*options.get(at + 1)?).max(2),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{EthernetAddress, IpProtocol, TcpPacket, TcpRepr};

    use super::*;
    use neighbor::frame;

    const MACS: (EthernetAddress, EthernetAddress) =
        (EthernetAddress([2; 6]), EthernetAddress([4; 6]));

    fn first_packet(from: IpAddr, to: IpAddr, size: u16, options: &[u8]) -> Vec<u8> {
        let len = TCP_HEADER + options.len();
        let mut frame = frame::ip(MACS, (from, to), IpProtocol::Tcp, 64, len);
        let start = frame.len() - len;
        let header = &mut frame[start..];
        header[..4].copy_from_slice(&[1; 4]);
        header[12] = u8::try_from(len / 4 * 16).unwrap();
        header[13] = SYN;
        header[TCP_HEADER..].copy_from_slice(options);
        let at = header.windows(2).position(|two| two == [2, 4]).unwrap();
        header[at + 2..at + 4].copy_from_slice(&size.to_be_bytes());
        TcpPacket::new_unchecked(header).fill_checksum(&from.into(), &to.into());
        frame
    }

    #[test]
    fn a_size_that_fits_no_frame_is_lowered_and_the_checksum_stays_right() {
        let v4: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let v6: [IpAddr; 2] = ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
        for ([from, to], fits) in [(v4, 1_460), (v6, 1_440)] {
            for options in [&[2, 4, 0, 0][..], &[1, 2, 4, 0, 0, 0, 0, 0], &[3, 3, 7, 2, 4, 0, 0, 1]]
            {
                for (size, right) in [(65_495, fits), (8_960, fits), (fits, fits), (536, 536)] {
                    let mut frame = first_packet(from, to, size, options);
                    assert_eq!(is_too_large(&frame, 1_500), size != right);
                    assert_eq!(clamp(&mut frame, 1_500), size != right);
                    let len = TCP_HEADER + options.len();
                    let packet = TcpPacket::new_checked(&frame[frame.len() - len..]).unwrap();
                    let checksums = ChecksumCapabilities::default();
                    let tcp = TcpRepr::parse(&packet, &from.into(), &to.into(), &checksums);
                    assert_eq!(tcp.unwrap().max_seg_size, Some(right), "{options:?}");
                }
            }
        }
    }

    #[test]
    fn packets_that_are_cut_off_are_left_alone() {
        let [from, to] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let whole = first_packet(from, to, 9_000, &[1, 2, 4, 0, 0, 0, 0, 0]);
        for len in 0..whole.len() {
            let mut cut = whole[..len].to_vec();
            assert!(!clamp(&mut cut, 1_500) && cut == whole[..len], "{len}");
        }
        let mut endless = first_packet(from, to, 9_000, &[2, 4, 0, 0]);
        let options = endless.len() - 4;
        for kind in [[5, 0, 5, 0], [2, 0, 2, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 2]] {
            endless[options..].copy_from_slice(&kind);
            assert!(!clamp(&mut endless, 1_500), "{kind:?}");
        }
    }
}
