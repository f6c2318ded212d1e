//! A link that carries IP packets alone, as the Ethernet that a host expects.
//!
//! At a link of two ends there is nothing to find out: every other host is behind the far end. So the
//! far end gets an Ethernet address made up here. The host's questions for the owner of an address are
//! answered with it, and never leave; packets gain a header on their way to the host, and lose it on
//! their way out. All else of a host works as on a bus.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use neighbor::arp::{self, Arp};
use neighbor::frame::{self, ETHERNET_HEADER, IPV6_HEADER};
use neighbor::link_local;
use neighbor::ndisc::{self, Ndisc};
use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv6Packet};

/// The far end's IPv4 address, as far as the host needs one: of the network that is kept for the two
/// ends of such links (RFC 7335).
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// The most answers that wait for the host. It asks again.
const MAX_ANSWERS: usize = 64;

/// What is between a host and an IP link.
#[derive(Debug)]
pub(crate) struct IpLink {
    /// A packet for the host, with a header.
    frame: Vec<u8>,
    outbound: Outbound,
}

/// The way out.
#[derive(Debug)]
pub(crate) struct Outbound {
    own: EthernetAddress,
    /// A frame of the host.
    frame: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
}

impl IpLink {
    /// Makes the link of the host at `own`.
    pub(crate) fn new(own: EthernetAddress) -> Self {
        let outbound = Outbound { own, frame: Vec::new(), answers: VecDeque::new() };
        Self { frame: Vec::new(), outbound }
    }

    /// Returns the addresses of the far end.
    pub(crate) fn far_end(&self) -> Vec<IpAddr> {
        vec![FAR_V4.into(), link_local(self.outbound.far_mac()).address().into()]
    }

    /// Returns whether answers wait for the host.
    pub(crate) fn has_answers(&self) -> bool {
        !self.outbound.answers.is_empty()
    }

    /// Returns the oldest answer.
    pub(crate) fn next_answer(&mut self) -> Option<Vec<u8>> {
        self.outbound.answers.pop_front()
    }

    /// Forgets the answers: the link leads elsewhere.
    pub(crate) fn clear(&mut self) {
        self.outbound.answers.clear();
    }

    /// Returns a way in and the way out.
    pub(crate) fn split(&mut self) -> (Inbound<'_>, &mut Outbound) {
        let macs = (self.outbound.own, self.outbound.far_mac());
        (Inbound { frame: &mut self.frame, macs }, &mut self.outbound)
    }

    /// Returns the way out.
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }
}

/// The way of one packet to the host.
#[derive(Debug)]
pub(crate) struct Inbound<'l> {
    frame: &'l mut Vec<u8>,
    /// Of the host, and of the far end.
    macs: (EthernetAddress, EthernetAddress),
}

impl<'l> Inbound<'l> {
    /// Returns the frame in which the host gets a packet. It is empty, which the host ignores, if it
    /// is no packet of IP.
    pub(crate) fn frame(self, packet: &[u8]) -> &'l [u8] {
        let Self { frame, macs: (own, far) } = self;
        frame.clear();
        if let Some(kind) = ether_type(packet) {
            frame.extend([&own.0[..], &far.0, &kind, packet].concat());
        }
        frame
    }
}

impl Outbound {
    /// Returns the Ethernet address of the far end: another than the host's.
    fn far_mac(&self) -> EthernetAddress {
        let mut mac = self.own;
        mac.0[5] ^= 1;
        mac
    }

    /// Lets the host write a frame of `len` bytes. Passes the packet in it to `send`, or answers it.
    pub(crate) fn write<R>(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> R,
        send: impl FnOnce(&[u8]),
    ) -> R {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(len, 0);
        let result = write(&mut frame);
        if let Some(packet) = self.packet(&frame) {
            send(packet);
        }
        self.frame = frame;
        result
    }

    /// Returns the packet of a frame that is for the far end.
    fn packet<'f>(&mut self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let packet = frame.get(ETHERNET_HEADER..)?;
        let kind = [frame[12], frame[13]];
        if kind == frame::ARP {
            self.answer(arp_answer(frame, self.far_mac()));
            return None;
        }
        if ether_type(packet) != Some(kind) {
            return None;
        }
        if kind == frame::IPV6
            && let Some(message) = discovery(packet)
        {
            self.answer(ndisc_answer(packet, message, self.far_mac()));
            return None;
        }
        Some(packet)
    }

    fn answer(&mut self, answer: Option<Vec<u8>>) {
        if self.answers.len() < MAX_ANSWERS {
            self.answers.extend(answer);
        }
    }
}

