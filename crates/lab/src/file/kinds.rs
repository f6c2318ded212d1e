//! What nodes of each kind have of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::commands;
use super::nodes::NodeDraft;
use super::reader::Reader;
use super::shape::KindName;
use super::values;
use crate::plan::{Host, Kind, Memif, Route, Run, Vm};

/// The memory of a virtual machine in MiB.
const VM_MEMORY: u32 = 256;

/// Reads what a node of its kind has, or returns `None` with a problem added.
pub(super) fn read(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Option<Kind> {
    let kind = node.kind;
    if kind.is_on_one_lan() && node.interfaces.len() != 1 {
        let message = format!(
            "a node of the kind {} is on one LAN, and {} is on {}",
            kind.word(),
            node.name,
            node.interfaces.len()
        );
        reader.found.add(&node.span, message);
    }
    if matches!(kind, KindName::Rump | KindName::Process)
        && node.layers.get("services").is_none()
        && node.layers.get("exec").is_none()
    {
        let message = format!(
            "{} needs 'services': a node of the kind {} is the commands that it runs",
            node.name,
            kind.word()
        );
        reader.found.add(&node.span, message);
    }
    Some(match kind {
        KindName::Run => Kind::Run(run(reader, node)),
        KindName::Host => Kind::Host(host(reader, node)),
        KindName::Memif => Kind::Memif(memif(reader, node)),
        KindName::Vm => Kind::Vm(vm(reader, node)),
        KindName::Internet => Kind::Internet,
        KindName::Rump => Kind::Rump,
        KindName::Process => Kind::Process,
        KindName::Bus => Kind::Bus(path(reader, node, "path", "the bus that it joins")?),
        KindName::Pcap => Kind::Pcap(path(reader, node, "file", "the capture that it plays")?),
    })
}

fn run(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Run {
    let scope = &node.scope;
    let mut routes = Vec::new();
    for (via, span) in gateways(reader, node) {
        let network = match via {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        add_route(reader, &mut routes, Route { network, via }, &span);
    }
    let cell = node.layers.get("route");
    let more = cell.map(|cell| reader.all(cell, scope, values::route)).unwrap_or_default();
    for ((network, via), span) in more {
        check_router(reader, node, via, &span);
        add_route(reader, &mut routes, Route { network, via }, &span);
    }
    let dns = node.layers.get("dns").map(|cell| reader.all(cell, scope, values::ip));
    let forward = node.layers.get("forward").and_then(|cell| reader.bool(cell, scope));
    Run {
        routes,
        dns: dns.unwrap_or_default().into_iter().map(|(ip, _)| ip).collect(),
        forward: forward.unwrap_or(false),
        sysctl: sysctl(reader, node),
    }
}

fn add_route(reader: &Reader<'_>, routes: &mut Vec<Route>, route: Route, span: &Range<usize>) {
    if routes.iter().any(|other| other.network == route.network) {
        reader.found.add(span, format!("there is a route to {} already", route.network));
    } else {
        routes.push(route);
    }
}

fn sysctl(reader: &Reader<'_>, node: &NodeDraft<'_>) -> BTreeMap<String, String> {
    let scalars = reader.scalars(&node.layers, "sysctl", &node.scope).into_iter();
    scalars
        .filter_map(|(name, (value, span))| {
            let name = name.replace('/', ".");
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let is_name = name.starts_with("net.") && name.bytes().all(allowed);
            if !is_name || name.contains("..") || value.contains(['\0', '\n']) {
                let message = format!("'{name}' is no setting of a network: those begin with net.");
                reader.found.add(&span, message);
                return None;
            }
            Some((name, value))
        })
        .collect()
}

fn host(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Host {
    let flag = |key| {
        let cell = node.layers.get(key);
        cell.and_then(|cell| reader.bool(cell, &node.scope)).unwrap_or(false)
    };
    let sink = node.layers.get("tcp-sink");
    Host {
        gateways: gateways(reader, node).into_iter().map(|(ip, _)| ip).collect(),
        dhcp: flag("dhcp"),
        slaac: flag("slaac"),
        tcp_sink: sink.and_then(|cell| commands::port(reader, cell, &node.scope)),
    }
}

/// Reads the default routers of a node: one of each family, on one of its networks.
fn gateways(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Vec<(IpAddr, Range<usize>)> {
    let Some(cell) = node.layers.get("gateway") else { return Vec::new() };
    let mut gateways: Vec<(IpAddr, Range<usize>)> = Vec::new();
    for (ip, span) in reader.all(cell, &node.scope, values::ip) {
        check_router(reader, node, ip, &span);
        if gateways.iter().any(|(other, _)| other.is_ipv4() == ip.is_ipv4()) {
            reader.found.add(&span, "there is one gateway for each family");
        } else {
            gateways.push((ip, span));
        }
    }
    gateways
}

/// Adds that a router is on no network of a node, or is the node itself.
fn check_router(reader: &Reader<'_>, node: &NodeDraft<'_>, router: IpAddr, span: &Range<usize>) {
    let is_configured = |key: &str| {
        let cell = node.layers.get(key);
        cell.and_then(|cell| reader.bool(cell, &node.scope)).unwrap_or(false)
    };
    let unknown = if router.is_ipv4() { is_configured("dhcp") } else { is_configured("slaac") };
    let is_link_local = matches!(router, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut nets = node.interfaces.iter().flat_map(|interface| &interface.addresses);
    if nets.clone().any(|net| net.addr() == router) {
        let message = format!("{router} is an address of {} itself", node.name);
        reader.found.add(span, message);
    } else if !unknown && !is_link_local && !nets.any(|net| net.contains(&router)) {
        let message = format!("{router} is on no network that {} is on", node.name);
        reader.found.add(span, message);
    }
}

fn memif(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Memif {
    let scope = &node.scope;
    let role = node.layers.get("role").and_then(|cell| reader.text(cell, scope));
    let socket = node.layers.get("socket").and_then(|cell| {
        reader.parsed(cell, scope, |text| match text {
            "" | "@" => Err("this is the path of a socket".to_owned()),
            text if text.starts_with(['/', '@']) => Ok(PathBuf::from(text)),
            text => values::check_inner_path(text).map(|()| PathBuf::from(text)),
        })
    });
    let id = node.layers.get("id").and_then(|cell| reader.integer(cell, scope, 0, u32::MAX));
    let keys = node.layers.get("keys").and_then(|cell| reader.text(cell, scope));
    Memif {
        is_server: role.is_none_or(|role| role != "client"),
        socket: socket.unwrap_or_else(|| PathBuf::from("memif.sock")),
        id: id.unwrap_or(0),
        keys: keys.unwrap_or_default(),
    }
}

fn vm(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Vm {
    let scope = &node.scope;
    let text = |key: &str| {
        let cell = node.layers.get(key)?;
        let text = cell.get_ref().is_str().then(|| reader.text(cell, scope)).flatten()?;
        if text.is_empty() || text.contains('\0') {
            reader.found.add(&cell.span(), format!("'{key}' is empty"));
            return None;
        }
        Some(text)
    };
    let file = |key: &str| text(key).map(|path| reader.source.resolve(&path));
    if node.layers.get("kernel").is_none() && node.layers.get("disk").is_none() {
        let message = format!("{} needs a 'kernel' or a 'disk' to start from", node.name);
        reader.found.add(&node.span, message);
    }
    for key in ["initrd", "append"] {
        if let Some(cell) = node.layers.get(key)
            && node.layers.get("kernel").is_none()
        {
            reader.found.add(&cell.span(), format!("'{key}' is for a 'kernel'"));
        }
    }
    let memory = node.layers.get("memory").and_then(|cell| {
        reader.parsed(cell, scope, |text| {
            let mib = match text.parse::<u64>() {
                Ok(mib) => mib,
                Err(_) => values::size(text)? >> 20,
            };
            let mib = u32::try_from(mib).ok().filter(|mib| (1..=1 << 20).contains(mib));
            mib.ok_or_else(|| format!("'{text}' is no memory: that is 1M to 1024G"))
        })
    });
    // A name without '/' is looked up in $PATH.
    let program = match text("program") {
        Some(program) if program.contains('/') => reader.source.resolve(&program),
        Some(program) => PathBuf::from(program),
        None => PathBuf::from("qemu-system-x86_64"),
    };
    let arguments = node.layers.get("arguments").map(|cell| reader.texts(cell, scope));
    Vm {
        program,
        memory: memory.unwrap_or(VM_MEMORY),
        kernel: file("kernel"),
        initrd: file("initrd"),
        append: text("append").unwrap_or_default(),
        disk: file("disk"),
        arguments: arguments.unwrap_or_default().into_iter().map(|(text, _)| text).collect(),
    }
}

/// Reads a path that a kind needs.
fn path(reader: &Reader<'_>, node: &NodeDraft<'_>, key: &str, what: &str) -> Option<PathBuf> {
    let Some(cell) = node.layers.get(key) else {
        reader.found.add(&node.span, format!("{} needs '{key}', {what}", node.name));
        return None;
    };
    let text = cell.get_ref().is_str().then(|| reader.text(cell, &node.scope)).flatten()?;
    if text.is_empty() || text.contains('\0') {
        reader.found.add(&cell.span(), format!("'{key}' is empty"));
        return None;
    }
    Some(reader.source.resolve(&text))
}
