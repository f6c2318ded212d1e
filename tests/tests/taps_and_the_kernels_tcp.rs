//! The kernel's TCP between two network namespaces, over TAP interfaces on one bus. Every byte
//! arrives, whichever side leaves checksums and segmentation to its station. The rate is compared
//! with that of VDE.

use system_tests::namespace::{self, Namespace};
use system_tests::{CpuLock, Lab, Process, WAIT_TIMEOUT, lab, require, wait};

const ALICE: [&str; 2] = ["10.0.0.1/24", "fd00::1/64"];
const BOB: [&str; 2] = ["10.0.0.2/24", "fd00::2/64"];

/// Bytes of a transfer: many times around the ring.
const BYTES: &str = "20000000";

/// Two namespaces with a TAP each, on one bus.
struct Pair<'l> {
    alice: Namespace<'l>,
    bob: Namespace<'l>,
    nodes: [Process; 2],
}

impl<'l> Pair<'l> {
    fn new(lab: &'l Lab, alice_keys: &str, bob_keys: &str) -> Self {
        let (alice, bob) = (Namespace::new(lab), Namespace::new(lab));
        let bus = lab.arg("lan.bus");
        let nodes =
            [alice.attach_tap(&bus, alice_keys, ALICE), bob.attach_tap(&bus, bob_keys, BOB)];
        Self { alice, bob, nodes }
    }

    fn stop(self) {
        for node in self.nodes {
            node.signal(nix::sys::signal::Signal::SIGTERM);
            node.finish(WAIT_TIMEOUT).succeeds();
        }
    }
}

/// Sends from one namespace to the other, and compares every byte.
fn transfer(lab: &Lab, from: &Namespace<'_>, to: &Namespace<'_>, address: &str) {
    transfer_some(lab, BYTES, from, to, address);
}

fn transfer_some(lab: &Lab, bytes: &str, from: &Namespace<'_>, to: &Namespace<'_>, address: &str) {
    let program = lab.reach(env!("CARGO_BIN_EXE_tcp-transfer").as_ref());
    let receiver = to.spawn(&program, ["receive", address, bytes]);
    receiver.wait_for_line("listening");
    let sender = from.spawn(&program, ["send", address, bytes]);
    receiver.wait_for_line("whole");
    sender.finish(WAIT_TIMEOUT).succeeds();
    receiver.finish(WAIT_TIMEOUT).succeeds();
}

fn every_byte_arrives(alice_keys: &str, bob_keys: &str) {
    if !namespace::available() {
        return;
    }
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let pair = Pair::new(&lab, alice_keys, bob_keys);
    transfer(&lab, &pair.alice, &pair.bob, "10.0.0.2:1000");
    transfer(&lab, &pair.bob, &pair.alice, "10.0.0.1:1000");
    transfer(&lab, &pair.alice, &pair.bob, "[fd00::2]:1000");
    pair.stop();
}

#[test]
fn every_byte_arrives_with_offload() {
    every_byte_arrives("offload=on", "offload=on");
}

#[test]
fn every_byte_arrives_without_offload() {
    every_byte_arrives("offload=off", "offload=off");
}

#[test]
fn every_byte_arrives_when_only_one_leaves_work_to_its_station() {
    every_byte_arrives("offload=on", "offload=off");
}

/// Starts `attach` in a namespace, waits until it is ready, and sets its `tap0` up.
fn attach(space: &Namespace<'_>, lab: &Lab, words: &str, addresses: [&str; 2]) -> Process {
    let node = space.spawn(lab.program(), ["attach"].into_iter().chain(words.split(' ')));
    node.wait_for_line("ready");
    space.set_up("tap0", addresses);
    node
}

