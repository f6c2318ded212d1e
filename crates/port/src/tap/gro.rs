//! Generic receive offload (GRO): runs of TCP segments are merged into one super-frame.
//!
//! A run is a sequence of segments that GSO would make of one super-frame: equal headers, sequence
//! numbers without a gap, and payloads of equal length, of which only the last may be shorter. The
//! payloads stay where they are; only the headers are written again.

use std::net::{Ipv4Addr, Ipv6Addr};

use shmbus::offload::Checksum;
use tapdev::header::{self, Header};

/// The most segments in a run: as many of 1,514 bytes as the longest packet holds, and some more.
pub(super) const MAX_SEGMENTS: usize = 64;
/// The longest IP packet, in bytes.
const MAX_PACKET: usize = 65_535;
/// The longest headers of a segment in bytes: Ethernet with a tag, IPv6, TCP with all options.
const MAX_HEADERS: usize = 18 + 40 + 60;

const TCP: u8 = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;

/// A TCP segment with payload and without anything that GRO must not merge (SYN, urgent data, IP
/// options, padding).
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'f> {
    frame: &'f [u8],
    v6: bool,
    /// The offsets of the IP header, the TCP header and the payload.
    ip: usize,
    tcp: usize,
    payload: usize,
}

impl<'f> Segment<'f> {
    /// Parses a frame. Returns `None` when it is not such a segment.
    pub(super) fn parse(frame: &'f [u8]) -> Option<Self> {
        let (ip, ether_type) = match frame.get(12..14)? {
            [0x81, 0x00] => (18, frame.get(16..18)?),
            ether_type => (14, ether_type),
        };
        let packet = frame.get(ip..)?;
        let v6 = match ether_type {
            [0x08, 0x00] => false,
            [0x86, 0xdd] => true,
            _ => return None,
        };
        let whole = if v6 {
            packet.len() >= 40
                && packet[0] >> 4 == 6
                && packet[6] == TCP
                && usize::from(number(packet, 4)) + 40 == packet.len()
        } else {
            packet.len() >= 20
                && packet[0] == 0x45
                && packet[9] == TCP
                && usize::from(number(packet, 2)) == packet.len()
                // Neither a fragment nor the reserved bit.
                && matches!(number(packet, 6), 0 | 0x4000)
        };
        let tcp = ip + if v6 { 40 } else { 20 };
        if !whole || frame.len() < tcp + 20 {
            return None;
        }
        let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        let flags = frame[tcp + 13];
        let plain = flags & ACK != 0 && flags & !(ACK | PSH | FIN | ECE) == 0;
        (plain && payload >= tcp + 20 && payload < frame.len()).then_some(Self {
            frame,
            v6,
            ip,
            tcp,
            payload,
        })
    }

    fn payload(&self) -> &'f [u8] {
        &self.frame[self.payload..]
    }

    fn sequence(&self) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.frame[self.tcp + 4..self.tcp + 8]);
        u32::from_be_bytes(bytes)
    }

    fn flags(&self) -> u8 {
        self.frame[self.tcp + 13]
    }

    fn id(&self) -> u16 {
        number(self.frame, self.ip + 4)
    }

    fn has_dont_fragment(&self) -> bool {
        self.frame[self.ip + 6] & 0x40 != 0
    }

    /// Returns whether the headers of both are equal except where segments of one run differ.
    fn has_same_headers(&self, other: &Self) -> bool {
        let same = |from: usize, to: usize| self.frame[from..to] == other.frame[from..to];
        let (ip, tcp) = (self.ip, self.tcp);
        (self.v6, self.ip, self.payload) == (other.v6, other.ip, other.payload)
            && same(0, ip)
            && if self.v6 {
                same(ip, ip + 4) && same(ip + 6, ip + 40)
            } else {
                same(ip, ip + 2) && same(ip + 6, ip + 10) && same(ip + 12, ip + 20)
            }
            // Ports; acknowledgement and header length; flags; window; options.
            && same(tcp, tcp + 4)
            && same(tcp + 8, tcp + 13)
            && (self.flags() ^ other.flags()) & !(PSH | FIN) == 0
            && same(tcp + 14, tcp + 16)
            && same(tcp + 20, self.payload)
    }
}

