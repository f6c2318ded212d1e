//! A change to an interface reaches the process that runs it: `attach`, a host, a ping or a replay.

use memif::ClientOptions;
use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::memifpeer::MemifPeer;
use system_tests::{Lab, Process, WAIT_TIMEOUT, frames, lab, wait};

const MAC: &str = "02:00:00:00:00:01";

/// Creates shmif0, which is up on `./lan.bus`.
fn make(lab: &Lab) {
    lab.does(&format!("create shmif0 mac={MAC}"));
    lab.does("linkstr shmif0 ./lan.bus");
    lab.does("up shmif0");
}

/// Starts `attach` on shmif0 with two memif ports, and connects their peers.
fn attached(lab: &Lab) -> (Process, MemifPeer, MemifPeer) {
    let node =
        lab.ready(["attach", "shmif0", "memif:id=0,socket=./m.sock", "memif:id=1,socket=./m.sock"]);
    let socket = lab.path("m.sock");
    let mut alice = MemifPeer::client(&socket, ClientOptions::new(0));
    let mut bob = MemifPeer::client(&socket, ClientOptions::new(1));
    alice.reach(&mut bob);
    bob.reach(&mut alice);
    (node, alice, bob)
}

fn dropped(shown: &Value) -> Option<u64> {
    shown["tx_dropped"].as_u64()
}

/// Asserts that what Alice sends is dropped and does not reach Bob.
fn are_apart(lab: &Lab, alice: &mut MemifPeer, bob: &mut MemifPeer) {
    let before = dropped(&lab.show("shmif0"));
    let burst: Vec<_> = (0..32).map(|number| frames::numbered(60, number)).collect();
    alice.send_all(&burst);
    lab.shows("shmif0", "what was dropped", |shown| {
        dropped(shown) >= before.map(|before| before + 32)
    });
    assert_eq!(bob.receive(|_| ()), 0);
}

#[test]
fn a_bus_that_goes_while_the_interface_is_down_ends_nothing() {
    let lab = lab!();
    make(&lab);
    let (_node, mut alice, mut bob) = attached(&lab);
    lab.does("down shmif0");
    let file = std::fs::File::options().write(true).open(lab.path("lan.bus")).expect("a bus");
    file.set_len(4_096).expect("cut short");
    are_apart(&lab, &mut alice, &mut bob);
    lab.does("linkstr shmif0 --unset");
    lab.does("linkstr shmif0 ./other.bus");
    lab.does("up shmif0");
    alice.reach(&mut bob);
    assert_eq!((alice.details().links, bob.details().links), (1, 1), "they never lost their peers");
}

#[test]
fn ports_are_on_the_bus_of_their_interface_while_that_is_up() {
    let lab = lab!();
    make(&lab);
    let (node, mut alice, mut bob) = attached(&lab);
    lab.shows("shmif0", "what goes through", |shown| {
        shown["pid"] == node.id()
            && shown["rx_packets"].as_u64() > Some(0)
            && shown["tx_packets"].as_u64() > Some(0)
            && shown["tx_bytes"].as_u64() > Some(0)
    });
    let second = lab.run(["host", "shmif0", "10.0.0.1/24"]);
    second.fails_with(1, &["shmif0 is run by process", &node.id().to_string()]);

    for [off, on] in
        [["down shmif0", "up shmif0"], ["set shmif0 media=none", "set shmif0 media=auto"]]
    {
        lab.does(off);
        are_apart(&lab, &mut alice, &mut bob);
        lab.does(on);
        alice.reach(&mut bob);
        bob.reach(&mut alice);
    }

    // Move to another bus: no station is left on the first.
    lab.run(["linkstr", "shmif0", "--unset"]).fails_with(2, &["shmif0 is up: take it down before"]);
    lab.does("down shmif0");
    lab.does("linkstr shmif0 --unset");
    lab.does("linkstr shmif0 ./other.bus");
    lab.does("up shmif0");
    alice.reach(&mut bob);
    let stations = |bus: &str| lab.show(bus)["stations"].as_u64();
    assert_eq!((stations("./lan.bus"), stations("./other.bus")), (Some(0), Some(2)));

    // The bus lists the station by the current address of its interface.
    let has = |mac: &str| lab.show("./other.bus")["members"].to_string().contains(mac);
    assert!(has(MAC));
    lab.does("set shmif0 mac=02:00:00:00:00:02 promisc=on capenable=0x880");
    assert!(has("02:00:00:00:00:02") && !has(MAC));
    alice.reach(&mut bob);

    // The peers were connected all this time.
    assert_eq!((alice.details().links, bob.details().links), (1, 1));
    let before = lab.show("shmif0");
    let ended = node.interrupt();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{ended}");
    let after = lab.show("shmif0");
    assert_eq!(after["running"], false);
    for counter in ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_dropped"] {
        assert!(
            after[counter].as_u64() >= before[counter].as_u64(),
            "{counter}: {after} after {before}"
        );
    }
}

