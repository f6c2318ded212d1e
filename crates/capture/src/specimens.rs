//! Frames of every kind that a LAN carries, made for tests.

/// A station, another, and groups.
const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ALL: [u8; 6] = [0xff; 6];

type Bytes = Vec<u8>;

fn bytes(parts: &[&[u8]]) -> Bytes {
    parts.concat()
}

fn half(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a length").to_be_bytes()
}

pub(crate) fn ethernet(destination: [u8; 6], ether_type: u16, payload: &[u8]) -> Bytes {
    bytes(&[&destination, &A, &ether_type.to_be_bytes(), payload])
}

/// The type and payload of a packet in a VLAN.
fn tagged(tag: u16, vlan: u16, ether_type: u16, payload: &[u8]) -> (u16, Bytes) {
    (tag, bytes(&[&vlan.to_be_bytes(), &ether_type.to_be_bytes(), payload]))
}

pub(crate) fn ipv4_to(destination: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Bytes {
    let len = half(20 + payload.len());
    let fragment = fragment.to_be_bytes();
    let header = [0x45, 0x10, len[0], len[1], 0x12, 0x34, fragment[0], fragment[1], 64, protocol];
    let mut packet = bytes(&[&header, &[0, 0], &[10, 0, 0, 1], &destination, payload]);
    let sum: u32 =
        packet[..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0xffff);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Bytes {
    ipv4_to([10, 0, 0, 2], protocol, 0, payload)
}

/// An IPv4 packet with options.
fn ipv4_options(protocol: u8, payload: &[u8]) -> Bytes {
    let mut packet = ipv4(protocol, &bytes(&[&[0x94, 4, 0, 0], payload]));
    packet[0] = 0x46;
    packet
}

pub(crate) fn ipv6_to(last: &[u8; 16], next: u8, payload: &[u8]) -> Bytes {
    let len = half(payload.len());
    let header = [0x60, 0, 0, 0, len[0], len[1], next, 255];
    let source = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    bytes(&[&header, &source, last, payload])
}

pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Bytes {
    ipv6_to(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], next, payload)
}

pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Bytes {
    let len = half(8 + payload.len());
    bytes(&[&source.to_be_bytes(), &destination.to_be_bytes(), &len, &[0, 0], payload])
}

pub(crate) fn tcp(
    source: u16,
    destination: u16,
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Bytes {
    let words = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes of options");
    let numbers = [0, 0, 0, 5, 0, 0, 0, 6, words << 4, flags, 0x10, 0, 0x12, 0x34, 0, 0];
    bytes(&[&source.to_be_bytes(), &destination.to_be_bytes(), &numbers, options, payload])
}

/// An IEEE 802.2 frame.
fn llc(destination: [u8; 6], payload: &[u8]) -> Bytes {
    let mut frame = bytes(&[&destination, &A, &half(payload.len()), payload]);
    frame.resize(60, 0);
    frame
}

fn arp(operation: u8, target: [u8; 6]) -> Bytes {
    bytes(&[
        &[0, 1, 8, 0, 6, 4, 0, operation],
        &A,
        &[10, 0, 0, 1],
        &target,
        &[10, 0, 0, 2],
        &[0; 18],
    ])
}

/// A question, and an answer with an address.
fn dns(is_answer: bool) -> Bytes {
    let question = b"\x07example\x03org\x00\x00\x01\x00\x01";
    let answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07";
    if is_answer {
        bytes(&[&[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], question, answer])
    } else {
        bytes(&[&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], question])
    }
}

fn dhcp(operation: u8, kind: u8, address: [u8; 4]) -> Bytes {
    let head = [operation, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 0];
    let options = [0x63, 0x82, 0x53, 0x63, 53, 1, kind, 50, 4, 10, 0, 0, 9, 255];
    bytes(&[&head, &address, &[0; 8], &A, &[0; 10], &[0; 192], &options])
}

fn dhcpv6(kind: u8) -> Bytes {
    vec![kind, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1]
}

fn icmp(kind: u8, code: u8, rest: &[u8]) -> Bytes {
    bytes(&[&[kind, code, 0, 0], rest])
}

fn lldp() -> Bytes {
    bytes(&[&[2, 7, 4], &A, &[4, 5, 5], b"eth0", &[6, 2, 0, 120], &[10, 3], b"sw1", &[0, 0]])
}

fn lacp() -> Bytes {
    let actor = bytes(&[&[1, 20, 0, 1], &A, &[0, 7, 0, 1, 0, 2, 0x3d, 0, 0, 0]]);
    let partner = bytes(&[&[2, 20, 0, 1], &B, &[0, 8, 0, 1, 0, 3, 0x3d, 0, 0, 0]]);
    bytes(&[&[1, 1], &actor, &partner, &[3, 16], &[0; 14], &[0; 52]])
}

fn stp(version: u8, kind: u8, flags: u8) -> Bytes {
    let root = bytes(&[&[0x80, 0], &B]);
    let bridge = bytes(&[&[0x80, 1], &A]);
    let body =
        bytes(&[&root, &[0, 0, 0, 4], &bridge, &[0x80, 2], &[1, 0, 20, 0, 2, 0, 15, 0], &[0]]);
    bytes(&[&[0x42, 0x42, 3, 0, 0, version, kind, flags], &body])
}

/// Returns a frame of each kind.
#[allow(clippy::too_many_lines, reason = "it is a table")]
pub(crate) fn frames() -> Vec<Bytes> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    let v4 = |packet: Bytes| ethernet(B, IPV4, &packet);
    let v6 = |packet: Bytes| ethernet(B, IPV6, &packet);
    let inner = ethernet(B, IPV4, &ipv4(17, &udp(7, 9, b"inside")));
    let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    let web = ipv4(6, &tcp(40_000, 80, 0x18, &[], b"GET / HTTP/1.1\r\n\r\n"));
    let web6 = ipv6(6, &tcp(40_000, 80, 0x18, &[], b"GET / HTTP/1.1\r\n\r\n"));
    let mpls = |ether_type, labels: &[[u8; 4]], packet: &[u8]| {
        ethernet(B, ether_type, &bytes(&[&labels.concat(), packet]))
    };
    let in_vlan = |(ether_type, payload): (u16, Bytes)| ethernet(B, ether_type, &payload);
    let nd = [&[0; 4][..], &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]].concat();
    let mut frames = vec![
        ethernet(ALL, 0x0806, &arp(1, [0; 6])),
        ethernet(B, 0x0806, &arp(2, B)),
        ethernet(ALL, 0x8035, &arp(3, A)),
        v4(ipv4(6, &tcp(40_000, 80, 0x02, &syn, &[]))),
        v4(ipv4(6, &tcp(80, 40_000, 0x12, &syn, &[]))),
        v4(web.clone()),
        v4(ipv4(6, &tcp(40_001, 22, 0x11, &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9], &[]))),
        v4(ipv4(6, &tcp(443, 50_000, 0x14, &[], &[]))),
        v4(ipv4_options(6, &tcp(8080, 9090, 0xf0, &[], &[0; 100]))),
        v4(ipv4(17, &udp(5353, 53, &dns(false)))),
        v4(ipv4(17, &udp(53, 5353, &dns(true)))),
        ethernet(ALL, IPV4, &ipv4_to([255; 4], 17, 0, &udp(68, 67, &dhcp(1, 1, [0; 4])))),
        v4(ipv4(17, &udp(67, 68, &dhcp(2, 5, [10, 0, 0, 9])))),
        v4(ipv4(17, &udp(123, 123, &[0x23; 48]))),
        v4(ipv4(17, &udp(520, 520, &[2, 2, 0, 0]))),
        v4(ipv4(17, &udp(1000, 2000, &[]))),
        v4(ipv4(1, &icmp(8, 0, &[0, 7, 0, 9, 1, 2, 3, 4]))),
        v4(ipv4(1, &icmp(0, 0, &[0, 7, 0, 9, 1, 2, 3, 4]))),
        v4(ipv4(1, &icmp(3, 3, &bytes(&[&[0; 4], &ipv4(17, &udp(5, 6, &[]))])))),
        v4(ipv4(1, &icmp(11, 0, &bytes(&[&[0; 4], &ipv4(17, &udp(5, 6, &[]))])))),
        v4(ipv4(1, &icmp(5, 1, &[10, 0, 0, 254]))),
        v4(ipv4(2, &[0x16, 0, 0, 0, 224, 0, 0, 5])),
        v4(ipv4(132, &bytes(&[&[0x0b, 0x59, 0x0b, 0x5a], &[0; 8], &[1, 0, 0, 4]]))),
        v4(ipv4(89, &[2, 1, 0, 44, 10, 0, 0, 1])),
        v4(ipv4(112, &[0x21, 1, 100, 1, 0, 1, 0, 0, 10, 0, 0, 9])),
        v4(ipv4(50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9])),
        v4(ipv4(
            51,
            &bytes(&[&[6, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], &[0; 12], &tcp(1, 2, 2, &[], &[])]),
        )),
        v4(ipv4(4, &ipv4(6, &tcp(11, 12, 2, &[], &[])))),
        v4(ipv4(41, &web6)),
        v4(ipv4(47, &bytes(&[&[0, 0, 8, 0], &web]))),
        v4(ipv4(47, &bytes(&[&[0, 0, 0x65, 0x58], &inner]))),
        v4(ipv4(47, &bytes(&[&[0x20, 0, 0x86, 0xdd, 0, 0, 0, 42], &web6]))),
        v4(ipv4(
            47,
            &bytes(&[
                &[0x30, 0x81, 0x88, 0x0b],
                &[0, 82, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2],
                &[0xff, 3, 0, 0x21],
                &web,
            ]),
        )),
        v4(ipv4(47, &bytes(&[&[0x20, 1, 0x64, 0, 0, 48, 0, 9], &inner]))),
        v4(ipv4(
            47,
            &bytes(&[&[0x40, 0, 8, 0, 0, 0, 0, 0], &[0, 8, 0, 4, 1, 2, 3, 4], &[0; 4], &web]),
        )),
        v4(ipv4(17, &udp(50_000, 4790, &bytes(&[&[0xc, 0, 0, 3, 0, 0, 43, 0], &inner])))),
        v4(ipv4(17, &udp(50_000, 4790, &bytes(&[&[0xc, 0, 0, 1, 0, 0, 43, 0], &web])))),
        v4(ipv4(17, &udp(50_001, 5355, &dns(false)))),
        v4(ipv4(136, &udp(53, 99, &dns(true)))),
        v4(ipv4_to([10, 0, 0, 2], 4, 0x2000, &ipv4(17, &udp(7, 9, &[1; 20])))),
        v4(ipv4(17, &udp(50_000, 4789, &bytes(&[&[8, 0, 0, 0, 0, 0, 42, 0], &inner])))),
        v4(ipv4(17, &udp(50_000, 6081, &bytes(&[&[0, 0, 0x65, 0x58, 0, 0, 42, 0], &inner])))),
        v4(ipv4_to([10, 0, 0, 2], 17, 0x2000, &udp(7000, 7001, &[1; 24]))),
        v4(ipv4_to([10, 0, 0, 2], 17, 0x0004, &[2; 32])),
        v4(ipv4_to([10, 0, 0, 2], 6, 0x2000, &tcp(7002, 7003, 0x10, &[], &[1; 20]))),
        ethernet([1, 0, 0x5e, 0, 0, 5], IPV4, &ipv4_to([224, 0, 0, 5], 89, 0, &[2, 1, 0, 8])),
        ethernet(ALL, IPV4, &ipv4_to([10, 0, 0, 255], 17, 0, &udp(138, 138, &[0; 20]))),
        v4(ipv4_to([192, 168, 1, 77], 6, 0, &tcp(25, 1025, 0x18, &[], b"220 mail\r\n"))),
        v6(ipv6(58, &icmp(128, 0, &[0, 7, 0, 9]))),
        v6(ipv6(58, &icmp(129, 0, &[0, 7, 0, 9]))),
        v6(ipv6(58, &icmp(135, 0, &nd))),
        v6(ipv6(58, &icmp(136, 0, &nd))),
        v6(ipv6(58, &icmp(133, 0, &[0; 4]))),
        v6(ipv6(58, &icmp(134, 0, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]))),
        v6(ipv6(58, &icmp(2, 0, &bytes(&[&[0, 0, 5, 0], &ipv6(17, &udp(5, 6, &[]))])))),
        v6(web6.clone()),
        v6(ipv6(17, &udp(53, 5353, &dns(true)))),
        v6(ipv6(17, &udp(546, 547, &dhcpv6(1)))),
        v6(ipv6(0, &bytes(&[&[58, 0, 5, 2, 0, 0, 1, 0], &icmp(143, 0, &[0; 4])]))),
        v6(ipv6(60, &bytes(&[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(3, 4, 2, &[], &[])]))),
        v6(ipv6(
            0,
            &bytes(&[
                &[43, 0, 1, 4, 0, 0, 0, 0],
                &[6, 0, 0, 0, 0, 0, 0, 0],
                &tcp(3, 80, 2, &[], &[]),
            ]),
        )),
        v6(ipv6(44, &bytes(&[&[17, 0, 0, 1, 0, 0, 0, 9], &udp(7004, 7005, &[1; 16])]))),
        v6(ipv6(44, &bytes(&[&[17, 0, 0, 0x18, 0, 0, 0, 9], &[1; 16]]))),
        v6(ipv6(132, &bytes(&[&[0x0b, 0x59, 0x0b, 0x5a], &[0; 8], &[1, 0, 0, 4]]))),
        ethernet(
            [0x33, 0x33, 0, 0, 0, 1],
            IPV6,
            &ipv6_to(
                &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                17,
                &udp(5353, 5353, &dns(false)),
            ),
        ),
        in_vlan(tagged(0x8100, 5, IPV4, &web)),
        in_vlan(tagged(0x8100, 0xa006, IPV6, &web6)),
        in_vlan(tagged(0x8100, 7, 0x0806, &arp(1, [0; 6]))),
        in_vlan({
            let (ether_type, payload) = tagged(0x8100, 5, IPV4, &web);
            tagged(0x88a8, 100, ether_type, &payload)
        }),
        in_vlan({
            let (ether_type, payload) =
                tagged(0x8100, 6, IPV4, &ipv4(17, &udp(53, 99, &dns(true))));
            tagged(0x8100, 101, ether_type, &payload)
        }),
        in_vlan(tagged(0x9100, 8, IPV4, &web)),
        mpls(0x8847, &[[0, 6, 0x41, 64]], &web),
        mpls(0x8847, &[[0, 6, 0x40, 64], [0, 7, 0xd1, 63]], &web6),
        mpls(0x8848, &[[0, 0, 0x11, 64]], &web),
        ethernet(ALL, 0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]),
        ethernet(B, 0x8864, &bytes(&[&[0x11, 0, 0, 7], &half(2 + web.len()), &[0, 0x21], &web])),
        ethernet(B, 0x8864, &bytes(&[&[0x11, 0, 0, 8], &half(2 + web6.len()), &[0, 0x57], &web6])),
        ethernet(B, 0x8864, &[0x11, 0, 0, 7, 0, 6, 0xc0, 0x21, 9, 1, 0, 4]),
        ethernet([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, &lldp()),
        ethernet([1, 0x80, 0xc2, 0, 0, 2], 0x8809, &lacp()),
        ethernet([1, 0x80, 0xc2, 0, 0, 1], 0x8808, &[0, 1, 0, 9]),
        llc([1, 0x80, 0xc2, 0, 0, 0], &stp(0, 0, 1)),
        llc([1, 0x80, 0xc2, 0, 0, 0], &stp(2, 2, 0x3c)),
        llc([1, 0x80, 0xc2, 0, 0, 0], &[0x42, 0x42, 3, 0, 0, 0, 0x80]),
        llc([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, 2, 180, 0, 0]),
        llc(B, &[0xfe, 0xfe, 3, 0x83, 27, 1, 0, 17, 1, 0, 0]),
        llc(B, &[0xff, 0xff, 0, 30]),
        llc(B, &bytes(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ipv4(17, &udp(1, 2, &[]))])),
        llc(B, &[0xf0, 0xf0, 0x7f]),
        ethernet(B, 0x88b5, b"local experiment"),
        ethernet(B, 0x9000, &[0, 0, 1, 0, 0, 0]),
        ethernet(B, 0x888e, &[1, 1, 0, 0]),
        ethernet(B, 0x88e5, &[0x2c, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 1]),
        ethernet([0xab, 0, 0, 3, 0, 0], 0x6004, &[1, 2, 3]),
        ethernet([0xcf, 0, 0, 0, 0, 0], 0x809b, &[1, 2, 3]),
        ethernet(B, IPV4, &[]),
        ethernet(B, IPV6, &[0x60, 0, 0]),
        ethernet(B, 0x8100, &[0]),
        ethernet(B, 0x8847, &[0, 1]),
        ethernet(B, 0x8864, &[0x11]),
        ethernet(B, IPV4, &web[..30]),
        ethernet(B, IPV4, &ipv4(17, &[0, 53])),
        ethernet(B, IPV4, &[&[0x4f][..], &web[1..]].concat()),
        v4(ipv4(17, &udp(9, 9, &[0xa5; 1400]))),
    ];
    // As others answer.
    let turned: Vec<_> = frames
        .iter()
        .filter(|frame| frame[0] & 1 == 0)
        .map(|frame| [&frame[6..12], &frame[..6], &frame[12..]].concat())
        .collect();
    frames.extend(turned);
    frames
}