/// Segments that follow one another without a gap.
#[derive(Debug)]
pub(super) struct Run<'f> {
    first: Segment<'f>,
    last: Segment<'f>,
    payloads: [&'f [u8]; MAX_SEGMENTS],
    segments: usize,
    /// The length of the merged packet in bytes, from the IP header on.
    packet: usize,
}

impl<'f> Run<'f> {
    pub(super) fn new(first: Segment<'f>) -> Self {
        let mut payloads = [&[][..]; MAX_SEGMENTS];
        payloads[0] = first.payload();
        Self { first, last: first, payloads, segments: 1, packet: first.frame.len() - first.ip }
    }

    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    /// Returns the first segment as a frame.
    pub(super) fn first(&self) -> &'f [u8] {
        self.first.frame
    }

    /// Appends a segment. Returns `false` when it does not follow, or would make the run too long.
    pub(super) fn append(&mut self, next: &Segment<'f>) -> bool {
        let (last, payload) = (&self.last, next.payload());
        let size = self.first.payload().len();
        let follows = last.payload().len() == size
            && last.flags() & (PSH | FIN) == 0
            && payload.len() <= size
            && next.sequence() == last.sequence().wrapping_add(payload_len(last))
            && (next.v6
                || next.id() == last.id().wrapping_add(1)
                // Some senders leave the ID constant where fragmentation is not allowed.
                || next.id() == last.id() && next.has_dont_fragment());
        if !follows
            || self.segments == MAX_SEGMENTS
            || self.packet + payload.len() > MAX_PACKET
            || !next.has_same_headers(&self.first)
        {
            return false;
        }
        self.payloads[self.segments] = payload;
        self.segments += 1;
        self.packet += payload.len();
        self.last = *next;
        true
    }

    /// Calls `write` with the run as one frame: the virtio-net header, and the parts of the frame
    /// in order.
    pub(super) fn with_frame<T>(&self, write: impl FnOnce(Header, &[&[u8]]) -> T) -> T {
        let Segment { frame, v6, ip, tcp, payload } = self.first;
        let mut headers = [0; MAX_HEADERS];
        let headers = &mut headers[..payload];
        headers.copy_from_slice(&frame[..payload]);
        headers[tcp + 13] |= self.last.flags();
        let sum = if v6 {
            put(headers, ip + 4, self.packet - 40);
            let len = u32::try_from(self.packet - 40).unwrap_or(u32::MAX);
            Checksum::pseudo_v6(v6_address(headers, ip + 8), v6_address(headers, ip + 24), TCP, len)
        } else {
            put(headers, ip + 2, self.packet);
            headers[ip + 10..ip + 12].fill(0);
            let sum = Checksum::new().with(&headers[ip..tcp]).value();
            headers[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
            let len = u16::try_from(self.packet - 20).unwrap_or(u16::MAX);
            Checksum::pseudo_v4(
                v4_address(headers, ip + 12),
                v4_address(headers, ip + 16),
                TCP,
                len,
            )
        };
        // A partial checksum is not complemented.
        headers[tcp + 16..tcp + 18].copy_from_slice(&(!sum.value()).to_be_bytes());
        let low = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let header = Header {
            flags: header::NEEDS_CSUM,
            gso_type: if v6 { header::GSO_TCPV6 } else { header::GSO_TCPV4 },
            hdr_len: low(payload),
            gso_size: low(self.first.payload().len()),
            csum_start: low(tcp),
            csum_offset: 16,
        };
        let mut parts = [&[][..]; MAX_SEGMENTS + 1];
        parts[0] = headers;
        parts[1..=self.segments].copy_from_slice(&self.payloads[..self.segments]);
        write(header, &parts[..=self.segments])
    }
}

