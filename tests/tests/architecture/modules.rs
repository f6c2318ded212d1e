//! The modules of a crate and what each of them imports, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Macro, UseTree};

/// The path of a module in its crate; empty for the root.
type ModulePath = Vec<String>;

/// The modules that have a file.
pub(crate) struct Modules(BTreeMap<ModulePath, PathBuf>);

impl Modules {
    /// Finds the files of the crate in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut modules = BTreeMap::new();
        collect(&folder.join("src"), &Vec::new(), &mut modules);
        Self(modules)
    }

    /// Returns the file of the module that [`imports`](Self::imports) calls `name`.
    pub(crate) fn file(&self, name: &str) -> &Path {
        let found = self.0.iter().find(|(path, _)| self::name(path) == name);
        found.map(|(_, file)| &**file).expect("a module with a file")
    }

    /// Returns the other modules that each module names. A module's ancestors do not count, because
    /// a folder is one unit.
    pub(crate) fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let imports = self.0.iter().map(|(path, file)| {
            let text = fs::read_to_string(file).expect("a source file");
            let source = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut names =
                Names { module: path.clone(), paths: Vec::new(), known: BTreeMap::new() };
            names.learn(&source.items);
            names.visit_file(&source);
            let others = names.paths.iter().filter_map(|named| self.module_of(named));
            let others = others.filter(|other| !path.starts_with(other)).map(|other| name(other));
            (name(path), others.collect())
        });
        imports.collect()
    }

    /// Returns the innermost module with a file on a path.
    fn module_of(&self, path: &[String]) -> Option<&ModulePath> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.0.get_key_value(&path[..length]).map(|(path, _)| path))
    }
}

fn name(path: &[String]) -> String {
    if path.is_empty() { "the root".to_owned() } else { path.join("::") }
}

fn collect(folder: &Path, path: &ModulePath, modules: &mut BTreeMap<ModulePath, PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry").path();
        let stem = entry.file_stem().expect("a name").to_string_lossy().into_owned();
        if entry.is_dir() {
            collect(&entry, &[path.clone(), vec![stem]].concat(), modules);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let is_folder = matches!(&*stem, "mod" | "lib" | "main");
            let module = if is_folder { path.clone() } else { [path.clone(), vec![stem]].concat() };
            modules.insert(module, entry);
        }
    }
}

/// Collects the absolute paths that a file names.
struct Names {
    module: ModulePath,
    paths: Vec<ModulePath>,
    /// Modules that have a short name here: children and imported modules.
    known: BTreeMap<String, ModulePath>,
}

impl Names {
    /// Records the short names that `items` give to modules.
    fn learn(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Mod(child) if child.content.is_none() => {
                    let path = [self.module.clone(), vec![child.ident.to_string()]].concat();
                    self.known.insert(child.ident.to_string(), path);
                }
                Item::Use(import) => {
                    for (name, path) in self.flatten(&import.tree) {
                        self.known.insert(name, path);
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns the names that a `use` imports, with their absolute paths.
    fn flatten(&self, tree: &UseTree) -> Vec<(String, ModulePath)> {
        let mut leaves = Vec::new();
        flatten(tree, &mut Vec::new(), &mut leaves);
        leaves.into_iter().filter_map(|(name, path)| Some((name, self.absolute(&path)?))).collect()
    }

    /// Returns the absolute form of a path, if it leads into this crate.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            short => {
                base.clone_from(self.known.get(short)?);
                rest = &path[1..];
            }
        }
        Some([base, rest.to_vec()].concat())
    }

    fn note(&mut self, path: &[String]) {
        self.paths.extend(self.absolute(path));
    }

    /// Macros are not parsed: their paths are found as `crate :: a :: b` and `name :: b`.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                }
                TokenTree::Ident(ident) => {
                    self.note(&path);
                    path = vec![ident.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                _ => {}
            }
            colons = 0;
        }
        self.note(&path);
    }
}

fn flatten(tree: &UseTree, prefix: &mut ModulePath, leaves: &mut Vec<(String, ModulePath)>) {
    let with = |name: &str| [prefix.clone(), vec![name.to_owned()]].concat();
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            leaves.push((prefix.last().cloned().unwrap_or_default(), prefix.clone()));
        }
        UseTree::Name(leaf) => leaves.push((leaf.ident.to_string(), with(&leaf.ident.to_string()))),
        UseTree::Rename(leaf) => {
            leaves.push((leaf.rename.to_string(), with(&leaf.ident.to_string())));
        }
        UseTree::Glob(_) => leaves.push((String::new(), prefix.clone())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, leaves)),
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
        });
        let Some((_, items)) = module.content.as_ref().filter(|_| !is_test) else { return };
        // Paths in it are relative to it.
        let outer = self.known.clone();
        self.module.push(module.ident.to_string());
        self.learn(items);
        visit::visit_item_mod(self, module);
        self.module.pop();
        self.known = outer;
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        let paths = self.flatten(&import.tree);
        self.paths.extend(paths.into_iter().map(|(_, path)| path));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let parts: Vec<String> =
                path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.note(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
