//! Frames of every size from 14 to 1,514 bytes cross memif -> bus -> memif unchanged: as client and
//! as server, in single buffers and in chains of buffers, and to a rump kernel on the bus between.

use std::path::Path;

use memif::{ClientOptions, InterfaceOptions};
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::reference::RumpPeer;
use system_tests::{Lab, Process, WAIT_TIMEOUT, frames, lab, port};

/// Returns frames of every size twice, rising and then falling, so that short frames follow long
/// ones in every buffer, too.
fn every_size(seed: u64) -> Vec<Vec<u8>> {
    (14..=1514).chain((14..=1514).rev()).map(|len| frames::patterned(len, seed)).collect()
}

/// Sends every size from one peer to the other and back, in bursts of `burst` frames, which must
/// fit every ring on the way.
fn arrive(lab: &Lab, alice: &mut MemifPeer, bob: &mut MemifPeer, burst: usize) {
    alice.reach(bob);
    bob.reach(alice);
    cross(lab, alice, bob, burst, 1);
    cross(lab, bob, alice, burst, 2);
}

fn cross(lab: &Lab, from: &mut MemifPeer, to: &mut MemifPeer, burst: usize, seed: u64) {
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    // On a used bus, a rump kernel that attaches reads the newest old frame once.
    while rump.receive().is_some() {}
    for burst in every_size(seed).chunks(burst) {
        from.send_all(burst);
        assert!(to.receive_exactly(burst.len()) == burst, "from {} bytes on", burst[0].len());
        for frame in burst {
            assert!(
                rump.wait(WAIT_TIMEOUT).as_ref() == Some(frame),
                "{} bytes, on the bus",
                frame.len()
            );
        }
    }
    assert_eq!(from.receive(|_| ()), 0, "a sender does not receive its own frames");
}

fn node(lab: &Lab, ports: &[String]) -> Process {
    let bus = lab.arg("lan.bus");
    lab.ready(["attach", &bus].into_iter().chain(ports.iter().map(String::as_str)))
}

fn through_two_server_ports(burst: usize, options: impl Fn(u32) -> ClientOptions) {
    let lab = lab!();
    let socket = lab.path("m.sock");
    let _node = node(&lab, &[port::server(&socket, 0, ""), port::server(&socket, 1, "")]);
    let mut alice = MemifPeer::client(&socket, options(0));
    let mut bob = MemifPeer::client(&socket, options(1));
    arrive(&lab, &mut alice, &mut bob, burst);
}

#[test]
fn every_size_crosses_two_server_ports() {
    through_two_server_ports(16, ClientOptions::new);
}

#[test]
fn every_size_crosses_two_server_ports_in_chains_of_small_buffers() {
    // 1,514 bytes are 24 buffers of 64; a ring of 512 holds sixteen such frames.
    through_two_server_ports(16, |id| ClientOptions::new(id).buffer_size(64).log2_ring_size(9));
}

#[test]
fn every_size_crosses_two_server_ports_through_rings_of_eight() {
    through_two_server_ports(4, |id| ClientOptions::new(id).log2_ring_size(3));
}

fn through_two_client_ports(keys: &str) {
    let lab = lab!();
    let sockets = [lab.path("a.sock"), lab.path("b.sock")];
    let listening = sockets
        .each_ref()
        .map(|socket: &std::path::PathBuf| Listening::on(socket, InterfaceOptions::new(4)));
    let ports = sockets.each_ref().map(|socket| port::client(Path::new(socket), 4, keys));
    let _node = node(&lab, &ports);
    let [mut alice, mut bob] = listening.map(Listening::accept);
    arrive(&lab, &mut alice, &mut bob, 16);
}

#[test]
fn every_size_crosses_two_client_ports() {
    through_two_client_ports("");
}

#[test]
fn every_size_crosses_two_client_ports_in_chains_of_small_buffers() {
    through_two_client_ports("bsize=64,rsize=9");
}

#[test]
fn every_size_crosses_a_server_port_and_a_client_port_that_take_interrupts() {
    let lab = lab!();
    let (ours, theirs) = (lab.path("ours.sock"), lab.path("theirs.sock"));
    let listening = Listening::on(&theirs, InterfaceOptions::new(1));
    let keys = "rx-mode=interrupt";
    let _node = node(&lab, &[port::server(&ours, 0, keys), port::client(&theirs, 1, keys)]);
    let mut alice = MemifPeer::client(&ours, ClientOptions::new(0));
    let mut bob = listening.accept();
    arrive(&lab, &mut alice, &mut bob, 16);
}

/// Frames that no station may write to a bus are dropped, and every link stays up.
#[test]
fn frames_too_short_or_too_long_for_a_bus_are_dropped() {
    let lab = lab!();
    let socket = lab.path("m.sock");
    let _node = node(&lab, &[port::server(&socket, 0, ""), port::server(&socket, 1, "")]);
    let mut alice = MemifPeer::client(&socket, ClientOptions::new(0));
    let mut bob = MemifPeer::client(&socket, ClientOptions::new(1));
    alice.reach(&mut bob);
    let mut long = frames::patterned(1514, 1);
    long.resize(9000, 0xee);
    let good = frames::patterned(64, 1);
    for bad in [&long[..1515], &long[..2048], &long[..2049], &long, &good[..13], &good[..1]] {
        alice.send_all(&[&bad, &good.as_slice()]);
        assert!(bob.receive_exactly(1) == [good.clone()], "after one of {} bytes", bad.len());
    }
    assert_eq!(bob.receive(|_| ()), 0);
}
