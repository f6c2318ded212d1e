//! The TCP connection's direction that the latest packet was of.
//!
//! Most packets are like the one before them. What is checked about a packet depends on few of its
//! fields; when those are the same as in a packet that passed, it passes without a further look.

use std::net::IpAddr;
use std::ops::Range;

use smoltcp::wire::EthernetAddress;

use neighbor::frame::{self, ETHERNET_HEADER, IPV4, IPV6};

const TCP: u8 = 6;
const SYN: u8 = 0x02;
/// The longest addresses of a packet: two of IPv6.
const ADDRESSES: usize = 32;

/// Where things are in a frame.
struct Layout {
    addresses: Range<usize>,
    flags: usize,
}

const V4: Layout = Layout { addresses: 26..34, flags: 47 };
const V6: Layout = Layout { addresses: 22..54, flags: 67 };

/// Packets of TCP from one host to another that begin no connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) from: IpAddr,
    pub(crate) mac: EthernetAddress,
    ethernet: [u8; ETHERNET_HEADER],
    addresses: [u8; ADDRESSES],
}

impl Flow {
    /// Returns the flow of a frame with a packet from the host `from`, if it is of one.
    pub(crate) fn of(frame: &[u8], from: IpAddr) -> Option<Self> {
        let layout = layout(frame)?;
        let mut addresses = [0; ADDRESSES];
        let found = &frame[layout.addresses];
        addresses[..found.len()].copy_from_slice(found);
        let ethernet = *frame.first_chunk()?;
        Some(Self { from, mac: frame::source(frame), ethernet, addresses })
    }

    /// Returns whether a frame is of this flow.
    pub(crate) fn has(&self, frame: &[u8]) -> bool {
        frame.starts_with(&self.ethernet)
            && layout(frame)
                .is_some_and(|layout| self.addresses.starts_with(&frame[layout.addresses]))
    }
}

/// Returns where things are in a frame that can be of a flow: a packet of TCP that begins no
/// connection, without options, extension headers or fragments.
fn layout(frame: &[u8]) -> Option<Layout> {
    let (layout, is_plain) = match [*frame.get(12)?, *frame.get(13)?] {
        IPV4 => {
            let is_whole = frame.get(20..22)? == [0, 0] || frame[20..22] == [0x40, 0];
            (V4, frame[14] == 0x45 && is_whole && *frame.get(23)? == TCP)
        }
        IPV6 => (V6, *frame.get(14)? >> 4 == 6 && *frame.get(20)? == TCP),
        _ => return None,
    };
    (is_plain && *frame.get(layout.flags)? & SYN == 0).then_some(layout)
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::IpProtocol;

    use super::*;

    fn segment(from: IpAddr, to: IpAddr) -> Vec<u8> {
        let macs = (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
        frame::ip(macs, (from, to), IpProtocol::Tcp, 64, 30)
    }

    #[test]
    fn only_what_was_checked_makes_a_packet_like_another() {
        let v4: (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let v6: (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for (ends, fields) in
            [(v4, &[0..14, 14..15, 20..22, 23..24, 26..34][..]), (v6, &[0..14, 20..21, 22..54])]
        {
            let good = segment(ends.0, ends.1);
            let flow = Flow::of(&good, ends.0).unwrap();
            for at in 0..good.len() {
                let mut other = good.clone();
                other[at] ^= 1;
                let is_checked = fields.iter().any(|field| field.contains(&at));
                assert_eq!(flow.has(&other), !is_checked, "{ends:?} {at}");
            }
            let mut first = good.clone();
            first[if ends == v4 { 47 } else { 67 }] = SYN;
            assert!(!flow.has(&first) && Flow::of(&first, ends.0).is_none());
            assert!((0..if ends == v4 { 48 } else { 68 }).all(|len| !flow.has(&good[..len])));
        }
    }
}
