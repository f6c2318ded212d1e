//! What a node runs: files, services, and the conditions of being ready.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;

use minijinja::Value;
use toml::de::{DeTable, DeValue};

use super::nodes::NodeDraft;
use super::reader::{Layers, Reader};
use super::shape::KindName;
use super::source::MAX_TEXT;
use super::syntax::Cell;
use super::template::Place;
use super::values;
use crate::plan::{File, Ready, Restart, Service};

/// Reads the files of a node's scratch folder.
pub(super) fn files(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for (name, cell) in node.layers.merged("files") {
        let place = Place::Here(cell.span());
        let Some(path) = reader.templates.render(name, &node.scope, &place, &reader.found) else {
            continue;
        };
        if let Err(why) = values::check_inner_path(&path) {
            reader.found.add(&cell.span(), why);
            continue;
        }
        let path = PathBuf::from(path);
        let clash = |other: &File| other.path.starts_with(&path) || path.starts_with(&other.path);
        if files.iter().any(clash) {
            let message = format!("'{}' is in the way of another file", path.display());
            reader.found.add(&cell.span(), message);
            continue;
        }
        let content = match cell.get_ref() {
            DeValue::String(_) => reader.text(cell, &node.scope).map(|text| (text, false)),
            DeValue::Table(table) => table_file(reader, table, &cell.span(), &node.scope),
            _ => None,
        };
        if let Some((text, is_executable)) = content {
            files.push(File { path, text, is_executable });
        }
    }
    files
}

