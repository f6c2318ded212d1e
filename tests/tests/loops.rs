//! Loops of buses: each is found, exactly one port of it is blocked and named, and no frame goes
//! round. When the loop is gone, the port is open again.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use shmbus::{Burst, Bus, Station, StationOptions};
use system_tests::namespace::{self, Namespace};
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, require, wait};

/// Frames of a trial.
const FRAMES: u8 = 20;
/// The `EtherType` of the frames, which no station answers.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// Starts `attach`; `words` are the bus and the ports.
fn attach(lab: &Lab, words: &str) -> Process {
    lab.ready(["attach"].into_iter().chain(words.split(' ')))
}

/// Returns the ports on a bus, by name, with the states of their links.
fn links(lab: &Lab, bus: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ports = lab.show(bus)["ports"].as_array().cloned().unwrap_or_default();
    ports.iter().map(|port| (text(&port["name"]), text(&port["link"]))).collect()
}

/// Returns how many ports of these buses are blocked, and how many are open.
fn blocked_and_open(lab: &Lab, buses: &[&str]) -> (usize, usize) {
    let links: Vec<_> = buses.iter().flat_map(|bus| links(lab, bus)).collect();
    let count = |state: &str| links.iter().filter(|(_, link)| link == state).count();
    (count("blocked"), count("up"))
}

fn wait_for_links(lab: &Lab, buses: &[&str], blocked: usize, open: usize) {
    let mut last = Vec::new();
    let found = wait::poll(WAIT_TIMEOUT, || {
        last = buses.iter().flat_map(|bus| links(lab, bus)).collect();
        (blocked_and_open(lab, buses) == (blocked, open)).then_some(())
    });
    assert!(found.is_some(), "{blocked} blocked and {open} open ports in {last:?}");
}

fn join(lab: &Lab, bus: &str) -> Station {
    let bus = Bus::open(lab.path(bus)).expect("a bus");
    Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined")
}

/// Sends broadcasts on one bus. Each reaches every bus exactly once.
fn every_frame_passes_once(lab: &Lab, buses: &[&str]) {
    let mut sender = join(lab, buses[0]);
    let mut witnesses: Vec<Station> = buses.iter().map(|bus| join(lab, bus)).collect();
    let mut seen: Vec<BTreeMap<u8, u32>> = vec![BTreeMap::new(); buses.len()];
    let mut burst = Burst::new(256);
    for number in 0..FRAMES {
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &ETHERTYPE, &[number; 46]].concat();
        sender.send(&frame).expect("sent");
        wait::until("the frame has reached every bus", WAIT_TIMEOUT, || {
            for (witness, seen) in witnesses.iter_mut().zip(&mut seen) {
                witness.recv_burst(&mut burst);
                for frame in &burst {
                    if frame.bytes[12..14] == ETHERTYPE {
                        *seen.entry(frame.bytes[14]).or_default() += 1;
                    }
                }
            }
            seen.iter().all(|seen| seen.contains_key(&number))
        });
    }
    for (bus, seen) in buses.iter().zip(&seen) {
        assert!(seen.values().all(|count| *count == 1), "copies on {bus}: {seen:?}");
    }
}

#[test]
fn three_buses_in_a_ring_are_a_lan_without_a_loop() {
    let lab = lab!();
    let first = attach(&lab, "./a bus:./b");
    let _second = attach(&lab, "./b bus:./c");
    let last = attach(&lab, "./c bus:./a");
    // The port that comes last is blocked before it is said to be ready.
    assert!(last.wait_for_line("blocked").contains("bus a: blocked: what leaves ./c by this port"));
    wait_for_links(&lab, &["./a", "./b", "./c"], 1, 2);
    assert_eq!(links(&lab, "./c"), [("bus a".to_owned(), "blocked".to_owned())]);
    every_frame_passes_once(&lab, &["a", "b", "c"]);
    // The ring is cut. What is left becomes a LAN again.
    first.interrupt().succeeds();
    last.wait_for_line("bus a: the loop is gone; frames pass again");
    wait_for_links(&lab, &["./b", "./c"], 0, 2);
    every_frame_passes_once(&lab, &["a", "b", "c"]);
}

