//! IPv6 neighbor discovery (RFC 4861), with its duplicate address detection (RFC 4862).

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::{ChecksumCapabilities, Medium};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, NdiscNeighborFlags,
    NdiscRepr, RawHardwareAddress,
};

use crate::frame::{
    self, ALL_NODES_OF_LINK, ETHERNET_HEADER, IPV6_HEADER, group_mac, solicited_node,
};

/// The hop limit that shows that no router has passed the message on.
pub const HOP_LIMIT: u8 = 255;

/// What a message of neighbor discovery says that concerns a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ndisc {
    /// A host asks for the owner of `target`.
    Solicitation {
        /// The address that it asks for.
        target: Ipv6Addr,
        /// Where the host is that asks, if it says so.
        mac: Option<EthernetAddress>,
    },
    /// A host says that `target` is at `mac`.
    Advertisement {
        /// The address that it is about.
        target: Ipv6Addr,
        /// Where that is, if it says so; else where the message has come from.
        mac: Option<EthernetAddress>,
        /// An entry with another address is to be replaced.
        overrides: bool,
    },
}

impl Ndisc {
    /// Reads an `ICMPv6` message. Returns `None` for other messages, and for one that RFC 4861 says is
    /// not valid.
    #[must_use]
    pub fn read(message: &[u8], from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8) -> Option<Self> {
        if hop_limit != HOP_LIMIT {
            return None;
        }
        let packet = Icmpv6Packet::new_checked(message).ok()?;
        let checksums = ChecksumCapabilities::default();
        let Icmpv6Repr::Ndisc(ndisc) = Icmpv6Repr::parse(&from, &to, &packet, &checksums).ok()?
        else {
            return None;
        };
        let read = match ndisc {
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                let is_probe_of_group = to == solicited_node(target_addr) && lladdr.is_none();
                if from.is_unspecified() && !is_probe_of_group {
                    return None;
                }
                Self::Solicitation { target: target_addr, mac: lladdr.and_then(ethernet) }
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
                if to.is_multicast() && flags.contains(NdiscNeighborFlags::SOLICITED) {
                    return None;
                }
                Self::Advertisement {
                    target: target_addr,
                    mac: lladdr.and_then(ethernet),
                    overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
                }
            }
            _ => return None,
        };
        let (Self::Solicitation { target, mac } | Self::Advertisement { target, mac, .. }) = read;
        let is_station = mac.is_none_or(|mac| mac.is_unicast());
        (!target.is_multicast() && is_station).then_some(read)
    }
}

/// Reads the Ethernet address of an option.
fn ethernet(option: RawHardwareAddress) -> Option<EthernetAddress> {
    match option.parse(Medium::Ethernet) {
        Ok(HardwareAddress::Ethernet(mac)) => Some(mac),
        _ => None,
    }
}

/// Makes the request of `own` for the host `target`.
#[must_use]
pub fn solicitation(own: (Ipv6Addr, EthernetAddress), target: Ipv6Addr) -> Vec<u8> {
    let lladdr = (!own.0.is_unspecified()).then(|| own.1.into());
    let to = solicited_node(target);
    let ndisc = NdiscRepr::NeighborSolicit { target_addr: target, lladdr };
    make(own, (to, group_mac(to)), ndisc)
}

/// Makes the question whether another host has the address.
#[must_use]
pub fn probe(address: Ipv6Addr, mac: EthernetAddress) -> Vec<u8> {
    solicitation((Ipv6Addr::UNSPECIFIED, mac), address)
}

/// Makes the announcement to all nodes that the address is at `mac`.
#[must_use]
pub fn announcement(address: Ipv6Addr, mac: EthernetAddress) -> Vec<u8> {
    advertisement((address, mac), (ALL_NODES_OF_LINK, group_mac(ALL_NODES_OF_LINK)))
}

/// Makes the answer of `own` to the host `to`. An answer to the unspecified address goes to all
/// nodes: no host has its address yet, or all are to hear it.
#[must_use]
pub fn advertisement(own: (Ipv6Addr, EthernetAddress), to: (Ipv6Addr, EthernetAddress)) -> Vec<u8> {
    if to.0.is_unspecified() {
        return announcement(own.0, own.1);
    }
    let mut flags = NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, !to.0.is_multicast());
    let ndisc = NdiscRepr::NeighborAdvert { flags, target_addr: own.0, lladdr: Some(own.1.into()) };
    make(own, to, ndisc)
}