/// Reads a file that is a table: its text, and whether it can be run.
fn table_file(
    reader: &Reader<'_>,
    table: &DeTable<'_>,
    span: &Range<usize>,
    scope: &Value,
) -> Option<(String, bool)> {
    let keys = Layers::new([table]);
    let is_executable = match keys.get("mode") {
        None => false,
        Some(cell) => reader.parsed(cell, scope, |mode| {
            let number = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
            let mode = number.ok_or(format!("'{mode}' is no mode: one is \"644\" or \"755\""))?;
            Ok(mode & 0o100 != 0)
        })?,
    };
    let sources: Vec<(&str, &Cell<'_>)> = ["text", "template", "copy"]
        .into_iter()
        .filter_map(|key| Some((key, keys.get(key)?)))
        .collect();
    let [(key, cell)] = sources[..] else {
        reader.found.add(span, "a file has one of 'text', 'template' and 'copy'");
        return None;
    };
    let text = match key {
        "text" => reader.text(cell, scope)?,
        key => {
            let name = cell.get_ref().is_str().then(|| reader.text(cell, scope)).flatten()?;
            let text = match read_beside(reader, &name) {
                Ok(text) => text,
                Err(why) => {
                    reader.found.add(&cell.span(), why);
                    return None;
                }
            };
            if key == "copy" {
                text
            } else {
                let place = Place::File(&name, cell.span());
                reader.templates.render(&text, scope, &place, &reader.found)?
            }
        }
    };
    Some((text, is_executable))
}

/// Reads a file in the folder of the lab file, or below.
fn read_beside(reader: &Reader<'_>, name: &str) -> Result<String, String> {
    values::check_inner_path(name)?;
    if reader.source.file().is_none() {
        return Err("the lab is in no file, so there is none beside it".to_owned());
    }
    let failed = |error: std::io::Error| format!("cannot read '{name}': {error}");
    let path = reader.source.resolve(name).canonicalize().map_err(failed)?;
    let folder = reader.source.resolve("").canonicalize().map_err(failed)?;
    if !path.starts_with(&folder) {
        return Err(format!("'{name}' leads out of the folder of the lab file"));
    }
    // A pipe would be waited for.
    if !path.is_file() {
        return Err(format!("'{name}' is no file"));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() > MAX_TEXT {
        return Err(format!("'{name}' is longer than 4 MiB"));
    }
    String::from_utf8(text).map_err(|_| format!("'{name}' is no text in UTF-8"))
}

/// Reads the services of a node.
pub(super) fn services(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Vec<Service> {
    let mut services = Vec::new();
    let mut names = BTreeSet::new();
    for cell in items(node.layers.get("services")) {
        let read = match cell.get_ref() {
            DeValue::String(_) => {
                command(reader, cell, &node.scope).map(|command| (None, command, Restart::No))
            }
            DeValue::Table(table) => table_service(reader, table, &cell.span(), &node.scope),
            _ => None,
        };
        let Some((name, command, restart)) = read else { continue };
        let name = name.unwrap_or_else(|| free_name(&command, &names));
        if !names.insert(name.clone()) {
            let message = format!("{} has two services '{name}'", node.name);
            reader.found.add(&cell.span(), message);
            continue;
        }
        services.push(Service { name, command, restart });
    }
    services
}

fn table_service(
    reader: &Reader<'_>,
    table: &DeTable<'_>,
    span: &Range<usize>,
    scope: &Value,
) -> Option<(Option<String>, String, Restart)> {
    let keys = Layers::new([table]);
    let Some(run) = keys.get("run") else {
        reader.found.add(span, "a service needs the key 'run', its command");
        return None;
    };
    let name = keys.get("name").and_then(|cell| {
        reader.parsed(cell, scope, |text| values::check_name(text).map(|()| text.to_owned()))
    });
    let restart = keys.get("restart").and_then(|cell| {
        reader.parsed(cell, scope, |text| match text {
            "no" => Ok(Some(Restart::No)),
            "on-failure" => Ok(Some(Restart::OnFailure)),
            "always" => Ok(Some(Restart::Always)),
            // A word that is no template has been reported.
            _ if reader.found.is_known(&cell.span()) => Ok(None),
            text => Err(format!("'{text}' is none of no, on-failure and always")),
        })
    });
    let command = command(reader, run, scope)?;
    Some((name, command, restart.flatten().unwrap_or_default()))
}

/// Reads a command, which is not empty.
pub(super) fn command(reader: &Reader<'_>, cell: &Cell<'_>, scope: &Value) -> Option<String> {
    let text = cell.get_ref().is_str().then(|| reader.text(cell, scope)).flatten()?;
    check_command(reader, text, &cell.span())
}

/// Returns a command, or adds that it is none.
pub(super) fn check_command(
    reader: &Reader<'_>,
    text: String,
    span: &Range<usize>,
) -> Option<String> {
    if text.trim().is_empty() || text.contains('\0') {
        reader.found.add(span, "this is a command, and not empty");
        return None;
    }
    Some(text)
}

/// Returns the name of a service without a name: that of its program.
fn free_name(command: &str, names: &BTreeSet<String>) -> String {
    let is_assignment = |word: &&str| word.contains('=') || *word == "exec" || *word == "env";
    let program = command.split_whitespace().find(|word| !is_assignment(word)).unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = program.chars().filter(allowed).take(32).collect();
    let name = if values::check_name(&name).is_ok() { name } else { "service".to_owned() };
    let more = (2_u32..).map(|number| format!("{name}-{number}"));
    let mut free = std::iter::once(name.clone()).chain(more).filter(|name| !names.contains(name));
    free.next().unwrap_or_default()
}

/// Reads the conditions of being ready.
pub(super) fn ready(reader: &Reader<'_>, node: &NodeDraft<'_>) -> Vec<Ready> {
    let scope = &node.scope;
    let mut conditions = Vec::new();
    for cell in items(node.layers.get("ready")) {
        match cell.get_ref() {
            DeValue::String(text) if text == "connected" => {
                if node.kind == KindName::Memif {
                    conditions.push(Ready::Connected);
                } else {
                    let message = "only a node of the kind memif gets connected";
                    reader.found.add(&cell.span(), message);
                }
            }
            DeValue::String(_) => {
                conditions.extend(command(reader, cell, scope).map(Ready::Exec));
            }
            DeValue::Table(table) => {
                let keys = Layers::new([table]);
                if table.is_empty() {
                    reader
                        .found
                        .add(&cell.span(), "a condition has one of exec, tcp, file and log");
                }
                let exec = keys.get("exec").and_then(|cell| command(reader, cell, scope));
                let tcp = keys.get("tcp").and_then(|cell| port(reader, cell, scope));
                let text = |key| keys.get(key).and_then(|cell| reader.text(cell, scope));
                conditions.extend(exec.map(Ready::Exec));
                conditions.extend(tcp.map(Ready::Tcp));
                conditions.extend(text("file").map(|path| Ready::File(path.into())));
                conditions.extend(text("log").map(Ready::Log));
                let connected = keys.get("connected").map(|cell| (cell, reader.bool(cell, scope)));
                match connected {
                    Some((_, Some(true))) if node.kind == KindName::Memif => {
                        conditions.push(Ready::Connected);
                    }
                    Some((cell, Some(true))) => {
                        let message = "only a node of the kind memif gets connected";
                        reader.found.add(&cell.span(), message);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    conditions
}

/// Reads a TCP port.
pub(super) fn port(reader: &Reader<'_>, cell: &Cell<'_>, scope: &Value) -> Option<u16> {
    let port = reader.integer(cell, scope, 1, u32::from(u16::MAX))?;
    u16::try_from(port).ok()
}

/// Reads the environment of a node's commands.
pub(super) fn env(reader: &Reader<'_>, node: &NodeDraft<'_>) -> BTreeMap<String, String> {
    let scalars = reader.scalars(&node.layers, "env", &node.scope).into_iter();
    scalars
        .filter_map(|(name, (value, span))| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let starts = !name.starts_with(|c: char| c.is_ascii_digit());
            if name.is_empty() || !starts || !name.bytes().all(allowed) || value.contains('\0') {
                reader.found.add(&span, format!("'{name}' cannot be an environment variable"));
                return None;
            }
            Some((name, value))
        })
        .collect()
}

/// Returns the items of a list, or the only item.
fn items<'f>(cell: Option<&'f Cell<'f>>) -> Vec<&'f Cell<'f>> {
    match cell.map(|cell| (cell, cell.get_ref())) {
        None => Vec::new(),
        Some((_, DeValue::Array(array))) => array.iter().collect(),
        Some((cell, _)) => vec![cell],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_name_of_its_program() {
        let mut names = BTreeSet::new();
        assert_eq!(free_name("/usr/sbin/bird -f", &names), "bird");
        assert_eq!(free_name("LANG=C exec dnsmasq -k", &names), "dnsmasq");
        assert_eq!(free_name("'' ", &names), "service");
        names.insert("bird".to_owned());
        assert_eq!(free_name("bird -f", &names), "bird-2");
    }
}
