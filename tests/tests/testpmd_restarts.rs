//! The node is restarted under testpmd, and testpmd under the node, with `kill -9`. Testpmd's
//! client never reconnects by itself, and its server fails on the socket it left. Ours never needs
//! anything removed.

use system_tests::reference::RumpPeer;
use system_tests::testpmd::BURST;
use system_tests::{CpuLock, Lab, Testpmd, WAIT_TIMEOUT, frames, lab, port, require};

/// Asserts that frames flow both ways: a burst of testpmd's reaches a station on the bus, and one
/// of the station's reaches testpmd.
fn traffic_flows(lab: &Lab, testpmd: &mut Testpmd) {
    testpmd.wait_for_link();
    let mut station = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    // On a used bus, a rump kernel that attaches reads the newest old frame once.
    while station.receive().is_some() {}
    testpmd.command("stop");
    let before = testpmd.stats();
    testpmd.start_with_bursts(1);
    for number in 0..BURST {
        assert!(station.wait(WAIT_TIMEOUT).is_some(), "frame {number} from testpmd is missing");
    }
    station.send((0..10).map(|number| frames::numbered(100, number)));
    testpmd.wait_for_rx(before.rx_packets + 10);
    // A testpmd that is forwarding when its peer dies is often killed by its own driver, which
    // unmaps the rings in one thread while another polls them (22.11: SIGSEGV in librte_net_memif).
    // This test is not about DPDK.
    testpmd.command("stop");
}

#[test]
fn a_testpmd_client_is_back_after_the_node_was_killed_and_its_own_port_restarted() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (bus, socket) = (lab.arg("lan.bus"), lab.path("m.sock"));
    let port = port::server(&socket, 0, "");
    let mut node = lab.ready(["attach", &bus, &port]);
    let mut testpmd = Testpmd::client(&socket, 0).start(&lab);
    traffic_flows(&lab, &mut testpmd);
    for _ in 0..3 {
        node.kill();
        assert!(
            socket.exists(),
            "a killed listener leaves its socket: that is what the next one has to cope with"
        );
        testpmd.wait_for_link_loss();
        node = lab.ready(["attach", &bus, &port]);
        testpmd.restart_port();
        traffic_flows(&lab, &mut testpmd);
    }
    testpmd.quit().succeeds();
}

#[test]
fn a_new_testpmd_client_takes_the_place_of_one_that_was_killed() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let _node = lab.ready(["attach", &lab.arg("lan.bus"), &port::server(&socket, 0, "")]);
    for _ in 0..3 {
        let mut testpmd = Testpmd::client(&socket, 0).start(&lab);
        traffic_flows(&lab, &mut testpmd);
        testpmd.kill();
    }
}

#[test]
fn our_client_calls_a_testpmd_server_again_by_itself() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    // The node starts first: no server listens yet, and the node keeps calling.
    let mut node = lab.spawn(["attach", &lab.arg("lan.bus"), &port::client(&socket, 0, "")]);
    for _ in 0..3 {
        let mut testpmd = Testpmd::server(&socket, 0).start(&lab);
        traffic_flows(&lab, &mut testpmd);
        testpmd.kill();
        // Testpmd's own stale socket is in its own way.
        std::fs::remove_file(&socket).unwrap();
        assert!(node.is_running());
    }
}

#[test]
fn a_testpmd_server_takes_our_client_back_after_the_node_was_killed() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let mut testpmd = Testpmd::server(&socket, 0).start(&lab);
    for _ in 0..3 {
        let mut node = lab.spawn(["attach", &lab.arg("lan.bus"), &port::client(&socket, 0, "")]);
        traffic_flows(&lab, &mut testpmd);
        node.kill();
    }
    testpmd.quit().succeeds();
}

/// A suspended peer does not delay others: the other port of the node continues, and so does the
/// peer when it is resumed.
#[test]
fn a_suspended_testpmd_does_not_delay_others() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (bus, socket) = (lab.arg("lan.bus"), lab.path("m.sock"));
    let _node =
        lab.ready(["attach", &bus, &port::server(&socket, 0, ""), &port::server(&socket, 1, "")]);
    let mut still = Testpmd::client(&socket, 0).start(&lab);
    let mut lively = Testpmd::client(&socket, 1).start(&lab);
    still.wait_for_link();
    lively.wait_for_link();
    still.suspend(true);
    traffic_flows(&lab, &mut lively);
    still.suspend(false);
    traffic_flows(&lab, &mut still);
}
