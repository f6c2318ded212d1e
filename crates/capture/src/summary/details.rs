//! The fields of an IP header, as `tcpdump -v` prints them.

use std::fmt;

use etherparse::{LaxNetSlice, LaxSlicedPacket};

/// Displays the fields of a frame's IP header in parentheses, with a space before; nothing for a frame
/// without one.
///
/// ```
/// use capture::Details;
///
/// assert_eq!(Details(&[0; 60]).to_string(), "");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Details<'a>(pub &'a [u8]);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match LaxSlicedPacket::from_ethernet(self.0) {
            Ok(packet) => write_fields(f, packet.net.as_ref()),
            Err(_) => Ok(()),
        }
    }
}

/// Displays the fields of an IP packet's header, as [`Details`] does those of a frame's.
///
/// ```
/// use capture::PacketDetails;
///
/// assert_eq!(PacketDetails(&[0; 60]).to_string(), "");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PacketDetails<'a>(pub &'a [u8]);

impl fmt::Display for PacketDetails<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match LaxSlicedPacket::from_ip(self.0) {
            Ok(packet) => write_fields(f, packet.net.as_ref()),
            Err(_) => Ok(()),
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, net: Option<&LaxNetSlice<'_>>) -> fmt::Result {
    match net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let tos = header.slice()[1];
            let flags = match (header.dont_fragment(), header.more_fragments()) {
                (true, true) => "DF, +",
                (true, false) => "DF",
                (false, true) => "+",
                (false, false) => "none",
            };
            write!(
                f,
                " (tos {tos:#x}, ttl {}, id {}, offset {}, flags [{flags}], proto {}, length {})",
                header.ttl(),
                header.identification(),
                u32::from(header.fragments_offset().value()) * 8,
                header.protocol().0,
                header.total_len()
            )
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            write!(
                f,
                " (class {:#x}, flowlabel {:#x}, hlim {}, next-header {}, payload length {})",
                header.traffic_class(),
                header.flow_label().value(),
                header.hop_limit(),
                header.next_header().0,
                header.payload_length()
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specimens::{ethernet, ipv4_to, ipv6, udp};

    #[test]
    fn the_fields_are_those_of_the_header() {
        let frame = ethernet([2; 6], 0x0800, &ipv4_to([10, 0, 0, 2], 17, 0x2001, &udp(1, 2, &[])));
        assert_eq!(
            Details(&frame).to_string(),
            " (tos 0x10, ttl 64, id 4660, offset 8, flags [+], proto 17, length 28)"
        );
        assert_eq!(PacketDetails(&frame[14..]).to_string(), Details(&frame).to_string());
        let frame = ethernet([2; 6], 0x86dd, &ipv6(17, &udp(1, 2, &[])));
        assert_eq!(
            Details(&frame).to_string(),
            " (class 0x0, flowlabel 0x0, hlim 255, next-header 17, payload length 8)"
        );
    }
}
