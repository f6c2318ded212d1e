//! Labs of containerlab, as lab files.
//!
//! YAML is read by `saphyr`: it is maintained (`serde_yaml` is not), is Rust throughout, follows YAML
//! 1.2, and knows the line and the column of every value, which messages need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use crate::file::{Problem, Problems};

/// The longest file in bytes, and how deep it may be nested.
const MAX_TEXT: usize = 4 << 20;
const MAX_DEPTH: usize = 64;

/// The kinds of containerlab that stand for images of vendors, and what could stand in.
const VENDORS: &[(&str, &str)] = &[
    ("srl", "Nokia SR Linux"),
    ("nokia_srlinux", "Nokia SR Linux"),
    ("ceos", "Arista cEOS"),
    ("arista_ceos", "Arista cEOS"),
    ("crpd", "Juniper cRPD"),
    ("juniper_crpd", "Juniper cRPD"),
    ("sonic-vs", "SONiC"),
    ("cvx", "Cumulus VX"),
    ("xrd", "Cisco XRd"),
    ("cisco_xrd", "Cisco XRd"),
];

/// A lab file that was made of one of containerlab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The lab file.
    pub toml: String,
    /// What of the other file is not in it, a line each. The lab file has them as comments.
    pub dropped: Vec<String>,
}

/// Returns the lab file for a lab of containerlab (`.clab.yml`).
///
/// Nodes of the kind `linux` and `host` become namespaces, and bridges become LANs. Images are not
/// run: what `exec` and `cmd` say runs with the programs of this machine.
///
/// # Errors
/// When it is no such file, or has nodes of vendors' kinds: those are named, each with what could
/// stand in.
pub fn import(yaml: &str) -> Result<Imported, Problems> {
    let failed = |list| Problems { path: None, list };
    let problem =
        |line, column, message: String| Problem { line, column, message, suggestion: None };
    if yaml.len() > MAX_TEXT || depth(yaml) > MAX_DEPTH {
        let message = "the file is too long, or nested too deeply".to_owned();
        return Err(failed(vec![problem(1, 1, message)]));
    }
    let documents = MarkedYaml::load_from_str(yaml).map_err(|error| {
        let place = error.marker();
        failed(vec![problem(place.line(), place.col() + 1, error.info().to_owned())])
    })?;
    let mut import = Import::default();
    if let Some(file) = documents.first() {
        import.file(file);
    }
    if import.nodes.is_empty() && import.problems.is_empty() {
        let message = "this is no lab of containerlab: there are no nodes in its topology";
        import.problems.push(problem(1, 1, message.to_owned()));
    }
    if !import.problems.is_empty() {
        import.problems.sort();
        return Err(failed(import.problems));
    }
    Ok(import.write())
}

/// Returns a bound of how deep a text is nested, by brackets or by indentation.
fn depth(yaml: &str) -> usize {
    let mut open = 0_usize;
    let mut most = 0;
    for line in yaml.lines() {
        // Each `- ` and each step to the right may be one more.
        let marks = line.chars().take_while(|c| matches!(c, ' ' | '-' | '?')).count();
        most = most.max(marks / 2);
        for letter in line.chars() {
            match letter {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                _ => {}
            }
            most = most.max(open);
        }
    }
    most
}

/// A node of containerlab.
#[derive(Default)]
struct ImportedNode {
    /// The lines of its table.
    lines: Vec<String>,
    /// Interfaces on bridges: the LAN and the name.
    on_bridges: Vec<(String, String)>,
}

#[derive(Default)]
struct Import {
    name: Option<String>,
    bridges: Vec<String>,
    nodes: Vec<(String, ImportedNode)>,
    /// The links: their lines without the name.
    links: Vec<(String, Vec<String>)>,
    dropped: Vec<String>,
    problems: Vec<Problem>,
}

type Yaml<'a> = MarkedYaml<'a>;

impl Import {
    fn problem(&mut self, at: &Yaml<'_>, message: String) {
        let start = at.span.start;
        let (line, column) = (start.line(), start.col() + 1);
        self.problems.push(Problem { line, column, message, suggestion: None });
    }

    fn file(&mut self, file: &Yaml<'_>) {
        for (key, value) in entries(file) {
            match &key[..] {
                "name" => self.name = text(value),
                "topology" => self.topology(value),
                "prefix" => {}
                key => self.dropped.push(format!("'{key}' of the file")),
            }
        }
    }

