//! The LANs and links of a lab file.

use std::collections::BTreeMap;
use std::ops::Range;

use capture::{Filter, FilterError};
use ipnet::IpNet;
use minijinja::Value;
use shmbus::{BIG_BUS_SIZE, BUS_SIZE, MAX_BIG_FRAME, MAX_BUS_SIZE, MAX_FRAME, MIN_MTU};
use toml::de::DeTable;

use super::instances::{Instance, instances};
use super::reader::{Layers, Reader, Text, in_order};
use super::values;
use crate::plan::{Lan, Via};

/// The most LANs and links.
const MAX_LANS: usize = 10_000;

/// The size of a link's bus: there are many, and two ends do not overrun each other as easily.
const LINK_SIZE: u64 = 2 << 20;

/// The bytes of a frame before its packet.
const ETHERNET_HEADER: usize = 14;

/// The largest MTU of any bus.
pub(super) const MAX_MTU: u32 = mtu_of(MAX_BIG_FRAME);

/// A LAN while a file is read.
#[derive(Debug)]
pub(super) struct LanDraft {
    /// What becomes of it.
    pub(super) plan: Lan,
    /// Where its name is.
    pub(super) span: Range<usize>,
    /// Its networks.
    pub(super) prefixes: Vec<(IpNet, Range<usize>)>,
    /// The MTU of its interfaces.
    pub(super) mtu: Option<u32>,
    /// The nodes, with or without an interface, that a link connects.
    pub(super) ends: Vec<Text>,
    /// What the file says of how its parts on several hosts are joined.
    pub(super) via: Option<(Via, Range<usize>)>,
    /// Whether the file says which format it has, or which size.
    pub(super) says_format: bool,
    pub(super) says_size: bool,
}

impl LanDraft {
    /// Returns the longest packet that the LAN carries, or that its `mtu` allows.
    pub(super) fn max_mtu(&self) -> u32 {
        let most = if self.plan.is_shmif { mtu_of(MAX_FRAME) } else { MAX_MTU };
        self.mtu.map_or(most, |mtu| mtu.min(most))
    }

    /// Makes it a bus that rump kernels share.
    pub(super) fn become_shmif(&mut self) {
        self.plan.is_shmif = true;
        if !self.says_size {
            self.plan.size = BUS_SIZE;
        }
    }
}

/// The LANs and links, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Lans {
    pub(super) list: Vec<LanDraft>,
    by_name: BTreeMap<String, usize>,
}

impl Lans {
    /// Returns the number of a LAN.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Returns the number of the LAN that a text names, or `None` with a problem added.
    pub(super) fn expect(&self, reader: &Reader<'_>, (name, span): &Text) -> Option<usize> {
        let found = self.find(name);
        if found.is_none() {
            let known = self.by_name.keys();
            let message = format!("there is no LAN or link '{name}'");
            reader.found.add_mistyped(span, message, name, known);
        }
        found
    }

    /// Reads all LANs and links of a file.
    pub(super) fn read(reader: &Reader<'_>, file: &DeTable<'_>, base: &Value) -> Self {
        let mut tables = Vec::new();
        for (section, is_link) in [("lan", false), ("link", true)] {
            let table = file.get(section).and_then(|cell| cell.get_ref().as_table());
            for (name, span, cell) in table.map(in_order).unwrap_or_default() {
                if let Some(table) = cell.get_ref().as_table() {
                    tables.push((name, span, table, is_link));
                }
            }
        }
        tables.sort_by_key(|(_, span, _, _)| span.start);
        let mut lans = Self::default();
        for (name, span, table, is_link) in tables {
            let section = if is_link { "link" } else { "lan" };
            let defaults = file
                .get("defaults")
                .and_then(|cell| cell.get_ref().as_table()?.get(section))
                .and_then(|cell| cell.get_ref().as_table());
            let layers = Layers::new(defaults.into_iter().chain([table]));
            for instance in instances(reader, name, &span, table, base, values::check_name) {
                if lans.list.len() >= MAX_LANS {
                    reader.found.add(&span, format!("a lab has at most {MAX_LANS} LANs and links"));
                    return lans;
                }
                if lans.by_name.contains_key(&instance.name) {
                    let message = format!("'{}' is the name of another LAN or link", instance.name);
                    reader.found.add(&span, message);
                    continue;
                }
                reader.found.set_repeating(instance.index > 1);
                lans.by_name.insert(instance.name.clone(), lans.list.len());
                lans.list.push(read_one(reader, &layers, instance, span.clone(), is_link));
                reader.found.set_repeating(false);
            }
        }
        lans
    }
}

