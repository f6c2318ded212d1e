//! What a host does as a neighbor, frame by frame: a station on the same bus sends frames by hand and
//! reads what the host sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use iphost::{AddressConflict, BusNic, PingEvent, PingPlan, Pinger, Services, Stack, TcpSource};
use shmbus::{Burst, Bus, Station, StationOptions};
use smoltcp::wire::{IpProtocol, UdpPacket, checksum};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(30);

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
const ALL: [u8; 6] = [0xff; 6];
const ETHERNET: usize = 14;

/// A host with services, and a station beside it.
struct Lab {
    _folder: TempDir,
    host: Stack<BusNic<Station>>,
    services: Services,
    mac: [u8; 6],
    peer: Station,
    peer_mac: [u8; 6],
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let join = || {
            let bus = Bus::open_or_create(&path, 0o600).unwrap();
            Station::join(bus, StationOptions::new()).unwrap()
        };
        let mut peer = join();
        peer.set_promiscuous(true);
        let station = join();
        let mac = station.mac().into_array();
        let addresses = ["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        let mut host = Stack::new(BusNic::new(station), &addresses);
        let services = Services::open(host.sockets(), None);
        let peer_mac = peer.mac().into_array();
        Self { _folder: folder, host, services, mac, peer, peer_mac }
    }

    /// A lab whose host knows the peer in both families.
    fn acquainted() -> Self {
        let mut lab = Self::new();
        lab.send(&lab.arp(1, ALL, PEER, HOST));
        lab.send(&lab.solicitation(PEER6));
        lab.answers(LIMIT, |frames| frames.len() == 2);
        lab
    }

    fn send(&mut self, frame: &[u8]) {
        self.peer.send_burst([frame]).unwrap();
    }

    /// Runs the host until what it has sent satisfies `enough`, or for `time`. Returns the frames.
    fn answers(&mut self, time: Duration, enough: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
        let begin = Instant::now();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut burst = Burst::new(64);
        while begin.elapsed() < time && !enough(&frames) {
            self.host.poll(&mut |sockets| self.services.accept(sockets)).unwrap();
            self.host.serve(&mut self.services, &mut |_| {});
            self.peer.recv_burst(&mut burst);
            frames.extend(burst.iter().map(|frame| frame.bytes.to_vec()));
        }
        frames
    }

    /// Sends a frame and returns the answer to it.
    fn ask(&mut self, frame: &[u8]) -> Vec<u8> {
        self.send(frame);
        let mut frames = self.answers(LIMIT, |frames| !frames.is_empty());
        assert_eq!(frames.len(), 1, "{frames:02x?}");
        frames.remove(0)
    }

    fn assert_silent(&mut self, frame: &[u8], why: &str) {
        self.send(frame);
        let frames = self.answers(SILENCE, |frames| !frames.is_empty());
        assert!(frames.is_empty(), "{why}: {frames:02x?}");
    }

    fn ethernet(&self, to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
        [&to[..], &self.peer_mac, &kind.to_be_bytes(), payload].concat()
    }

    fn arp(&self, operation: u8, to: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let head = [0, 1, 8, 0, 6, 4, 0, operation];
        let sender = sender.octets();
        let rest = [&self.peer_mac[..], &sender, &[0; 6], &target.octets()].concat();
        self.ethernet(to, 0x0806, &[&head[..], &rest].concat())
    }

    fn v4(&self, to: [u8; 6], ends: (Ipv4Addr, Ipv4Addr), protocol: u8, data: &[u8]) -> Vec<u8> {
        self.v4_fragment(to, ends, protocol, data, 0)
    }

