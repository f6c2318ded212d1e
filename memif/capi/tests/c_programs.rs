//! C programs on the library, as a C compiler and a loader see it.

mod node;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memif::{ClientOptions, InterfaceOptions, Mode};
use nix::sys::eventfd::EventFd;
use system_tests::c_program::{CLibrary, CProgram, Linkage};
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::rawmemif::RawClient;
use system_tests::{CpuLock, Lab, Testpmd, WAIT_TIMEOUT, require};

const LIBRARY: CLibrary = CLibrary {
    target: "memif_capi",
    name: "memif",
    include: concat!(env!("CARGO_MANIFEST_DIR"), "/include"),
};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

/// A lab for programs of C: they are all that runs in it.
fn lab() -> Lab {
    Lab::new(&require::find("cc").expect("a C compiler"))
}

fn icmp(lab: &Lab) -> CProgram {
    LIBRARY.compile(lab, &source("icmp.c"), Linkage::Shared)
}

#[test]
fn the_layout_is_that_of_the_abi() {
    require!("cc");
    let lab = lab();
    let layout = LIBRARY.compile(&lab, &source("layout.c"), Linkage::Shared);
    layout.start(&lab, &[]).finish(WAIT_TIMEOUT).succeeds();
}

#[test]
fn the_header_is_cpp_too() {
    require!("cc", "c++");
    LIBRARY.compiles_as_cpp(&lab(), "libmemif.h");
}

#[test]
fn every_call_and_every_error() {
    require!("cc");
    for linkage in [Linkage::Shared, Linkage::Static] {
        let lab = lab();
        let calls = LIBRARY.compile(&lab, &source("calls.c"), linkage);
        let calls = calls.start(&lab, &[&lab.arg("tmp")]);
        assert!(calls.finish(WAIT_TIMEOUT).succeeds().contains("all is as it should be"));
    }
}

#[test]
fn no_call_leaks_or_touches_what_is_not_its_own() {
    require!("cc", "valgrind");
    let lab = lab();
    let calls = LIBRARY.compile(&lab, &source("calls.c"), Linkage::Shared);
    let finished = calls.run_under_valgrind(&lab, &[&lab.arg("tmp")]);
    assert!(finished.succeeds().contains("all is as it should be"));
}

#[test]
fn pings_between_c_programs_of_both_roles() {
    require!("cc");
    let lab = lab();
    let icmp = icmp(&lab);
    for (responder, sender) in [("master", "slave"), ("slave", "master")] {
        let socket = lab.arg(&format!("{responder}.sock"));
        let responder = icmp.start(&lab, &["respond", responder, &socket]);
        let sender = icmp.start(&lab, &["send", sender, &socket, "20000"]);
        assert!(sender.finish(WAIT_TIMEOUT).succeeds().contains("answered 20000"));
        assert!(responder.finish(WAIT_TIMEOUT).succeeds().contains("answered 20000"));
    }
}

/// An ARP request of 10.0.0.9 for 10.0.0.2, with a number in the sender's address.
fn arp_request(number: u8) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([2, 0, 0, 0, 1, number, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 1, number, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame
}

fn arp_answer(number: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, number, 2, 0, 0, 0, 0, 0xAA];
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 0xAA, 10, 0, 0, 2]);
    frame.extend([2, 0, 0, 0, 1, number, 10, 0, 0, 9]);
    frame
}

fn is_answered(mut peer: MemifPeer) {
    for burst in 0..200u8 {
        let numbers = || (0..16).map(|n| burst.wrapping_add(n));
        peer.send_all(&numbers().map(arp_request).collect::<Vec<_>>());
        assert_eq!(peer.receive_exactly(16), numbers().map(arp_answer).collect::<Vec<_>>());
    }
}

#[test]
fn a_c_program_answers_the_rust_side_in_both_roles() {
    require!("cc");
    let lab = lab();
    let icmp = icmp(&lab);
    let socket = lab.path("rust.sock");
    let responder = icmp.start(&lab, &["respond", "master", &lab.arg("rust.sock")]);
    let retry = ClientOptions::new(3).reconnect(Some(Duration::from_millis(20)));
    is_answered(MemifPeer::client(&socket, retry));
    responder.finish(WAIT_TIMEOUT).succeeds();

    let socket = lab.path("rust-listens.sock");
    let listening = Listening::on(&socket, InterfaceOptions::new(3));
    let responder = icmp.start(&lab, &["respond", "slave", &lab.arg("rust-listens.sock")]);
    is_answered(listening.accept());
    responder.finish(WAIT_TIMEOUT).succeeds();
}

