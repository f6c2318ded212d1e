//! What is on which bus, as a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use ::lab::graph::{self, Drawing, DrawnInterface, DrawnLan, DrawnNode};

use crate::bus_argument::BusArgument;
use crate::buses;
use crate::context::Context;
use crate::output;
use crate::quantity::short_size;
use crate::registry::{InterfaceName, Registry};
use crate::survey::{Survey, Surveyed, SurveyedBus, Surveyor, What};

/// The form of the picture.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(super) struct PictureArgs {
    /// Draw the buses, and the stations, ports and peers on them, as a tree
    #[arg(long, conflicts_with_all = ["json", "brief", "watch"])]
    graph: bool,

    /// Draw them for Mermaid
    #[arg(long, conflicts_with_all = ["json", "brief", "watch", "dot", "svg"])]
    mermaid: bool,

    /// Draw them for Graphviz
    #[arg(long, conflicts_with_all = ["json", "brief", "watch", "svg"])]
    dot: bool,

    /// Draw them as SVG
    #[arg(long, conflicts_with_all = ["json", "brief", "watch"])]
    svg: bool,
}

impl PictureArgs {
    /// Returns whether a picture is asked for.
    pub(super) fn is_wanted(&self) -> bool {
        self.graph || self.mermaid || self.dot || self.svg
    }
}

/// Prints the picture of all buses, or of one.
///
/// # Errors
/// When the file is no bus; when the registry cannot be read.
pub(super) fn print(
    form: &PictureArgs,
    subject: Option<&BusArgument>,
    context: &Context,
) -> anyhow::Result<()> {
    let mut surveyor = Surveyor::default();
    let (survey, peers) = match subject {
        Some(BusArgument::Path(path)) => {
            let buses = vec![surveyor.look_at(buses::one(path)?)];
            // A path works also where there is no registry.
            let peers = context.registry().ok().map(|registry| peers(&registry));
            (Survey { buses }, peers.unwrap_or_default())
        }
        Some(bus @ BusArgument::Interface(_)) => {
            let registry = context.registry()?;
            let buses = vec![surveyor.look_at(buses::one(&bus.path(&registry)?)?)];
            (Survey { buses }, peers(&registry))
        }
        None => {
            let registry = context.registry()?;
            (surveyor.look(&registry)?, peers(&registry))
        }
    };
    let drawing = drawing(&survey, &peers);
    let text = if form.mermaid {
        graph::mermaid(&drawing)
    } else if form.dot {
        graph::dot(&drawing)
    } else if form.svg {
        graph::svg(&drawing)
    } else {
        graph::tree(&drawing)
    };
    write!(output::stdout(), "{text}")?;
    Ok(())
}

/// Returns the peers of memif interfaces, by the names of the interfaces.
fn peers(registry: &Registry) -> BTreeMap<String, String> {
    let names: Vec<InterfaceName> = registry.names().into_iter().flatten().collect();
    let connected = names.into_iter().filter_map(|name| {
        registry.runner(name).ok().flatten()?;
        let remote = registry.report(name).memif?.remote?;
        Some((name.to_string(), format!("{} {}", remote.name, remote.interface)))
    });
    connected.collect()
}

/// Returns what is drawn. The ports and stations of a process that is on several buses are one node.
fn drawing(survey: &Survey, peers: &BTreeMap<String, String>) -> Drawing {
    let mut buses_of = BTreeMap::<u32, BTreeSet<&str>>::new();
    for bus in &survey.buses {
        for row in &bus.on_it {
            buses_of.entry(row.pid).or_default().insert(&bus.entry.path);
        }
    }
    let mut nodes: Vec<DrawnNode> = Vec::new();
    let mut joining = BTreeMap::<u32, usize>::new();
    for bus in &survey.buses {
        for row in &bus.on_it {
            if row.what == What::Remote {
                continue;
            }
            let interface = interface(bus, row, peers);
            if buses_of.get(&row.pid).is_none_or(|buses| buses.len() < 2) {
                let kind = row.what.word().to_owned();
                let name = row.name.clone();
                nodes.push(DrawnNode {
                    name,
                    kind,
                    interfaces: vec![interface],
                    ..DrawnNode::default()
                });
                continue;
            }
            let index = *joining.entry(row.pid).or_insert_with(|| {
                nodes.push(DrawnNode {
                    name: format!("process {}", row.pid),
                    kind: "joins buses".to_owned(),
                    ..DrawnNode::default()
                });
                nodes.len() - 1
            });
            let interface = DrawnInterface { name: row.name.clone(), ..interface };
            nodes[index].interfaces.push(interface);
        }
    }
    let lans = survey.buses.iter().map(|bus| DrawnLan {
        name: bus.entry.path.clone(),
        word: "bus",
        is_link: false,
        note: short_size(bus.entry.size),
    });
    Drawing { name: "buses".to_owned(), lans: lans.collect(), nodes }
}

fn interface(
    bus: &SurveyedBus,
    row: &Surveyed,
    peers: &BTreeMap<String, String>,
) -> DrawnInterface {
    let peer = peers.get(&row.name).filter(|_| row.what == What::Port);
    let is_behind = |remote: &&Surveyed| {
        (remote.pid, remote.port.as_deref()) == (row.pid, Some(&row.name)) && row.what == What::Port
    };
    let remotes: Vec<&str> =
        bus.on_it.iter().filter(is_behind).map(|remote| &*remote.name).collect();
    DrawnInterface {
        lan: bus.entry.path.clone(),
        name: String::new(),
        addresses: match (&row.mac, peer) {
            (_, Some(peer)) => format!("peer {peer}"),
            (Some(mac), None) => mac.clone(),
            (None, None) if !remotes.is_empty() => format!("to {}", remotes.join(" ")),
            (None, None) => String::new(),
        },
        impair: Some(row.impairments.clone()).filter(|impairments| !impairments.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::BusRates;
    use crate::survey::tests::{entry, row};

    #[test]
    fn a_process_on_two_buses_is_one_node() {
        let bus = |path: &str, on_it| SurveyedBus {
            entry: entry(path, &[]),
            rates: BusRates::default(),
            on_it,
        };
        let web = Surveyed { pid: 9, ..row(What::Station, "web", 1, 0) };
        let remote =
            Surveyed { port: Some("vxlan 7".to_owned()), ..row(What::Remote, "fd00::2", 1, 0) };
        let vxlan = |row| Surveyed { pid: 10, ..row };
        let memif = Surveyed { pid: 8, ..row(What::Port, "memif0/1", 1, 0) };
        let joined = |name| row(What::Port, name, 0, 0);
        let survey = Survey {
            buses: vec![
                bus(
                    "/a",
                    vec![web, memif, joined("bus b"), vxlan(joined("vxlan 7")), vxlan(remote)],
                ),
                bus("/b", vec![joined("bus a")]),
            ],
        };
        let peers = BTreeMap::from([("memif0/1".to_owned(), "VPP x".to_owned())]);
        assert_eq!(
            graph::tree(&drawing(&survey, &peers)),
            "buses\n\
             ├── bus /a (1M)\n\
             │   ├── web [station] b2:a0:00:00:00:01\n\
             │   ├── memif0/1 [port] peer VPP x\n\
             │   ├── process 7 bus b [joins buses]\n\
             │   └── vxlan 7 [port] to fd00::2\n\
             └── bus /b (1M)\n    \
                 └── process 7 bus a [joins buses]\n"
        );
    }
}
