//! What differs between two versions of a lab.

use std::collections::BTreeMap;

use crate::plan::{Lan, Node, Plan};

/// What is to be done with a lab that is up so that it becomes another.
///
/// Conditions of being ready, dependencies and checks make no difference: they are about starting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The LANs that are new, and those that are made anew.
    pub added_lans: Vec<String>,
    /// The LANs that are gone, and those that are made anew.
    pub removed_lans: Vec<String>,
    /// The LANs that stay and reach other machines in another way, or no more.
    pub rejoined_lans: Vec<String>,
    /// The nodes that are new.
    pub added_nodes: Vec<String>,
    /// The nodes that are gone.
    pub removed_nodes: Vec<String>,
    /// The nodes that are started again.
    pub changed_nodes: Vec<String>,
    /// The LANs, or `NODE:INTERFACE`, that only get other impairments, and which; empty: none. Each
    /// LAN comes before the interfaces on it.
    pub impaired: Vec<(String, String)>,
}

impl Difference {
    /// Returns whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns what differs between two versions of a lab.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Difference {
    let mut difference = Difference::default();
    let (old_lans, new_lans) = (lans(old), lans(new));
    let is_kept = |name: &str| match (old_lans.get(name), new_lans.get(name)) {
        (Some(old), Some(new)) => is_same_bus(old, new),
        _ => false,
    };
    let gone = old.lans_here().filter(|lan| !is_kept(&lan.name));
    difference.removed_lans = gone.map(|lan| lan.name.clone()).collect();
    let fresh = new.lans_here().filter(|lan| !is_kept(&lan.name));
    difference.added_lans = fresh.map(|lan| lan.name.clone()).collect();

    let mut impaired_lans = Vec::new();
    for lan in new.lans_here().filter(|lan| is_kept(&lan.name)) {
        if old.trunk_port(old_lans[&lan.name[..]]) != new.trunk_port(lan) {
            difference.rejoined_lans.push(lan.name.clone());
        }
        if old_lans[&lan.name[..]].impair != lan.impair {
            impaired_lans.push(&lan.name[..]);
            difference.impaired.push((lan.name.clone(), lan.impair.clone()));
        }
    }

    let old_nodes: BTreeMap<&str, &Node> =
        old.nodes_here().map(|node| (&node.name[..], node)).collect();
    let new_nodes: BTreeMap<&str, &Node> =
        new.nodes_here().map(|node| (&node.name[..], node)).collect();
    let gone = old.nodes_here().filter(|node| !new_nodes.contains_key(&node.name[..]));
    difference.removed_nodes = gone.map(|node| node.name.clone()).collect();
    for node in new.nodes_here() {
        let Some(before) = old_nodes.get(&node.name[..]) else {
            difference.added_nodes.push(node.name.clone());
            continue;
        };
        let stays = node.interfaces.iter().all(|interface| is_kept(&interface.lan));
        if !stays || running(before) != running(node) {
            difference.changed_nodes.push(node.name.clone());
            continue;
        }
        for (before, interface) in before.interfaces.iter().zip(&node.interfaces) {
            let of_lan = new_lans.get(&interface.lan[..]).map_or("", |lan| &lan.impair);
            let is_own = interface.impair.is_some();
            // What is set on a LAN is set on all its interfaces, those with words of their own too.
            let is_overwritten = is_own && impaired_lans.contains(&&interface.lan[..]);
            if before.impair != interface.impair || is_overwritten {
                let link = format!("{}:{}", node.name, interface.name);
                let impair = interface.impair.clone().unwrap_or_else(|| of_lan.to_owned());
                difference.impaired.push((link, impair));
            }
        }
    }
    difference
}

fn lans(plan: &Plan) -> BTreeMap<&str, &Lan> {
    plan.lans_here().map(|lan| (&lan.name[..], lan)).collect()
}

/// Returns whether the bus of a LAN can stay.
fn is_same_bus(old: &Lan, new: &Lan) -> bool {
    (old.size, old.is_shmif, &old.capture, &old.filter)
        == (new.size, new.is_shmif, &new.capture, &new.filter)
}