#[test]
fn the_queues_of_an_interface_share_its_flows() {
    if !namespace::available() {
        return;
    }
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (alice, bob) = (Namespace::new(&lab), Namespace::new(&lab));
    let bus = lab.arg("lan.bus");
    let several = attach(&alice, &lab, &format!("{bus} tap:queues=2,learn=on --threads 2"), ALICE);
    let single = attach(&bob, &lab, &format!("{bus} tap:tap0"), BOB);
    transfer(&lab, &alice, &bob, "10.0.0.2:1000");
    transfer(&lab, &bob, &alice, "[fd00::1]:1000");
    // Every packet arrives once, and not by each queue.
    let ping = ["-c", "5", "-i", "0.05", "-W", "5", "10.0.0.1"];
    let shown = lab.run_program(bob.command("ping").args(ping));
    assert!(!shown.succeeds().contains("DUP"), "{shown}");
    // Each transfer is another flow, by its port; sooner or later each queue has one.
    let mut port = 1_001..2_000;
    wait::until("both queues carry frames to the kernel", WAIT_TIMEOUT, || {
        let address = format!("10.0.0.1:{}", port.next().expect("a port"));
        transfer_some(&lab, "100000", &bob, &alice, &address);
        let shown = lab.run(["show", &bus, "--json"]).json();
        let ports = shown["ports"].as_array().expect("ports");
        let has_sent = |name: &str| {
            ports.iter().any(|it| it["name"] == name && it["tx_packets"].as_u64() > Some(20))
        };
        has_sent("tap tap0 queue 1") && has_sent("tap tap0 queue 2")
    });
    for node in [several, single] {
        node.interrupt().succeeds();
    }
    // Nothing else serves two queues.
    for (words, why) in [
        ("tap:queues=2", "tap0 is to have 2 queues, and a thread serves each, but there are 1"),
        ("tap:tap0,queues=3 --threads 2", "give --threads 3, or fewer queues"),
    ] {
        let refused =
            alice.spawn(lab.program(), ["attach", &bus].into_iter().chain(words.split(' ')));
        refused.finish(WAIT_TIMEOUT).fails_with(2, &[why]);
    }
    alice.ip("tuntap add dev tap0 mode tap");
    let other = ["attach", &bus, "tap:queues=2", "--threads", "2"];
    let refused = alice.spawn(lab.program(), other).finish(WAIT_TIMEOUT);
    refused.fails_with(2, &["tap0 exists and is not a TAP interface with several queues"]);
}

#[test]
fn a_node_serves_the_queues_of_a_recorded_interface() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let (alice, bob) = (Namespace::new(&lab), Namespace::new(&lab));
    let bus = lab.arg("lan.bus");
    lab.run(["create", "tap0", "queues=2", "up=on", "ip=10.0.0.1/24", "mac=02:00:00:00:00:07"])
        .succeeds();
    lab.run(["linkstr", "tap0", &bus]).succeeds();
    lab.run(["up", "tap0"]).succeeds();
    let few = alice.spawn(lab.program(), ["node"]);
    few.wait_for_line("ready");
    let shown = lab.run(["show", "tap0"]);
    assert!(shown.succeeds().contains("give --threads 2, or fewer queues"), "{shown}");
    few.interrupt().succeeds();
    let node = alice.spawn(lab.program(), ["node", "--threads", "2"]);
    node.wait_for_line("ready");
    let peer = attach(&bob, &lab, &format!("{bus} tap:tap0"), BOB);
    transfer_some(&lab, "100000", &bob, &alice, "10.0.0.1:1000");
    let shown = lab.run(["show", &bus, "--json"]).json();
    let ports = shown["ports"].as_array().expect("ports");
    let names: Vec<_> = ports.iter().map(|it| it["name"].as_str().expect("a name")).collect();
    assert!(names.contains(&"tap0") && names.contains(&"tap0 queue 2"), "{names:?}");
    // The interface takes all its queues with it, and comes back with them.
    alice.ip("link delete tap0");
    wait::until("the interface is there again", WAIT_TIMEOUT, || {
        let shown = lab.run_program(alice.command("ip").args(["-d", "link", "show", "tap0"]));
        shown.status.success() && shown.stdout.contains("multi_queue numqueues 2")
    });
    transfer_some(&lab, "100000", &bob, &alice, "10.0.0.1:1000");
    peer.interrupt().succeeds();
    node.interrupt().succeeds();
}

#[test]
fn an_interface_that_is_set_down_or_deleted_is_no_trouble_for_the_others() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let space = Namespace::new(&lab);
    let bus = lab.arg("lan.bus");
    let node = space.spawn(
        lab.program(),
        ["attach", &bus, "tap:name=one", "tap:name=two,mac=02:00:00:00:00:02"],
    );
    node.wait_for_line("ready");
    let _host = lab.ready(["host", &bus, "10.0.0.9/24"]);
    // Each ping uses its own interface, whatever routes there are.
    let answers = |interface: &str| {
        let ping = ["-I", interface, "-c", "1", "-W", "1", "10.0.0.9"];
        wait::poll(WAIT_TIMEOUT, || {
            let finished = space.spawn("ping", ping).finish(WAIT_TIMEOUT);
            finished.status.success().then_some(())
        })
        .is_some()
    };
    space.ip("address add 10.0.0.1/24 dev one");
    space.ip("address add 10.0.0.2/24 dev two");
    space.ip("link set one up");
    space.ip("link set two up");
    assert!(answers("one") && answers("two"));
    space.ip("link set one down");
    assert!(answers("two"));
    space.ip("link set one up");
    assert!(answers("one"), "up again");
    space.ip("link delete one");
    node.wait_for_line("tap one: the interface was deleted");
    assert!(answers("two"));
    // Without any interface the node has nothing left to do.
    space.ip("link delete two");
    let ended = node.finish(WAIT_TIMEOUT);
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert!(ended.stderr.ends_with("busctl: tap two: the interface was deleted\n"), "{ended}");
}