#[test]
fn ports_that_come_at_once_leave_one_of_them_out() {
    let lab = lab!();
    let buses = ["./a", "./b", "./c", "./d"];
    let nodes: Vec<Process> = (0..buses.len())
        .map(|index| {
            let port = format!("bus:{}", buses[(index + 1) % buses.len()]);
            lab.spawn(["attach", buses[index], &port])
        })
        .collect();
    for node in &nodes {
        node.wait_for_line("ready");
    }
    wait_for_links(&lab, &buses, 1, 3);
    every_frame_passes_once(&lab, &["a", "b", "c", "d"]);
}

#[test]
fn a_ring_with_two_ports_in_one_process_is_found() {
    let lab = lab!();
    let _far = attach(&lab, "./b bus:./c");
    let node = attach(&lab, "./a bus:./b bus:./c");
    node.wait_for_line("blocked");
    wait_for_links(&lab, &["./a", "./b"], 1, 2);
    every_frame_passes_once(&lab, &["a", "b", "c"]);
}

#[test]
fn a_bus_that_meets_itself_over_memif_is_found_when_the_peer_connects() {
    let lab = lab!();
    let server = attach(&lab, "./a memif:id=0,socket=./m.sock");
    every_frame_passes_once(&lab, &["a"]);
    let client = attach(&lab, "./a memif:role=client,id=0,socket=./m.sock");
    wait_for_links(&lab, &["./a"], 1, 1);
    every_frame_passes_once(&lab, &["a"]);
    let said =
        |node: &Process| node.lines_after(0).iter().any(|line| line.text.contains("blocked"));
    assert_ne!(said(&server), said(&client), "one of the two says so");
    client.interrupt().succeeds();
    wait_for_links(&lab, &["./a"], 0, 0);
    drop(server);
}

#[test]
fn a_node_and_an_attach_find_their_loop() {
    let lab = lab!();
    for words in ["socket add 1 ./m.sock", "create memif1/0", "linkstr memif1/0 ./a"] {
        lab.does(words);
    }
    let up = lab.run(["up", "memif1/0"]);
    assert_eq!(up.stderr, "busctl: no process runs memif1/0 yet; 'busctl node' does\n", "{up}");
    let _node = lab.ready(["node"]);
    let _join = attach(&lab, "./a bus:./b");
    let _client = attach(&lab, "./b memif:role=client,id=0,socket=./m.sock");
    wait_for_links(&lab, &["./a", "./b"], 1, 2);
    every_frame_passes_once(&lab, &["a", "b"]);
}

/// Two processes with the same number in two pid namespaces are two, and one loop is one.
#[test]
fn nodes_in_containers_are_not_confused() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let contained = |words: &[&str]| {
        let mut command = lab.command("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
        command.arg(lab.program()).arg("attach").args(words);
        let node = Process::spawn("attach in a pid namespace", &mut command);
        node.wait_for_line("ready");
        node
    };
    let _one = contained(&["./a", "bus:./b"]);
    let _two = contained(&["./c", "bus:./d"]);
    let _joins = contained(&["./b", "bus:./c"]);
    wait_for_links(&lab, &["./a", "./b", "./c"], 0, 3);
    every_frame_passes_once(&lab, &["a", "b", "c", "d"]);
    let refused = lab.run(["attach", "./b", "bus:./a"]);
    refused.fails_with(2, &["joins", "already: frames would go round for ever"]);
    refused.fails_with(2, &["process 1 "]);
    let itself = lab.run(["attach", "./a", "bus:./a"]);
    itself.fails_with(2, &["cannot join ./a to itself"]);
}

/// A namespace with two TAPs of one bus in a bridge.
fn bridged<'l>(lab: &'l Lab, stp: &str) -> (Namespace<'l>, Process) {
    let space = Namespace::new(lab);
    let node = space.spawn(
        lab.program(),
        ["attach", &lab.arg("a"), "tap:name=one", "tap:name=two,offload=off"],
    );
    node.wait_for_line("ready");
    space.ip(&format!("link add br0 type bridge {stp}"));
    for interface in ["one", "two"] {
        space.ip(&format!("link set {interface} master br0"));
        space.ip(&format!("link set {interface} up"));
    }
    (space, node)
}

