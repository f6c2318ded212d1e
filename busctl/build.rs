//! Tells the program which commit it is built from, for `--version`.
//!
//! In a checkout git knows; in a package of cargo's making a file says it; anywhere else it is left
//! out. Only what can change the answer makes this run again.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `cargo package` writes down the commit.
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match of_checkout().or_else(of_package) {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=BUSCTL_VERSION={version}");
}

/// Commit and date, when this file is git's: the sources may lie in a repository that has nothing
/// to do with them.
fn of_checkout() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    watch(&git_path("HEAD")?);
    // None while no branch is checked out.
    if let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        watch_branch(&branch);
    }
    git(&["log", "-1", "--format=%h %cs"])
}

/// A branch is a file of its own or a line in a file of many, and becomes a file with its next
/// commit.
fn watch_branch(branch: &str) {
    let Some(file) = git_path(branch) else { return };
    if file.exists() {
        watch(&file);
        return;
    }
    git_path("packed-refs")
        .filter(|packed| packed.exists())
        .iter()
        .for_each(|packed| watch(packed));
    if let Some(folder) = file.ancestors().find(|folder| folder.is_dir()) {
        watch(folder);
    }
}

/// What is not there would be taken for changed each time.
fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn git_path(name: &str) -> Option<PathBuf> {
    git(&["rev-parse", "--git-path", name]).map(PathBuf::from)
}

/// What git answers; none when there is no git, or no repository.
fn git(args: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(PACKAGED).ok()?;
    let (_, hash) = text.split_once("\"sha1\":")?;
    let hash: String =
        hash.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_hexdigit).collect();
    (hash.len() >= 9).then(|| hash[..9].to_owned())
}
