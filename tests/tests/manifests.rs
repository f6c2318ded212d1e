//! What is published has what crates.io and docs.rs show of it, and nothing in the manifests is left
//! over: `cargo publish` checks less, and only when it is too late.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Returns the root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

fn manifest(folder: &Path) -> Table {
    let text = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    text.parse().expect("TOML")
}

/// Returns the folders of all members of the workspace, with their manifests.
fn members() -> Vec<(PathBuf, Table)> {
    let root = root();
    let workspace = manifest(&root);
    let members = workspace["workspace"]["members"].as_array().expect("a list");
    let mut folders = Vec::new();
    for member in members {
        match member.as_str().expect("a path").strip_suffix("/*") {
            Some(parent) => {
                let entries = std::fs::read_dir(root.join(parent)).expect("a folder");
                folders.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            None => folders.push(root.join(member.as_str().expect("a path"))),
        }
    }
    folders.into_iter().map(|folder| (folder.clone(), manifest(&folder))).collect()
}

/// Whether a package may be published.
fn is_published(manifest: &Table) -> bool {
    manifest["package"].get("publish").and_then(Value::as_bool) != Some(false)
}

/// Returns the lists of dependencies of a manifest.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&str, &Table)> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|kind| Some((kind, manifest.get(kind)?.as_table()?)))
}

/// Returns what a package that is published lacks.
fn faults(root: &Path, folder: &Path, manifest: &Table) -> Vec<String> {
    let package = manifest["package"].as_table().expect("a package");
    let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
    let words = |key: &str| match package.get(key).and_then(Value::as_array) {
        Some(words) => words.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    let name = text("name");
    let mut faults = Vec::new();
    let mut check = |is_well: bool, fault: &str| {
        if !is_well {
            faults.push(format!("{name}: {fault}"));
        }
    };
    check(!text("description").is_empty(), "no description");
    check(text("documentation").ends_with(&format!("/{name}")), "no documentation of its own");
    check(package.get("repository").is_some_and(Value::is_table), "not the workspace's repository");
    check(!words("categories").is_empty(), "no categories");
    // What crates.io accepts.
    let keywords = words("keywords");
    check((1..=5).contains(&keywords.len()), "not 1 to 5 keywords");
    check(keywords.iter().all(|word| word.len() <= 20), "a keyword of more than 20 characters");
    let title = std::fs::read_to_string(folder.join(text("readme"))).unwrap_or_default();
    check(title.starts_with(&format!("# {name}\n")), "no README under its name");
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let ours = std::fs::read(root.join(licence)).expect("a licence");
        let inside = std::fs::read(folder.join(licence)).unwrap_or_default();
        check(inside == ours, &format!("{licence} is not inside"));
    }
    if let Some(features) = manifest.get("features").and_then(Value::as_table)
        && !features.is_empty()
    {
        let docs = package.get("metadata").and_then(|metadata| metadata.get("docs"));
        let all = docs.and_then(|docs| docs.get("rs")?.get("all-features")?.as_bool());
        check(all == Some(true), "docs.rs does not show its features");
    }
    faults
}

#[test]
fn what_is_published_has_all_that_crates_io_shows() {
    let root = root();
    let published: Vec<_> =
        members().into_iter().filter(|(_, manifest)| is_published(manifest)).collect();
    assert!(published.len() > 10, "the crates are not found");
    let faults: Vec<String> =
        published.iter().flat_map(|(folder, manifest)| faults(&root, folder, manifest)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_package_that_lacks_everything_is_found() {
    let empty: Table = "[package]\nname = \"empty\"\n[features]\nmore = []".parse().expect("TOML");
    let found = faults(&root(), &root().join("docs"), &empty);
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn what_is_published_depends_on_nothing_that_is_not() {
    let members = members();
    let private: BTreeSet<&str> = members
        .iter()
        .filter(|(_, manifest)| !is_published(manifest))
        .filter_map(|(_, manifest)| manifest["package"]["name"].as_str())
        .collect();
    for (_, manifest) in members.iter().filter(|(_, manifest)| is_published(manifest)) {
        for (kind, list) in dependencies(manifest) {
            let missing: Vec<_> =
                list.keys().filter(|name| private.contains(name.as_str())).collect();
            let package = &manifest["package"]["name"];
            assert!(missing.is_empty(), "{package}: {missing:?} in {kind} is not published");
        }
    }
}

#[test]
fn every_dependency_of_the_workspace_is_used_by_a_member() {
    let workspace = manifest(&root());
    let offered = workspace["workspace"]["dependencies"].as_table().expect("a table");
    let members = members();
    let used: BTreeSet<&String> = members
        .iter()
        .flat_map(|(_, manifest)| dependencies(manifest).flat_map(|(_, list)| list.keys()))
        .collect();
    let unused: Vec<_> = offered.keys().filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "no member uses {unused:?}");
}

#[test]
fn members_take_versions_from_the_workspace() {
    let workspace = manifest(&root());
    let version = &workspace["workspace"]["package"]["version"];
    let offered = workspace["workspace"]["dependencies"].as_table().expect("a table");
    for (name, dependency) in offered {
        if dependency.get("path").is_some() {
            assert_eq!(&dependency["version"], version, "{name}");
        }
    }
    for (folder, manifest) in members() {
        let version = &manifest["package"]["version"];
        assert!(version.get("workspace").is_some(), "{}: {version}", folder.display());
    }
}
