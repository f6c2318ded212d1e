//! A bridge of the kernel, with a network namespace on each port.

use system_tests::namespace::Namespace;
use system_tests::{Lab, require};

use super::kernel_hosts::{FROM_NETWORKS, KernelHosts, TO_NETWORKS};

/// A bridge in a namespace of its own. It ends with its namespaces, so nothing is left of it.
pub(super) struct Bridge<'l> {
    pub(super) hosts: KernelHosts<'l>,
    _idle: Vec<Namespace<'l>>,
    _in: Namespace<'l>,
}

impl<'l> Bridge<'l> {
    /// Makes a bridge between two namespaces and `idle` further ones.
    pub(super) fn new(lab: &'l Lab, idle: usize) -> Self {
        let bridge = Namespace::new(lab);
        bridge.ip("link add br0 type bridge");
        bridge.ip("link set br0 up");
        let join = |port: usize, addresses: Option<[&str; 2]>| {
            let space = bridge.beside();
            let pid = space.id();
            bridge.ip(&format!("link add port{port} type veth peer name eth0 netns {pid}"));
            bridge.ip(&format!("link set port{port} master br0 up"));
            match addresses {
                Some(addresses) => space.set_up("eth0", addresses),
                None => space.ip("link set eth0 up"),
            }
            space
        };
        let (to, from) = (join(0, Some(TO_NETWORKS)), join(1, Some(FROM_NETWORKS)));
        let idle = (2..2 + idle).map(|port| join(port, None)).collect();
        Self { hosts: KernelHosts::new(lab, to, from), _idle: idle, _in: bridge }
    }

    /// Returns whether the system allows a bridge and its links.
    pub(super) fn is_available(lab: &'l Lab) -> bool {
        if !require::program("ip") {
            return false;
        }
        let space = Namespace::new(lab);
        ["link add br0 type bridge", "link add port0 type veth peer name eth0"].iter().all(
            |words| {
                let ip = space.spawn("ip", words.split_whitespace());
                ip.finish(system_tests::WAIT_TIMEOUT).status.success()
            },
        )
    }
}