/// An IPv4 or IPv6 packet between two numbered hosts, with a payload of `size` bytes.
fn ip_packet(v6: bool, [from, to]: [u8; 2], size: u16) -> Vec<u8> {
    let mut packet = if v6 { vec![0x60, 0, 0, 0] } else { vec![0x45, 0] };
    if v6 {
        packet.extend([&size.to_be_bytes()[..], &[17, 64]].concat());
        for host in [from, to] {
            packet.extend([&[0xFD; 15][..], &[host]].concat());
        }
    } else {
        packet.extend((20 + size).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    }
    packet.extend((0..size).map(|n| u8::try_from(n % 251).unwrap()));
    packet
}

/// Packets as they are sent, and as they come back from `bounce.c`. Some are shorter than an
/// Ethernet header, and some continue in a second buffer.
fn bounced(mode: Mode) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let sizes = [0, 1, 26, 980, 1_480];
    if mode == Mode::Ip {
        let packets = |hosts: [u8; 2]| {
            let both = move |size| [false, true].map(|v6| ip_packet(v6, hosts, size));
            sizes.into_iter().flat_map(both).collect()
        };
        (packets([1, 2]), packets([2, 1]))
    } else {
        let packets: Vec<_> = sizes.map(|size| vec![0xA5; usize::from(1 + size)]).into();
        (packets.clone(), packets)
    }
}

#[test]
fn a_c_program_exchanges_packets_without_ethernet_with_the_rust_side() {
    require!("cc");
    let lab = lab();
    let bounce = LIBRARY.compile(&lab, &source("bounce.c"), Linkage::Shared);
    let passes = |mut peer: MemifPeer, mode| {
        let (there, back) = bounced(mode);
        for _ in 0..100 {
            peer.send_all(&there);
            assert_eq!(peer.receive_exactly(back.len()), back);
        }
        format!("returned {}", 100 * there.len())
    };
    for (number, mode) in [("1", Mode::Ip), ("2", Mode::PuntInject)] {
        let (socket, name) = (lab.path(number), lab.arg(number));
        let program = bounce.start(&lab, &["master", &name, number]);
        let retry = ClientOptions::new(3).mode(mode).buffer_size(1_024);
        let retry = retry.reconnect(Some(Duration::from_millis(20)));
        let returned = passes(MemifPeer::client(&socket, retry), mode);
        assert!(program.finish(WAIT_TIMEOUT).succeeds().contains(&returned));

        let (socket, name) =
            (lab.path(&format!("rust{number}")), lab.arg(&format!("rust{number}")));
        let listening = Listening::on(&socket, InterfaceOptions::new(3).mode(mode));
        let program = bounce.start(&lab, &["slave", &name, number]);
        let returned = passes(listening.accept(), mode);
        assert!(program.finish(WAIT_TIMEOUT).succeeds().contains(&returned));
    }
}

#[test]
fn a_c_program_in_another_mode_is_refused_with_the_reason() {
    require!("cc");
    let lab = lab();
    let bounce = LIBRARY.compile(&lab, &source("bounce.c"), Linkage::Shared);
    let socket = lab.path("ip.sock");
    let mut listening = Listening::on(&socket, InterfaceOptions::new(3).mode(Mode::Ip));
    let program = bounce.start(&lab, &["slave", &lab.arg("ip.sock"), "2"]);
    assert_eq!(listening.refuse().name(), "mode-mismatch");
    let finished = program.finish(WAIT_TIMEOUT);
    let printed = finished.succeeds();
    assert!(printed.contains("refused:") && printed.contains("mode"), "{printed}");
}

#[test]
fn a_peer_that_cuts_its_memory_short_ends_its_link_and_not_the_program() {
    require!("cc");
    let lab = lab();
    let socket = lab.path("cut.sock");
    let responder = icmp(&lab).start(&lab, &["respond", "master", &lab.arg("cut.sock")]);
    system_tests::wait::until("the socket", WAIT_TIMEOUT, || socket.exists());
    let event_fd = EventFd::new().expect("an eventfd");
    let (peer, memory) = RawClient::link_with_memory(&socket, 3, event_fd.as_fd());
    responder.wait_for_line("connected");
    memory.set_len(0).expect("a shorter file");
    responder.finish(WAIT_TIMEOUT).succeeds();
    drop(peer);
}

#[test]
fn testpmd_answers_a_c_program_in_both_roles() {
    require!("cc", "dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab();
    let icmp = icmp(&lab);

    let socket = lab.path("testpmd.sock");
    let mut testpmd = Testpmd::server(&socket, 3).forwards_on_demand("icmpecho").start(&lab);
    let sender = icmp.start(&lab, &["send", "slave", &lab.arg("testpmd.sock"), "20000"]);
    sender.wait_for_line("connected");
    testpmd.wait_for_link();
    testpmd.command("start");
    assert!(sender.finish(WAIT_TIMEOUT).succeeds().contains("answered 20000"));
    testpmd.quit().succeeds();

    let socket = lab.path("listens.sock");
    let sender = icmp.start(&lab, &["send", "master", &lab.arg("listens.sock"), "20000"]);
    system_tests::wait::until("the socket", WAIT_TIMEOUT, || socket.exists());
    let mut testpmd = Testpmd::client(&socket, 3).forwards_on_demand("icmpecho").start(&lab);
    testpmd.wait_for_link();
    testpmd.command("start");
    assert!(sender.finish(WAIT_TIMEOUT).succeeds().contains("answered 20000"));
    testpmd.quit().succeeds();
}