/// Makes the frame of a message between two hosts.
#[must_use]
pub fn make(
    from: (Ipv6Addr, EthernetAddress),
    to: (Ipv6Addr, EthernetAddress),
    ndisc: NdiscRepr<'_>,
) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(ndisc);
    let ends: (IpAddr, IpAddr) = (from.0.into(), to.0.into());
    let macs = (from.1, to.1);
    let mut frame = frame::ip(macs, ends, IpProtocol::Icmpv6, HOP_LIMIT, message.buffer_len());
    message.emit(
        &from.0,
        &to.0,
        &mut Icmpv6Packet::new_unchecked(&mut frame[ETHERNET_HEADER + IPV6_HEADER..]),
        &ChecksumCapabilities::default(),
    );
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
    const OWN: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const PEER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn read(frame: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> Option<Ndisc> {
        Ndisc::read(&frame[ETHERNET_HEADER + IPV6_HEADER..], from, to, frame[21])
    }

    #[test]
    fn a_probe_and_its_answer_are_those_of_the_rfc() {
        let group = "ff02::1:ff00:1".parse().unwrap();
        let frame = probe(OWN, MAC);
        assert_eq!(frame::destination(&frame), group_mac(group));
        assert_eq!(
            read(&frame, Ipv6Addr::UNSPECIFIED, group),
            Some(Ndisc::Solicitation { target: OWN, mac: None })
        );
        let answer = advertisement((OWN, MAC), (Ipv6Addr::UNSPECIFIED, OTHER));
        assert_eq!(frame::destination(&answer), EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
        let right = Ndisc::Advertisement { target: OWN, mac: Some(MAC), overrides: true };
        assert_eq!(read(&answer, OWN, ALL_NODES_OF_LINK), Some(right));
        // Override, and not solicited.
        assert_eq!(answer[ETHERNET_HEADER + IPV6_HEADER + 4], 0x20);
    }

    #[test]
    fn a_question_is_answered_to_the_host_that_asks() {
        let frame = solicitation((PEER, OTHER), OWN);
        let right = Ndisc::Solicitation { target: OWN, mac: Some(OTHER) };
        assert_eq!(read(&frame, PEER, solicited_node(OWN)), Some(right));
        let answer = advertisement((OWN, MAC), (PEER, OTHER));
        assert_eq!(frame::destination(&answer), OTHER);
        assert_eq!(answer[ETHERNET_HEADER + IPV6_HEADER + 4], 0x60, "solicited, override");
    }

    #[test]
    fn what_the_rfc_calls_not_valid_is_ignored() {
        let good = solicitation((PEER, OTHER), OWN);
        let message = &good[ETHERNET_HEADER + IPV6_HEADER..];
        let group = solicited_node(OWN);
        assert!(Ndisc::read(message, PEER, group, 255).is_some());
        assert_eq!(Ndisc::read(message, PEER, group, 64), None, "a router has passed it on");
        assert_eq!(Ndisc::read(&message[..20], PEER, group, 255), None, "cut off");
        let unspecified = Ipv6Addr::UNSPECIFIED;
        for (from, to) in [(PEER, OWN), (unspecified, group)] {
            assert_eq!(Ndisc::read(message, from, to, 255), None, "the checksum is wrong");
        }
        // A probe to one host, and one that says where to send the answer.
        let to_one = make(
            (unspecified, MAC),
            (OWN, MAC),
            NdiscRepr::NeighborSolicit { target_addr: OWN, lladdr: None },
        );
        assert_eq!(read(&to_one, unspecified, OWN), None);
        let with_mac = make(
            (unspecified, MAC),
            (group, MAC),
            NdiscRepr::NeighborSolicit { target_addr: OWN, lladdr: Some(MAC.into()) },
        );
        assert_eq!(read(&with_mac, unspecified, group), None);
        let of_group = make(
            (PEER, MAC),
            (OWN, MAC),
            NdiscRepr::NeighborSolicit { target_addr: group, lladdr: None },
        );
        assert_eq!(read(&of_group, PEER, OWN), None);
        let solicited = make(
            (PEER, MAC),
            (ALL_NODES_OF_LINK, MAC),
            NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::SOLICITED,
                target_addr: PEER,
                lladdr: Some(MAC.into()),
            },
        );
        assert_eq!(read(&solicited, PEER, ALL_NODES_OF_LINK), None);
    }
}
