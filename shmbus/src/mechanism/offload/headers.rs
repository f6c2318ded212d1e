//! Where the parts of a packet lie in a frame. Frames come from outside: every length is checked.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::err::{ipv4, ipv6, ipv6_exts, tcp};
use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6ExtensionsSlice,
    Ipv6HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice, ether_type, ip_number,
};

use super::capabilities::Capabilities;
use super::checksum::Checksum;
use super::error::{Header, OffloadError};

/// Bytes of a UDP header.
pub(super) const UDP_HEADER: usize = 8;
/// Where UDP has its length.
const UDP_LENGTH: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn header(self) -> Header {
        match self {
            Self::V4 => Header::Ipv4,
            Self::V6 => Header::Ipv6,
        }
    }

    pub(super) fn segmentation(self) -> Capabilities {
        match self {
            Self::V4 => Capabilities::TSO_V4,
            Self::V6 => Capabilities::TSO_V6,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn of(protocol: IpNumber) -> Option<Self> {
        match protocol {
            ip_number::TCP => Some(Self::Tcp),
            ip_number::UDP => Some(Self::Udp),
            _ => None,
        }
    }

    fn protocol(self) -> IpNumber {
        match self {
            Self::Tcp => ip_number::TCP,
            Self::Udp => ip_number::UDP,
        }
    }

    fn header(self) -> Header {
        match self {
            Self::Tcp => Header::Tcp,
            Self::Udp => Header::Udp,
        }
    }

    /// Where its checksum stands, from the start of its header on.
    pub(super) fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    /// Bytes of the shortest header.
    fn shortest(self) -> usize {
        match self {
            Self::Tcp => 20,
            Self::Udp => UDP_HEADER,
        }
    }

    pub(super) fn tx(self, family: Family) -> Capabilities {
        match (self, family) {
            (Self::Tcp, Family::V4) => Capabilities::TCP_V4_TX,
            (Self::Tcp, Family::V6) => Capabilities::TCP_V6_TX,
            (Self::Udp, Family::V4) => Capabilities::UDP_V4_TX,
            (Self::Udp, Family::V6) => Capabilities::UDP_V6_TX,
        }
    }

    pub(super) fn rx(self, family: Family) -> Capabilities {
        match (self, family) {
            (Self::Tcp, Family::V4) => Capabilities::TCP_V4_RX,
            (Self::Tcp, Family::V6) => Capabilities::TCP_V6_RX,
            (Self::Udp, Family::V4) => Capabilities::UDP_V4_RX,
            (Self::Udp, Family::V6) => Capabilities::UDP_V6_RX,
        }
    }
}

/// An IP packet in a frame; all places are in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) family: Family,
    /// Where the IP header begins.
    pub(super) ip: usize,
    /// Where it ends, options included, extension headers not.
    pub(super) ip_end: usize,
    /// The packet's length in its header, in bytes: with IPv4 the header is part of it, with IPv6
    /// it is not.
    stated: usize,
    /// What follows the header.
    next: IpNumber,
    /// An IPv4 fragment.
    fragment: bool,
}

/// TCP or UDP in a packet; all places are in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) transport: Transport,
    pub(super) start: usize,
    /// Where its header ends.
    pub(super) header_end: usize,
    /// Where it ends: what follows is padding.
    pub(super) end: usize,
}

impl Segment {
    /// Where its checksum stands.
    pub(super) fn checksum(&self) -> usize {
        self.start + self.transport.checksum_offset()
    }
}

/// How a packet's length is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LengthRule {
    /// As its header states it.
    AsStated,
    /// The same, but 0 means all of the frame: the header of a packet beyond 64 KiB cannot state
    /// more.
    ZeroMeansAll,
}

