//! memif in IP mode, where packets have no Ethernet header: hosts behind such links, captures of
//! them, and peers that a port puts on a LAN.

use memif::{ClientOptions, InterfaceOptions, Mode};
use serde_json::Value;
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, port, wait};

/// Pings, and checks that each request is answered.
fn pings(lab: &Lab, bus: &str, from: &str, to: &str, size: &str) {
    let mut words = vec!["ping", bus, to, "--from", from, "-c", "5", "-i", "0.01", "-s", size];
    // A client dials once a second.
    words.extend(["-W", "20", "--json"]);
    let run = lab.run(words);
    assert_eq!(run.json()["received"].as_u64(), Some(5), "{run}");
}

/// A peer in IP mode at `m.sock`: a host of our own.
fn peer(lab: &Lab) -> Process {
    let link = port::client(&lab.path("m.sock"), 0, "mode=ip");
    // It needs no network: its link leads to all hosts.
    lab.ready(["host", &link, "10.0.0.2/32", "fd00::2/128", "--commands"])
}

/// Joins the peer at `m.sock` to the LAN.
fn attach(lab: &Lab, keys: &str) -> Process {
    let spec = "mode=ip,ip=10.0.0.2/24,fd00::2/64";
    let port = port::server(&lab.path("m.sock"), 0, &format!("{spec},{keys}"));
    lab.ready(["attach", &lab.arg("lan.bus"), &port])
}

#[test]
fn hosts_in_ip_mode_reach_each_other_on_any_network() {
    let lab = lab!();
    let socket = lab.path("m.sock");
    let server = port::server(&socket, 0, "mode=ip");
    // It is ready when its peer has come.
    let host = lab.spawn(["host", &server, "10.0.0.2/24", "fd00::2/64"]);
    let client = port::client(&socket, 0, "mode=ip");
    for (from, to) in [
        ("10.0.0.1/24", "10.0.0.2"),
        ("192.0.2.1/32", "10.0.0.2"),
        ("fd00::1/64", "fd00::2"),
        ("2001:db8::1/128", "fd00::2"),
    ] {
        pings(&lab, &client, from, to, "56");
        pings(&lab, &client, from, to, "20000");
    }
    host.wait_for_line("ready");
    // The modes of both ends must be the same.
    let ethernet = port::client(&socket, 0, "");
    let run = lab.run(["ping", &ethernet, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"]);
    assert!(run.stderr.contains("mode 0 does not match, expected ip"), "{run}");
}

#[test]
fn a_peer_in_ip_mode_is_on_the_lan() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let mut port = attach(&lab, "gateway=10.0.0.1,fe80::99");
    // The router has an address of another network, too, and so is a host behind itself.
    let _router = lab.ready([
        "host",
        &bus,
        "10.0.0.1/24",
        "192.0.2.1/24",
        "fd00::1/64",
        "fe80::99/64",
        "2001:db8::1/64",
    ]);
    let mut peer = peer(&lab);
    for size in ["56", "1472", "9000"] {
        pings(&lab, &bus, "10.0.0.9/24", "10.0.0.2", size);
        pings(&lab, &bus, "fd00::9/64", "fd00::2", size);
    }
    // The peer reaches its neighbors, and through its routers other networks.
    for target in ["10.0.0.1", "fd00::1", "192.0.2.1", "2001:db8::1"] {
        let mark = peer.mark();
        peer.type_line(&format!("ping {target} 5 0.01"));
        let line = peer.wait_after(mark, "received");
        let report: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(report["received"].as_u64(), Some(5), "{target}: {line}");
    }
    // Both may be killed and come back.
    peer.kill();
    let _peer = self::peer(&lab);
    pings(&lab, &bus, "10.0.0.8/24", "10.0.0.2", "56");
    port.kill();
    let _port = attach(&lab, "vlan=7");
    // The peer dials again. The port is in a VLAN now, and another bus is at its side.
    let inside = lab.arg("vlan.bus");
    let _trunk = lab.ready(["attach", &bus, &format!("bus:{inside},vlan=7")]);
    answers(&lab, &inside);
}

/// Waits until the peer answers on a bus.
fn answers(lab: &Lab, bus: &str) {
    wait::until("the peer answers", WAIT_TIMEOUT, || {
        let words = ["ping", bus, "10.0.0.2", "--from", "10.0.0.9/24", "-c", "1", "--json"];
        lab.run(words).json()["received"].as_u64() == Some(1)
    });
}

#[test]
fn an_address_that_another_station_has_is_left_alone() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let owner = lab.ready(["host", &bus, "10.0.0.2/24"]);
    let port = attach(&lab, "");
    let _peer = peer(&lab);
    port.wait_for_line("10.0.0.2 is also used by the host at ");
    pings(&lab, &bus, "10.0.0.9/24", "10.0.0.2", "56");
    owner.interrupt().succeeds();
    answers(&lab, &bus);
}

/// Makes a packet of UDP.
fn packet(from: [u8; 4], to: [u8; 4], number: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([from, to].concat());
    packet.extend([0, 7, 0, 7, 0, 9, 0, 0, number]);
    packet
}

