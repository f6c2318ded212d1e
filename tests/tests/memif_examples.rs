//! The examples of the crate `memif` do what they say, the first one with DPDK at the other end.

use std::path::Path;
use std::process::Command;

use system_tests::testpmd::BURST;
use system_tests::turn::Turn;
use system_tests::{Lab, Process, Testpmd, lab, require};

/// One that was built from this checkout.
fn example(lab: &Lab, program: &str) -> Command {
    lab.command(lab.reach(Path::new(program)))
}

/// The README's first program.
#[test]
fn the_first_program_counts_what_a_testpmd_server_sends() {
    require!("dpdk-testpmd");
    let _turn = Turn::take();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut command = example(&lab, env!("CARGO_BIN_EXE_example-counter"));
    let counter = Process::spawn("counter", command.arg(&socket));
    // Early: there is nobody to connect to yet, and it tries again.
    counter.wait_for_line("there is no such socket, is the server running?");
    let mut testpmd = Testpmd::server(&socket, 0).start(&lab);
    counter.wait_for_line("connected to DPDK");
    testpmd.wait_for_link();
    testpmd.start_with_bursts(10);
    testpmd.quit().succeeds();
    let (packets, bytes) = (10 * BURST, 10 * BURST * 64);
    counter.wait_for_line(&format!("{packets} packets, {bytes} bytes; the peer"));
}

#[test]
fn those_that_play_both_roles_come_to_their_end() {
    let _turn = Turn::take();
    let lab = lab!();
    let run = |program: &str, argument: &[&str], says: &str| {
        let end = lab.run_program(example(&lab, program).args(argument));
        assert!(end.succeeds().contains(says), "{end}");
    };
    run(env!("CARGO_BIN_EXE_example-loopback"), &[], "1000 packets there and back");
    run(env!("CARGO_BIN_EXE_example-icmp-responder"), &["demo"], "192.168.1.1 answers");
    let moved = "100000 packets went from left to right, 6400000 bytes";
    run(env!("CARGO_BIN_EXE_example-forwarder"), &[], moved);
    run(env!("CARGO_BIN_EXE_example-multi-queue"), &["3"], "15000000 packets of 64 bytes over 3 queues");
}