fn payload_len(segment: &Segment<'_>) -> u32 {
    // A frame is far shorter than the limit.
    u32::try_from(segment.payload().len()).unwrap_or(u32::MAX)
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a length in network order. The length of a packet fits.
fn put(bytes: &mut [u8], at: usize, len: usize) {
    bytes[at..at + 2].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
}

fn v4_address(bytes: &[u8], at: usize) -> Ipv4Addr {
    let mut octets = [0; 4];
    octets.copy_from_slice(&bytes[at..at + 4]);
    octets.into()
}

fn v6_address(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}

#[cfg(test)]
mod tests {
    use shmbus::offload::{Capabilities, Offload};
    use shmbus::{Burst, Bus, Station, StationOptions};

    use super::*;

    const V4: &[u8] = b"\x45\0\0\0\x12\x34\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02";
    const V6: &[u8] = b"\x60\0\0\0\0\0\x06\x40\
        \xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    /// With a timestamp; flags PSH and ACK.
    const TCP_HEADER: &[u8] = b"\x30\x39\0\x50\xff\xff\xff\0\0\0\0\x07\x80\x18\x10\0\0\0\0\0\
        \x01\x01\x08\x0a\0\0\0\x05\0\0\0\x06";
    const MSS: u16 = 1_400;

    /// Returns a super-frame, and its segments as a station makes them.
    fn cut(ip: &[u8], tag: &[u8], payload: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01".to_vec();
        frame.extend(tag);
        frame.extend(if ip.len() == 20 { b"\x08\0" } else { b"\x86\xdd" });
        let at = frame.len();
        frame.extend(ip);
        frame.extend(TCP_HEADER);
        frame.extend((0..payload).map(|byte| byte.to_le_bytes()[0]));
        if ip.len() == 20 {
            put(&mut frame, at + 2, 20 + TCP_HEADER.len() + payload);
        } else {
            put(&mut frame, at + 4, TCP_HEADER.len() + payload);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let options = StationOptions::new().capabilities(Capabilities::ALL);
        let mut alice =
            Station::join(Bus::open_or_create(&path, 0o600).unwrap(), options.clone()).unwrap();
        let mut bob = Station::join(Bus::open(&path).unwrap(), options).unwrap();
        alice.send_offload(&frame, Offload::new().segments(MSS)).unwrap();
        let mut burst = Burst::new(100);
        bob.recv_burst(&mut burst);
        (frame, burst.iter().map(|frame| frame.bytes.to_vec()).collect())
    }

    /// Merges segments from the first on. Returns their number, and the frame made of them.
    fn merged(segments: &[Vec<u8>]) -> (usize, Header, Vec<u8>) {
        let mut run = Run::new(Segment::parse(&segments[0]).expect("a segment"));
        for next in &segments[1..] {
            if !Segment::parse(next).is_some_and(|next| run.append(&next)) {
                break;
            }
        }
        let (header, frame) = run.with_frame(|header, parts| (header, parts.concat()));
        (run.segments(), header, frame)
    }

    #[test]
    fn segments_of_a_station_are_merged_again() {
        for (ip, tag) in [(V4, &b""[..]), (V6, b""), (V4, b"\x81\0\0\x07"), (V6, b"\x81\0\0\x07")] {
            let (frame, segments) = cut(ip, tag, 60_001);
            let (count, header, again) = merged(&segments);
            assert_eq!(count, 43);
            assert_eq!(header.gso_size, MSS);
            assert_eq!(
                header.gso_type,
                if ip == V4 { header::GSO_TCPV4 } else { header::GSO_TCPV6 }
            );
            let tcp = 14 + tag.len() + ip.len();
            assert_eq!(usize::from(header.csum_start), tcp);
            assert_eq!(usize::from(header.hdr_len), tcp + TCP_HEADER.len());
            // All bytes but the checksums, which are those of the whole packet.
            assert_eq!(again.len(), frame.len());
            for at in (0..frame.len()).filter(|at| ![tcp + 16, tcp + 17].contains(at)) {
                let header_sum = ip == V4 && [tcp - 10, tcp - 9].contains(&at);
                assert!(header_sum || again[at] == frame[at], "byte {at}");
            }
            if ip == V4 {
                assert!(Checksum::new().with(&again[tcp - 20..tcp]).is_good());
            }
            // The kernel adds the rest to what stands in the field.
            let sum = Checksum::new().with(&again[tcp..]).value().to_be_bytes();
            let mut whole = again.clone();
            whole[tcp + 16..tcp + 18].copy_from_slice(&sum);
            let len = again.len() - tcp;
            let pseudo = if ip == V4 {
                Checksum::pseudo_v4(
                    [10, 0, 0, 1].into(),
                    [10, 0, 0, 2].into(),
                    TCP,
                    len.try_into().unwrap(),
                )
            } else {
                let address = |last: u16| [0xfd00, 0, 0, 0, 0, 0, 0, last].into();
                Checksum::pseudo_v6(address(1), address(2), TCP, len.try_into().unwrap())
            };
            assert!(pseudo.with(&whole[tcp..]).is_good());
        }
    }

    #[test]
    fn a_run_is_never_longer_than_a_packet() {
        let (_, segments) = cut(V4, b"", 65_000);
        let mut run = Run::new(Segment::parse(&segments[0]).unwrap());
        let mut packet = segments[0].len() - 14;
        // The same payload again and again, each where the one before ends.
        let mut next = segments[0].clone();
        for count in 1..100 {
            let sequence = Segment::parse(&next).unwrap().sequence().wrapping_add(MSS.into());
            next[38..42].copy_from_slice(&sequence.to_be_bytes());
            let kept = next.clone().leak();
            if !run.append(&Segment::parse(kept).unwrap()) {
                assert_eq!((run.segments(), packet), (count, 52 + usize::from(MSS) * count));
                assert!(packet + usize::from(MSS) > MAX_PACKET);
                return;
            }
            packet += usize::from(MSS);
        }
        panic!("the run never ends");
    }

    #[test]
    fn a_segment_that_differs_begins_a_new_run() {
        let (_, segments) = cut(V4, b"", 4_000);
        assert_eq!(merged(&segments).0, 3);
        // Destination, ether type, type of service, fragment, time to live, protocol, addresses,
        // ports, sequence, acknowledgement, flags (CWR, URG, SYN, no ACK), window, options.
        for (at, xor) in [
            (0, 1),
            (13, 1),
            (14, 1),
            (15, 1),
            (19, 2),
            (20, 0x20),
            (22, 1),
            (23, 1),
            (26, 1),
            (30, 1),
            (34, 1),
            (36, 1),
            (41, 1),
            (42, 1),
            (46, 0x10),
            (47, 0x80),
            (47, 0x20),
            (47, 0x02),
            (47, 0x10),
            (48, 1),
            (60, 1),
        ] {
            let mut changed = segments.clone();
            changed[1][at] ^= xor;
            assert_eq!(merged(&changed).0, 1, "byte {at}, bits {xor:#x}");
        }
        let mut missing = segments.clone();
        missing.remove(1);
        assert_eq!(merged(&missing).0, 1, "a gap");
        let mut pushed = segments.clone();
        pushed[1][47] |= PSH;
        let (count, _, frame) = merged(&pushed);
        assert_eq!((count, frame[47] & PSH), (2, PSH), "PSH ends a run");
        let mut padded = segments;
        padded[1].push(0);
        assert_eq!(merged(&padded).0, 1, "padding");
    }

    #[test]
    fn packets_with_one_id_are_a_run_if_fragmentation_is_not_allowed() {
        let (_, mut segments) = cut(V4, b"", 4_000);
        for segment in &mut segments {
            put(segment, 18, 0);
        }
        assert_eq!(merged(&segments).0, 3);
        for segment in &mut segments {
            segment[20] = 0;
        }
        assert_eq!(merged(&segments).0, 1);
    }

    #[test]
    fn any_bytes_are_parsed_without_panic() {
        let (_, segments) = cut(V6, b"\x81\0\0\x07", 3_000);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut frame = segments[random.usize(..segments.len())].clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..100);
                frame[at] = random.u8(..);
            }
            frame.truncate(random.usize(..=frame.len()));
            if let Some(segment) = Segment::parse(&frame) {
                Run::new(segment)
                    .with_frame(|_, parts| assert_eq!(parts.concat().len(), frame.len()));
            }
        }
    }
}
