//! Which part of a lab a machine runs, and how its LANs reach the parts on other machines.
//!
//! Every machine reads the same file, and computes the same names, numbers and addresses from it. So
//! their parts fit together, and no machine asks another.

use std::net::SocketAddr;

use port::trunk::MAX_NAME;
use port::{suggest, vxlan};

use crate::plan::{Action, Check, Lan, Machine, Node, Plan, Trunk, Via};

/// What of the longest name of a trunk is that of the lab, and of the LAN.
const MAX_NAME_PART: usize = 28;

/// It is not clear which machine's part is meant; says which machines there are.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub(crate) String);

impl Plan {
    /// Returns the plan of a machine's part: its nodes are run, and all else of the lab is known.
    ///
    /// # Errors
    /// [`HostError`] when the lab has no such machine.
    pub fn on(mut self, machine: &str) -> Result<Self, HostError> {
        let names = || self.machines.iter().map(|machine| machine.name.as_str());
        if names().all(|known| known != machine) {
            let why = if self.machines.is_empty() {
                "it names no hosts, and any machine runs all of it".to_owned()
            } else {
                let all: Vec<&str> = names().collect();
                format!("its hosts are {}{}", all.join(", "), suggest::hint(machine, names()))
            };
            let lab = self.name;
            return Err(HostError(format!("the lab {lab} has no host '{machine}': {why}")));
        }
        self.here = Some(machine.to_owned());
        Ok(self)
    }

    /// Checks that it is clear which part is run.
    pub(crate) fn check_here(&self) -> Result<(), HostError> {
        if self.here.is_some() || self.machines.is_empty() {
            return Ok(());
        }
        let all: Vec<&str> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
        Err(HostError(format!(
            "the lab {} is of several hosts; say which one this is: {}",
            self.name,
            all.join(", ")
        )))
    }

    /// Returns whether a node is run here.
    #[must_use]
    pub fn is_here(&self, node: &Node) -> bool {
        self.here.is_none() || node.on == self.here
    }

    /// Returns the nodes that are run here, in the order of the plan.
    pub fn nodes_here(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| self.is_here(node))
    }

    /// Returns the LANs that are made here: those with nodes here, and those without any.
    pub fn lans_here(&self) -> impl Iterator<Item = &Lan> {
        self.lans.iter().filter(|lan| self.has_lan(&lan.name))
    }

    /// Returns the LANs here that have parts elsewhere. Those by VXLAN come first: their UDP ports are
    /// fixed, and trunk ports take any.
    pub(crate) fn lans_to_join(&self) -> Vec<&Lan> {
        let is_by =
            |via: Via| move |lan: &&Lan| lan.trunk.as_ref().is_some_and(|trunk| trunk.via == via);
        let trunks = self.lans_here().filter(is_by(Via::Trunk));
        self.lans_here().filter(is_by(Via::Vxlan)).chain(trunks).collect()
    }

    fn has_lan(&self, lan: &str) -> bool {
        let is_on = |node: &&Node| node.interfaces.iter().any(|interface| interface.lan == lan);
        self.here.is_none()
            || self.nodes_here().any(|node| is_on(&node))
            || !self.nodes.iter().any(|node| is_on(&node))
    }

    /// Returns the checks that are done here: those of nodes here, and changes of LANs here.
    pub fn checks_here(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| match &check.action {
            Action::Exec { node, .. } | Action::Ping { node, .. } => self.is_node_here(node),
            Action::Set { link, .. } => match link.split_once(':') {
                Some((node, _)) => self.is_node_here(node),
                None => self.has_lan(link),
            },
        })
    }

    fn is_node_here(&self, name: &str) -> bool {
        self.nodes_here().any(|node| node.name == name)
    }

    /// Returns the port that joins a LAN here to its parts elsewhere, as `busctl attach` takes it.
    #[must_use]
    pub(crate) fn trunk_port(&self, lan: &Lan) -> Option<Result<String, String>> {
        trunk_port(self, lan, self.here.as_deref()?)
    }
}

/// Returns the port that joins the part of a LAN on a machine to the others; `None` when it has no
/// such port, and an error when no port can do it.
pub(crate) fn trunk_port(plan: &Plan, lan: &Lan, machine: &str) -> Option<Result<String, String>> {
    let trunk = lan.trunk.as_ref().filter(|trunk| trunk.is_on(machine))?;
    let own = plan.machines.iter().find(|known| known.name == machine)?;
    Some(match trunk.via {
        Via::Vxlan => vxlan_port(plan, trunk, own),
        Via::Trunk => Ok(zenoh_port(plan, trunk, own)),
    })
}

