//! What the tests of this folder share: frames made byte by byte, and a second opinion on the
//! finished ones. Nothing here uses the code under test: sums are taken in the plainest way, and
//! frames are taken apart by another crate.

use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{self, TcpPacket};
use pnet_packet::udp::{self, UdpPacket};
use pnet_packet::vlan::VlanPacket;
use proptest::prelude::*;

use super::headers::Family;
use super::tx::{Finished, Finisher};
use super::{Capabilities, Offload, OffloadError, TxRequest};
use crate::format::MAX_FRAME;

/// The Internet checksum of the pieces, one after the other, as in its definition.
pub(super) fn naive_checksum(pieces: &[&[u8]]) -> u16 {
    let bytes = pieces.concat();
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A packet as it leaves a stack that has left the checksums undone.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) family: Family,
    pub(super) vlan: bool,
    pub(super) udp: bool,
    /// Words of options.
    pub(super) ip_options: u8,
    pub(super) tcp_options: u8,
    pub(super) id: u16,
    pub(super) sequence: u32,
    pub(super) flags: u8,
    pub(super) urgent: u16,
    pub(super) payload: Vec<u8>,
}

impl Sample {
    pub(super) fn new(family: Family, payload: &[u8]) -> Self {
        Self {
            family,
            vlan: false,
            udp: false,
            ip_options: 0,
            tcp_options: 0,
            id: 0x1234,
            sequence: 0x0102_0304,
            flags: 0x10,
            urgent: 0,
            payload: payload.to_vec(),
        }
    }

    pub(super) fn udp(mut self) -> Self {
        self.udp = true;
        self
    }

    /// Where the IP header begins.
    pub(super) fn ip(&self) -> usize {
        if self.vlan { 18 } else { 14 }
    }

    /// Where TCP or UDP begins.
    pub(super) fn l4(&self) -> usize {
        self.ip()
            + match self.family {
                Family::V4 => 20 + 4 * usize::from(self.ip_options),
                Family::V6 => 40,
            }
    }

    /// Where its checksum stands.
    pub(super) fn l4_checksum(&self) -> usize {
        self.l4() + if self.udp { 6 } else { 16 }
    }

    /// Where the payload begins.
    pub(super) fn headers(&self) -> usize {
        self.l4() + if self.udp { 8 } else { 20 + 4 * usize::from(self.tcp_options) }
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        match self.family {
            Family::V4 => (vec![192, 168, 0, 1], vec![10, 255, 254, 253]),
            Family::V6 => ((0x20..0x30).collect(), (0xf0..=0xff).collect()),
        }
    }

    /// The naive sum of the pseudo header, as the partial-checksum convention wants it in the
    /// field.
    pub(super) fn pseudo_sum(&self) -> u16 {
        let (source, destination) = self.addresses();
        let len = u32::try_from(self.headers() - self.l4() + self.payload.len()).unwrap();
        let protocol = if self.udp { 17 } else { 6 };
        !naive_checksum(&[&source, &destination, &len.to_be_bytes(), &[0, 0, 0, protocol]])
    }

    /// The frame, with rubbish where checksums belong.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".to_vec();
        if self.vlan {
            frame.extend(b"\x81\0\x60\x07");
        }
        let (source, destination) = self.addresses();
        let behind = u16::try_from(self.headers() - self.l4() + self.payload.len()).unwrap();
        let protocol = if self.udp { 17 } else { 6 };
        match self.family {
            Family::V4 => {
                frame.extend(b"\x08\0");
                let header = 20 + 4 * self.ip_options;
                frame.extend([0x40 | (header / 4), 0x03]);
                frame.extend((u16::from(header) + behind).to_be_bytes());
                frame.extend(self.id.to_be_bytes());
                frame.extend([0x40, 0, 64, protocol, 0xde, 0xad]);
                frame.extend(source);
                frame.extend(destination);
                // No operation, as often as is needed.
                frame.resize(self.l4(), 1);
            }
            Family::V6 => {
                frame.extend(b"\x86\xdd\x60\x01\x02\x03");
                frame.extend(behind.to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(source);
                frame.extend(destination);
            }
        }
        frame.extend(b"\x30\x39\x00\x50");
        if self.udp {
            frame.extend(behind.to_be_bytes());
            frame.extend([0xbe, 0xef]);
        } else {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend(b"\x0a\x0b\x0c\x0d");
            frame.extend([(5 + self.tcp_options) << 4, self.flags, 0x20, 0, 0xbe, 0xef]);
            frame.extend(self.urgent.to_be_bytes());
            frame.resize(self.headers(), 1);
        }
        frame.extend(&self.payload);
        frame
    }

