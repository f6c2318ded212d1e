//! The examples of the crate `memif` do what they say, the first one with DPDK at the other end.

use std::path::Path;
use std::process::Command;

use memif::{ClientOptions, InterfaceOptions};
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::testpmd::BURST;
use system_tests::{CpuLock, Lab, Process, Testpmd, frames, lab, require};

/// Prepares an example that was built from this checkout.
fn example(lab: &Lab, program: &str) -> Command {
    lab.command(lab.reach(Path::new(program)))
}

/// The README's first program.
#[test]
fn the_first_program_counts_what_a_testpmd_server_sends() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut command = example(&lab, env!("CARGO_BIN_EXE_example-counter"));
    let counter = Process::spawn("counter", command.arg(&socket));
    // It starts early: there is no server yet, and it tries again.
    counter.wait_for_line("the socket does not exist; is the server running?");
    let mut testpmd = Testpmd::server(&socket, 0).start(&lab);
    counter.wait_for_line("connected to DPDK");
    testpmd.wait_for_link();
    testpmd.start_with_bursts(10);
    let (packets, bytes) = (10 * BURST, 10 * BURST * 64);
    counter.wait_for_line(&format!("{packets} packets, {bytes} bytes so far"));
    testpmd.quit().succeeds();
    counter.wait_for_line(&format!("{packets} packets, {bytes} bytes; the peer"));
}

#[test]
fn examples_that_play_both_roles_run_to_their_end() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let run = |program: &str, argument: &[&str], says: &str| {
        let end = lab.run_program(example(&lab, program).args(argument));
        assert!(end.succeeds().contains(says), "{end}");
    };
    run(env!("CARGO_BIN_EXE_example-loopback"), &[], "1000 packets there and back");
    run(env!("CARGO_BIN_EXE_example-icmp-responder"), &["demo"], "192.168.1.1 answers");
    let moved = "100000 packets went from left to right, 6400000 bytes";
    run(env!("CARGO_BIN_EXE_example-forwarder"), &[], moved);
    run(
        env!("CARGO_BIN_EXE_example-multi-queue"),
        &["3"],
        "15000000 packets of 64 bytes over 3 queues",
    );
}

/// Returns a ping for 10.0.0.1 from 10.0.0.2 with this many bytes of zeros, and its checksum.
fn ping(zeros: u8) -> Vec<u8> {
    let mut ping = vec![0; 42 + usize::from(zeros)];
    ping[..12].copy_from_slice(&[2, 0xfe, 0x68, 0x72, 0x73, 0x74, 2, 0, 0, 0, 0, 2]);
    ping[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 28 + zeros, 0, 0, 0, 0, 64, 1]);
    ping[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
    ping[34..38].copy_from_slice(&[8, 0, 0xf7, 0xff]);
    ping
}

fn pings_are_answered(peer: &mut MemifPeer) {
    let mut arp = vec![0; 42];
    arp[..6].fill(0xff);
    arp[6..22].copy_from_slice(&[2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp[28..32].copy_from_slice(&[10, 0, 0, 2]);
    arp[38..].copy_from_slice(&[10, 0, 0, 1]);
    peer.send_all(&[arp, ping(0), ping(100)]);
    let answers = peer.receive_exactly(3);
    assert_eq!(answers[0][20..32], [0, 2, 2, 0xfe, 0x68, 0x72, 0x73, 0x74, 10, 0, 0, 1]);
    for (answer, len) in answers[1..].iter().zip([42, 142]) {
        assert_eq!(
            (answer.len(), &answer[26..38]),
            (len, &[10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0xff, 0xff][..])
        );
    }
}

#[test]
fn the_icmp_responder_answers_in_both_roles_under_any_id() {
    let lab = lab!();
    let socket = lab.path("m.sock");
    let responder = |role: &str, id: &[&str]| {
        let mut command = example(&lab, env!("CARGO_BIN_EXE_example-icmp-responder"));
        Process::spawn("icmp_responder", command.arg(role).arg(&socket).arg("10.0.0.1").args(id))
    };
    let server = responder("server", &[]);
    server.wait_for_line("listening on ");
    pings_are_answered(&mut MemifPeer::client(&socket, ClientOptions::new(0)));
    drop(server);

    let client = responder("client", &["7"]);
    client.wait_for_line("no process listens on it; has the server died?");
    pings_are_answered(&mut Listening::on(&socket, InterfaceOptions::new(7)).accept());
}

#[test]
fn the_forwarder_joins_two_servers_and_says_who_comes_and_goes() {
    let lab = lab!();
    let sockets = ["left.sock", "right.sock"].map(|name| lab.path(name));
    let mut command = example(&lab, env!("CARGO_BIN_EXE_example-forwarder"));
    let forwarder = Process::spawn("forwarder", command.args(&sockets));
    forwarder.wait_for_line("left.sock: cannot connect to ");
    let [mut left, mut right] =
        sockets.map(|socket| Listening::on(&socket, InterfaceOptions::new(0)).accept());
    left.reach(&mut right);
    right.reach(&mut left);
    let sent: Vec<_> = (0..3_000).map(|n| frames::numbered(60 + n % 1_000, n as u64)).collect();
    for some in sent.chunks(100) {
        left.send_all(some);
        assert_eq!(right.receive_exactly(some.len()), some);
    }
    drop(right);
    forwarder.wait_for_line("right.sock: the peer disconnected: the server is shutting down; ");
}