impl Trunk {
    fn is_on(&self, machine: &str) -> bool {
        self.machines.iter().any(|name| name == machine)
    }
}

fn vxlan_port(plan: &Plan, trunk: &Trunk, own: &Machine) -> Result<String, String> {
    let others = plan.machines.iter().filter(|other| other.name != own.name);
    let others: Vec<&Machine> = others.filter(|other| trunk.is_on(&other.name)).collect();
    let peers: Vec<String> = others
        .iter()
        .map(|other| receives_at(other, trunk).map(|at| at.to_string()))
        .collect::<Result<_, _>>()?;
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    Ok(format!(
        "vxlan:vni={},local={},peers={},hosts={}",
        trunk.vni,
        receives_at(own, trunk)?,
        peers.join(","),
        names.join(",")
    ))
}

/// Returns where a machine receives the frames of a LAN.
fn receives_at(machine: &Machine, trunk: &Trunk) -> Result<SocketAddr, String> {
    let Machine { name, address, .. } = machine;
    let mut address = address.ok_or_else(|| format!("{name} has no address"))?;
    let port = address.port().checked_add(trunk.offset).ok_or_else(|| {
        format!(
            "{name} receives at UDP port {} and {} above it, which do not exist",
            address.port(),
            trunk.offset
        )
    })?;
    address.set_port(port);
    Ok(address)
}

fn zenoh_port(plan: &Plan, trunk: &Trunk, own: &Machine) -> String {
    let Trunk { name, vni, .. } = trunk;
    let mut port = format!("trunk:{name},vni={vni},host={}", own.name);
    // One port of the machine can listen. The others are its clients.
    let listens = plan
        .lans
        .iter()
        .filter_map(|lan| lan.trunk.as_ref())
        .find(|first| first.via == Via::Trunk && first.is_on(&own.name))
        .is_some_and(|first| first.name == *name);
    let mut add = |key: &str, values: &[String]| {
        if !values.is_empty() {
            port = format!("{port},{key}={}", values.join(","));
        }
    };
    if own.listen.is_empty() || listens {
        add("connect", &own.connect);
        add("listen", &own.listen);
    } else {
        let reachable: Vec<String> = own.listen.iter().map(|at| reached_from_here(at)).collect();
        add("connect", &reachable);
    }
    if let Some(address) = own.address {
        add("local", &[address.ip().to_string()]);
    }
    if let Some(config) = &own.config {
        add("config", &[config.display().to_string()]);
    }
    port
}

/// Returns the endpoint that leads to one that this machine listens at.
fn reached_from_here(endpoint: &str) -> String {
    endpoint.replacen("/0.0.0.0:", "/127.0.0.1:", 1).replacen("/[::]:", "/[::1]:", 1)
}

/// Returns the number of the VXLAN of a LAN, which all machines compute. `salt` tells those apart that
/// would have the same.
pub(crate) fn vni(lab: &str, lan: &str, salt: u32) -> u32 {
    vxlan::vni_of(&format!("{lab}/{lan}/{salt}")).max(1)
}