    /// `place` is the offset in units of 8 bytes, with the flags.
    fn v4_fragment(
        &self,
        to: [u8; 6],
        (from, dest): (Ipv4Addr, Ipv4Addr),
        protocol: u8,
        data: &[u8],
        place: u16,
    ) -> Vec<u8> {
        let len = u16::try_from(20 + data.len()).unwrap().to_be_bytes();
        let [high, low] = place.to_be_bytes();
        let mut packet = vec![0x45, 0, len[0], len[1], 0, 9, high, low, 64, protocol, 0, 0];
        packet.extend(from.octets());
        packet.extend(dest.octets());
        let sum = !checksum::data(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(data);
        self.ethernet(to, 0x0800, &packet)
    }

    fn v6(
        &self,
        to: [u8; 6],
        (from, dest): (Ipv6Addr, Ipv6Addr),
        next: u8,
        hops: u8,
        data: &[u8],
    ) -> Vec<u8> {
        let len = u16::try_from(data.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next, hops];
        packet.extend(from.octets());
        packet.extend(dest.octets());
        packet.extend(data);
        self.ethernet(to, 0x86dd, &packet)
    }

    /// A solicitation for the host's address. One from the unspecified address is a probe.
    fn solicitation(&self, from: Ipv6Addr) -> Vec<u8> {
        let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(HOST6.octets());
        if !from.is_unspecified() {
            message.extend([1, 1]);
            message.extend(self.peer_mac);
        }
        let message = summed_v6(message, (from, group), IpProtocol::Icmpv6, 2);
        self.v6([0x33, 0x33, 0xff, 0, 0, 1], (from, group), 58, 255, &message)
    }
}

fn echo_v4(data: &[u8]) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0, 5, 0, 9], data].concat();
    let sum = !checksum::data(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn echo_v6(to: Ipv6Addr, data: &[u8]) -> Vec<u8> {
    let message = [&[128, 0, 0, 0, 0, 5, 0, 9], data].concat();
    summed_v6(message, (PEER6, to), IpProtocol::Icmpv6, 2)
}

/// Fills in the checksum at `at`.
fn summed_v6(
    mut message: Vec<u8>,
    (from, to): (Ipv6Addr, Ipv6Addr),
    protocol: IpProtocol,
    at: usize,
) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    let pseudo = checksum::pseudo_header_v6(&from, &to, protocol, len);
    let sum = !checksum::combine(&[pseudo, checksum::data(&message)]);
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    message
}

fn udp(ends: (IpAddr, IpAddr), port: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8 + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut datagram[..]);
    packet.set_src_port(4444);
    packet.set_dst_port(port);
    packet.set_len(u16::try_from(8 + data.len()).unwrap());
    packet.payload_mut().copy_from_slice(data);
    packet.fill_checksum(&ends.0.into(), &ends.1.into());
    datagram
}

fn kind(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

/// Puts the fragments of an IPv4 packet together, which come in order.
fn whole_v4(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| &frame[ETHERNET + 20..]).copied().collect()
}

fn whole_v6(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| &frame[ETHERNET + 48..]).copied().collect()
}

