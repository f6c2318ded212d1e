//! A lab, or other networks, as a drawing: for a terminal, for Mermaid and Graphviz, and as SVG.

mod bars;
mod drawing;
mod layout;
mod measurements;
mod svg;

use std::fmt::Write as _;

pub use self::bars::{BarChart, bars};
pub use self::drawing::{Drawing, DrawnInterface, DrawnLan, DrawnNode};
pub use self::measurements::Measurements;
pub use self::svg::svg;

/// Returns the interfaces on a LAN with their nodes.
fn members<'a>(
    plan: &'a Drawing,
    lan: &'a str,
) -> impl Iterator<Item = (&'a DrawnNode, &'a DrawnInterface)> {
    let all = plan.nodes.iter().flat_map(|node| node.interfaces.iter().map(move |one| (node, one)));
    all.filter(move |(_, interface)| interface.lan == lan)
}

/// A host, and its nodes with their numbers.
type OnHost<'d> = (Option<&'d str>, Vec<(usize, &'d DrawnNode)>);

/// Returns the hosts of the nodes, each with its nodes and their numbers, in the order of the nodes.
/// Nodes without a host come first.
fn by_host(plan: &Drawing) -> Vec<OnHost<'_>> {
    let mut hosts: Vec<OnHost<'_>> = vec![(None, Vec::new())];
    for (number, node) in plan.nodes.iter().enumerate() {
        let host = node.host.as_deref();
        match hosts.iter_mut().find(|(known, _)| *known == host) {
            Some((_, nodes)) => nodes.push((number, node)),
            None => hosts.push((host, vec![(number, node)])),
        }
    }
    hosts
}

/// Returns a drawing as a tree: its networks, and on each the interfaces of nodes.
///
/// ```
/// use lab::Plan;
/// use lab::file::Source;
///
/// let text = "[lan.office]\nprefix = \"10.1.0.0/24\"\n[node.pc]\ncount = 2\nlans = \"office\"\n";
/// let plan = Plan::from_toml(text, &Source::new())?;
/// assert_eq!(
///     lab::graph::tree(&(&plan).into()),
///     "lab\n\
///      └── LAN office\n    \
///          ├── pc1 eth0 10.1.0.1/24\n    \
///          └── pc2 eth0 10.1.0.2/24\n"
/// );
/// # Ok::<(), lab::file::Problems>(())
/// ```
#[must_use]
pub fn tree(plan: &Drawing) -> String {
    let mut branches: Vec<(String, Vec<String>)> = Vec::new();
    for lan in &plan.lans {
        let mut title = format!("{} {}", lan.word, lan.name);
        if !lan.note.is_empty() {
            let _ = write!(title, " ({})", lan.note);
        }
        let mut members: Vec<_> = members(plan, &lan.name).collect();
        members.sort_by(|(a, _), (b, _)| a.host.cmp(&b.host));
        let leaves = members.into_iter().map(|(node, interface)| {
            let mut leaf = node.name.clone();
            if !interface.name.is_empty() {
                let _ = write!(leaf, " {}", interface.name);
            }
            if !node.is_usual {
                let _ = write!(leaf, " [{}]", node.kind);
            }
            if !interface.addresses.is_empty() {
                let _ = write!(leaf, " {}", interface.addresses);
            }
            if let Some(impair) = &interface.impair {
                let _ = write!(leaf, " ({impair})");
            }
            if let Some(host) = &node.host {
                let _ = write!(leaf, " on {host}");
            }
            leaf
        });
        branches.push((title, leaves.collect()));
    }
    for node in plan.nodes.iter().filter(|node| node.interfaces.is_empty()) {
        let host = node.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        branches.push((format!("{} [{}]{host}", node.name, node.kind), Vec::new()));
    }
    let mut text = format!("{}\n", plan.name);
    for (index, (title, leaves)) in branches.iter().enumerate() {
        let is_last = index + 1 == branches.len();
        let (mark, indent) = if is_last { ("└──", "    ") } else { ("├──", "│   ") };
        let _ = writeln!(text, "{mark} {title}");
        for (index, leaf) in leaves.iter().enumerate() {
            let mark = if index + 1 == leaves.len() { "└──" } else { "├──" };
            let _ = writeln!(text, "{indent}{mark} {leaf}");
        }
    }
    text
}