/// Returns the `EtherType` of an IP packet, by its version.
fn ether_type(packet: &[u8]) -> Option<[u8; 2]> {
    match packet.first()? >> 4 {
        4 => Some(frame::IPV4),
        6 => Some(frame::IPV6),
        _ => None,
    }
}

/// Answers that the address which an ARP request asks for is at `far`. A host that asks for an address
/// to take it, or announces one, gets no answer.
fn arp_answer(frame: &[u8], far: EthernetAddress) -> Option<Vec<u8>> {
    let arp = Arp::read(frame)?;
    let asks = arp.is_request && !arp.is_probe() && arp.target != arp.sender.0;
    asks.then(|| arp::reply((arp.target, far), arp.sender))
}

/// Answers that the address which a solicitation asks for is at `far`, likewise.
fn ndisc_answer(packet: &[u8], message: &[u8], far: EthernetAddress) -> Option<Vec<u8>> {
    let ip = Ipv6Packet::new_checked(packet).ok()?;
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    match Ndisc::read(message, from, to, ip.hop_limit())? {
        Ndisc::Solicitation { target, mac: Some(mac) } => {
            Some(ndisc::advertisement((target, far), (from, mac)))
        }
        _ => None,
    }
}

/// Returns the message of neighbor discovery, routers' included, that an IPv6 packet of the host holds:
/// what concerns Ethernet alone.
fn discovery(packet: &[u8]) -> Option<&[u8]> {
    let is_icmp = packet.get(6) == Some(&IpProtocol::Icmpv6.into());
    let message = packet.get(IPV6_HEADER..).filter(|_| is_icmp)?;
    message.first().is_some_and(|kind| (133..=137).contains(kind)).then_some(message)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const FAR: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0]);

    /// Lets the host send a frame; returns the packet that leaves.
    fn send(link: &mut IpLink, frame: &[u8]) -> Option<Vec<u8>> {
        let mut sent = None;
        let write = |room: &mut [u8]| room.copy_from_slice(frame);
        link.outbound().write(frame.len(), write, |packet| sent = Some(packet.to_vec()));
        sent
    }

    #[test]
    fn packets_gain_and_lose_a_header() {
        let mut link = IpLink::new(OWN);
        for (from, to) in [("10.0.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")] {
            let ends = (from.parse().unwrap(), to.parse().unwrap());
            let frame = frame::ip((FAR, OWN), ends, IpProtocol::Udp, 64, 8);
            let packet = &frame[ETHERNET_HEADER..];
            assert_eq!(link.split().0.frame(packet), frame);
            assert_eq!(send(&mut link, &frame).as_deref(), Some(packet));
        }
        for junk in [&[][..], &[0x50; 40]] {
            assert!(link.split().0.frame(junk).is_empty());
        }
        assert!(!link.has_answers());
    }

    #[test]
    fn every_other_host_is_at_the_far_end() {
        let mut link = IpLink::new(OWN);
        let (own, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(send(&mut link, &arp::request((own, OWN), other)), None);
        assert_eq!(link.next_answer(), Some(arp::reply((other, FAR), (own, OWN))));
        let (own6, other6): (Ipv6Addr, Ipv6Addr) =
            ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap());
        assert_eq!(send(&mut link, &ndisc::solicitation((own6, OWN), other6)), None);
        let answer = ndisc::advertisement((other6, FAR), (own6, OWN));
        assert_eq!(link.next_answer(), Some(answer));
        // What is said of the host's own addresses.
        for frame in [
            arp::probe(own, OWN),
            arp::announcement(own, OWN),
            ndisc::probe(own6, OWN),
            ndisc::announcement(own6, OWN),
        ] {
            assert_eq!(send(&mut link, &frame), None);
            assert!(!link.has_answers());
        }
        for _ in 0..2 * MAX_ANSWERS {
            send(&mut link, &arp::request((own, OWN), other));
        }
        assert_eq!(std::iter::from_fn(|| link.next_answer()).count(), MAX_ANSWERS);
    }
}