#[test]
fn forged_and_damaged_packets_do_not_reach_the_lan() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let port = attach(&lab, "");
    let mut peer = MemifPeer::client(&lab.path("m.sock"), ClientOptions::new(0).mode(Mode::Ip));
    let broadcast = [255; 4];
    let mut random = fastrand::Rng::with_seed(16);
    let mut packets = vec![packet([10, 0, 0, 7], broadcast, 1), packet([10, 0, 0, 2], [8; 4], 2)];
    packets.extend((0..2_000).map(|_| {
        let mut junk = packet([10, 0, 0, 2], broadcast, 3);
        junk.truncate(random.usize(15..29));
        junk
    }));
    packets.push(packet([10, 0, 0, 2], broadcast, 4));
    peer.send_all(&packets);
    port.wait_for_line("from 10.0.0.7 are dropped");
    port.wait_for_line("to 8.8.8.8 are dropped");
    let show = || lab.show(&bus)["ports"][0].clone();
    let counted = |key: &str| show()[key].as_u64();
    wait::until("all are counted", WAIT_TIMEOUT, || counted("rx_errors") == Some(2_002));
    let dump = lab.run(["dump", &bus, "-v", "--json"]);
    let dumped: Vec<&str> = dump.succeeds().lines().filter(|line| line.contains("UDP")).collect();
    assert_eq!(dumped.len(), 1, "the last: {dumped:?}");
    assert!(port.interrupt().stderr.lines().all(|line| !line.contains("panicked")));
}

#[test]
fn a_peer_learns_how_long_packets_on_the_lan_may_be() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let _port = attach(&lab, "");
    let mut peer = MemifPeer::client(&lab.path("m.sock"), ClientOptions::new(0).mode(Mode::Ip));
    let mtu =
        u16::try_from(lab.show(&bus)["mtu"].as_u64().expect("a number")).expect("it is small");
    let mut long = packet([10, 0, 0, 2], [10, 0, 0, 9], 1);
    // Not to be cut, and one byte longer than the bus carries.
    long.resize(usize::from(mtu) + 1, 1);
    long[2..4].copy_from_slice(&(mtu + 1).to_be_bytes());
    long[6] = 0x40;
    peer.send_all(&[&long]);
    let message = peer.receive_exactly(1).remove(0);
    assert_eq!((&message[12..16], &message[16..20]), (&long[16..20], &long[12..16]));
    assert_eq!((&message[20..22], &message[26..28]), (&[3, 4][..], &mtu.to_be_bytes()[..]));
    assert!(long.starts_with(&message[28..]) && message.len() == 576);
}

#[test]
fn an_interface_of_the_registry_may_be_in_ip_mode() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    lab.does(&format!("socket add 1 {}", lab.arg("m.sock")));
    lab.run(["create", "memif1/0", "mode=ip"]).fails_with(2, &["needs ip=ADDR/LEN"]);
    lab.run(["create", "memif1/0", "ip=10.0.0.2/24"]).fails_with(2, &["only with mode=ip"]);
    lab.does("create memif1/0 mode=ip ip=10.0.0.2/24,fd00::2/64 mac=02:00:00:00:00:02");
    lab.does(&format!("linkstr memif1/0 {bus}"));
    let _node = lab.ready(["node"]);
    lab.does("up memif1/0");
    let _peer = peer(&lab);
    pings(&lab, &bus, "10.0.0.9/24", "10.0.0.2", "56");
    let shown = lab.show("memif1/0");
    assert_eq!(shown["mode"], "ip", "{shown}");
    let dump = lab.run(["dump", &bus, "-v"]);
    assert!(dump.succeeds().contains("ARP reply 10.0.0.2 is at 02:00:00:00:00:02"), "{dump}");
}

#[test]
fn a_dump_is_a_memif_peer() {
    let lab = lab!();
    let ethernet = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0";
    for (mode, header, link_type) in [(Mode::Ip, &[][..], 101), (Mode::Ethernet, ethernet, 1)] {
        let (socket, file) = (lab.path(&format!("{mode}.sock")), lab.arg(&format!("{mode}.pcap")));
        let listening = Listening::on(&socket, InterfaceOptions::new(0).mode(mode));
        let link = port::client(&socket, 0, &format!("mode={mode}"));
        let dump = lab.spawn(["dump", &link, "-c", "2", "-w", &file, "udp"]);
        let mut peer = listening.accept();
        let mut tcp = packet([10, 0, 0, 1], [10, 0, 0, 2], 0);
        tcp[9] = 6;
        let udp = [2, 3].map(|last| packet([10, 0, 0, 1], [10, 0, 0, last], last));
        let frames = [&tcp, &udp[0], &udp[1]].map(|packet| [header, packet].concat());
        peer.send_all(&frames);
        let finished = dump.finish(WAIT_TIMEOUT);
        let lines: Vec<&str> = finished.succeeds().lines().collect();
        assert_eq!(lines.len(), 2, "{finished}");
        assert!(lines[0].contains("10.0.0.1:7 > 10.0.0.2:7: UDP, length 1"), "{finished}");
        let pcap = std::fs::read(&file).expect("the capture");
        assert_eq!(pcap[20..24], u32::to_ne_bytes(link_type), "{mode}");
        assert!(pcap.ends_with(&frames[2]));
    }
}