#[test]
fn probes_for_its_address_are_answered() {
    let mut lab = Lab::new();
    for padding in [0, 18] {
        let probe = lab.arp(1, ALL, Ipv4Addr::UNSPECIFIED, HOST);
        let reply = lab.ask(&[&probe[..], &vec![0; padding]].concat());
        assert_eq!(reply[..6], lab.peer_mac);
        assert_eq!((kind(&reply), reply[21], &reply[28..32]), (0x0806, 2, &HOST.octets()[..]));
    }
    let advert = lab.ask(&lab.solicitation(Ipv6Addr::UNSPECIFIED));
    assert_eq!(advert[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        advert[ETHERNET + 24..ETHERNET + 40],
        "ff02::1".parse::<Ipv6Addr>().unwrap().octets()
    );
    let message = &advert[ETHERNET + 40..];
    assert_eq!((message[0], message[4]), (136, 0x20), "not solicited, override");
    assert_eq!(message[24..], [&[2, 1][..], &lab.mac].concat());
    let advert = lab.ask(&lab.solicitation(PEER6));
    assert_eq!((&advert[..6], advert[ETHERNET + 44]), (&lab.peer_mac[..], 0x60));
    let foreign = lab.arp(1, ALL, Ipv4Addr::new(192, 168, 9, 9), HOST);
    assert_eq!(lab.ask(&foreign)[21], 2);
    let other = lab.arp(1, ALL, PEER, Ipv4Addr::new(10, 0, 0, 2));
    lab.assert_silent(&other, "another's address");
}

#[test]
fn a_host_asks_for_its_addresses_and_announces_them() {
    let mut lab = Lab::new();
    lab.host.claim_addresses();
    assert!(lab.host.is_claiming());
    let is_announced = |frames: &[Vec<u8>]| {
        let announced = |frame: &&Vec<u8>| frame.get(ETHERNET + 40) == Some(&136);
        frames.iter().filter(announced).count() == 2
    };
    let frames = lab.answers(LIMIT, is_announced);
    assert!(!lab.host.is_claiming());
    let arps: Vec<_> = frames.iter().filter(|frame| kind(frame) == 0x0806).collect();
    let senders: Vec<_> = arps.iter().map(|arp| arp[28..32].to_vec()).collect();
    let [none, own] = [vec![0; 4], HOST.octets().to_vec()];
    assert_eq!(senders, [none.clone(), none, own.clone()]);
    assert!(arps.iter().all(|arp| arp[38..42] == own && arp[..6] == ALL && arp[22..28] == lab.mac));
    let adverts: Vec<_> =
        frames.iter().filter(|frame| frame.get(ETHERNET + 40) == Some(&136)).collect();
    // The link-local address is one, too.
    assert!(adverts.iter().all(|advert| advert[ETHERNET + 44] == 0x20), "unsolicited, override");
    assert_eq!(lab.host.next_conflict(), None);
}

#[test]
fn an_address_of_another_is_noticed_before_and_after() {
    let mut lab = Lab::new();
    lab.host.claim_addresses();
    lab.answers(LIMIT, |frames| !frames.is_empty());
    lab.send(&lab.arp(2, lab.mac, HOST, Ipv4Addr::UNSPECIFIED));
    let mut conflict = None;
    let noticed = |lab: &mut Lab, conflict: &mut Option<AddressConflict>| {
        let begin = Instant::now();
        while conflict.is_none() && begin.elapsed() < LIMIT {
            lab.answers(Duration::from_millis(1), |_| false);
            *conflict = lab.host.next_conflict();
        }
    };
    noticed(&mut lab, &mut conflict);
    assert!(
        conflict.is_some_and(|conflict| conflict.address == HOST && conflict.mac == lab.peer_mac)
    );
    assert!(lab.host.is_claiming(), "it is the other's");

    let mut lab = Lab::new();
    lab.host.claim_addresses();
    while lab.host.is_claiming() {
        lab.answers(Duration::from_millis(1), |_| false);
    }
    lab.answers(SILENCE, |_| false);
    let claim = lab.arp(1, ALL, HOST, HOST);
    let defence = lab.ask(&claim);
    assert_eq!((&defence[28..32], &defence[38..42]), (&HOST.octets()[..], &HOST.octets()[..]));
    assert_eq!(defence[22..28], lab.mac);
    lab.assert_silent(&claim, "a second defence at once");
    let mut conflict = None;
    noticed(&mut lab, &mut conflict);
    assert!(conflict.is_some_and(|conflict| conflict.address == HOST));
    assert_eq!(lab.host.next_conflict(), None, "once for each");

    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let mut advert = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    advert.extend(HOST6.octets());
    advert.extend([2, 1]);
    advert.extend(lab.peer_mac);
    let advert = summed_v6(advert, (HOST6, group), IpProtocol::Icmpv6, 2);
    let claim = lab.v6([0x33, 0x33, 0, 0, 0, 1], (HOST6, group), 58, 255, &advert);
    let defence = lab.ask(&claim);
    assert_eq!((defence[ETHERNET + 40], &defence[6..12]), (136, &lab.mac[..]));
    let mut conflict = None;
    noticed(&mut lab, &mut conflict);
    assert!(conflict.is_some_and(|conflict| conflict.address == HOST6));
}

#[test]
fn the_first_packet_of_an_unknown_host_is_answered() {
    let mut lab = Lab::new();
    let echo = lab.v4(lab.mac, (PEER, HOST), 1, &echo_v4(b"first"));
    let question = lab.ask(&echo);
    assert_eq!((kind(&question), question[21], &question[38..42]), (0x0806, 1, &PEER.octets()[..]));
    let reply = lab.ask(&lab.arp(2, lab.mac, PEER, HOST));
    assert_eq!((reply[ETHERNET + 20], &reply[ETHERNET + 28..]), (0, &b"first"[..]));

    let echo = lab.v6(lab.mac, (PEER6, HOST6), 58, 64, &echo_v6(HOST6, b"first"));
    let question = lab.ask(&echo);
    assert_eq!(question[ETHERNET + 40], 135);
    let mut advert = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    advert.extend(PEER6.octets());
    advert.extend([2, 1]);
    advert.extend(lab.peer_mac);
    let advert = summed_v6(advert, (PEER6, HOST6), IpProtocol::Icmpv6, 2);
    let reply = lab.ask(&lab.v6(lab.mac, (PEER6, HOST6), 58, 255, &advert));
    assert_eq!((reply[ETHERNET + 40], &reply[ETHERNET + 48..]), (129, &b"first"[..]));
}

#[test]
fn long_packets_come_and_go_in_fragments() {
    let mut lab = Lab::acquainted();
    let data: Vec<u8> = (0..=250).cycle().take(3_000).collect();
    let udp4 = udp((PEER.into(), HOST.into()), 7, &data);
    for message in [echo_v4(&data), udp4] {
        let protocol = if message[0] == 8 { 1 } else { 17 };
        let pieces: Vec<_> = message.chunks(1_480).collect();
        for (index, piece) in pieces.iter().enumerate().rev() {
            let more = if index + 1 < pieces.len() { 0x2000 } else { 0 };
            let place = u16::try_from(index * 1_480 / 8).unwrap() | more;
            lab.send(&lab.v4_fragment(lab.mac, (PEER, HOST), protocol, piece, place));
        }
        let frames = lab.answers(LIMIT, |frames| frames.len() == 3);
        assert!(frames.iter().all(|frame| frame.len() <= 1_514));
        assert_eq!(whole_v4(&frames)[8..], data);
    }
    let udp6 = udp((PEER6.into(), HOST6.into()), 7, &data);
    for (message, next) in [(echo_v6(HOST6, &data), 58), (udp6, 17)] {
        let pieces: Vec<_> = message.chunks(1_448).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let more = u16::from(index + 1 < pieces.len());
            let place = (u16::try_from(index * 1_448).unwrap() | more).to_be_bytes();
            let header = [next, 0, place[0], place[1], 0, 0, 0, next];
            let fragment = [&header[..], piece].concat();
            lab.send(&lab.v6(lab.mac, (PEER6, HOST6), 44, 64, &fragment));
        }
        let frames = lab.answers(LIMIT, |frames| frames.len() == 3);
        assert!(frames.iter().all(|frame| frame.len() <= 1_514 && frame[ETHERNET + 6] == 44));
        assert_eq!(whole_v6(&frames)[8..], data);
    }
}