    /// Everything that can be left undone with it.
    pub(super) fn offload(&self) -> Offload {
        match self.family {
            Family::V4 => Offload::new().ipv4_header().transport(),
            Family::V6 => Offload::new().transport(),
        }
    }

    /// The frame with its checksums.
    pub(super) fn finished(&self) -> Vec<u8> {
        let mut frame = self.frame();
        let (ip, l4, at) = (self.ip(), self.l4(), self.l4_checksum());
        if self.family == Family::V4 {
            frame[ip + 10..ip + 12].fill(0);
            let sum = naive_checksum(&[&frame[ip..l4]]);
            frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        frame[at..at + 2].copy_from_slice(&self.pseudo_sum().to_be_bytes());
        let sum = naive_checksum(&[&frame[l4..]]);
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// Any packet with at most `payload` bytes of payload. A SYN or RST is not among them.
pub(super) fn samples(payload: usize) -> impl Strategy<Value = Sample> {
    let headers = (any::<[bool; 3]>(), 0..=10_u8, 0..=10_u8);
    let numbers = (any::<u16>(), any::<u32>(), any::<u8>(), any::<u16>());
    (headers, numbers, prop::collection::vec(any::<u8>(), 0..=payload)).prop_map(
        |((choices, ip_options, tcp_options), (id, sequence, flags, urgent), payload)| {
            let [v6, vlan, udp] = choices;
            Sample {
                family: if v6 { Family::V6 } else { Family::V4 },
                vlan,
                udp,
                ip_options,
                tcp_options,
                id,
                sequence,
                flags: flags & !0x06,
                urgent,
                payload,
            }
        },
    )
}

/// What becomes of a request, with everything enabled.
pub(super) fn finish(frame: &[u8], offload: Offload) -> Result<Vec<Vec<u8>>, OffloadError> {
    finish_with(frame, offload, Capabilities::ALL, MAX_FRAME)
}

pub(super) fn finish_with(
    frame: &[u8],
    offload: Offload,
    enabled: Capabilities,
    longest: usize,
) -> Result<Vec<Vec<u8>>, OffloadError> {
    let mut finisher = Finisher::default();
    let request = TxRequest::new(frame, offload);
    finisher.finish(0, request, enabled, longest)?;
    Ok(finisher.frames([request].into_iter()).map(Finished::to_vec).collect())
}

/// Panics unless another crate finds the frame's lengths consistent and its checksums right.
pub(super) fn assert_sound(frame: &[u8]) {
    let ethernet = EthernetPacket::new(frame).unwrap();
    let mut payload = ethernet.payload().to_vec();
    let mut ether_type = ethernet.get_ethertype();
    if ether_type == EtherTypes::Vlan {
        let vlan = VlanPacket::new(&payload).unwrap();
        ether_type = vlan.get_ethertype();
        let inner = vlan.payload().to_vec();
        payload = inner;
    }
    match ether_type {
        EtherTypes::Ipv4 => {
            let ip = Ipv4Packet::new(&payload).unwrap();
            assert_eq!(usize::from(ip.get_total_length()), payload.len());
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip), "IPv4");
            let (source, destination) = (ip.get_source(), ip.get_destination());
            let l4 = &payload[4 * usize::from(ip.get_header_length())..];
            if ip.get_next_level_protocol() == IpNextHeaderProtocols::Tcp {
                let packet = TcpPacket::new(l4).unwrap();
                assert_eq!(
                    packet.get_checksum(),
                    tcp::ipv4_checksum(&packet, &source, &destination),
                    "TCP"
                );
            } else {
                let packet = UdpPacket::new(l4).unwrap();
                assert_udp(&packet, l4, udp::ipv4_checksum(&packet, &source, &destination));
            }
        }
        EtherTypes::Ipv6 => {
            let ip = Ipv6Packet::new(&payload).unwrap();
            assert_eq!(usize::from(ip.get_payload_length()), payload.len() - 40);
            let (source, destination) = (ip.get_source(), ip.get_destination());
            let l4 = &payload[40..];
            if ip.get_next_header() == IpNextHeaderProtocols::Tcp {
                let packet = TcpPacket::new(l4).unwrap();
                assert_eq!(
                    packet.get_checksum(),
                    tcp::ipv6_checksum(&packet, &source, &destination),
                    "TCP"
                );
            } else {
                let packet = UdpPacket::new(l4).unwrap();
                assert_udp(&packet, l4, udp::ipv6_checksum(&packet, &source, &destination));
            }
        }
        other => panic!("{other} is not IP"),
    }
}

fn assert_udp(packet: &UdpPacket<'_>, l4: &[u8], computed: u16) {
    assert_eq!(usize::from(packet.get_length()), l4.len());
    assert_eq!(packet.get_checksum(), if computed == 0 { 0xffff } else { computed }, "UDP");
}