/// Returns the name of the trunk of a LAN, which no other LAN of another lab has.
pub(crate) fn trunk_name(lab: &str, lan: &str, vni: u32) -> String {
    let plain = format!("{lab}.{lan}");
    // A dot in the lab's name could be the one between the two.
    if plain.len() <= MAX_NAME && !lab.contains('.') {
        return plain;
    }
    // Names of labs and LANs are ASCII.
    let cut = |name: &str| name.chars().take(MAX_NAME_PART).collect::<String>();
    format!("{}.{}.{vni:06x}", cut(lab), cut(lan))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::file::Source;

    const LAB: &str = "
        name = \"net\"
        [host.a]
        address = \"192.0.2.1\"
        [host.b]
        address = \"192.0.2.2:5000\"
        [host.c]
        address = \"192.0.2.3\"
        [lan.all]
        prefix = \"10.1.0.0/24\"
        [lan.own]
        [link.wire]
        ends = [\"x1\", \"z\"]
        [lan.none]
        [node.x]
        count = 2
        lans = \"all\"
        on = \"{{ ['a', 'b'][index - 1] }}\"
        [node.y]
        kind = \"host\"
        lans = \"own\"
        on = \"b\"
        [node.z]
        lans = \"all\"
        on = \"c\"
        [[check]]
        node = \"x\"
        ping = \"z\"
        [[check]]
        set = \"wire\"
        partition = true
        [[check]]
        set = \"z:eth0\"
        delay = \"1ms\"
    ";

    fn plan(text: &str) -> Plan {
        Plan::from_toml(text, &Source::new()).unwrap()
    }

    #[test]
    fn each_machine_runs_its_part() {
        let all = plan(LAB);
        let part = |machine: &str| {
            let plan = all.clone().on(machine).unwrap();
            let nodes: Vec<_> = plan.nodes_here().map(|node| node.name.clone()).collect();
            let lans: Vec<_> = plan.lans_here().map(|lan| lan.name.clone()).collect();
            (nodes.join(" "), lans.join(" "), plan.checks_here().count())
        };
        let of = |nodes: &str, lans: &str, checks| (nodes.to_owned(), lans.to_owned(), checks);
        assert_eq!(part("a"), of("x1", "all wire none", 2));
        assert_eq!(part("b"), of("x2 y", "all own none", 1));
        assert_eq!(part("c"), of("z", "all wire none", 2));
        let error = all.clone().on("d").unwrap_err().to_string();
        assert!(error.contains("its hosts are a, b, c"), "{error}");
        assert!(all.check_here().unwrap_err().to_string().contains("a, b, c"));
    }

    #[test]
    fn the_parts_of_a_lan_fit_together() {
        let all = plan(LAB);
        let port = |machine: &str, lan: usize| {
            trunk_port(&all, &all.lans[lan], machine).map(Result::unwrap)
        };
        let [lan, wire] = [0, 2].map(|lan| all.lans[lan].trunk.as_ref().unwrap());
        assert_eq!((lan.name.as_str(), wire.name.as_str()), ("net.all", "net.wire"));
        assert_eq!(
            port("a", 0).unwrap(),
            format!(
                "vxlan:vni={},local=192.0.2.1:4789,peers=192.0.2.2:5000,192.0.2.3:4789,hosts=b,c",
                lan.vni
            )
        );
        assert_eq!(
            port("c", 2).unwrap(),
            format!("vxlan:vni={},local=192.0.2.3:4790,peers=192.0.2.1:4790,hosts=a", wire.vni)
        );
        assert_eq!((port("b", 1), port("b", 2)), (None, None));
        assert_eq!(all.nodes[0].interfaces[0].mtu, Some(1_450));
    }

    #[test]
    fn without_addresses_zenoh_joins_them() {
        let text = LAB
            .replace("address = \"192.0.2.1\"", "listen = \"tcp/0.0.0.0:7447\"")
            .replace("address = \"192.0.2.2:5000\"", "connect = \"tcp/192.0.2.1:7447\"");
        let all = plan(&text);
        let port = |machine: &str, lan: usize| {
            trunk_port(&all, &all.lans[lan], machine).map(Result::unwrap)
        };
        let vni = all.lans[0].trunk.as_ref().unwrap().vni;
        assert_eq!(
            port("a", 0).unwrap(),
            format!("trunk:net.all,vni={vni},host=a,listen=tcp/0.0.0.0:7447")
        );
        assert!(port("a", 2).unwrap().ends_with(",host=a,connect=tcp/127.0.0.1:7447"));
        assert!(port("b", 0).unwrap().ends_with(",host=b,connect=tcp/192.0.2.1:7447"));
        assert!(port("c", 0).unwrap().ends_with(",host=c,local=192.0.2.3"));
        // By a key of the LAN, too.
        let all = plan(&LAB.replace("[link.wire]", "[link.wire]\nvia = \"trunk\""));
        let via = |lan: usize| all.lans[lan].trunk.as_ref().unwrap().via;
        assert_eq!((via(0), via(2)), (Via::Vxlan, Via::Trunk));
    }

    #[test]
    fn names_and_numbers_of_trunks_tell_labs_apart() {
        let name = |lab: &str, lan: &str| trunk_name(lab, lan, vni(lab, lan, 0));
        assert_ne!(name("a.b", "c"), name("a", "b.c"));
        let long = "x".repeat(64);
        assert!(name(&long, &long).len() <= MAX_NAME);
        let numbers: BTreeSet<u32> =
            ["a", "b", "ab"].iter().flat_map(|lab| [vni(lab, "b", 0), vni(lab, "b", 1)]).collect();
        assert_eq!(numbers.len(), 6);
        assert!(numbers.iter().all(|vni| (1..=vxlan::MAX_VNI).contains(vni)));
    }
}