#[test]
fn every_packet_has_the_hop_limit_that_routers_want() {
    let mut lab = Lab::acquainted();
    lab.host.accept_router_advertisements();
    let router: Ipv6Addr = "fe80::99".parse().unwrap();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let advert = |hops: u8| {
        let message = vec![134, 0, 0, 0, hops, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        summed_v6(message, (router, all), IpProtocol::Icmpv6, 2)
    };
    // A forged one with a hop limit of 1 is ignored.
    for hops in [61, 1] {
        lab.send(&lab.v6([0x33, 0x33, 0, 0, 0, 1], (router, all), 58, 255, &advert(hops)));
        lab.answers(SILENCE, |_| false);
    }
    let long = udp((PEER6.into(), HOST6.into()), 7, &[7; 1_400]);
    let ping = echo_v6(HOST6, &[7; 100]);
    let ping_all = echo_v6(all, &[7; 100]);
    let group = [0x33, 0x33, 0, 0, 0, 1];
    for (frame, what) in [
        (lab.v6(lab.mac, (PEER6, HOST6), 58, 64, &ping), "an echo reply"),
        (lab.v6(group, (PEER6, all), 58, 64, &ping_all), "one to a group"),
        (lab.v6(lab.mac, (PEER6, HOST6), 17, 64, &long), "a datagram"),
    ] {
        let reply = lab.ask(&frame);
        assert_eq!((kind(&reply), reply[ETHERNET + 7]), (0x86dd, 61), "{what}");
    }
    // The answer has two fragments, as the question has.
    let datagram = udp((PEER6.into(), HOST6.into()), 7, &[7; 2_000]);
    let (first, second) = datagram.split_at(1_400);
    for (piece, place) in [(first, 1_u16), (second, 1_400)] {
        let [high, low] = place.to_be_bytes();
        let fragment = [&[17, 0, high, low, 0, 0, 0, 5], piece].concat();
        lab.send(&lab.v6(lab.mac, (PEER6, HOST6), 44, 64, &fragment));
    }
    let fragments = lab.answers(LIMIT, |frames| frames.len() == 2);
    assert!(fragments.iter().all(|frame| frame[ETHERNET + 6..ETHERNET + 8] == [44, 61]));
}

/// The host's own traffic, and not only what it answers and pings, leaves by a router that answers.
#[test]
fn connections_pass_over_a_silent_router() {
    let mut lab = Lab::new();
    let [silent, other] = [254, 253].map(|last| Ipv4Addr::new(10, 0, 0, last));
    lab.host.name_gateways(&[silent.into(), other.into()]);
    let far = SocketAddr::from(([192, 0, 2, 1], 7));
    TcpSource::connect(&mut lab.host, far, 1).unwrap();
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < LIMIT, "no packet to {far}");
        let is_question =
            |frame: &Vec<u8>| kind(frame) == 0x0806 && frame[38..42] == other.octets();
        let frames = lab.answers(SILENCE, |frames| !frames.is_empty());
        if frames.iter().any(is_question) {
            lab.send(&lab.arp(2, lab.mac, other, HOST));
        }
        if let Some(packet) = frames.iter().find(|frame| kind(frame) == 0x0800) {
            assert_eq!(packet[..6], lab.peer_mac);
            break;
        }
    }
    assert_eq!(lab.host.default_routers().next(), Some(other.into()));
}

