//! The architecture holds: no two modules of a crate import each other in a circle, and no floor
//! uses a higher one.
//!
//! The floors are the rows of the table "Every file" in `docs/ARCHITECTURE.md`, so that the table
//! holds for every file. A row of a crate may use the rows above it and itself. The children of a
//! folder may use what its `mod.rs` holds.

mod floors;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::floors::Floors;
use self::modules::Modules;

/// Returns the root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

/// Returns the folders of the crates with sources of their own.
fn crates() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("crates")).expect("a folder");
    let mut crates: Vec<PathBuf> = crates.map(|entry| entry.expect("an entry").path()).collect();
    let others = [
        "shmbus",
        "shmbus/capi",
        "shmbus/vdeplug",
        "memif",
        "memif/capi",
        "memif/capi/core",
        "memif/capi/v3",
        "busctl",
        "python",
    ];
    crates.extend(others.map(|name| root().join(name)));
    crates.sort();
    crates
}

/// Returns the groups of modules that import each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reaches = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for import in imports.get(&module).into_iter().flatten() {
                if seen.insert(import.clone()) {
                    next.push(import.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|module| (module, reaches(module))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (&module, reached) in &reach {
        if reached.contains(module) && !circles.iter().any(|circle| circle.contains(module)) {
            let back =
                |other: &&String| reach.get(*other).is_some_and(|back| back.contains(module));
            circles.push(reached.iter().filter(back).cloned().collect());
        }
    }
    circles
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for folder in crates() {
        let modules = Modules::of(&folder);
        found.extend(
            circles(&modules.imports())
                .iter()
                .map(|circle| format!("{}: {circle:?}", folder.display())),
        );
    }
    assert!(found.is_empty(), "circles of imports:\n{}", found.join("\n"));
}

#[test]
fn circles_are_found() {
    let imports = |edges: &[(&str, &str)]| {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            imports.entry((*to).to_owned()).or_default();
        }
        imports
    };
    assert!(circles(&imports(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circles(&imports(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]));
    assert_eq!(found, [BTreeSet::from(["b".to_owned(), "c".to_owned()])]);
}

#[test]
fn the_table_holds_for_every_file_and_no_floor_uses_a_higher_one() {
    let floors = Floors::read(&root().join("docs/ARCHITECTURE.md"));
    let mut found = floors.rows_without_files(&root());
    for folder in crates() {
        let modules = Modules::of(&folder);
        let place = |module: &str| {
            let file = modules.file(module).strip_prefix(root()).expect("inside").to_owned();
            floors.place(&file).ok_or_else(|| format!("no row for {}", file.display()))
        };
        for (module, imports) in modules.imports() {
            let from = match place(&module) {
                Ok(from) => from,
                Err(missing) => {
                    found.push(missing);
                    continue;
                }
            };
            for import in imports {
                if place(&import).is_ok_and(|to| to > from) {
                    let file =
                        modules.file(&module).strip_prefix(root()).expect("inside").display();
                    found.push(format!("{file} uses {import}, which is on a higher floor"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