    fn topology(&mut self, topology: &Yaml<'_>) {
        let nodes = get(topology, "nodes");
        let mut kinds = BTreeMap::new();
        for (name, node) in nodes.map(entries).unwrap_or_default() {
            let layers = layers(topology, node);
            let kind = layers.iter().rev().find_map(|layer| text(get(layer, "kind")?));
            let kind = kind.unwrap_or_else(|| "linux".to_owned());
            match &kind[..] {
                "bridge" | "ovs-bridge" => self.bridges.push(name.clone()),
                "linux" | "host" => self.node(&name, node, &layers),
                vendor => {
                    let known = VENDORS.iter().find(|(kind, _)| *kind == vendor);
                    let what = known.map_or("", |(_, what)| what);
                    let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
                    self.problem(
                        node,
                        format!(
                            "'{name}' is of the kind {vendor}{what}, an image of a vendor, which does \
                             not run here; a router of kind linux with bird or FRR can stand in, or a \
                             node of kind vm with its disk"
                        ),
                    );
                }
            }
            kinds.insert(name, kind);
        }
        for link in
            get(topology, "links").and_then(|links| links.data.as_sequence()).into_iter().flatten()
        {
            self.link(link, &kinds);
        }
        for (key, _) in entries(topology) {
            if !matches!(&key[..], "nodes" | "links" | "defaults" | "kinds" | "groups") {
                self.dropped.push(format!("'{key}' of the topology"));
            }
        }
    }

    fn node(&mut self, name: &str, node: &Yaml<'_>, layers: &[&Yaml<'_>]) {
        let host = host_name(name);
        if host.is_empty() || self.nodes.iter().any(|(other, _)| *other == host) {
            self.problem(node, format!("'{name}' cannot be a host name, or is one twice"));
            return;
        }
        if host != name {
            self.dropped.push(format!("the name '{name}', which is no host name: it is '{host}'"));
        }
        let mut made = ImportedNode::default();
        let mut env = BTreeMap::new();
        let mut exec = Vec::new();
        for layer in layers {
            for (key, value) in entries(layer) {
                match &key[..] {
                    "kind" | "group" => {}
                    "exec" => exec.extend(texts(value)),
                    "env" => env.extend(
                        entries(value)
                            .into_iter()
                            .filter_map(|(name, value)| Some((name, text(value)?))),
                    ),
                    "cmd" => {
                        made.lines
                            .extend(text(value).map(|cmd| format!("services = {}", quoted(&cmd))));
                    }
                    "image" => {
                        let image = text(value).unwrap_or_default();
                        self.dropped.push(format!(
                            "the image '{image}' of {name}: its programs must be on this machine"
                        ));
                    }
                    "binds" => {
                        for bind in texts(value) {
                            self.dropped.push(format!(
                                "the bind '{bind}' of {name}: 'files' writes files into its folder"
                            ));
                        }
                    }
                    key => self.dropped.push(format!("'{key}' of {name}")),
                }
            }
        }
        if !exec.is_empty() {
            let list: Vec<String> = exec.iter().map(|line| quoted(line)).collect();
            made.lines.push(format!("exec = [\n  {},\n]", list.join(",\n  ")));
        }
        if !env.is_empty() {
            let list: Vec<String> = env
                .iter()
                .map(|(name, value)| format!("{} = {}", bare(name), quoted(value)))
                .collect();
            made.lines.push(format!("env = {{ {} }}", list.join(", ")));
        }
        self.nodes.push((host, made));
    }

    fn link(&mut self, link: &Yaml<'_>, kinds: &BTreeMap<String, String>) {
        let ends = get(link, "endpoints").and_then(|ends| ends.data.as_sequence());
        let ends: Vec<Option<(String, String)>> =
            ends.into_iter().flatten().map(endpoint).collect();
        let [Some((a, a_name)), Some((b, b_name))] = &ends[..] else {
            let message = "a link has two endpoints, such as [\"a:eth1\", \"b:eth1\"]";
            self.problem(link, message.to_owned());
            return;
        };
        for (node, _) in [(a, a_name), (b, b_name)] {
            if !kinds.contains_key(node) {
                let message = match &node[..] {
                    "host" | "mgmt-net" | "macvlan" | "dummy" => format!(
                        "'{node}' is this machine itself, which is in no lab; a node of kind internet \
                         reaches the outside"
                    ),
                    node => format!("there is no node '{node}'"),
                };
                self.problem(link, message);
                return;
            }
        }
        let is_bridge =
            |node: &String| kinds.get(node).is_some_and(|kind| kind.ends_with("bridge"));
        match (is_bridge(a), is_bridge(b)) {
            (true, true) => {
                self.problem(link, format!("'{a}' and '{b}' are bridges: make one LAN of them"));
            }
            (true, false) => self.on_bridge(b, a, b_name),
            (false, true) => self.on_bridge(a, b, a_name),
            (false, false) => {
                let ends =
                    [format!("{}:{a_name}", host_name(a)), format!("{}:{b_name}", host_name(b))];
                let mut lines =
                    vec![format!("ends = [{}, {}]", quoted(&ends[0]), quoted(&ends[1]))];
                if let Some(mtu) = get(link, "mtu").and_then(|mtu| mtu.data.as_integer()) {
                    lines.push(format!("mtu = {mtu}"));
                }
                self.links.push((format!("{}-{}", host_name(a), host_name(b)), lines));
            }
        }
    }

    fn on_bridge(&mut self, node: &str, bridge: &str, name: &str) {
        let host = host_name(node);
        let found = self.nodes.iter_mut().find(|(other, _)| *other == host);
        if let Some((_, node)) = found {
            node.on_bridges.push((bridge.to_owned(), name.to_owned()));
        }
    }

    fn write(self) -> Imported {
        let mut toml = "# Made from a file of containerlab by 'busctl lab import'.\n".to_owned();
        for line in &self.dropped {
            let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
            let _ = writeln!(toml, "# Not in here: {line}.");
        }
        if let Some(name) = &self.name {
            let _ = writeln!(toml, "\nname = {}", quoted(&lan_name(name)));
        }
        for bridge in &self.bridges {
            let _ = writeln!(toml, "\n[lan.{}]", bare(&lan_name(bridge)));
        }
        let mut names: BTreeSet<String> = self.bridges.iter().map(|name| lan_name(name)).collect();
        for (name, lines) in &self.links {
            let more = (2_u32..).map(|number| format!("{name}-{number}"));
            let mut free = std::iter::once(name.clone()).chain(more);
            let name = free.find(|name| names.insert(name.clone())).unwrap_or_default();
            let _ = writeln!(toml, "\n[link.{}]", bare(&name));
            for line in lines {
                let _ = writeln!(toml, "{line}");
            }
        }
        for (name, node) in &self.nodes {
            let _ = writeln!(toml, "\n[node.{}]", bare(name));
            for line in &node.lines {
                let _ = writeln!(toml, "{line}");
            }
            for (lan, interface) in &node.on_bridges {
                let _ = writeln!(toml, "\n[[node.{}.interface]]", bare(name));
                let _ = writeln!(toml, "lan = {}", quoted(&lan_name(lan)));
                let _ = writeln!(toml, "name = {}", quoted(interface));
            }
        }
        Imported { toml, dropped: self.dropped }
    }
}

