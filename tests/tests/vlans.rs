//! VLANs and MTUs: access ports and trunks keep VLANs apart, loops within one are found, and what a
//! bus is too small for is said once and counted.

use serde_json::Value;
use shmbus::{Bus, Station, StationOptions};
use system_tests::namespace::{self, Namespace};
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, wait};

/// Starts `attach`; `words` are the bus and the ports.
fn attach(lab: &Lab, words: &str) -> Process {
    lab.ready(["attach"].into_iter().chain(words.split(' ')))
}

fn reaches(lab: &Lab, bus: &str, address: &str) {
    let from = ["--from", "10.0.0.1/24", "-c", "2", "-i", "0.1"];
    lab.run(["ping", bus, address].into_iter().chain(from)).succeeds();
}

fn misses(lab: &Lab, bus: &str, address: &str) {
    let from = ["--from", "10.0.0.1/24", "-c", "1", "-W", "0.5", "--json"];
    let pinged = lab.run(["ping", bus, address].into_iter().chain(from));
    assert_eq!(pinged.report()["received"], 0, "{bus}");
}

#[test]
fn access_ports_and_trunks_keep_vlans_apart() {
    let lab = lab!();
    let ports = "./lan bus:./ten,vlan=10 bus:./twenty,vlan=20 bus:./trunk,trunk=10,20";
    let _nodes = [attach(&lab, ports), attach(&lab, "./trunk bus:./far,vlan=10")];
    let _hosts = [
        lab.ready(["host", "./far", "10.0.0.2/24"]),
        lab.ready(["host", "./twenty", "10.0.0.3/24"]),
    ];
    reaches(&lab, "./ten", "10.0.0.2");
    misses(&lab, "./ten", "10.0.0.3");
    misses(&lab, "./lan", "10.0.0.2");
}

#[test]
fn a_native_vlan_has_its_tag_inside_only() {
    let lab = lab!();
    let _nodes = [
        attach(&lab, "./lan bus:./inside,trunk=10,native=10"),
        attach(&lab, "./inside bus:./leaf,vlan=10"),
    ];
    let _host = lab.ready(["host", "./lan", "10.0.0.2/24"]);
    reaches(&lab, "./leaf", "10.0.0.2");
}

#[test]
fn a_loop_within_a_vlan_is_found_and_others_are_none() {
    let lab = lab!();
    let _first = attach(&lab, "./lan bus:./a,vlan=10");
    let _cable = attach(&lab, "./a bus:./b");
    let other = attach(&lab, "./lan bus:./b,vlan=20");
    let blocked = |lab: &Lab| {
        let ports = ["./lan", "./a"].map(|bus| lab.show(bus)["ports"].clone());
        let ports = ports.iter().filter_map(Value::as_array).flatten();
        ports.filter(|port| port["link"] == "blocked").count()
    };
    assert_eq!(blocked(&lab), 0, "what goes out in VLAN 10 comes back in 20, and ends there");
    other.interrupt().succeeds();
    let _same = attach(&lab, "./lan bus:./b,vlan=10");
    wait::until("one port is blocked", WAIT_TIMEOUT, || blocked(&lab) == 1);
}

#[test]
fn a_frame_that_is_too_long_by_its_tag_is_said_once_and_counted() {
    let lab = lab!();
    lab.ready(["attach", "./big", "pcap:out=big.pcap", "--size", "4M"]).interrupt().succeeds();
    assert_eq!(lab.show("./big")["mtu"], 9_202);
    let node = attach(&lab, "./lan bus:./big");
    assert_eq!(lab.show("./lan")["mtu"], 1_500);
    let bus = Bus::open(lab.path("big")).expect("a bus");
    let mut station = Station::join(bus, StationOptions::new()).expect("joined");
    let mut frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x81\0\0\x05\x88\xb5".to_vec();
    frame.resize(1_518, 0);
    for _ in 0..3 {
        station.send(&frame).expect("sent");
    }
    let line = node.wait_for_line("with their VLAN tag");
    for words in ["1514 bytes", "--size 4M", "lower the MTU of the VLAN to 1496", "vlan=N"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let oversize = || lab.show("./lan")["ports"][0]["rx_oversize"].as_u64();
    wait::until("all are counted", WAIT_TIMEOUT, || oversize() == Some(3));
    let lines = node.lines_after(0);
    let said = lines.iter().filter(|line| line.text.contains("VLAN tag")).count();
    assert_eq!(said, 1, "{lines:?}");
}

#[test]
fn the_mtu_of_an_interface_is_set_and_shown() {
    let lab = lab!();
    lab.does("create shmif0");
    lab.does("linkstr shmif0 ./lan");
    assert_eq!(lab.show("shmif0")["mtu"], 1_500);
    let refused = lab.run(["set", "shmif0", "mtu=9000"]);
    refused.fails_with(2, &["carries 1500", "--size 4M"]);
    lab.does("set shmif0 mtu=1400");
    assert_eq!(lab.show("shmif0")["mtu"], 1_400);
    lab.does("set shmif0 mtu=");
    assert_eq!(lab.show("shmif0")["mtu"], 1_500);
    lab.does("create tap0 vlan=10 ip=10.0.0.1/24,fd00::1/64 up=on");
    assert_eq!(lab.show("tap0")["mtu"], 1_496);
}

/// Returns the MTU of an interface.
fn mtu(namespace: &Namespace<'_>, lab: &Lab, name: &str) -> String {
    let shown = lab.run_program(namespace.command("ip").args(["-o", "link", "show", name]));
    let words: Vec<&str> = shown.succeeds().split_whitespace().collect();
    let at = words.iter().position(|word| *word == "mtu").expect("an MTU");
    words[at + 1].to_owned()
}

#[test]
fn a_tap_comes_up_with_its_addresses_and_the_mtu_of_its_bus() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let alice = Namespace::new(&lab);
    let bob = alice.beside();
    let start = |words: &str| {
        let command = &mut alice.command(lab.program());
        let node = Process::spawn("busctl", command.arg("attach").args(words.split(' ')));
        node.wait_for_line("ready");
        node
    };
    let (lan, big) = (lab.arg("lan"), lab.arg("big"));
    let far = format!("tap:t1,ip=10.0.0.2/24,up=on,vlan=10,pid={}", bob.id());
    let node = start(&format!("{lan} tap:t0,ip=10.0.0.1/24,fd00::1/64,up=on,vlan=10 {far}"));
    assert_eq!([mtu(&alice, &lab, "t0"), mtu(&bob, &lab, "t1")], ["1496", "1496"]);
    let ping = ["-c", "2", "-i", "0.2", "-M", "do", "-s", "1468", "10.0.0.2"];
    lab.run_program(alice.command("ping").args(ping)).succeeds();
    node.interrupt().succeeds();
    let node = start(&format!("{big} --size 4M tap:t0,up=on"));
    assert_eq!(mtu(&alice, &lab, "t0"), "9202");
    node.interrupt().succeeds();
}
