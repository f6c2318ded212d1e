//! Offload through a bus: what is left to a station arrives finished, what it does not do is
//! refused and counted.

use std::path::Path;

use pnet_packet::Packet as _;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::tcp::{self, TcpPacket};
use shmbus::offload::{Capabilities, Offload, OffloadError, TxRequest, Verdict};
use shmbus::{Burst, Bus, SendError, Station, StationOptions};

fn station(path: &Path, capabilities: Capabilities) -> Station {
    let bus = Bus::open_or_create(path, 0o600).expect("a bus");
    Station::join(bus, StationOptions::new().capabilities(capabilities)).expect("joined")
}

fn pair(capabilities: Capabilities) -> (tempfile::TempDir, Station, Station) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (alice, bob) = (station(&path, capabilities), station(&path, Capabilities::RX));
    (folder, alice, bob)
}

/// A broadcast TCP packet without checksums; every four bytes of payload count up.
fn tcp(payload: u16) -> Vec<u8> {
    let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0\x45\0".to_vec();
    frame.extend((40 + payload).to_be_bytes());
    frame.extend(b"\x12\x34\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02");
    frame.extend(b"\x30\x39\0\x50\0\0\0\0\0\0\0\0\x50\x18\x10\0\0\0\0\0");
    frame.extend((0_u32..).flat_map(u32::to_be_bytes).take(payload.into()));
    frame
}

/// What is there for `station`. Every packet is found right by another crate, and by the station.
fn received(station: &mut Station) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(1_000);
    station.recv_burst(&mut burst);
    for frame in &burst {
        let ip = Ipv4Packet::new(&frame.bytes[14..]).expect("a header");
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let segment = TcpPacket::new(ip.payload()).expect("a header");
        assert_eq!(
            segment.get_checksum(),
            tcp::ipv4_checksum(&segment, &ip.get_source(), &ip.get_destination())
        );
        let verdict = station.verify(frame.bytes);
        assert_eq!((verdict.ip, verdict.l4), (Verdict::Good, Verdict::Good));
    }
    burst.iter().map(|frame| frame.bytes.to_vec()).collect()
}

#[test]
fn super_frames_cross_the_bus_in_segments_with_one_wake_up() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::TX);
    let super_frame = tcp(64_000);
    for round in 1..=40 {
        // The ring is filled more than twice over, so its end lies in every part of a frame.
        alice.send_offload(&super_frame, Offload::new().segments(1_460)).expect("sent");
        let segments = received(&mut bob);
        assert_eq!(segments.len(), 44);
        let payload = segments.iter().flat_map(|frame| &frame[54..]).copied().collect::<Vec<u8>>();
        assert!(payload == super_frame[54..], "what was cut belongs together");
        assert_eq!(alice.stats().wakeups, round);
        assert_eq!(alice.stats().tx_packets, 44 * round);
    }
}

#[test]
fn a_burst_keeps_its_order_and_loses_only_what_is_refused() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::TX - Capabilities::TSO_V4);
    let frames = [tcp(10), tcp(2_000), tcp(20), tcp(3_000), tcp(30)];
    let checksums = Offload::new().ipv4_header().transport();
    let requests = [
        TxRequest::new(&frames[0], checksums),
        TxRequest::new(&frames[1], Offload::new().segments(1_000)),
        TxRequest::new(&frames[2], checksums),
        TxRequest::new(&frames[3], checksums),
        TxRequest::new(&frames[4], checksums),
    ];
    let refused = alice.send_offload_burst(requests).expect_err("something is refused");
    let missing = Capabilities::TSO_V4;
    assert!(
        matches!(refused, SendError::Offload { index: 1, sent: 3, source } if source == OffloadError::NotEnabled { missing }),
        "{refused}"
    );
    assert_eq!(received(&mut bob).iter().map(Vec::len).collect::<Vec<_>>(), [64, 74, 84]);
    let stats = alice.stats();
    assert_eq!((stats.tx_packets, stats.tx_offload_refused, stats.wakeups), (3, 2, 1));

    alice.set_capabilities(Capabilities::ALL);
    assert_eq!(alice.capabilities(), Capabilities::ALL);
    alice.send_offload_burst([requests[1], requests[0]]).expect("enabled now");
    assert_eq!(received(&mut bob).iter().map(Vec::len).collect::<Vec<_>>(), [1_054, 1_054, 64]);
}

#[test]
fn requests_for_nothing_are_sent_as_they_are() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::NONE);
    let frame = [0xff; 60];
    alice.send_offload_burst([TxRequest::new(&frame, Offload::new()); 3]).expect("sent");
    let mut burst = Burst::new(10);
    assert_eq!(bob.recv_burst(&mut burst), 3);
    assert!(burst.iter().all(|received| received.bytes == frame));
    assert!(alice.send_offload(&[0xff; 1_515], Offload::new()).is_err());
    assert_eq!(alice.stats().tx_offload_refused, 1);
    alice.send_offload_burst([]).expect("nothing is easily sent");
    assert_eq!(alice.stats().wakeups, 1);
}

#[test]
fn the_mtu_is_that_of_the_segments() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::TX);
    assert!(alice.set_mtu(1_000));
    let long = alice.send_offload(&tcp(5_000), Offload::new().segments(961)).expect_err("too long");
    let source = OffloadError::TooLong { len: 1_015, max: 1_014 };
    assert!(
        matches!(long, SendError::Offload { index: 0, source: found, .. } if found == source),
        "{long}"
    );
    alice.send_offload(&tcp(5_000), Offload::new().segments(960)).expect("sent");
    assert_eq!(received(&mut bob).len(), 6);
}

#[test]
fn without_a_link_finished_frames_go_nowhere() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::TX);
    alice.set_link_up(false);
    alice.send_offload(&tcp(3_000), Offload::new().segments(1_000)).expect("accepted");
    assert_eq!(alice.stats().tx_link_down, 3);
    assert_eq!(bob.recv_burst(&mut Burst::new(10)), 0);
}

#[test]
fn very_small_segments_are_not_lost() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::TX);
    let super_frame = tcp(5_000);
    alice.send_offload(&super_frame, Offload::new().segments(2)).expect("sent");
    let mut segments = received(&mut bob);
    while segments.len() < 2_500 {
        let more = received(&mut bob);
        assert!(!more.is_empty());
        segments.extend(more);
    }
    let payload = segments.iter().flat_map(|frame| &frame[54..]).copied().collect::<Vec<u8>>();
    assert!(payload == super_frame[54..], "what was cut belongs together");
}

#[test]
fn a_bad_frame_is_handed_up_with_its_verdict() {
    let (_folder, mut alice, mut bob) = pair(Capabilities::NONE);
    let frame = tcp(100);
    alice.send(&frame).expect("sent");
    let mut burst = Burst::new(1);
    assert_eq!(bob.recv_burst(&mut burst), 1);
    let bytes = burst.get(0).expect("it was received").bytes;
    let verdict = bob.verify(bytes);
    assert_eq!((verdict.ip, verdict.l4, verdict.is_bad()), (Verdict::Bad, Verdict::Bad, true));
    bob.set_capabilities(Capabilities::NONE);
    assert!(!bob.verify(bytes).is_bad());
}