#[test]
fn what_keeps_an_interface_from_being_created_is_reported() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    // Unprivileged, and outside of any namespace of its own.
    lab.run(["attach", &bus, "tap:name=tap0"])
        .fails_with(2, &["not allowed to open tap0", "unshare -Urn"]);
    let space = Namespace::new(&lab);
    let first = space.spawn(lab.program(), ["attach", &bus, "tap:name=tap0"]);
    first.wait_for_line("ready");
    let second = space.spawn(lab.program(), ["attach", &bus, "tap:name=tap0"]);
    second.finish(WAIT_TIMEOUT).fails_with(2, &["tap0 is in use by another process"]);
    let lo = space.spawn(lab.program(), ["attach", &bus, "tap:name=lo"]);
    lo.finish(WAIT_TIMEOUT).fails_with(2, &["lo exists and is not a TAP interface"]);
    lab.run(["attach", &bus, "tapp:name=tap0"])
        .fails_with(2, &["no kind of port called 'tapp'", "did you mean 'tap'?"]);
}

/// Returns the bits a second that `iperf3` gets from Alice to Bob in one second.
fn iperf(lab: &Lab, alice: &Namespace<'_>, bob: &Namespace<'_>) -> f64 {
    let server = bob.spawn("iperf3", ["--server", "--one-off", "--forceflush"]);
    server.wait_for_line("Server listening");
    let client = ["--client", "10.0.0.2", "--time", "1", "--json"];
    let report = lab.run_program(alice.command("iperf3").args(client)).json();
    server.finish(WAIT_TIMEOUT).succeeds();
    report["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate")
}

/// Returns the best of three runs, because other programs use the machine, too.
fn best_of_three(mut rate: impl FnMut() -> f64) -> f64 {
    (0..3).map(|_| rate()).fold(0.0, f64::max)
}

#[test]
fn tcp_is_at_least_twice_as_fast_as_over_vde() {
    require!("iperf3", "vde_switch", "vde_plug2tap");
    if !namespace::available() {
        return;
    }
    let _cpus = CpuLock::acquire();
    let ours = |keys: &str| {
        let lab = lab!();
        let pair = Pair::new(&lab, keys, keys);
        let rate = best_of_three(|| iperf(&lab, &pair.alice, &pair.bob));
        pair.stop();
        rate
    };
    let (with, without, theirs) = (ours("offload=on"), ours("offload=off"), over_vde());
    let giga = 1e-9;
    println!(
        "TCP between two TAPs: {:.2} Gbit/s over a bus, {:.2} without offload, {:.2} over VDE",
        with * giga,
        without * giga,
        theirs * giga
    );
    assert!(with >= 2.0 * theirs);
}

fn over_vde() -> f64 {
    let lab = lab!();
    let control = lab.arg("switch");
    let switch = Process::spawn("vde_switch", lab.command("vde_switch").args(["--sock", &control]));
    wait::until("the switch listens", WAIT_TIMEOUT, || lab.path("switch/ctl").exists());
    let side = |addresses| {
        let space = Namespace::new(&lab);
        space.ip("tuntap add dev tap0 mode tap");
        let plug = space.spawn("vde_plug2tap", ["--sock", &control, "tap0"]);
        space.set_up("tap0", addresses);
        (space, plug)
    };
    let (alice, bob) = (side(ALICE), side(BOB));
    let reached = || {
        let ping = ["-c", "1", "-W", "1", "10.0.0.2"];
        alice.0.spawn("ping", ping).finish(WAIT_TIMEOUT).status.success().then_some(())
    };
    assert!(wait::poll(WAIT_TIMEOUT, reached).is_some(), "VDE carries a ping");
    let rate = best_of_three(|| iperf(&lab, &alice.0, &bob.0));
    drop((alice, bob, switch));
    rate
}