#[test]
fn fragments_that_overlap_make_no_packet() {
    let mut lab = Lab::acquainted();
    let message = echo_v6(HOST6, &[7; 40]);
    for (offset, end) in [(0, 24_u16), (16, 40), (24, 48)] {
        let more = u16::from(end < 48);
        let place = (offset | more).to_be_bytes();
        let header = [58, 0, place[0], place[1], 0, 0, 0, 1];
        let piece = &message[usize::from(offset)..usize::from(end)];
        let fragment = lab.v6(lab.mac, (PEER6, HOST6), 44, 64, &[&header[..], piece].concat());
        lab.assert_silent(&fragment, "an overlap");
    }
}

#[test]
fn headers_that_say_nothing_to_a_host_do_not_hide_a_packet() {
    let mut lab = Lab::acquainted();
    let echo = echo_v6(HOST6, b"data");
    let fragment = [58, 0, 0, 0, 0, 0, 0, 1];
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    let options_and_fragment = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &fragment].concat();
    for (next, headers) in
        [(44, &fragment[..]), (60, &options), (0, &options), (0, &options_and_fragment)]
    {
        let frame = lab.v6(lab.mac, (PEER6, HOST6), next, 64, &[headers, &echo].concat());
        let reply = lab.ask(&frame);
        assert_eq!((reply[ETHERNET + 6], reply[ETHERNET + 40]), (58, 129), "{next}");
    }
    let unknown = lab.v6(lab.mac, (PEER6, HOST6), 60, 64, &[58, 0, 0xc9, 4, 0, 0, 0, 0]);
    let error = lab.ask(&unknown);
    assert_eq!(error[ETHERNET + 40..ETHERNET + 48][..2], [4, 2]);
    assert_eq!(error[ETHERNET + 47], 42, "where the option is");
    let unknown = lab.v6(lab.mac, (PEER6, HOST6), 253, 64, b"data");
    assert_eq!(lab.ask(&unknown)[ETHERNET + 40..ETHERNET + 42], [4, 1]);
    // A priority tag, on both kinds of packets.
    for mut frame in [
        lab.v6(lab.mac, (PEER6, HOST6), 58, 64, &echo),
        lab.v4(lab.mac, (PEER, HOST), 1, &echo_v4(b"data")),
    ] {
        frame.splice(12..12, [0x81, 0, 0xa0, 0]);
        assert!(lab.ask(&frame).ends_with(b"data"));
        frame[15] = 5;
        lab.assert_silent(&frame, "of a VLAN");
    }
}

