//! An IP stack behind a link: what it is asked it answers, frame by frame, more than goes into a
//! burst.

#![cfg(feature = "smoltcp")]

use memif::phy::Phy;
use memif::{
    Client, ClientOptions, Event, InterfaceOptions, Link, Mode, Server, SocketAddr, SocketOptions,
};
use smoltcp::iface::{Config, Interface as Stack, SocketSet};
use smoltcp::phy::{Device, Medium};
use smoltcp::socket::raw;
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpCidr, IpProtocol, IpVersion, Ipv4Address, Ipv4Packet,
};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const COUNT: usize = 300;

fn pair(mode: Mode) -> (Server, Client, Link, Link) {
    let addr =
        SocketAddr::abstract_name(format!("memif-smoltcp-{mode}-{}", std::process::id())).unwrap();
    let mut server = Server::bind(&addr, SocketOptions::new()).unwrap();
    server.add(InterfaceOptions::new(0).mode(mode)).unwrap();
    let mut client =
        Client::new(&addr, ClientOptions::new(0).mode(mode).log2_ring_size(9)).unwrap();
    let (mut ours, mut theirs) = (None, None);
    while ours.is_none() || theirs.is_none() {
        if let Some(Event::Connected { link, .. }) = server.ready().unwrap() {
            ours = Some(link);
        }
        if let Some(Event::Connected { link, .. }) = client.ready().unwrap() {
            theirs = Some(link);
        }
    }
    (server, client, ours.unwrap(), theirs.unwrap())
}

/// An ARP request for 10.0.0.1, from 10.0.0.2.
fn request() -> Vec<u8> {
    let mut frame = [[0xff; 6], PEER].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER);
    frame.extend([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    frame
}

#[test]
fn a_stack_behind_a_link_answers_each_frame() {
    let (server, _client, link, mut peer) = pair(Mode::Ethernet);
    let mut phy = Phy::new(link);
    let now = Instant::from_millis(0);
    let mut stack = Stack::new(Config::new(EthernetAddress(HOST).into()), &mut phy, now);
    stack.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24)).unwrap();
    });
    let mut burst = peer.tx[0].burst().unwrap();
    // One too long for any Ethernet is passed over.
    assert!(burst.push(&[0xff; 2000]));
    for _ in 0..COUNT {
        assert!(burst.push(&request()));
    }
    assert_eq!(burst.publish(), COUNT + 1);

    stack.poll(now, &mut phy, &mut SocketSet::new(vec![]));
    phy.flush().unwrap();
    assert!(!phy.has_received());
    assert_eq!(phy.dropped(), 0);
    let replies = peer.rx[0].burst(usize::MAX).unwrap();
    assert_eq!(replies.len(), COUNT);
    for reply in &replies {
        let mut bytes = [0; 42];
        assert_eq!(reply.copy_to(&mut bytes), 42);
        assert_eq!(bytes[..12], [PEER, HOST].concat());
        assert_eq!(bytes[20..22], [0, 2], "a reply");
    }
    drop(replies);

    drop(server);
    stack.poll(now, &mut phy, &mut SocketSet::new(vec![]));
    assert!(phy.flush().is_err(), "the link is down, and flush says so");
}

/// An IPv4 packet of `len` bytes from 10.0.0.2 to 10.0.0.1, of a protocol for experiments.
fn packet(len: u16) -> Vec<u8> {
    let mut bytes = vec![7; len.into()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len(len);
    packet.clear_flags();
    packet.set_frag_offset(0);
    packet.set_hop_limit(64);
    packet.set_next_header(IpProtocol::Unknown(253));
    packet.set_src_addr(Ipv4Address::new(10, 0, 0, 2));
    packet.set_dst_addr(Ipv4Address::new(10, 0, 0, 1));
    packet.fill_checksum();
    bytes
}

#[test]
fn a_stack_behind_a_link_of_ip_packets_needs_no_ethernet() {
    let (_server, _client, link, mut peer) = pair(Mode::Ip);
    let mut phy = Phy::new(link);
    let capabilities = phy.capabilities();
    assert_eq!((capabilities.medium, capabilities.max_transmission_unit), (Medium::Ip, 1_500));
    let now = Instant::from_millis(0);
    let mut stack = Stack::new(Config::new(HardwareAddress::Ip), &mut phy, now);
    stack.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24)).unwrap();
    });
    let buffer = || raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; 8], vec![0; 8_192]);
    let protocol = (Some(IpVersion::Ipv4), Some(IpProtocol::Unknown(253)));
    let mut sockets = SocketSet::new(vec![]);
    let socket = sockets.add(raw::Socket::new(protocol.0, protocol.1, buffer(), buffer()));

    let mut burst = peer.tx[0].burst().unwrap();
    for len in [60, 1_501, 1_500] {
        assert!(burst.push(&packet(len)));
    }
    burst.publish();
    stack.poll(now, &mut phy, &mut sockets);
    let socket = sockets.get_mut::<raw::Socket<'_>>(socket);
    for len in [60, 1_500] {
        let received = socket.recv().unwrap().to_vec();
        assert_eq!(received[20..], packet(len)[20..], "{len} bytes");
        let mut answer = received;
        let mut header = Ipv4Packet::new_unchecked(&mut answer);
        header.set_src_addr(Ipv4Address::new(10, 0, 0, 1));
        header.set_dst_addr(Ipv4Address::new(10, 0, 0, 2));
        socket.send_slice(&answer).unwrap();
    }
    assert!(socket.recv().is_err(), "one was too long");
    stack.poll(now, &mut phy, &mut sockets);
    phy.flush().unwrap();
    let replies = peer.rx[0].burst(9).unwrap();
    let lengths: Vec<usize> = replies.iter().map(|reply| reply.len()).collect();
    assert_eq!(lengths, [60, 1_500]);
    let mut bytes = [0; 20];
    assert_eq!(replies.iter().next().unwrap().copy_to(&mut bytes), 20);
    assert_eq!(
        (bytes[0], &bytes[12..20]),
        (0x45, &[10, 0, 0, 1, 10, 0, 0, 2][..]),
        "a bare IP packet"
    );
}