/// Returns a drawing as a flowchart for Mermaid.
#[must_use]
pub fn mermaid(plan: &Drawing) -> String {
    let mut text = "graph LR\n".to_owned();
    for (group, (host, nodes)) in by_host(plan).into_iter().enumerate() {
        if let Some(host) = host {
            let _ = writeln!(text, "  subgraph h{group}[\"{}\"]", mermaid_escape(host));
        }
        for (number, node) in nodes {
            let label = mermaid_escape(&format!("{} ({})", node.name, node.kind));
            let _ = writeln!(text, "  n{number}[\"{label}\"]");
        }
        if host.is_some() {
            text.push_str("  end\n");
        }
    }
    each_line(plan, |line| {
        let _ = match line {
            Line::Lan(lan, name) => writeln!(text, "  l{lan}((\"{}\"))", mermaid_escape(name)),
            Line::Member(node, lan, "") => writeln!(text, "  n{node} --- l{lan}"),
            Line::Member(node, lan, label) => {
                writeln!(text, "  n{node} ---|\"{}\"| l{lan}", mermaid_escape(label))
            }
            Line::Link(a, b, label) => {
                writeln!(text, "  n{a} ---|\"{}\"| n{b}", mermaid_escape(label))
            }
        };
    });
    text
}

/// Returns a drawing as a graph for Graphviz.
#[must_use]
pub fn dot(plan: &Drawing) -> String {
    let mut text = format!("graph \"{}\" {{\n  node [shape=box];\n", dot_escape(&plan.name));
    for (group, (host, nodes)) in by_host(plan).into_iter().enumerate() {
        if let Some(host) = host {
            let label = dot_escape(host);
            let _ = writeln!(text, "  subgraph cluster_{group} {{\n  label=\"{label}\";");
        }
        for (number, node) in nodes {
            let label = dot_escape(&format!("{}\n{}", node.name, node.kind));
            let _ = writeln!(text, "  n{number} [label=\"{label}\"];");
        }
        if host.is_some() {
            text.push_str("  }\n");
        }
    }
    each_line(plan, |line| {
        let _ = match line {
            Line::Lan(lan, name) => {
                writeln!(text, "  l{lan} [label=\"{}\", shape=ellipse];", dot_escape(name))
            }
            Line::Member(node, lan, label) => {
                writeln!(text, "  n{node} -- l{lan} [label=\"{}\"];", dot_escape(label))
            }
            Line::Link(a, b, label) => {
                writeln!(text, "  n{a} -- n{b} [label=\"{}\"];", dot_escape(label))
            }
        };
    });
    text.push_str("}\n");
    text
}

