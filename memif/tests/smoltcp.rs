//! An IP stack behind a link: what it is asked it answers, frame by frame, more than goes into a burst.

#![cfg(feature = "smoltcp")]

use memif::phy::Phy;
use memif::{Client, Event, Link, Options, Server, SocketAddr};
use smoltcp::iface::{Config, Interface as Stack, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const COUNT: usize = 300;

fn pair() -> (Server, Client, Link, Link) {
    let addr = SocketAddr::abstract_name(format!("memif-smoltcp-{}", std::process::id())).unwrap();
    let mut server = Server::bind(&addr).unwrap();
    server.add(Options::new(0)).unwrap();
    let mut client = Client::new(&addr, Options::new(0).log2_ring_size(9)).unwrap();
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
    let (server, _client, link, mut peer) = pair();
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
