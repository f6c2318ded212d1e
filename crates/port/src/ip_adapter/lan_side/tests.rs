use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use neighbor::{arp, ndisc};
use smoltcp::wire::IpProtocol;

use super::*;
use crate::keys::Keys;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const HOST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const GROUP_BIT: u8 = 1;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn lan(keys: &str) -> LanSide {
    let keys = Keys::parse("test", &["ip", "gateway"], keys).expect("pairs");
    let mut lan = LanSide::new(IpPeer::from_keys(&keys).expect("valid"));
    lan.attach(MAC, 1_514, Instant::now());
    lan
}

fn frames(lan: &mut LanSide) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    lan.drain_frames(&mut |frame| frames.push(frame.to_vec()));
    frames
}

/// A port whose peer's addresses are claimed, and the time.
fn claimed(keys: &str) -> (LanSide, Instant) {
    let (mut lan, mut now) = (lan(keys), Instant::now());
    lan.set_up(true, now);
    while lan.is_tentative() {
        lan.service(now);
        now += Duration::from_millis(10);
    }
    frames(&mut lan);
    (lan, now)
}

const BOTH: &str = "ip=10.0.0.2/24,fd00::2/64,gateway=10.0.0.1,fe80::1";

/// A frame with a packet.
fn framed(to: EthernetAddress, from: &str, destination: &str) -> Vec<u8> {
    frame::ip((HOST, to), (ip(from), ip(destination)), IpProtocol::Udp, 64, 8)
}

fn packet(from: &str, destination: &str) -> Vec<u8> {
    framed(MAC, from, destination)[ETHERNET_HEADER..].to_vec()
}

#[test]
fn the_peers_addresses_are_asked_about_announced_and_answered_for() {
    let (mut lan, mut now) = (lan(BOTH), Instant::now());
    assert_eq!(lan.due(), None, "there is no peer");
    lan.set_up(true, now);
    lan.service(now);
    let link_local = "fe80::ff:fe00:1";
    let probes = [
        arp::probe(PEER, MAC),
        ndisc::probe(v6("fd00::2"), MAC),
        ndisc::probe(v6(link_local), MAC),
    ];
    assert_eq!(frames(&mut lan), probes);
    let question = arp::request((NEAR, HOST), PEER);
    assert_eq!(lan.take_frame(&question, now), FromBus::NotForPeer);
    assert!(!lan.has_frames(), "the port does not know yet");
    while lan.is_tentative() {
        now = lan.due().expect("it continues");
        lan.service(now);
    }
    let announced = frames(&mut lan);
    assert!(announced.contains(&arp::announcement(PEER, MAC)));
    assert!(announced.contains(&ndisc::announcement(v6("fd00::2"), MAC)));
    lan.take_frame(&question, now);
    assert_eq!(frames(&mut lan), [arp::reply((PEER, MAC), (NEAR, HOST))]);
    lan.take_frame(&ndisc::solicitation((v6("fd00::9"), HOST), v6("fd00::2")), now);
    let answer = ndisc::advertisement((v6("fd00::2"), MAC), (v6("fd00::9"), HOST));
    assert_eq!(frames(&mut lan), [answer]);
    lan.take_frame(&arp::request((NEAR, HOST), Ipv4Addr::new(10, 0, 0, 3)), now);
    lan.take_frame(&ndisc::solicitation((v6("fd00::9"), HOST), v6("fd00::3")), now);
    assert!(!lan.has_frames(), "not for others");
    lan.set_up(false, now);
    lan.take_frame(&arp::request((NEAR, HOST), PEER), now);
    assert_eq!(lan.due(), None);
}

#[test]
fn nothing_of_the_peer_passes_while_another_has_its_address() {
    let (mut lan, mut now) = (lan(BOTH), Instant::now());
    lan.set_up(true, now);
    lan.service(now);
    lan.take_frame(&arp::reply((PEER, HOST), (Ipv4Addr::UNSPECIFIED, MAC)), now);
    let conflict = loop {
        if let Some(conflict) = lan.next_conflict() {
            break conflict;
        }
        now = lan.due().expect("it decides");
        lan.service(now);
    };
    assert_eq!((conflict.address, conflict.mac), (PEER.into(), HOST.0));
    assert!(lan.is_tentative());
    // The other leaves.
    while lan.is_tentative() {
        now = lan.due().expect("it asks again");
        lan.service(now);
    }
}