#[test]
fn taps_of_one_bus_in_a_bridge_are_a_loop() {
    if !namespace::available() || !can_bridge() {
        return;
    }
    let lab = lab!();
    let (space, node) = bridged(&lab, "stp_state 0");
    space.ip("link set br0 up");
    // No port sees that the bridge forwards from now on. The first frame goes round until it is
    // found.
    let mut sender = join(&lab, "a");
    wait::until("the loop is found", WAIT_TIMEOUT, || {
        sender.send(&[0xff; 60]).expect("sent");
        blocked_and_open(&lab, &["./a"]) == (1, 1)
    });
    node.wait_for_line("blocked: what leaves");
    every_frame_passes_once(&lab, &["a"]);
    space.ip("link set one nomaster");
    wait_for_links(&lab, &["./a"], 0, 2);
}

/// A bridge that runs the spanning tree protocol finds the loop itself, unless the guard is faster.
#[test]
fn taps_of_one_bus_in_a_bridge_with_a_spanning_tree_are_no_loop() {
    if !namespace::available() || !can_bridge() {
        return;
    }
    let lab = lab!();
    let (space, _node) = bridged(&lab, "stp_state 1 forward_delay 200 hello_time 100");
    space.ip("link set br0 up");
    wait::until("the bridge has decided", WAIT_TIMEOUT, || {
        ["one", "two"].iter().all(|interface| {
            let mut command = space.command("ip");
            let shown = lab.run_program(command.args(["-d", "link", "show", interface]));
            let mut words =
                shown.stdout.split_whitespace().skip_while(|word| *word != "bridge_slave");
            matches!(words.nth(2), Some("forwarding" | "blocking"))
        })
    });
    every_frame_passes_once(&lab, &["a"]);
}

/// Returns whether the kernel has bridges.
fn can_bridge() -> bool {
    let trial = Command::new("unshare")
        .args("--user --map-root-user --net ip link add br0 type bridge".split(' '))
        .output();
    let can = trial.is_ok_and(|done| done.status.success());
    let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
    require::skips(can, "a bridge in a network namespace", required).is_none()
}

#[test]
fn counters_of_ports_are_shown_by_bus_and_said_at_the_end() {
    let lab = lab!();
    let node = attach(&lab, "./a bus:./b");
    every_frame_passes_once(&lab, &["a", "b"]);
    let sent = u64::from(FRAMES);
    lab.shows("./a", "the frames", |shown| {
        let port = &shown["ports"][0];
        port["name"] == "bus b" && port["link"] == "up" && port["tx_packets"].as_u64() >= Some(sent)
    });
    std::os::unix::fs::symlink(lab.path("a"), lab.path("alias")).expect("a link");
    assert_eq!(links(&lab, "./alias"), links(&lab, "./a"), "by any name of the bus");
    let text = lab.does("show ./a");
    assert!(text.contains("\tport bus b: link up, pid "), "{text}");
    let ended = node.interrupt();
    let expected = "busctl: bus b: input 0 packets, 0 bytes, 0 dropped, 0 errors; output ";
    assert!(ended.stderr.contains(expected), "{ended}");
    assert_eq!(links(&lab, "./a"), []);
}

#[test]
fn a_frame_that_is_too_long_for_the_bus_is_said_and_counted() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let space = Namespace::new(&lab);
    let node = space.attach_tap(&lab.arg("a"), "offload=on", ["10.0.0.1/24", "fd00::1/64"]);
    space.ip("link set tap0 mtu 4000");
    space.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0");
    let ping = ["-c", "1", "-W", "1", "-s", "3000", "10.0.0.2"];
    let line = wait::poll(WAIT_TIMEOUT, || {
        // Nothing answers.
        drop(space.spawn("ping", ping).finish(WAIT_TIMEOUT));
        node.lines_after(0).into_iter().find(|line| line.text.contains("longer than"))
    });
    let (line, _) = line.expect("the frame is reported");
    assert!(line.text.contains("1514") && line.text.contains("--size 4M"), "{line:?}");
    lab.shows("./a", "the frame", |shown| {
        let port = &shown["ports"][0];
        port["rx_oversize"].as_u64() >= Some(1) && port["rx_errors"] == 0
    });
    let said = node.lines_after(0);
    let count = said.iter().filter(|line| line.text.contains("longer than")).count();
    assert_eq!(count, 1, "once");
}
