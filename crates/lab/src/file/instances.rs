//! `count = N`: one table of a file as several things with computed names.

use std::ops::Range;

use minijinja::{Value, context};
use toml::de::DeTable;

use super::reader::Reader;

/// The most things that one table makes.
const MAX_COUNT: u32 = 1000;

/// One of the things that a table makes.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    /// Its number, from 1.
    pub(super) index: u32,
    /// What its templates see so far.
    pub(super) scope: Value,
}

/// Returns what the table `key` makes, with names that `check` allows.
pub(super) fn instances(
    reader: &Reader<'_>,
    key: &str,
    span: &Range<usize>,
    table: &DeTable<'_>,
    base: &Value,
    check: fn(&str) -> Result<(), String>,
) -> Vec<Instance> {
    let cell = table.get("count");
    let count = match cell {
        None => Some(1),
        Some(cell) => reader.integer(cell, base, 1, MAX_COUNT),
    };
    let is_template = key.contains("{{") || key.contains("{%");
    let mut made = Vec::new();
    // With a wrong count the rest is read once, for what else is wrong.
    for index in 1..=count.unwrap_or(1) {
        let number = count.unwrap_or(1);
        let scope = context! { index => index, count => number, ..base.clone() };
        let name = if is_template {
            let place = super::template::Place::Here(span.clone());
            match reader.templates.render(key, &scope, &place, &reader.found) {
                Some(name) => name,
                None => continue,
            }
        } else if cell.is_some() {
            format!("{key}{index}")
        } else {
            key.to_owned()
        };
        if let Err(why) = check(&name) {
            reader.found.add(span, why);
            break;
        }
        let scope = context! { name => name.as_str(), ..scope };
        made.push(Instance { name, index, scope });
        if reader.found.is_full() {
            break;
        }
    }
    made
}
