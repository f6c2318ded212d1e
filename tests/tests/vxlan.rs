//! Buses of several machines as one LAN.

use std::ops::Deref;
use std::path::Path;

use serde_json::{Value, json};
use system_tests::namespace::{self, Namespace};
use system_tests::site::Site;
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, require, wait};

/// Machines whose buses are ends of a VXLAN.
struct Mesh<'l>(Site<'l>);

impl<'l> Deref for Mesh<'l> {
    type Target = Site<'l>;

    fn deref(&self) -> &Site<'l> {
        &self.0
    }
}

impl<'l> Mesh<'l> {
    fn new(lab: &'l Lab, count: usize) -> Self {
        Self(Site::new(lab, count))
    }

    /// Joins the bus `NUMBER.bus` of a machine to those of the others.
    fn join(&self, number: usize, keys: &str) -> Process {
        let others = (1..=self.machines.len()).filter(|other| *other != number);
        let peers: Vec<String> = others.map(|other| format!("192.0.2.{other}")).collect();
        let port = format!("vxlan:vni=42,local=192.0.2.{number},peers={}{keys}", peers.join(","));
        self.ready(number, &format!("attach {} {port}", self.bus(number)))
    }
}

/// Pings from the bus of one machine, and returns how many replies came.
fn pings(lab: &Lab, bus: usize, from: &str, to: &str, more: &str) -> u64 {
    let bus = lab.arg(&format!("{bus}.bus"));
    let words = format!("ping {bus} {to} --from {from} --json {more}");
    let run = lab.run(words.split_whitespace());
    let report: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    report["received"].as_u64().expect("a number")
}

/// Returns whether the namespace's kernel makes VXLANs. Says so if it does not.
fn kernel_has_vxlan(machine: &Namespace<'_>) -> bool {
    let mut trial = machine.command("ip");
    trial.args("link add trial type vxlan id 1 local 192.0.2.1 dstport 9".split(' '));
    let has_it = trial.output().expect("ip starts").status.success();
    if let Some(skipped) = require::skips(has_it, "a kernel with VXLAN", false) {
        eprintln!("{skipped}");
    }
    has_it
}

#[test]
fn three_machines_are_one_lan() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Mesh::new(&lab, 3);
    let _ports = [1, 2, 3].map(|number| site.join(number, ""));
    let _hosts = [1, 2, 3].map(|number| {
        let bus = lab.arg(&format!("{number}.bus"));
        site.ready(number, &format!("host {bus} 10.0.0.{number}/24 fd00::{number}/64"))
    });
    for from in 1..=3 {
        for to in 1..=3 {
            assert_eq!(
                pings(&lab, from, "10.0.0.9/24", &format!("10.0.0.{to}"), "-c 5 -i 0.01"),
                5
            );
            assert_eq!(pings(&lab, from, "fd00::9/64", &format!("fd00::{to}"), "-c 5 -i 0.01"), 5);
        }
    }
    // What is for one goes to one: the others have seen no more than questions and probes.
    let sent_to = |to: &str| -> u64 {
        let remotes = site.remotes(1);
        let remote = remotes.iter().find(|remote| remote["address"] == to).expect("it is there");
        remote["tx_packets"].as_u64().expect("a number")
    };
    wait::until("counters are shown", WAIT_TIMEOUT, || site.remotes(1).len() == 2);
    let before = [sent_to("192.0.2.2"), sent_to("192.0.2.3")];
    assert_eq!(pings(&lab, 1, "10.0.0.9/24", "10.0.0.2", "-c 200 -i 0.002"), 200);
    wait::until("the pings are counted", WAIT_TIMEOUT, || sent_to("192.0.2.2") >= before[0] + 200);
    assert!(sent_to("192.0.2.3") < before[1] + 100, "the third machine is not concerned");
    let text = lab.run(["show", &lab.arg("1.bus")]);
    assert!(text.stdout.contains("remote 192.0.2.2: "), "{text}");
}

#[test]
fn a_machine_that_was_cut_off_or_started_again_is_back() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Mesh::new(&lab, 2);
    let _first = site.join(1, "");
    let second = site.join(2, "");
    let bus = lab.arg("2.bus");
    let _host = site.ready(2, &format!("host {bus} 10.0.0.2/24"));
    let reached = || pings(&lab, 1, "10.0.0.1/24", "10.0.0.2", "-c 1 -W 1") == 1;
    wait::until("the host is reached", WAIT_TIMEOUT, reached);
    site.switch.ip("link set u2 down");
    assert!(!reached());
    site.switch.ip("link set u2 up");
    wait::until("the host is reached again", WAIT_TIMEOUT, reached);
    drop(second);
    assert!(!reached());
    let _second = site.join(2, "");
    wait::until("the host is reached by the new port", WAIT_TIMEOUT, reached);
}

