//! The kernel's TCP between the commands of two `busctl run`, beside two network namespaces with a
//! veth pair of the kernel.

use std::time::Duration;

use system_tests::namespace::{self, Namespace};
use system_tests::process::Line;
use system_tests::{Lab, Process, WAIT_TIMEOUT, require};

use crate::comparison::{Criterion, Table, Target};
use crate::ours;

/// The addresses of the two, IPv4 and IPv6.
const TO: [&str; 2] = ["10.0.0.1/24", "fd00::1/64"];
const FROM: [&str; 2] = ["10.0.0.2/24", "fd00::2/64"];
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

/// Two network namespaces that a veth pair connects. It ends with them.
struct Veth<'l> {
    to: Namespace<'l>,
    from: Namespace<'l>,
}

impl<'l> Veth<'l> {
    fn new(lab: &'l Lab) -> Self {
        let to = Namespace::new(lab);
        let from = to.beside();
        to.ip(&format!("link add eth0 type veth peer name eth0 netns {}", from.id()));
        to.set_up("eth0", TO);
        from.set_up("eth0", FROM);
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