/// Reads one LAN.
fn read_one(
    reader: &Reader<'_>,
    layers: &Layers<'_>,
    instance: Instance,
    span: Range<usize>,
    is_link: bool,
) -> LanDraft {
    let scope = &instance.scope;
    let shmif = layers.get("shmif");
    let is_shmif = shmif.and_then(|cell| reader.bool(cell, scope)).unwrap_or(false);
    let ends = match layers.get("ends") {
        Some(cell) => {
            let ends = reader.texts(cell, scope);
            if cell.get_ref().as_array().is_some_and(|ends| ends.len() != 2) {
                reader.found.add(&cell.span(), "a link has two ends");
            }
            ends
        }
        None => Vec::new(),
    };
    let size = layers.get("size").and_then(|cell| read_size(reader, cell, scope, is_shmif));
    let most = if is_shmif { mtu_of(MAX_FRAME) } else { MAX_MTU };
    let mtu = layers.get("mtu").and_then(|cell| reader.integer(cell, scope, MIN_MTU.into(), most));
    let capture = layers.get("capture").and_then(|cell| {
        reader.parsed(cell, scope, |text| match text {
            "" => Err("this is the path of a file".to_owned()),
            text => Ok(text.into()),
        })
    });
    let filter = layers.get("filter").and_then(|cell| {
        if capture.is_none() {
            reader.found.add(&cell.span(), "it chooses frames for 'capture', which is not given");
        }
        reader.parsed(cell, scope, |text| match Filter::compile(text) {
            Ok(filter) => Ok(filter.expression().to_owned()),
            // The machine that runs the lab may have the library.
            Err(FilterError::NoLibrary { .. }) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        })
    });
    let impairments = reader.impairments(layers, scope);
    let plan = Lan {
        name: instance.name,
        is_link,
        size: size.unwrap_or(match (is_shmif, is_link) {
            (true, _) => BUS_SIZE,
            (false, true) => LINK_SIZE,
            (false, false) => BIG_BUS_SIZE,
        }),
        is_shmif,
        impair: impairments.map(|(text, _)| text).unwrap_or_default(),
        capture,
        filter: filter.unwrap_or_default(),
        trunk: None,
    };
    LanDraft {
        plan,
        span,
        prefixes: read_prefixes(reader, layers, scope),
        mtu,
        ends,
        via: read_via(reader, layers, scope),
        says_format: shmif.is_some(),
        says_size: layers.get("size").is_some(),
    }
}

fn read_prefixes(
    reader: &Reader<'_>,
    layers: &Layers<'_>,
    scope: &Value,
) -> Vec<(IpNet, Range<usize>)> {
    let cells = ["prefix", "prefixes"].into_iter().filter_map(|key| layers.get(key));
    cells.flat_map(|cell| reader.all(cell, scope, values::network)).collect()
}

fn read_via(
    reader: &Reader<'_>,
    layers: &Layers<'_>,
    scope: &Value,
) -> Option<(Via, Range<usize>)> {
    let cell = layers.get("via")?;
    // A word that is no template has been checked.
    if reader.found.is_known(&cell.span()) {
        return None;
    }
    let via = reader.parsed(cell, scope, |text| match text {
        "vxlan" => Ok(Via::Vxlan),
        "trunk" => Ok(Via::Trunk),
        text => Err(format!("'via' is vxlan or trunk, and not '{text}'")),
    });
    Some((via?, cell.span()))
}

fn read_size(
    reader: &Reader<'_>,
    cell: &super::syntax::Cell<'_>,
    scope: &Value,
    is_shmif: bool,
) -> Option<u64> {
    reader.parsed(cell, scope, |text| {
        let size = values::size(text)?;
        if is_shmif && size != BUS_SIZE {
            return Err("a bus that rump kernels share has 1M".to_owned());
        }
        if !(BUS_SIZE..=MAX_BUS_SIZE).contains(&size) {
            return Err(format!("'{text}' is no size of a bus: one has 1M to 1G"));
        }
        Ok(size)
    })
}

/// Returns the longest packet in a frame.
const fn mtu_of(max_frame: usize) -> u32 {
    // The frames of a bus are short.
    #[expect(clippy::cast_possible_truncation)]
    let mtu = (max_frame - ETHERNET_HEADER) as u32;
    mtu
}