#[test]
fn a_peer_that_no_route_leads_to_is_named_and_the_others_are_reached() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Mesh::new(&lab, 2);
    let _second = site.join(2, "");
    let (near, far) = (lab.arg("1.bus"), lab.arg("2.bus"));
    let port = "vxlan:vni=42,local=192.0.2.1,peers=203.0.113.9,192.0.2.2";
    let first = site.ready(1, &format!("attach {near} {port}"));
    let _host = site.ready(2, &format!("host {far} 10.0.0.2/24"));
    assert_eq!(pings(&lab, 1, "10.0.0.1/24", "10.0.0.2", "-c 3 -i 0.01"), 3);
    first.wait_for_line("cannot send to 203.0.113.9:4789: ");
    wait::until("it is counted", WAIT_TIMEOUT, || {
        let dropped = |remote: &Value| remote["tx_dropped"].as_u64();
        let remotes = site.remotes(1);
        remotes.first().and_then(dropped) > Some(0) && remotes.get(1).and_then(dropped) == Some(0)
    });
}

/// The kernel's own device is the other end, over IPv4 and IPv6; tshark reads what is on the wire.
#[test]
fn the_kernel_is_a_peer() {
    if !namespace::available() {
        return;
    }
    require!("ping", "dumpcap", "tshark");
    let lab = lab!();
    let site = Mesh::new(&lab, 2);
    if !kernel_has_vxlan(site.machine(2)) {
        return;
    }
    for (vni, local, peer) in [(42, "192.0.2.1", "192.0.2.2"), (43, "fd02::1", "fd02::2")] {
        let bus = lab.arg("1.bus");
        let capture = lab.path(&format!("{vni}.pcap"));
        let dumpcap = record(&site, &capture);
        let port = format!("vxlan:vni={vni},local={local},peers={peer}");
        let attach = site.ready(1, &format!("attach {bus} {port}"));
        let host = site.ready(1, &format!("host {bus} 10.0.0.1/24"));
        let kernel = site.machine(2);
        kernel.ip(&format!(
            "link add vx type vxlan id {vni} local {peer} remote {local} dstport 4789"
        ));
        // As long as usual, though the wire carries less in one datagram.
        kernel.ip("link set vx mtu 1500 up");
        kernel.ip("address add 10.0.0.2/24 dev vx");
        let ping = |count: &str, size: &str| {
            let mut ping = kernel.command("ping");
            ping.args(["-c", count, "-i", "0.05", "-W", "2", "-s", size, "10.0.0.1"]);
            lab.run_program(&mut ping)
        };
        assert!(ping("3", "56").succeeds().contains(" 3 received"));
        // Over IPv6 the kernel sends no fragments of datagrams: the first ping that is too long tells
        // it so, and it cuts the next ones before.
        ping("1", "1472");
        let long = ping("3", "1472");
        assert!(long.succeeds().contains(" 3 received"), "{long}");
        assert_eq!(pings(&lab, 1, "10.0.0.3/24", "10.0.0.2", "-c 3 -i 0.01"), 3);
        assert!(attach.transcript().contains("in IP fragments"), "{}", attach.transcript());
        let _ = dumpcap.interrupt();
        drop((host, attach));
        kernel.ip("link delete vx");
        let fields = ["vxlan.vni", "vxlan.flags", "icmp.type", "_ws.malformed"];
        let mut tshark = lab.command(require::find("tshark").expect("it was required"));
        tshark.args(["-r", capture.to_str().unwrap(), "-Y", "vxlan", "-T", "fields"]);
        tshark.args(fields.iter().flat_map(|field| ["-e", field]));
        let table = lab.run_program(&mut tshark);
        let rows: Vec<Vec<&str>> =
            table.succeeds().lines().map(|line| line.split('\t').collect()).collect();
        assert!(rows.len() > 12, "{table}");
        assert!(rows.iter().all(|row| row[0] == vni.to_string() && row[1] == "0x0800"), "{table}");
        assert!(rows.iter().all(|row| row[3].is_empty()), "{table}");
        assert!(rows.iter().any(|row| row[2] == "0"), "replies were seen: {table}");
    }
}

/// Records what is on the cable of the first machine.
fn record(site: &Mesh<'_>, capture: &Path) -> Process {
    let dumpcap = require::find("dumpcap").expect("it was required");
    let capture = capture.to_str().expect("UTF-8");
    let dumpcap = site.machine(1).spawn(dumpcap, ["-q", "-i", "eth0", "-w", capture]);
    dumpcap.wait_for(0, WAIT_TIMEOUT, "its start", |line| line.text.contains("File: "));
    dumpcap
}

