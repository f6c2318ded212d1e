//! The kernel's TCP between the commands of two `busctl run`, beside two network namespaces with a
//! veth pair of the kernel; and between TAPs of two machines with a VXLAN of ours, beside one of the
//! kernel.

use std::time::Duration;

use system_tests::namespace::{self, Namespace};
use system_tests::process::Line;
use system_tests::{Lab, Process, WAIT_TIMEOUT, require};

use crate::comparison::{Criterion, Table, Target};
use crate::ours;

/// The addresses of the two, IPv4 and IPv6.
const TO: [&str; 2] = ["10.0.0.1/24", "fd00::1/64"];
const FROM: [&str; 2] = ["10.0.0.2/24", "fd00::2/64"];
/// The addresses of the machines that they are on.
const UNDERLAY: [[&str; 2]; 2] = [["192.0.2.1/24", "fd02::1/64"], ["192.0.2.2/24", "fd02::2/64"]];
/// Where the receiver listens.
const SERVER: &str = "10.0.0.1:5001";

/// Measures TCP in one direction. A veth pair hands over super-frames as pointers, so it has no
/// target.
pub(crate) fn beside_a_veth_pair(table: &mut Table<'_>) {
    let title = "TCP between two `busctl run`";
    if !namespace::available() || !require::program("ip") {
        eprintln!("{title}: left out: no network namespaces");
        return;
    }
    let (lab, time) = (ours::lab(), table.time());
    table.heading(title, "Gbit/s", "a veth pair");
    let bus = lab.arg("run.bus");
    let veth = Veth::new(&lab);
    let mut ours = || between_commands(&lab, &bus, time);
    table.row("TCP", Criterion::Ratio(None), &mut ours, &mut || veth.rate(&lab, time));
    table.alone("TCP", "Gbit/s", Some(Target::AtLeast(11.0)), &mut ours);
}

/// Returns the Gbit/s between two new commands on `bus`.
fn between_commands(lab: &Lab, bus: &str, time: Duration) -> f64 {
    let program = rate_program(lab);
    // The receiver's namespace stays until the sender has met the end of the connection.
    let receive = format!("'{program}' receive {SERVER}; exec sleep 1000");
    let receiver = lab.spawn(["run", bus, TO[0], "--", "sh", "-c", &receive]);
    receiver.wait_for_line("listening");
    let seconds = time.as_secs_f64().to_string();
    let sender = lab.spawn(["run", bus, FROM[0], "--", &program, "send", SERVER, &seconds]);
    rate(sender, &receiver)
}

/// Measures TCP in one direction between two machines at the ends of a cable, over VXLAN.
pub(crate) fn beside_the_kernels_vxlan(table: &mut Table<'_>) {
    let title = "TCP between TAPs of two machines, over VXLAN";
    if !namespace::available() || !require::program("ip") {
        eprintln!("{title}: left out: no network namespaces");
        return;
    }
    let (lab, time) = (ours::lab(), table.time());
    let machines = Veth::with_addresses(&lab, UNDERLAY);
    let ends = [(&machines.to, "near", TO), (&machines.from, "far", FROM)];
    let nodes = [0, 1].map(|end| {
        let (machine, bus, addresses) = ends[end];
        let [local, peer] = [end, 1 - end].map(|end| UNDERLAY[end][0].trim_end_matches("/24"));
        let bus = lab.arg(&format!("{bus}.bus"));
        let port = format!("vxlan:vni=1,local={local},peers={peer}");
        let node = machine.spawn(
            lab.program(),
            ["attach", &bus, "tap:tap0,mtu=1450", &port, "--own-format", "--size", "16M"],
        );
        node.wait_for_line("ready");
        machine.set_up("tap0", addresses);
        node
    });
    let mut ours = || machines.rate(&lab, time);
    table.heading(title, "Gbit/s", "-");
    table.alone("TCP", "Gbit/s", Some(Target::AtLeast(5.0)), &mut ours);
    drop(nodes);
    let kernels = |end: usize| -> bool {
        let (machine, _, addresses) = ends[end];
        let [local, peer] = [end, 1 - end].map(|end| UNDERLAY[end][0].trim_end_matches("/24"));
        let mut ip = machine.command("ip");
        let words = format!("link add vx type vxlan id 1 local {local} remote {peer} dstport 4789");
        let has_it = ip.args(words.split(' ')).status().is_ok_and(|status| status.success());
        if has_it {
            machine.set_up("vx", addresses);
        }
        has_it
    };
    if kernels(0) && kernels(1) {
        table.alone("TCP, the kernel's VXLAN", "Gbit/s", None, &mut || machines.rate(&lab, time));
    } else {
        eprintln!("{title}: left out: the kernel's VXLAN");
    }
}

/// Two network namespaces that a veth pair connects. It ends with them.
struct Veth<'l> {
    to: Namespace<'l>,
    from: Namespace<'l>,
}

impl<'l> Veth<'l> {
    fn new(lab: &'l Lab) -> Self {
        Self::with_addresses(lab, [TO, FROM])
    }

    fn with_addresses(lab: &'l Lab, addresses: [[&str; 2]; 2]) -> Self {
        let to = Namespace::new(lab);
        let from = to.beside();
        to.ip(&format!("link add eth0 type veth peer name eth0 netns {}", from.id()));
        to.set_up("eth0", addresses[0]);
        from.set_up("eth0", addresses[1]);
        Self { to, from }
    }

    fn rate(&self, lab: &Lab, time: Duration) -> f64 {
        let program = rate_program(lab);
        let receiver = self.to.spawn(&program, ["receive", SERVER]);
        receiver.wait_for_line("listening");
        let sender = self.from.spawn(&program, ["send", SERVER, &time.as_secs_f64().to_string()]);
        rate(sender, &receiver)
    }
}

fn rate_program(lab: &Lab) -> String {
    let program = lab.reach(env!("CARGO_BIN_EXE_tcp-rate").as_ref());
    program.to_str().expect("the lab's path is text").to_owned()
}

/// Waits for the sender, and returns the Gbit/s that the receiver prints.
fn rate(sender: Process, receiver: &Process) -> f64 {
    sender.finish(WAIT_TIMEOUT).succeeds();
    let is_rate = |line: &Line| line.text.parse::<f64>().is_ok();
    let rate = receiver.wait_for(0, WAIT_TIMEOUT, "a rate", is_rate);
    rate.parse::<f64>().expect("just parsed") / 1e9
}
