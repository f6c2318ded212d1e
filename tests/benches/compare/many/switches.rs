//! The kernel's TCP and pings over two TAP interfaces on a bus, beside the same over other
//! switches, each with as many idle ones on it.

use system_tests::namespace::{self, Namespace};
use system_tests::{Lab, Process, require};

use super::bridge::Bridge;
use super::crowd::{Crowd, Form};
use super::kernel_hosts::{FROM_NETWORKS, KernelHosts, TO_NETWORKS};
use super::leave_out;
use crate::comparison::{Criterion, Table};
use crate::ours;
use crate::vde::{Plug, Switch};

const UNIT: &str = "TCP in Gbit/s; median of pings in µs";

/// Compares with `vde_switch`.
pub(super) fn beside_vde(table: &mut Table<'_>, sizes: &[usize]) {
    let title = "two TAPs on a bus, idle processes beside them";
    let tools = require::program("vde_switch") && require::program("vde_plug2tap");
    if !tools || !require::program("ping") || !namespace::available() {
        leave_out(title, "no vde_switch, ping or network namespaces");
        return;
    }
    let lab = ours::lab();
    table.heading(title, UNIT, "vde_switch, idle plugs");
    for size in sizes.iter().copied() {
        let (ours, theirs) = (Taps::new(&lab, size), Vde::new(&lab, size));
        rows(table, size, "vde", &ours, &theirs.hosts);
    }
}

/// Compares with a bridge of the kernel.
pub(super) fn beside_a_bridge(table: &mut Table<'_>, sizes: &[usize]) {
    let title = "two TAPs on a bus, idle processes beside them";
    let lab = ours::lab();
    if !require::program("ping") || !namespace::available() || !Bridge::is_available(&lab) {
        leave_out(title, "no ping, network namespaces or bridge of the kernel");
        return;
    }
    table.heading(title, UNIT, "bridge, idle namespaces");
    for size in sizes.iter().copied() {
        let (ours, theirs) = (Taps::new(&lab, size), Bridge::new(&lab, size));
        rows(table, size, "bridge", &ours, &theirs.hosts);
    }
}

fn rows(table: &mut Table<'_>, size: usize, name: &str, ours: &Taps<'_>, theirs: &KernelHosts<'_>) {
    let time = table.time();
    table.row(
        &format!("TCP, {size} beside, {name}"),
        Criterion::Ratio(None),
        &mut || ours.hosts.tcp(time),
        &mut || ours.idle.suspended(|| theirs.tcp(time)),
    );
    table.row(
        &format!("ping, {size} beside, {name}"),
        Criterion::Cost(None),
        &mut || ours.hosts.ping(time),
        &mut || ours.idle.suspended(|| theirs.ping(time)),
    );
}

/// Two TAP interfaces on a bus of ours, with a node each.
struct Taps<'l> {
    hosts: KernelHosts<'l>,
    _nodes: [Process; 2],
    idle: Crowd,
}

impl<'l> Taps<'l> {
    fn new(lab: &'l Lab, idle: usize) -> Self {
        let bus = lab.arg(&format!("taps-{idle}.bus"));
        let idle = Crowd::on_bus(lab, &bus, Form::Processes, idle);
        let (to, from) = (Namespace::new(lab), Namespace::new(lab));
        let nodes = [(&to, TO_NETWORKS), (&from, FROM_NETWORKS)]
            .map(|(space, addresses)| space.attach_tap(&bus, "offload=on", addresses));
        Self { hosts: KernelHosts::new(lab, to, from), _nodes: nodes, idle }
    }
}

/// Two TAP interfaces plugged into a `vde_switch`.
struct Vde<'l> {
    hosts: KernelHosts<'l>,
    _plugs: [Process; 2],
    _idle: Vec<Plug>,
    _switch: Switch,
}

impl<'l> Vde<'l> {
    fn new(lab: &'l Lab, idle: usize) -> Self {
        let switch = Switch::start(lab, 2 + idle);
        let (to, from) = (Namespace::new(lab), Namespace::new(lab));
        let plugs = [(&to, TO_NETWORKS), (&from, FROM_NETWORKS)].map(|(space, addresses)| {
            space.ip("tuntap add dev tap0 mode tap");
            let folder = switch.folder().to_str().expect("the lab's path is text");
            let plug = space.spawn("vde_plug2tap", ["--sock", folder, "tap0"]);
            space.set_up("tap0", addresses);
            plug
        });
        let idle = (0..idle).map(|plug| switch.idle_plug(lab, &format!("plug-{plug}"))).collect();
        Self { hosts: KernelHosts::new(lab, to, from), _plugs: plugs, _idle: idle, _switch: switch }
    }
}
