//! What is drawn: networks, and nodes with interfaces on them. A lab is one source of it.

use crate::plan::{Interface, Kind, Plan};

/// A picture to be drawn by [`tree`](super::tree), [`mermaid`](super::mermaid),
/// [`dot`](super::dot) or [`svg`](super::svg()).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawing {
    /// What the picture is of.
    pub name: String,
    /// The networks.
    pub lans: Vec<DrawnLan>,
    /// What is on them.
    pub nodes: Vec<DrawnNode>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrawnLan {
    /// Its name, by which interfaces refer to it.
    pub name: String,
    /// What it is, for a tree: `LAN`, `link`, `bus`.
    pub word: &'static str,
    /// Whether it is drawn as a line when two interfaces are on it.
    pub is_link: bool,
    /// More about it; may be empty.
    pub note: String,
}

/// Something on networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrawnNode {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Whether it is of the usual kind, which a tree does not name.
    pub is_usual: bool,
    /// The machine that it is on, with whose others it is drawn; `None` where there is one machine only.
    pub host: Option<String>,
    /// Where it is on a network.
    pub interfaces: Vec<DrawnInterface>,
}

/// An interface of a node on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrawnInterface {
    /// The name of the network.
    pub lan: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its addresses, or more about it; may be empty.
    pub addresses: String,
    /// What it does to frames on purpose; `None` for nothing.
    pub impair: Option<String>,
}

impl DrawnInterface {
    /// Returns its name and addresses.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.name, self.addresses).trim().to_owned()
    }
}

impl From<&Plan> for Drawing {
    fn from(plan: &Plan) -> Self {
        let interface = |interface: &Interface| DrawnInterface {
            lan: interface.lan.clone(),
            name: interface.name.clone(),
            addresses: {
                let texts: Vec<String> =
                    interface.addresses.iter().map(ToString::to_string).collect();
                texts.join(" ")
            },
            impair: interface.impair.clone(),
        };
        let lans = plan.lans.iter().map(|lan| DrawnLan {
            name: lan.name.clone(),
            word: if lan.is_link { "link" } else { "LAN" },
            is_link: lan.is_link,
            note: lan.impair.clone(),
        });
        let nodes = plan.nodes.iter().map(|node| DrawnNode {
            name: node.name.clone(),
            kind: node.kind.word().to_owned(),
            is_usual: matches!(node.kind, Kind::Run(_)),
            host: node.on.clone(),
            interfaces: node.interfaces.iter().map(interface).collect(),
        });
        Self { name: plan.name.clone(), lans: lans.collect(), nodes: nodes.collect() }
    }
}