#[test]
fn nothing_is_answered_that_no_host_answers() {
    let mut lab = Lab::acquainted();
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let group_mac = [0x33, 0x33, 0, 0, 0, 1];
    let broadcast = Ipv4Addr::new(10, 0, 0, 255);
    let echo = echo_v4(b"data");
    let syn = [4, 210, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
    for (why, to, ends, protocol, data) in [
        ("a broadcast echo", ALL, (PEER, broadcast), 1, &echo[..]),
        ("an echo to all", ALL, (PEER, Ipv4Addr::BROADCAST), 1, &echo),
        (
            "an echo to a group",
            [1, 0, 0x5e, 0, 0, 1],
            (PEER, Ipv4Addr::new(224, 0, 0, 1)),
            1,
            &echo,
        ),
        ("one host's echo, to all stations", ALL, (PEER, HOST), 1, &echo),
        (
            "a broadcast datagram",
            ALL,
            (PEER, broadcast),
            17,
            &udp((PEER.into(), broadcast.into()), 9, b"x"),
        ),
        ("a broadcast connection", ALL, (PEER, broadcast), 6, &syn),
        ("from all", lab.mac, (Ipv4Addr::BROADCAST, HOST), 1, &echo),
        ("from itself", lab.mac, (HOST, HOST), 1, &echo),
        ("from a loopback", lab.mac, (Ipv4Addr::LOCALHOST, HOST), 1, &echo),
        ("from a group", lab.mac, (Ipv4Addr::new(224, 0, 0, 1), HOST), 1, &echo),
        ("from none", lab.mac, (Ipv4Addr::UNSPECIFIED, HOST), 1, &echo),
    ] {
        lab.assert_silent(&lab.v4(to, ends, protocol, data), why);
    }
    let datagram = udp((PEER6.into(), group.into()), 9, b"x");
    lab.assert_silent(&lab.v6(group_mac, (PEER6, group), 17, 64, &datagram), "a datagram to all");
    lab.assert_silent(&lab.v6(group_mac, (PEER6, group), 253, 64, b"x"), "unknown, to all");
    let far =
        lab.v6(lab.mac, (PEER6, Ipv6Addr::LOCALHOST), 58, 64, &echo_v6(Ipv6Addr::LOCALHOST, b"x"));
    lab.assert_silent(&far, "to a loopback");
    // An IPv6 host answers an echo to all, from its own address.
    let reply = lab.ask(&lab.v6(group_mac, (PEER6, group), 58, 64, &echo_v6(group, b"data")));
    assert_eq!(
        (reply[ETHERNET + 40], &reply[ETHERNET + 8..ETHERNET + 24]),
        (129, &HOST6.octets()[..])
    );
    // A datagram to one host still gets its error.
    let datagram = udp((PEER.into(), HOST.into()), 9, b"x");
    let error = lab.ask(&lab.v4(lab.mac, (PEER, HOST), 17, &datagram));
    assert_eq!(error[ETHERNET + 20..ETHERNET + 22], [3, 3]);
}

#[test]
fn a_neighbor_that_moves_is_followed() {
    let mut lab = Lab::acquainted();
    let moved = [2, 0, 0, 0, 0, 0x77];
    lab.peer_mac = moved;
    lab.send(&lab.arp(1, ALL, PEER, PEER));
    let reply = lab.ask(&lab.v4(lab.mac, (PEER, HOST), 1, &echo_v4(b"data")));
    assert_eq!((&reply[..6], kind(&reply)), (&moved[..], 0x0800));
}

#[test]
fn a_ping_hears_errors_and_damaged_replies() {
    let mut lab = Lab::acquainted();
    let plan = PingPlan {
        target: PEER.into(),
        count: Some(3),
        interval: Duration::from_millis(1),
        size: 56,
        timeout: LIMIT,
    };
    let mut pinger = Pinger::start(&mut lab.host, plan);
    let mut heard = Vec::new();
    let begin = Instant::now();
    while !pinger.step(&mut lab.host, |event| heard.push(event)) && begin.elapsed() < LIMIT {
        for mut frame in lab.answers(Duration::from_millis(1), |_| false) {
            let packet = frame.split_off(ETHERNET);
            let mut message = packet[20..].to_vec();
            message[0] = 0;
            message[2..4].fill(0);
            let answer = match message[7] {
                1 => [&[3, 1, 0, 0, 0, 0, 0, 0][..], &packet[..28]].concat(),
                2 => {
                    message[8 + 20] = 0xee;
                    message
                }
                _ => message,
            };
            let mut answer = answer;
            let sum = !checksum::data(&answer) ^ u16::from(packet[27] == 3);
            answer[2..4].copy_from_slice(&sum.to_be_bytes());
            lab.send(&lab.v4(lab.mac, (PEER, HOST), 1, &answer));
        }
    }
    let statistics = pinger.finish(&mut lab.host);
    let report = statistics.report();
    assert_eq!(
        (report.sent, report.received, report.errors, report.damaged, report.bad_checksums),
        (3, 1, 1, 1, 1)
    );
    assert!(
        heard.iter().any(|event| matches!(event, PingEvent::Error { sequence: 1, from, error }
        if *from == IpAddr::from(PEER) && error.to_string() == "Destination Host Unreachable"))
    );
}
