//! ARP (RFC 826), with the probes and announcements of RFC 5227.

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use crate::frame::{self, ETHERNET_HEADER};

/// Bytes of an ARP packet.
const LEN: usize = 28;

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// It is a request, and no reply.
    pub is_request: bool,
    /// The host that has sent it.
    pub sender: (Ipv4Addr, EthernetAddress),
    /// The address that it asks for; in a reply, that of the host that has asked.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the ARP packet of a frame. Returns `None` for one that no host sends.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(frame.get(ETHERNET_HEADER..)?).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let is_request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        source_hardware_addr.is_unicast().then_some(Self {
            is_request,
            sender: (source_protocol_addr, source_hardware_addr),
            target: target_protocol_addr,
        })
    }

    /// Returns whether it asks for an address in order to take it, if no other host has it.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.is_request && self.sender.0.is_unspecified()
    }
}

/// Makes the request of `own` for the host `target`.
#[must_use]
pub fn request(own: (Ipv4Addr, EthernetAddress), target: Ipv4Addr) -> Vec<u8> {
    let unknown = EthernetAddress([0; 6]);
    make(ArpOperation::Request, own, (target, unknown), EthernetAddress::BROADCAST)
}

/// Makes the question whether another host has the address.
#[must_use]
pub fn probe(address: Ipv4Addr, mac: EthernetAddress) -> Vec<u8> {
    request((Ipv4Addr::UNSPECIFIED, mac), address)
}

/// Makes the announcement that the address is at `mac` (a gratuitous ARP).
#[must_use]
pub fn announcement(address: Ipv4Addr, mac: EthernetAddress) -> Vec<u8> {
    request((address, mac), address)
}

/// Makes the reply that `own` gives to the host `to`.
#[must_use]
pub fn reply(own: (Ipv4Addr, EthernetAddress), to: (Ipv4Addr, EthernetAddress)) -> Vec<u8> {
    make(ArpOperation::Reply, own, to, to.1)
}

fn make(
    operation: ArpOperation,
    from: (Ipv4Addr, EthernetAddress),
    target: (Ipv4Addr, EthernetAddress),
    to: EthernetAddress,
) -> Vec<u8> {
    let mut frame = frame::ethernet(to, from.1, frame::ARP, LEN);
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: from.1,
        source_protocol_addr: from.0,
        target_hardware_addr: target.1,
        target_protocol_addr: target.0,
    };
    arp.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET_HEADER..]));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn a_probe_an_announcement_and_a_reply_are_those_of_the_rfc() {
        let probe = Arp::read(&probe(ADDRESS, MAC)).unwrap();
        assert!(probe.is_probe());
        assert_eq!((probe.sender.1, probe.target), (MAC, ADDRESS));
        let announced = Arp::read(&announcement(ADDRESS, MAC)).unwrap();
        assert!(announced.is_request && !announced.is_probe());
        assert_eq!((announced.sender, announced.target), ((ADDRESS, MAC), ADDRESS));
        let frame = reply((ADDRESS, MAC), (Ipv4Addr::UNSPECIFIED, OTHER));
        assert_eq!((frame::destination(&frame), frame::source(&frame)), (OTHER, MAC));
        assert!(!Arp::read(&frame).unwrap().is_request);
    }

    #[test]
    fn what_no_host_sends_is_not_read() {
        let good = announcement(ADDRESS, MAC);
        for (at, value) in [(15, 6), (16, 9), (18, 8), (19, 16), (21, 3), (22, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Arp::read(&bad), None, "{at}");
        }
        assert_eq!(Arp::read(&good[..41]), None);
    }
}