#[test]
fn a_multicast_group_needs_no_list_of_peers() {
    if !namespace::available() {
        return;
    }
    for (network, group) in [("192.0.2.", "239.1.1.1"), ("fd02::", "ff05::100")] {
        a_group_is_one_lan(&lab!(), network, group);
    }
}

fn a_group_is_one_lan(lab: &Lab, network: &str, group: &str) {
    let site = Mesh::new(lab, 3);
    let _ports = [1, 2, 3].map(|number| {
        let bus = lab.arg(&format!("{number}.bus"));
        let port = format!("vxlan:vni=7,local={network}{number},group={group}");
        site.ready(number, &format!("attach {bus} {port}"))
    });
    let bus = lab.arg("3.bus");
    let _host = site.ready(3, &format!("host {bus} 10.0.0.3/24"));
    for from in [1, 2] {
        let reached = || pings(lab, from, "10.0.0.9/24", "10.0.0.3", "-c 1 -W 1") == 1;
        wait::until("the host is reached", WAIT_TIMEOUT, reached);
        assert_eq!(pings(lab, from, "10.0.0.9/24", "10.0.0.3", "-c 20 -i 0.01"), 20);
    }
    wait::until("the ends know each other", WAIT_TIMEOUT, || site.remotes(3).len() == 2);
}

#[test]
fn an_interface_is_a_tunnel_while_its_node_runs() {
    let lab = lab!();
    let there = lab.arg("there.bus");
    let _there =
        lab.ready(["attach", &there, "vxlan:vni=42,local=127.0.0.92:4792,peers=127.0.0.91"]);
    let _host = lab.ready(["host", &there, "10.0.0.2/24"]);

    assert_eq!(lab.does("create vxlan42 suppress=on"), "vxlan42\n");
    assert_eq!(lab.does("create vxlan vni=7"), "vxlan0\n");
    lab.does("linkstr vxlan42 ./here.bus");
    let _node = lab.ready(["node"]);
    let run = lab.run(["up", "vxlan42"]);
    run.fails_with(1, &["vxlan42", "needs local=ADDRESS"]);
    assert!(lab.does("show vxlan42").contains("tunnel: none yet: set local= and peers="));
    lab.does("down vxlan42");
    let run = lab.run(["set", "vxlan42", "local=127.0.0.91:4792", "peers=fd00::1"]);
    run.fails_with(2, &["all IPv4, or all IPv6"]);
    lab.does("set vxlan42 local=127.0.0.91:4792 peers=127.0.0.92");
    lab.does("up vxlan42");

    let here = lab.arg("here.bus");
    wait::until("the host is reached", WAIT_TIMEOUT, || {
        let ping = ["ping", &here, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1", "-W", "1"];
        lab.run(ping).status.success()
    });
    lab.shows("vxlan42", "a station behind the remote", |shown| {
        shown["remotes"][0]["stations"] == 1
    });
    let shown = lab.show("vxlan42");
    assert_eq!((&shown["local"], &shown["link"]), (&json!("127.0.0.91:4792"), &json!("up")));
    assert_eq!(shown["remotes"][0]["address"], "127.0.0.92");
    assert!(lab.does("show vxlan42").contains("\tremote 127.0.0.92: 1 station, input "));
    lab.does("destroy vxlan42");
    assert_eq!(lab.run(["show", "vxlan42"]).status.code(), Some(2));
}

#[cfg(not(feature = "trunk"))]
#[test]
fn a_trunk_needs_a_program_with_trunks() {
    let lab = lab!();
    lab.does("create trunk0 name=lab connect=tcp/192.0.2.1:7447");
    lab.does("linkstr trunk0 ./lan.bus");
    let _node = lab.ready(["node"]);
    lab.run(["up", "trunk0"]).fails_with(1, &["trunk0", "--features trunk"]);
    let shown = lab.does("show trunk0");
    assert!(shown.contains("tunnel: trunk lab, by tcp/192.0.2.1:7447, admin up"), "{shown}");
    assert!(shown.contains("trouble: "), "{shown}");
}

#[test]
fn what_cannot_be_is_refused() {
    let lab = lab!();
    let bus = lab.arg("1.bus");
    let run = lab.run(["attach", &bus, "vxlan:vni=1,local=192.0.2.77,peers=192.0.2.78"]);
    assert!(run.stderr.contains("local=192.0.2.77 is no address of this machine"), "{run}");
    let port = "vxlan:vni=1,local=127.0.0.77:4799,peers=127.0.0.78";
    let _attach = lab.ready(["attach", &bus, port]);
    let run = lab.run(["attach", &lab.arg("2.bus"), port]);
    assert!(run.stderr.contains("receives at 127.0.0.77:4799"), "{run}");
}
