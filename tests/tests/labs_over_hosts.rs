//! Labs over several hosts: each host starts its part of one file, and LANs on several are one LAN. The
//! hosts are network namespaces with a switch between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::site::Site;
use system_tests::{Finished, Lab, Process, WAIT_TIMEOUT, lab, namespace, require, wait};

/// The hosts by the number of their machine, from 1.
const NAMES: [&str; 3] = ["a", "b", "c"];

const HOSTS: &str = r#"
[host.a]
address = "192.0.2.1"
[host.b]
address = "192.0.2.2"
[host.c]
address = "192.0.2.3"
"#;

const NODES: &str = r#"
[lan.office]
prefix = "10.1.0.0/24"

[link.line]
prefix = "10.2.0.0/30"
ends = ["near", "far"]

[lan.own]
prefix = "10.3.0.0/24"

[node.near]
on = "a"
lans = ["office", "own"]

[node.middle]
on = "b"
lans = "office"

[node.far]
kind = "host"
on = "c"

[node.last]
kind = "host"
on = "c"
lans = "office"
"#;

/// Machines that run a lab of one file.
struct Hosts<'l>(Site<'l>);

impl<'l> Hosts<'l> {
    fn new(lab: &'l Lab, hosts: &str) -> Self {
        lab.write("net.toml", format!("{hosts}{NODES}").as_bytes());
        Self(Site::new(lab, NAMES.len()))
    }

    /// Returns the state folder of a machine: without namespaces each would have its own.
    fn state(&self, number: usize) -> PathBuf {
        self.0.lab.state().join(NAMES[number - 1])
    }

    fn command(&self, number: usize, words: &str) -> Command {
        let site = &self.0;
        let mut command = site.machine(number).command(site.lab.program());
        command.args(words.split_whitespace()).env("BUSCTL_STATE", self.state(number));
        command
    }

    fn run(&self, number: usize, words: &str) -> Finished {
        self.0.lab.run_program(&mut self.command(number, words))
    }

    /// Starts the part of a machine.
    fn up(&self, number: usize) -> Process {
        let name = NAMES[number - 1];
        let words = format!("lab up net.toml --host {name}");
        let process = Process::spawn("lab up", &mut self.command(number, &words));
        process.wait_for_line(&format!("lab net, host {name}: ready"));
        process
    }

    /// Waits until a node of a machine reaches another node.
    fn reaches(&self, number: usize, from: &str, to: &str) {
        wait::until(&format!("{from} reaches {to}"), WAIT_TIMEOUT, || {
            let words = format!("lab exec {from} -- ping -n -c 1 -W 1 {to}");
            self.run(number, &words).status.success()
        });
    }

    /// Takes down what is left of the part of a machine.
    fn clean(&self, number: usize) {
        wait::until("nothing of the part is left", WAIT_TIMEOUT, || {
            let _ = self.run(number, "lab down net");
            is_empty(&self.state(number).join("labs"))
        });
    }

    /// Starts all parts, kills one and starts it again, and takes all down.
    fn are_one_lab(&self) {
        let mut ups = [1, 2, 3].map(|number| self.up(number));
        self.reaches(1, "near", "middle");
        self.reaches(1, "near", "far");
        self.reaches(2, "middle", "last");

        // One is killed as when its machine crashes. The others stay as they are.
        ups[1].kill();
        self.clean(2);
        self.reaches(1, "near", "last");
        ups[1] = self.up(2);
        self.reaches(2, "middle", "near");
        self.reaches(1, "near", "middle");

        for number in 1..=3 {
            self.run(number, "lab down").succeeds();
        }
        for (number, up) in (1..).zip(ups) {
            up.finish(WAIT_TIMEOUT).succeeds();
            assert!(is_empty(&self.state(number).join("labs")));
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn three_hosts_run_one_lab() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    Hosts::new(&lab, HOSTS).are_one_lab();
}

/// Which nodes are elsewhere, and which hosts a LAN leads to.
#[test]
fn other_hosts_are_shown_by_name() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let hosts = Hosts::new(&lab, HOSTS);
    let _ups = [1, 2, 3].map(|number| hosts.up(number));
    let shown = hosts.run(1, "lab show").succeeds().to_owned();
    for words in [
        "lab net, host a: ready\n",
        "middle  run   on b   office  10.1.0.2/24\n",
        "far     host  on c   line    10.2.0.2/30\n",
        "office leads to b (192.0.2.2), c (192.0.2.3), by vxlan net.office\n",
        "line leads to c (192.0.2.3), by vxlan net.line\n",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("own leads"), "{shown}");
    let json = hosts.run(3, "lab show --json");
    let labs: Value = serde_json::from_str(json.succeeds()).expect("JSON");
    assert_eq!((&labs[0]["host"], &labs[0]["nodes"][1]["name"]), (&"c".into(), &"last".into()));

    let bus = hosts.state(1).join("labs/net/bus/office");
    hosts.reaches(1, "near", "middle");
    let text = || hosts.run(1, &format!("show {}", bus.display())).succeeds().to_owned();
    wait::until("what came from b is shown", WAIT_TIMEOUT, || {
        text().contains("remote b (192.0.2.2): 1 station, ")
    });
    for words in ["port vxlan net.office: link up", "remote c (192.0.2.3): "] {
        assert!(text().contains(words), "{words}: {}", text());
    }
    let top = hosts.run(1, "top --once --json").json();
    let buses = top["buses"].as_array().cloned().unwrap_or_default();
    let rows = buses.iter().flat_map(|bus| bus["on_it"].as_array().cloned().unwrap_or_default());
    let is_ours = |row: &Value| row["port"] == "vxlan net.office" && row["name"] == "b (192.0.2.2)";
    assert!(rows.into_iter().any(|row| row["kind"] == "remote" && is_ours(&row)), "{top}");
}

/// A changed file is applied on each host: what leads elsewhere is joined anew, and no node starts again.
#[test]
fn a_host_that_moves_is_found_again() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let hosts = Hosts::new(&lab, HOSTS);
    let _ups = [1, 2, 3].map(|number| hosts.up(number));
    hosts.reaches(1, "near", "middle");
    hosts.run(1, "lab exec near -- touch here").succeeds();
    hosts.0.machine(2).ip("address add 192.0.2.77/24 dev eth0");
    let moved = format!("{HOSTS}{NODES}").replace("192.0.2.2", "192.0.2.77");
    lab.write("net.toml", moved.as_bytes());
    for number in 1..=3 {
        hosts.run(number, "lab apply net.toml").succeeds();
    }
    let shown = hosts.run(1, "lab show").succeeds().to_owned();
    assert!(shown.contains("office leads to b (192.0.2.77), c"), "{shown}");
    hosts.reaches(1, "near", "middle");
    hosts.reaches(2, "middle", "last");
    hosts.run(1, "lab exec near -- test -e here").succeeds();
    hosts
        .run(1, "lab apply net.toml --host b")
        .fails_with(1, &["this is the host a of the lab net"]);
}