#[test]
fn a_bus_that_ports_cannot_join_is_reported_and_tried_again() {
    let lab = lab!();
    make(&lab);
    let (node, mut alice, mut bob) = attached(&lab);
    lab.does("down shmif0");
    std::fs::remove_file(lab.path("lan.bus")).expect("the bus is removed");
    std::fs::create_dir(lab.path("lan.bus")).expect("a folder in its place");
    let up = lab.run(["up", "shmif0"]);
    up.fails_with(
        1,
        &["shmif0 is changed, but process", &node.id().to_string(), "it is a directory"],
    );
    node.wait_for_line("busctl: shmif0: ");
    assert!(lab.show("shmif0")["trouble"].is_string());
    are_apart(&lab, &mut alice, &mut bob);
    std::fs::remove_dir(lab.path("lan.bus")).expect("the folder is removed");
    lab.shows("shmif0", "no trouble", |shown| shown["trouble"] == Value::Null);
    alice.reach(&mut bob);
    assert_eq!(alice.details().links, 1);
}

#[test]
fn an_interface_does_not_come_onto_a_bus_its_ports_are_on() {
    let lab = lab!();
    make(&lab);
    let node = lab.ready(["attach", "shmif0", "bus:./far.bus"]);
    lab.does("down shmif0");
    lab.does("linkstr shmif0 --unset");
    lab.does("linkstr shmif0 ./far.bus");
    lab.run(["up", "shmif0"]).fails_with(1, &["in trouble", "to itself", "round for ever"]);
    // Back on its old bus, it may join.
    lab.does("down shmif0");
    lab.does("linkstr shmif0 --unset");
    lab.does("linkstr shmif0 ./lan.bus");
    lab.does("up shmif0");
    let _host = lab.ready(["host", "./far.bus", "10.0.0.1/24"]);
    lab.does("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 1");
    assert_eq!(node.interrupt().status.code(), Some(0));
}

/// Asserts that `process` ends and leaves nothing, and that its last line is the reason.
fn ended_by_destroy(lab: &Lab, process: Process, code: i32) {
    let ended = process.finish(WAIT_TIMEOUT);
    assert_eq!(ended.status.code(), Some(code), "{ended}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("busctl: shmif0 was destroyed"), "{ended}");
    for folder in ["interfaces", "running", "reports"] {
        assert_eq!(Lab::list(&lab.state().join(folder)), [""; 0], "{folder}");
    }
}

#[test]
fn a_process_that_runs_a_destroyed_interface_lets_go_and_ends() {
    // A host and a node run until they are stopped, so this end is a success.
    let lab = lab!();
    make(&lab);
    let host = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
    lab.does("destroy shmif0");
    ended_by_destroy(&lab, host, 0);

    make(&lab);
    let (node, mut alice, _bob) = attached(&lab);
    lab.does("destroy shmif0");
    ended_by_destroy(&lab, node, 0);
    let _reason = alice.loss();
    assert!(!lab.path("m.sock").exists());

    // Also while the interface is down.
    make(&lab);
    let host = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
    lab.does("down shmif0");
    lab.does("destroy shmif0");
    ended_by_destroy(&lab, host, 0);

    // A ping and a replay have not finished their work, so this end is a failure.
    make(&lab);
    let _host = lab.ready(["host", "./lan.bus", "10.0.0.1/24"]);
    let ping = lab.spawn(["ping", "shmif0", "10.0.0.1", "--from", "10.0.0.2/24", "-i", "0.1"]);
    ping.wait_for_line("icmp_seq=1");
    lab.does("destroy shmif0");
    ping.wait_for_line("ping statistics");
    ended_by_destroy(&lab, ping, 1);

    make(&lab);
    lab.does("dump ./lan.bus -q -w lan.pcap");
    let replay = lab.spawn(["replay", "lan.pcap", "shmif0", "--pps", "1000", "--loop", "1000000"]);
    wait::until("it plays", WAIT_TIMEOUT, || lab.show("shmif0")["running"] == true);
    lab.does("destroy shmif0");
    ended_by_destroy(&lab, replay, 1);
}

#[test]
fn a_process_that_does_not_let_go_of_a_destroyed_interface_is_named() {
    let lab = lab!();
    make(&lab);
    let host = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
    host.signal(Signal::SIGSTOP);
    let pid = host.id().to_string();
    lab.run(["destroy", "shmif0"])
        .fails_with(1, &["shmif0 is destroyed, but process", &pid, "not let go"]);
    host.signal(Signal::SIGCONT);
    ended_by_destroy(&lab, host, 0);
}