/// Returns a node with nothing but what shows when it runs.
fn running(node: &Node) -> Node {
    let mut node = node.clone();
    node.ready = Vec::new();
    node.ready_within = std::time::Duration::ZERO;
    node.after = Vec::new();
    for interface in &mut node.interfaces {
        interface.impair = None;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Source;

    const LAB: &str = "
        [lan.a]
        delay = \"1ms\"
        [lan.b]
        [node.x]
        lans = \"a\"
        address = \"10.0.0.1/24\"
        [node.y]
        after = \"x\"
        [[node.y.interface]]
        lan = \"a\"
        loss = \"1%\"
        [node.z]
        lans = \"b\"
    ";

    fn difference(from: &str, to: &str) -> Difference {
        let read = |text: &str| Plan::from_toml(text, &Source::new()).unwrap();
        assert!(LAB.contains(from), "{from}");
        diff(&read(LAB), &read(&LAB.replacen(from, to, 1)))
    }

    #[test]
    fn nothing_differs_from_itself_and_from_what_is_about_starting() {
        assert!(difference("x", "x").is_empty());
        assert!(difference("after = \"x\"", "ready-within = 7").is_empty());
        assert!(
            difference("[node.z]", "[[check]]\nnode = \"x\"\nexec = \"true\"\n[node.z]").is_empty()
        );
    }

    #[test]
    fn impairments_alone_are_set_live() {
        let impaired = difference("1ms", "2ms").impaired;
        let pair = |link: &str, impair: &str| (link.to_owned(), impair.to_owned());
        assert_eq!(impaired, [pair("a", "delay=2ms"), pair("y:eth0", "loss=1%")]);
        assert_eq!(difference("1%", "2%").impaired, [pair("y:eth0", "loss=2%")]);
        assert_eq!(difference("loss = \"1%\"", "").impaired, [pair("y:eth0", "delay=1ms")]);
        assert_eq!(difference("delay = \"1ms\"", "").impaired[0], pair("a", ""));
        assert!(difference("1ms", "2ms").changed_nodes.is_empty());
    }

    #[test]
    fn each_host_changes_its_own_part() {
        let lab = "[host.a]\naddress = \"192.0.2.1\"\n[host.b]\naddress = \"192.0.2.2\"\n[lan.l]\n\
                   [lan.m]\n[node.x]\non = \"a\"\nlans = \"l\"\n[node.y]\non = \"b\"\nlans = \"l\"\n\
                   [node.z]\non = \"b\"\nlans = \"m\"\n";
        let of = |host: &str, to: &str| {
            let read =
                |text: &str| Plan::from_toml(text, &Source::new()).unwrap().on(host).unwrap();
            diff(&read(lab), &read(&lab.replace("192.0.2.2", to)))
        };
        let joined = Difference { rejoined_lans: vec!["l".to_owned()], ..Difference::default() };
        assert_eq!((of("a", "192.0.2.3"), of("b", "192.0.2.3")), (joined.clone(), joined));
        let read = |text: &str| Plan::from_toml(text, &Source::new()).unwrap();
        let moved = lab.replace("[node.z]\non = \"b\"", "[node.z]\non = \"a\"");
        let [of_a, of_b] = ["a", "b"]
            .map(|host| diff(&read(lab).on(host).unwrap(), &read(&moved).on(host).unwrap()));
        assert_eq!(
            (of_a.added_nodes, of_a.added_lans),
            (vec!["z".to_owned()], vec!["m".to_owned()])
        );
        assert_eq!(
            (of_b.removed_nodes, of_b.removed_lans),
            (vec!["z".to_owned()], vec!["m".to_owned()])
        );
    }

    #[test]
    fn what_changes_is_started_again_and_nothing_else() {
        let changed = difference("10.0.0.1/24", "10.0.0.2/24");
        assert_eq!(
            changed,
            Difference { changed_nodes: vec!["x".to_owned()], ..Difference::default() }
        );
        let lan = difference("[lan.b]", "[lan.b]\nsize = \"2M\"");
        assert_eq!(
            (lan.removed_lans, lan.added_lans),
            (vec!["b".to_owned()], vec!["b".to_owned()])
        );
        assert_eq!(lan.changed_nodes, ["z"]);
        let other = difference("[node.z]", "[node.w]");
        assert_eq!(
            (other.removed_nodes, other.added_nodes),
            (vec!["z".to_owned()], vec!["w".to_owned()])
        );
    }
}