/// Returns what a node gets its keys from: defaults, its kind, its group, and itself.
fn layers<'a>(topology: &'a Yaml<'a>, node: &'a Yaml<'a>) -> Vec<&'a Yaml<'a>> {
    let defaults = get(topology, "defaults");
    let find = |key: &str| get(node, key).or_else(|| get(defaults?, key)).and_then(text);
    let group = find("group").and_then(|group| get(get(topology, "groups")?, &group));
    let kind = get(node, "kind").or_else(|| get(group?, "kind")).or_else(|| get(defaults?, "kind"));
    let kind = kind.and_then(text).and_then(|kind| get(get(topology, "kinds")?, &kind));
    [defaults, kind, group, Some(node)].into_iter().flatten().collect()
}

/// Returns the entries of a mapping whose keys are texts.
fn entries<'a>(yaml: &'a Yaml<'a>) -> Vec<(String, &'a Yaml<'a>)> {
    let entries = yaml.data.as_mapping().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((text(key)?, value))).collect()
}

fn get<'a>(yaml: &'a Yaml<'a>, key: &str) -> Option<&'a Yaml<'a>> {
    let mut entries = yaml.data.as_mapping()?.iter();
    entries.find(|(name, _)| text(name).as_deref() == Some(key)).map(|(_, value)| value)
}