#[test]
fn a_packet_waits_for_its_station_and_the_next_does_not() {
    for (own, near) in [("10.0.0.2", "10.0.0.9"), ("fd00::2", "fd00::9")] {
        let (mut lan, now) = claimed(BOTH);
        let bytes = packet(own, near);
        assert_eq!(lan.take_packet(&bytes, now), FromPeer::Wait { dropped: 0 });
        lan.service(now);
        let (question, answer) = match (ip(own), ip(near)) {
            (IpAddr::V4(own), IpAddr::V4(near)) => {
                (arp::request((own, MAC), near), arp::reply((near, HOST), (own, MAC)))
            }
            (IpAddr::V6(own), IpAddr::V6(near)) => (
                ndisc::solicitation((own, MAC), near),
                ndisc::advertisement((near, HOST), (own, MAC)),
            ),
            _ => unreachable!("of one family"),
        };
        assert_eq!(frames(&mut lan), [question]);
        lan.take_frame(&answer, now);
        let mut expected = framed(HOST, own, near);
        expected[6..12].copy_from_slice(&MAC.0);
        assert_eq!(frames(&mut lan), [expected.clone()]);
        for _ in 0..2 {
            let FromPeer::Send(header, len) = lan.take_packet(&bytes, now) else { panic!("known") };
            assert_eq!([&header[..], &bytes[..len]].concat(), expected);
        }
    }
}

#[test]
fn other_networks_are_behind_the_router() {
    let (mut lan, now) = claimed(BOTH);
    lan.take_packet(&packet("10.0.0.2", "192.0.2.1"), now);
    lan.take_packet(&packet("fd00::2", "2001:db8::1"), now);
    // From a network behind the peer, too.
    lan.take_packet(&packet("172.16.0.1", "192.0.2.1"), now);
    lan.service(now);
    let questions = frames(&mut lan);
    assert_eq!(questions.len(), 2, "one for each router");
    assert!(questions.contains(&arp::request((PEER, MAC), Ipv4Addr::new(10, 0, 0, 1))));
    let own = v6("fe80::ff:fe00:1");
    assert!(questions.contains(&ndisc::solicitation((own, MAC), v6("fe80::1"))));
    lan.take_frame(&arp::reply((Ipv4Addr::new(10, 0, 0, 1), HOST), (PEER, MAC)), now);
    assert_eq!(frames(&mut lan).len(), 2);
    let (mut lan, now) = claimed("ip=10.0.0.2/24");
    let to = ip("192.0.2.1");
    let dropped = FromPeer::Drop(Reason::NoRoute(to));
    assert_eq!(lan.take_packet(&packet("10.0.0.2", "192.0.2.1"), now), dropped);
}

/// What becomes of a packet, in the plainest words.
fn model(from: IpAddr, to: IpAddr) -> Result<Option<EthernetAddress>, &'static str> {
    let is_own = |address: IpAddr| address == ip("10.0.0.2") || address == ip("fd00::2");
    let is_near = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[..3] == [10, 0, 0],
        IpAddr::V6(address) => {
            let [first, second, third, fourth, ..] = address.segments();
            [first, second, third, fourth] == [0xfd00, 0, 0, 0]
                || [first, second, third, fourth] == [0xfe80, 0, 0, 0]
        }
    };
    let is_single = |address: IpAddr| {
        !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
            && address != ip("255.255.255.255")
            && address != ip("10.0.0.255")
    };
    if !is_own(from) && (!is_single(from) || is_near(from)) {
        return Err("source");
    }
    match to {
        IpAddr::V4(group) if group.is_multicast() => {
            let [_, a, b, c] = group.octets();
            return Ok(Some(EthernetAddress([1, 0, 0x5e, a & 0x7f, b, c])));
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let [.., a, b, c, d] = group.octets();
            return Ok(Some(EthernetAddress([0x33, 0x33, a, b, c, d])));
        }
        _ if to == ip("255.255.255.255") || to == ip("10.0.0.255") => {
            return Ok(Some(EthernetAddress::BROADCAST));
        }
        _ if is_own(to) || !is_single(to) => return Err("destination"),
        _ => {}
    }
    let is_link_local = match to {
        IpAddr::V4(to) => to.is_link_local(),
        IpAddr::V6(to) => to.is_unicast_link_local() && !is_near(to.into()),
    };
    if is_link_local { Err("route") } else { Ok(None) }
}