/// What is drawn beside the nodes.
enum Line<'a> {
    /// A LAN: its number and name.
    Lan(usize, &'a str),
    /// An interface of a node on a LAN.
    Member(usize, usize, &'a str),
    /// A link between two nodes.
    Link(usize, usize, &'a str),
}

/// Calls `draw` for each LAN, and each connection of nodes.
fn each_line(plan: &Drawing, mut draw: impl FnMut(Line<'_>)) {
    let mut on_lan: std::collections::BTreeMap<&str, Vec<(usize, &DrawnInterface)>> =
        std::collections::BTreeMap::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        for interface in &node.interfaces {
            on_lan.entry(&interface.lan).or_default().push((number, interface));
        }
    }
    for (number, lan) in plan.lans.iter().enumerate() {
        let members = on_lan.get(&lan.name[..]).map(Vec::as_slice).unwrap_or_default();
        let suffix = if lan.note.is_empty() { String::new() } else { format!("\n{}", lan.note) };
        if let ([(a, _), (b, _)], true) = (members, lan.is_link) {
            draw(Line::Link(*a, *b, &format!("{}{suffix}", lan.name)));
            continue;
        }
        draw(Line::Lan(number, &format!("{}{suffix}", lan.name)));
        for (node, interface) in members {
            draw(Line::Member(*node, number, &interface.label()));
        }
    }
}

fn mermaid_escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\n' => escaped.push_str("<br>"),
            '"' | '<' | '>' | '&' | '#' | ';' | '|' | '`' | '\\' => {
                let _ = write!(escaped, "#{};", u32::from(letter));
            }
            letter if letter.is_control() => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn dot_escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    escaped.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Source;
    use crate::plan::Plan;

    fn plan() -> Drawing {
        let text = "
            name = \"g\"
            [lan.office]
            prefix = \"10.1.0.0/24\"
            [link.wan]
            ends = [\"r1\", \"r2\"]
            delay = \"10ms\"
            [node.r1]
            lans = \"office\"
            [node.r2]
            [node.h]
            kind = \"host\"
            lans = \"office\"
            [node.p]
            kind = \"process\"
            services = \"true\"
        ";
        (&Plan::from_toml(text, &Source::new()).unwrap()).into()
    }

    #[test]
    fn a_tree_has_all_nodes() {
        assert_eq!(
            tree(&plan()),
            "g\n\
             ├── LAN office\n\
             │   ├── r1 eth0 10.1.0.1/24\n\
             │   └── h eth0 [host] 10.1.0.2/24\n\
             ├── link wan (delay=10ms)\n\
             │   ├── r1 eth1\n\
             │   └── r2 eth0\n\
             └── p [process]\n"
        );
    }

    #[test]
    fn drawings_for_other_programs() {
        assert_eq!(
            mermaid(&plan()),
            "graph LR\n  n0[\"r1 (run)\"]\n  n1[\"r2 (run)\"]\n  n2[\"h (host)\"]\n  n3[\"p (process)\"]\n  \
             l0((\"office\"))\n  n0 ---|\"eth0 10.1.0.1/24\"| l0\n  n2 ---|\"eth0 10.1.0.2/24\"| l0\n  \
             n0 ---|\"wan<br>delay=10ms\"| n1\n"
        );
        let dot = dot(&plan());
        assert!(dot.contains("n0 -- n1 [label=\"wan\\ndelay=10ms\"];"), "{dot}");
        assert!(dot.contains("l0 [label=\"office\", shape=ellipse];"), "{dot}");
    }

    #[test]
    fn nodes_are_drawn_with_those_of_their_host() {
        let text = "name = \"h\"\n[host.a]\n[host.b]\n[lan.l]\n[node.x]\nlans = \"l\"\non = \"b\"\n\
                    [node.y]\nlans = \"l\"\non = \"a\"\n[node.z]\nlans = \"l\"\non = \"b\"\n";
        let drawing = Drawing::from(&Plan::from_toml(text, &Source::new()).unwrap());
        assert_eq!(
            tree(&drawing),
            "h\n└── LAN l\n    ├── y eth0 on a\n    ├── x eth0 on b\n    └── z eth0 on b\n"
        );
        let mermaid = mermaid(&drawing);
        let host = "  subgraph h1[\"b\"]\n  n0[\"x (run)\"]\n  n2[\"z (run)\"]\n  end\n";
        assert!(mermaid.contains(host), "{mermaid}");
        let dot = dot(&drawing);
        let host = "subgraph cluster_2 {\n  label=\"a\";\n  n1 [label=\"y\\nrun\"];\n  }\n";
        assert!(dot.contains(host), "{dot}");
        assert!(svg(&drawing).contains("run on a"));
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(mermaid_escape("a\"<b>|"), "a#34;#60;b#62;#124;");
        assert_eq!(dot_escape("a\"\\\n\u{7}"), "a\\\"\\\\\\n");
    }
}