/// Returns a plain value as a text.
fn text(yaml: &Yaml<'_>) -> Option<String> {
    match &yaml.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::FloatingPoint(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a text, or the texts of a list.
fn texts(yaml: &Yaml<'_>) -> Vec<String> {
    match yaml.data.as_sequence() {
        Some(items) => items.iter().filter_map(text).collect(),
        None => text(yaml).into_iter().collect(),
    }
}

/// Returns the node and the interface of an endpoint: `a:eth1`, or a mapping.
fn endpoint(yaml: &Yaml<'_>) -> Option<(String, String)> {
    if let Some(text) = text(yaml) {
        let (node, interface) = text.split_once(':')?;
        return Some((node.to_owned(), interface.to_owned()));
    }
    Some((text(get(yaml, "node")?)?, text(get(yaml, "interface")?)?))
}

/// Returns a name as a host name.
fn host_name(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    letters.take(63).collect::<String>().trim_matches('-').to_owned()
}

/// Returns a name as that of a lab or a LAN.
fn lan_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let letters = name.chars().map(|c| if allowed(c) { c } else { '-' });
    let name: String = letters.take(64).collect();
    let name = name.trim_start_matches(['-', '.']);
    if name.is_empty() { "lan".to_owned() } else { name.to_owned() }
}

/// Returns a text in quotes, in which nothing is a template.
fn quoted(text: &str) -> String {
    let is_template = ["{{", "{%", "{##"].iter().any(|mark| text.contains(mark));
    let text =
        if is_template { format!("{{% raw %}}{text}{{% endraw %}}") } else { text.to_owned() };
    toml::Value::String(text).to_string()
}

/// Returns a key, in quotes if it needs some.
fn bare(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(is_bare) {
        key.to_owned()
    } else {
        toml::Value::String(key.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Plan;
    use crate::file::Source;

    const LAB: &str = r#"
name: frr01
mgmt:
  network: x
topology:
  kinds:
    linux:
      image: frrouting/frr:v7.5.1
  nodes:
    router_1:
      kind: linux
      binds: ["r1/daemons:/etc/frr/daemons"]
      exec:
        - ip addr add 10.0.0.1/24 dev eth1
        - echo "{{ x }}"
    r2:
      kind: linux
      env: { A: 1 }
      cmd: sleep inf
    br1:
      kind: bridge
    h:
      kind: host
  links:
    - endpoints: ["router_1:eth1", "r2:eth1"]
      mtu: 1400
    - endpoints: ["router_1:eth2", "r2:eth2"]
    - endpoints: ["r2:eth3", "br1:port1"]
    - endpoints: ["h:eth1", "br1:port2"]
"#;

    #[test]
    fn a_lab_of_containerlab_is_a_lab_here() {
        let imported = import(LAB).unwrap();
        let plan = Plan::from_toml(&imported.toml, &Source::new())
            .unwrap_or_else(|problems| panic!("{problems}\n{}", imported.toml));
        assert_eq!(plan.name, "frr01");
        let names: Vec<&str> = plan.nodes.iter().map(|node| &node.name[..]).collect();
        assert_eq!(names, ["router-1", "r2", "h"]);
        let lans: Vec<&str> = plan.lans.iter().map(|lan| &lan.name[..]).collect();
        assert_eq!(lans, ["br1", "router-1-r2", "router-1-r2-2"]);
        assert_eq!(plan.nodes[0].exec[1], "echo \"{{ x }}\"");
        assert_eq!(plan.nodes[1].env["A"], "1");
        assert_eq!(plan.nodes[1].services[0].command, "sleep inf");
        assert_eq!(plan.nodes[2].interfaces[0].name, "eth1");
        assert_eq!(plan.nodes[0].interfaces[0].mtu, Some(1400));
        let dropped = imported.dropped.join("\n");
        for what in ["'mgmt'", "frrouting/frr", "r1/daemons", "router_1"] {
            assert!(dropped.contains(what), "{dropped}");
        }
    }

    #[test]
    fn images_of_vendors_are_refused_by_name() {
        let text =
            "topology:\n  nodes:\n    s1:\n      kind: nokia_srlinux\n    s2:\n      kind: ceos\n";
        let problems = import(text).unwrap_err();
        assert_eq!(problems.list.len(), 2);
        let text = problems.to_string();
        assert!(text.contains("'s1' is of the kind nokia_srlinux (Nokia SR Linux)"), "{text}");
        assert!(text.contains("Arista cEOS") && text.contains("bird or FRR"), "{text}");
    }

    #[test]
    fn what_is_no_lab_is_refused() {
        for text in [
            "",
            "a: b",
            "- 1",
            "topology: [",
            "topology:\n  nodes: {a: {kind: linux}}\n  links: [{endpoints: [\"a:x\"]}]",
        ] {
            assert!(import(text).is_err(), "{text}");
        }
        let text =
            "topology:\n  nodes: {a: {kind: linux}}\n  links: [{endpoints: [\"a:x\", \"host:y\"]}]";
        assert!(import(text).unwrap_err().to_string().contains("kind internet"));
        assert!(import(&"[".repeat(100_000)).is_err());
        assert!(import(&"- ".repeat(100_000)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_panics_on_any_text(text in "(?s).{0,200}", cut in 0..LAB.len()) {
            let _ = import(&text);
            let _ = import(&LAB[..cut]);
        }
    }
}