#[test]
fn packets_get_the_header_of_the_plainest_model() {
    let pools = [
        [
            "10.0.0.2",
            "10.0.0.9",
            "10.0.0.255",
            "255.255.255.255",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.251",
            "239.200.3.4",
            "192.0.2.1",
            "169.254.7.7",
            "10.0.1.2",
        ],
        [
            "fd00::2",
            "fd00::9",
            "::",
            "::1",
            "ff02::fb",
            "ff05::1:3",
            "2001:db8::1",
            "fe80::9",
            "fe80:1::9",
            "fd00:1::2",
            "fd00::ffff",
        ],
    ];
    for pool in pools {
        for (from, to) in pool.iter().flat_map(|from| pool.iter().map(move |to| (from, to))) {
            let (mut lan, now) = claimed(BOTH);
            let fate = lan.take_packet(&packet(from, to), now);
            let right = model(ip(from), ip(to));
            let matches = match (fate, right) {
                (FromPeer::Send(header, _), Ok(Some(group))) => header[..6] == group.0,
                (FromPeer::Wait { dropped: 0 }, Ok(None))
                | (FromPeer::Drop(Reason::Source(_)), Err("source"))
                | (FromPeer::Drop(Reason::Destination(_)), Err("destination"))
                | (FromPeer::Drop(Reason::NoRoute(_)), Err("route")) => true,
                _ => false,
            };
            assert!(matches, "{from} to {to}: {fate:?}, and not {right:?}");
        }
    }
}

#[test]
fn the_peer_gets_what_is_for_it_and_for_groups() {
    let (mut lan, now) = claimed(BOTH);
    let other = EthernetAddress([2, 0, 0, 0, 0, 7]);
    let group = EthernetAddress([1, 0, 0x5e, 0, 0, 0xfb]);
    for (to, destination, is_for_peer) in [
        (MAC, "10.0.0.2", true),
        (MAC, "fd00::2", true),
        (MAC, "172.16.0.1", true),
        (MAC, "fe80::ff:fe00:1", false),
        (other, "10.0.0.2", false),
        (group, "224.0.0.251", true),
        (EthernetAddress::BROADCAST, "255.255.255.255", true),
        (EthernetAddress::BROADCAST, "10.0.0.255", true),
        (EthernetAddress::BROADCAST, "10.0.0.2", true),
        (EthernetAddress::BROADCAST, "172.16.0.1", false),
        (EthernetAddress([0x33, 0x33, 0, 0, 0, 0xfb]), "ff02::fb", true),
    ] {
        let from = if destination.contains(':') { "fd00::9" } else { "10.0.0.9" };
        let mut frame = framed(to, from, destination);
        let len = frame.len() - ETHERNET_HEADER;
        // Padding stays behind.
        frame.extend([0; 20]);
        let right = if is_for_peer { FromBus::Packet(len) } else { FromBus::NotForPeer };
        assert_eq!(lan.take_frame(&frame, now), right, "{destination} at {to}");
    }
    let mut damaged = framed(MAC, "10.0.0.9", "10.0.0.2");
    damaged[17] = 0xff;
    assert_eq!(lan.take_frame(&damaged, now), FromBus::Damaged);
    let lldp = [&[1, 0x80, 0xc2, 0, 0, 0xe][..], &HOST.0, &[0x88, 0xcc], &[0; 46]].concat();
    assert_eq!(lldp[0] & GROUP_BIT, GROUP_BIT);
    assert_eq!(lan.take_frame(&lldp, now), FromBus::NotForPeer);
}

#[test]
fn what_is_of_ethernet_stays_there() {
    let (mut lan, now) = claimed(BOTH);
    let question = ndisc::solicitation((v6("fd00::2"), MAC), v6("fd00::9"));
    let fate = lan.take_packet(&question[ETHERNET_HEADER..], now);
    assert_eq!(fate, FromPeer::Drop(Reason::Discovery));
    let mut long = packet("10.0.0.2", "10.0.0.9");
    long.resize(1_501, 0);
    long[2..4].copy_from_slice(&1_501_u16.to_be_bytes());
    assert_eq!(lan.take_packet(&long, now), FromPeer::Drop(Reason::TooLong));
    assert_eq!(lan.take_packet(b"no packet", now), FromPeer::Drop(Reason::NoPacket));
}