#[test]
fn the_checks_of_all_hosts_are_done_before_one_goes_down() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/labs/three-hosts.toml");
    lab.write("three-hosts.toml", &fs::read(file).expect("the example"));
    let site = Site::new(&lab, 3);
    let test = |(number, host)| {
        let mut command = site.machine(number).command(lab.program());
        command.args(["lab", "test", "three-hosts.toml", "--json", "--host", host]);
        for (number, name) in (1..).zip(["LEFT", "MIDDLE", "RIGHT"]) {
            command.env(name, format!("192.0.2.{number}"));
        }
        Process::spawn("lab test", &mut command)
    };
    let tests = [(1, "left"), (2, "middle"), (3, "right")].map(test);
    let checks = tests.map(|test| {
        let finished = test.finish(2 * WAIT_TIMEOUT);
        let report = finished.report();
        assert_eq!(report["passed"], true, "{finished}");
        report["checks"].as_array().map_or(0, Vec::len)
    });
    assert_eq!(checks, [2, 0, 1]);
    assert!(is_empty(&lab.state().join("labs")));
}

#[test]
fn it_is_said_which_host_is_missing() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    lab.write("net.toml", format!("{HOSTS}{NODES}").as_bytes());
    let up = |more: &str| lab.run(format!("lab up {more}").split_whitespace());
    up("net.toml").fails_with(2, &["the lab net is of several hosts", "--host: a, b, c"]);
    up("net.toml --host d").fails_with(2, &["no host 'd'", "its hosts are a, b, c"]);
    let run = up("net.toml --host a");
    run.fails_with(1, &["cannot join 'office'", "192.0.2.1 is no address of this machine"]);
    assert!(is_empty(&lab.state().join("labs")));
    lab.write("plain.toml", b"[lan.a]\n[node.x]\nlans = \"a\"\n");
    up("plain.toml --host a").fails_with(2, &["it names no hosts"]);
    // The drawing has all hosts.
    let tree = lab.does("lab graph net.toml");
    assert!(tree.contains("near eth0 10.1.0.1/24 on a\n"), "{tree}");
}

#[cfg(not(feature = "trunk"))]
#[test]
fn hosts_without_addresses_need_a_program_with_trunks() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    lab.write("net.toml", format!("[host.a]\n[host.b]\n[host.c]\n{NODES}").as_bytes());
    let run = lab.run("lab up net.toml --host a".split(' '));
    run.fails_with(1, &["cannot join 'office' on a, b, c", "'address'", "--features trunk"]);
    assert!(is_empty(&lab.state().join("labs")));
}

#[cfg(feature = "trunk")]
#[test]
fn hosts_find_each_other_by_zenoh() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let to = "connect = \"tcp/192.0.2.3:7447\"\n";
    let listen = "listen = \"tcp/192.0.2.3:7447\"\n";
    let hosts = format!("[host.a]\n{to}[host.b]\n{to}[host.c]\n{listen}");
    Hosts::new(&lab, &hosts).are_one_lab();
}
