//! Two testpmds on two ports of one node see each other's frames, and a third station on the bus
//! sees both.

use system_tests::reference::RumpPeer;
use system_tests::testpmd::BURST;
use system_tests::{CpuLock, Lab, Testpmd, WAIT_TIMEOUT, frames, lab, port, require, wait};

/// Probes of a port that comes up, at most.
const MOST_PROBES: u64 = 3;

/// Returns how many of the frames in `pcap` came from `mac`.
fn sent_by(pcap: &[Vec<u8>], mac: frames::Mac) -> u64 {
    pcap.iter().filter(|frame| frame[6..12] == mac).count() as u64
}

fn they_see_each_other(lab: &Lab, alice: &mut Testpmd, bob: &mut Testpmd) {
    let bus = lab.arg("lan.bus");
    alice.wait_for_link();
    bob.wait_for_link();
    let dump = lab.spawn(["dump", &bus, "-f"]);
    dump.wait_for_line("bus version 3");
    let capture = lab.spawn([
        "dump",
        &bus,
        "-f",
        "-c",
        &(5 * BURST).to_string(),
        "-w",
        &lab.arg("both.pcap"),
    ]);
    // The capture starts with what is on the bus, so it misses nothing and needs no wait.

    // Each receives while the other sends, and both continue to receive after they have sent.
    bob.command("start");
    alice.start_with_bursts(2);
    bob.wait_for_rx(2 * BURST);
    bob.command("stop");
    bob.start_with_bursts(3);
    alice.wait_for_rx(3 * BURST);
    // A port that comes up beside another looks for a loop, and its peer hears that.
    for (testpmd, sent_to_it) in [(alice, 3 * BURST), (bob, 2 * BURST)] {
        let heard = testpmd.stats().rx_packets;
        let expected = sent_to_it..=sent_to_it + MOST_PROBES;
        assert!(expected.contains(&heard), "{heard}: its own frames do not come back");
    }

    dump.wait_for_line(&format!("packet {}, ", 5 * BURST - 1));
    capture.finish(WAIT_TIMEOUT).succeeds();
    let captured = frames::read_pcap(&lab.path("both.pcap"));
    assert_eq!(sent_by(&captured, [2, 0, 0, 0, 0, 0xa]), 2 * BURST);
    assert_eq!(sent_by(&captured, [2, 0, 0, 0, 0, 0xb]), 3 * BURST);
}

#[test]
fn two_testpmd_clients_on_one_socket_see_each_other() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let socket = lab.path("m.sock");
    let ports = [port::server(&socket, 0, ""), port::server(&socket, 1, "")];
    let _node = lab.ready(["attach", &lab.arg("lan.bus"), &ports[0], &ports[1]]);
    let mut alice = Testpmd::client(&socket, 0).key("mac=02:00:00:00:00:0a").start(&lab);
    let mut bob = Testpmd::client(&socket, 1).key("mac=02:00:00:00:00:0b").start(&lab);
    they_see_each_other(&lab, &mut alice, &mut bob);
}

#[test]
fn a_testpmd_client_and_a_testpmd_server_see_each_other() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (ours, theirs) = (lab.path("ours.sock"), lab.path("theirs.sock"));
    let mut bob = Testpmd::server(&theirs, 0).key("mac=02:00:00:00:00:0b").start(&lab);
    let ports = [port::server(&ours, 0, ""), port::client(&theirs, 0, "")];
    let _node = lab.ready(["attach", &lab.arg("lan.bus"), &ports[0], &ports[1]]);
    let mut alice = Testpmd::client(&ours, 0).key("mac=02:00:00:00:00:0a").start(&lab);
    they_see_each_other(&lab, &mut alice, &mut bob);
}

/// One testpmd floods the bus. The flood must not keep the other from answering a third station's
/// ping.
#[test]
fn a_flood_on_one_port_leaves_another_port_reachable() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (bus, socket) = (lab.arg("lan.bus"), lab.path("m.sock"));
    let _node =
        lab.ready(["attach", &bus, &port::server(&socket, 0, ""), &port::server(&socket, 1, "")]);
    let mut flood = Testpmd::client(&socket, 0).forwards("txonly").start(&lab);
    let mut echo = Testpmd::client(&socket, 1).forwards("icmpecho").start(&lab);
    flood.wait_for_link();
    echo.wait_for_link();
    let mut station = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    assert!(station.wait(WAIT_TIMEOUT).is_some(), "the flood is on the bus");
    // Under a flood the bus overruns its readers, so frames are lost by design: some answers must
    // come, not all.
    let pinged = wait::poll(WAIT_TIMEOUT, || {
        let ping =
            ["ping", &bus, "10.0.0.9", "--from", "10.0.0.1/24", "-c", "5", "-i", "0.05", "--json"];
        let answer: serde_json::Value = serde_json::from_str(&lab.run(ping).stdout).ok()?;
        (answer["received"].as_u64()? > 0).then_some(())
    });
    assert!(pinged.is_some(), "no ping gets through");
}