/// Two such ports on one bus whose peers are each other are a loop in which no hop counts.
#[test]
fn a_packet_does_not_go_round() {
    let (mut left, now) = claimed("ip=10.0.0.2/24");
    let (mut right, _) = claimed("ip=10.0.0.3/24");
    let frame = framed(MAC, "10.0.0.9", "10.0.0.2");
    let FromBus::Packet(len) = left.take_frame(&frame, now) else { panic!("it is for the peer") };
    let fate = right.take_packet(&frame[ETHERNET_HEADER..][..len], now);
    assert_eq!(fate, FromPeer::Drop(Reason::Source(NEAR.into())));
}

/// A packet of 2,000 bytes.
fn long_packet(from: &str, destination: &str, protocol: IpProtocol) -> Vec<u8> {
    let header = if ip(from).is_ipv4() { 20 } else { 40 };
    let ends = (ip(from), ip(destination));
    frame::ip((HOST, MAC), ends, protocol, 64, 2_000 - header)[ETHERNET_HEADER..].to_vec()
}

#[test]
fn a_peer_learns_how_long_packets_may_be() {
    let (mut lan, now) = claimed(BOTH);
    let mut packet = long_packet("10.0.0.2", "10.0.0.9", IpProtocol::Udp);
    assert_eq!(lan.take_packet(&packet, now), FromPeer::Drop(Reason::TooLong));
    assert!(lan.take_messages().is_empty(), "it may be cut");
    packet[6] = 0x40;
    assert_eq!(lan.take_packet(&packet, now), FromPeer::Drop(Reason::TooLong));
    let [message] = &lan.take_messages()[..] else { panic!("a message") };
    let read = Packet::read(message).expect("whole");
    assert_eq!((read.source, read.destination), (ip("10.0.0.9"), ip("10.0.0.2")));
    assert_eq!((message.len(), &message[20..22]), (576, &[3, 4][..]));
    assert_eq!((&message[24..28], &message[28..]), (&[0, 0, 5, 220][..], &packet[..548]));
    assert!(frame::is_icmp_checksum_good(&message[20..], read.source, read.destination));

    // Through a router, too.
    let packet = long_packet("fd00::2", "2001:db8::9", IpProtocol::Tcp);
    assert_eq!(lan.take_packet(&packet, now), FromPeer::Drop(Reason::TooLong));
    let [message] = &lan.take_messages()[..] else { panic!("a message") };
    let read = Packet::read(message).expect("whole");
    assert_eq!((read.source, read.destination), (ip("2001:db8::9"), ip("fd00::2")));
    assert_eq!((message.len(), &message[40..42]), (1_280, &[2, 0][..]));
    assert_eq!((&message[44..48], &message[48..]), (&[0, 0, 5, 220][..], &packet[..1_232]));
    assert!(frame::is_icmp_checksum_good(&message[40..], read.source, read.destination));
}

#[test]
fn no_message_answers_a_message_a_group_a_forged_source_or_a_flood() {
    let (mut lan, now) = claimed(BOTH);
    let whole = long_packet("10.0.0.2", "10.0.0.9", IpProtocol::Icmp);
    let with = |at: usize, value: u8| {
        let mut packet = whole.clone();
        (packet[6], packet[20]) = (0x40, 8);
        packet[at] = value;
        packet
    };
    let mut error = long_packet("fd00::2", "fd00::9", IpProtocol::Icmpv6);
    error[40] = 1;
    let silent = [
        with(20, 3),
        with(20, 11),
        with(7, 1),
        with(6, 0x41),
        with(19, 255),
        with(16, 239),
        with(15, 9),
        error,
        long_packet("fd00::2", "ff02::1", IpProtocol::Udp),
        long_packet("fd00::9", "fd00::8", IpProtocol::Udp),
    ];
    for packet in &silent {
        assert_eq!(lan.take_packet(packet, now), FromPeer::Drop(Reason::TooLong));
        assert!(lan.take_messages().is_empty(), "{packet:?}");
    }
    let mut flood = |now| {
        for _ in 0..100 {
            assert_eq!(lan.take_packet(&with(20, 8), now), FromPeer::Drop(Reason::TooLong));
        }
        lan.take_messages().len()
    };
    assert_eq!(flood(now), 32);
    assert_eq!(flood(now + Duration::from_millis(999)), 0);
    assert_eq!(flood(now + Duration::from_secs(1)), 32);
}
