//! A hundred links with DPDK as the peer come and go, and leave nothing behind here. This is one
//! test, because it counts for the whole process.

use std::fs;

use memif::{ClientOptions, InterfaceOptions};
use system_tests::memifpeer::{Listening, MemifPeer};
use system_tests::{CpuLock, Testpmd, lab, require};

const CYCLES: usize = 100;

/// Returns the number of open descriptors and of mapped memory files of this process.
fn held() -> (usize, usize) {
    let fds = fs::read_dir("/proc/self/fd").expect("a process has descriptors").count();
    let maps = fs::read_to_string("/proc/self/maps").expect("a process has mappings");
    (fds, maps.lines().filter(|line| line.contains("memfd:")).count())
}

#[test]
fn a_hundred_links_with_testpmd_leave_nothing_behind() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();

    // As the server: testpmd's port goes down and up again.
    let socket = lab.path("server.sock");
    let before = held();
    let listening = Listening::on(&socket, InterfaceOptions::new(3));
    let (mut testpmd, mut peer) = std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listening.accept());
        let testpmd = Testpmd::client(&socket, 3).queues(2).start(&lab);
        (testpmd, accepted.join().expect("a link"))
    });
    let connected = held();
    for _ in 0..CYCLES {
        testpmd.wait_for_link();
        assert_eq!(held(), connected);
        testpmd.command("port stop 0");
        peer.loss();
        testpmd.wait_for_link_loss();
        testpmd.command("port start 0");
        peer.come_back();
    }
    assert_eq!(peer.details().links, 1 + u64::try_from(CYCLES).expect("few"));
    testpmd.quit().succeeds();
    drop(peer);
    assert_eq!(held(), before);

    // As the client: we disconnect and connect again.
    let socket = lab.path("client.sock");
    let mut testpmd = Testpmd::server(&socket, 3).queues(2).start(&lab);
    let before = held();
    let mut peer = MemifPeer::client(&socket, ClientOptions::new(3).rx_queues(2).tx_queues(2));
    let connected = held();
    for _ in 0..CYCLES {
        // Its driver fails on a link that ends before it is up.
        testpmd.wait_for_link();
        assert_eq!(held(), connected);
        peer.hang_up();
        testpmd.wait_for_link_loss();
        peer.come_back();
    }
    assert_eq!(peer.details().links, 1 + u64::try_from(CYCLES).expect("few"));
    drop(peer);
    assert_eq!(held(), before);
    testpmd.quit().succeeds();
}