impl Packet {
    /// Finds the IP packet in a frame and checks its header.
    pub(super) fn parse(frame: &[u8]) -> Result<Self, OffloadError> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame)
            .map_err(|_short| OffloadError::Truncated(Header::Ethernet))?;
        let mut ether_type = ethernet.ether_type();
        let mut ip = ethernet.slice().len();
        if ether_type == ether_type::VLAN_TAGGED_FRAME {
            let tag = SingleVlanHeaderSlice::from_slice(&frame[ip..])
                .map_err(|_short| OffloadError::Truncated(Header::Vlan))?;
            ether_type = tag.ether_type();
            ip += tag.slice().len();
        }
        match ether_type {
            ether_type::IPV4 => Self::parse_v4(frame, ip),
            ether_type::IPV6 => Self::parse_v6(frame, ip),
            EtherType(other) => Err(OffloadError::EtherType(other)),
        }
    }

    fn parse_v4(frame: &[u8], ip: usize) -> Result<Self, OffloadError> {
        let header = Ipv4HeaderSlice::from_slice(&frame[ip..]).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => OffloadError::Truncated(Header::Ipv4),
            ipv4::HeaderSliceError::Content(_) => OffloadError::Malformed(Header::Ipv4),
        })?;
        let len = header.slice().len();
        Ok(Self {
            family: Family::V4,
            ip,
            ip_end: ip + len,
            stated: usize::from(header.total_len()),
            next: header.protocol(),
            fragment: header.is_fragmenting_payload(),
        })
    }

    fn parse_v6(frame: &[u8], ip: usize) -> Result<Self, OffloadError> {
        let header = Ipv6HeaderSlice::from_slice(&frame[ip..]).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => OffloadError::Truncated(Header::Ipv6),
            ipv6::HeaderSliceError::Content(_) => OffloadError::Malformed(Header::Ipv6),
        })?;
        Ok(Self {
            family: Family::V6,
            ip,
            ip_end: ip + header.slice().len(),
            stated: usize::from(header.payload_length()),
            next: header.next_header(),
            fragment: false,
        })
    }

    /// The number of what follows the IP header.
    pub(super) fn protocol(&self) -> u8 {
        self.next.0
    }

    /// Where the packet ends in `frame`, if all of it is there.
    pub(super) fn end(&self, frame: &[u8], rule: LengthRule) -> Result<usize, OffloadError> {
        if self.stated == 0 && rule == LengthRule::ZeroMeansAll {
            return Ok(frame.len());
        }
        let start = match self.family {
            Family::V4 => self.ip,
            Family::V6 => self.ip_end,
        };
        let end = start + self.stated;
        if (self.ip_end..=frame.len()).contains(&end) {
            return Ok(end);
        }
        let header = self.family.header();
        Err(OffloadError::Length { header, claimed: self.stated, found: frame.len() - start })
    }

    /// TCP or UDP right behind the IP header, of which the header is whole.
    pub(super) fn segment(&self, frame: &[u8], rule: LengthRule) -> Result<Segment, OffloadError> {
        let end = self.end(frame, rule)?;
        if self.fragment {
            return Err(OffloadError::Fragment);
        }
        let Some(transport) = Transport::of(self.next) else {
            return Err(if self.family == Family::V6 && self.next.is_ipv6_ext_header_value() {
                OffloadError::ExtensionHeader(self.next.0)
            } else {
                OffloadError::Protocol(self.next.0)
            });
        };
        locate(frame, transport, self.ip_end, end)
    }

    /// The same behind extension headers, which are followed as far as they are no part of a
    /// fragment.
    pub(super) fn segment_behind_extensions(&self, frame: &[u8]) -> Result<Segment, OffloadError> {
        if self.family == Family::V4 {
            return self.segment(frame, LengthRule::AsStated);
        }
        let end = self.end(frame, LengthRule::AsStated)?;
        let (extensions, next, rest) = Ipv6ExtensionsSlice::from_slice(
            self.next,
            &frame[self.ip_end..end],
        )
        .map_err(|error| match error {
            ipv6_exts::HeaderSliceError::Len(_) => OffloadError::Truncated(Header::Ipv6),
            ipv6_exts::HeaderSliceError::Content(_) => OffloadError::Malformed(Header::Ipv6),
        })?;
        if extensions.is_fragmenting_payload() {
            return Err(OffloadError::Fragment);
        }
        let transport = Transport::of(next).ok_or(OffloadError::Protocol(next.0))?;
        locate(frame, transport, end - rest.len(), end)
    }

    /// What a receiver checks: TCP or UDP right after the IP header. It checks only what the sum
    /// needs; the sum finds the rest.
    pub(super) fn received_segment(&self, frame: &[u8]) -> Option<Segment> {
        let end = self.end(frame, LengthRule::AsStated).ok()?;
        let transport = Transport::of(self.next).filter(|_| !self.fragment)?;
        let start = self.ip_end;
        let header_end = start + transport.shortest();
        let end = match transport {
            Transport::Tcp => end,
            Transport::Udp => udp_end(frame, start, end).ok()?,
        };
        (header_end <= end).then_some(Segment { transport, start, header_end, end })
    }

    /// The sum of the pseudo header for `transport` with `len` bytes of header and payload.
    pub(super) fn pseudo_header(
        &self,
        headers: &[u8],
        transport: Transport,
        len: usize,
    ) -> Checksum {
        let protocol = transport.protocol().0;
        match self.family {
            Family::V4 => {
                let address = |at| Ipv4Addr::from(array::<4>(headers, self.ip + at));
                // A packet's length is checked to fit its header.
                let len = u16::try_from(len).unwrap_or(u16::MAX);
                Checksum::pseudo_v4(address(12), address(16), protocol, len)
            }
            Family::V6 => {
                let address = |at| Ipv6Addr::from(array::<16>(headers, self.ip + at));
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                Checksum::pseudo_v6(address(8), address(24), protocol, len)
            }
        }
    }
}

/// Checks TCP's or UDP's header at `start`, in a packet that ends at `end`.
fn locate(
    frame: &[u8],
    transport: Transport,
    start: usize,
    end: usize,
) -> Result<Segment, OffloadError> {
    match transport {
        Transport::Tcp => {
            let header =
                TcpHeaderSlice::from_slice(&frame[start..end]).map_err(|error| match error {
                    tcp::HeaderSliceError::Len(_) => OffloadError::Truncated(Header::Tcp),
                    tcp::HeaderSliceError::Content(_) => OffloadError::Malformed(Header::Tcp),
                })?;
            Ok(Segment { transport, start, header_end: start + header.slice().len(), end })
        }
        Transport::Udp => {
            let end = udp_end(frame, start, end)?;
            Ok(Segment { transport, start, header_end: start + UDP_HEADER, end })
        }
    }
}

/// Where a datagram ends by its own length, which may be before the packet does.
fn udp_end(frame: &[u8], start: usize, end: usize) -> Result<usize, OffloadError> {
    let header = Transport::Udp.header();
    let found = end - start;
    if found < UDP_HEADER {
        return Err(OffloadError::Truncated(header));
    }
    let claimed = usize::from(get16(frame, start + UDP_LENGTH));
    if (UDP_HEADER..=found).contains(&claimed) {
        Ok(start + claimed)
    } else {
        Err(OffloadError::Length { header, claimed, found })
    }
}

/// A number in network byte order.
pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

/// A number in network byte order.
pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// Puts a number in network byte order.
pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Puts a number in network byte order.
pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
