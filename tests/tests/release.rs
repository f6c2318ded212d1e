//! `packaging/release` in a copy of this tree: it makes a whole release, shows one, or refuses and
//! changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use system_tests::require;
use tempfile::TempDir;

/// A changelog with all that a release looks at.
const CHANGELOG: &str = "# Changelog\n\nAll changes.\n\n\
    ## [Unreleased]\n\n### Added\n\n#### lab\n\n- A thing.\n\n### Fixed\n\n- A fault.\n\n\
    ## [0.0.9] - 2020-02-29\n\n### Added\n\n- All.\n\n\
    [Unreleased]: https://example.org/compare/v0.0.9...HEAD\n\
    [0.0.9]: https://example.org/releases/tag/v0.0.9\n";

/// A repository with the files of this one, in one commit.
struct Copy {
    folder: TempDir,
}

impl Copy {
    /// Returns a copy, or `None` where this tree is no repository. It has this tree's changelog, or
    /// another.
    fn new(changelog: Option<&str>) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above");
        let git = |words: &[&str]| Command::new("git").current_dir(root).args(words).output();
        let listed = git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = listed.expect("git runs");
        let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
        let what = "a git repository around the sources";
        if let Some(skipped) = system_tests::require::skips(listed.status.success(), what, required)
        {
            eprintln!("{skipped}");
            return None;
        }
        let copy = Self { folder: tempfile::tempdir().expect("a folder") };
        for file in String::from_utf8(listed.stdout).expect("names").split_terminator('\0') {
            let (from, to) = (root.join(file), copy.path().join(file));
            // A file that is removed and not yet committed is listed, too.
            let Ok(kind) = from.symlink_metadata() else { continue };
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a new folder");
            if kind.is_symlink() {
                let target = std::fs::read_link(&from).expect("a link");
                std::os::unix::fs::symlink(target, to).expect("a new link");
            } else {
                std::fs::copy(from, to).expect("a copy");
            }
        }
        if let Some(changelog) = changelog {
            std::fs::write(copy.path().join("CHANGELOG.md"), changelog).expect("a file");
        }
        copy.git(&["init", "--quiet", "--initial-branch=main"]);
        copy.commit();
        Some(copy)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a command that runs in the copy, apart from the user's settings.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "test")
                .env(format!("GIT_{role}_EMAIL"), "test@example.org");
        }
        // What a hook of git would set leads to another repository.
        command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env("CARGO_NET_OFFLINE", "true");
        command
    }

    fn git(&self, words: &[&str]) -> String {
        let done = self.command("git").args(words).output().expect("git runs");
        assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=all"]);
    }

    fn release(&self, words: &[&str]) -> Output {
        self.command("packaging/release").args(words).output().expect("python3 runs")
    }

    /// Changes a file.
    fn edit(&self, file: &str, change: impl Fn(&str) -> String) {
        let file = self.path().join(file);
        let text = std::fs::read_to_string(&file).expect("a file");
        let changed = change(&text);
        assert_ne!(text, changed, "{} is as it was", file.display());
        std::fs::write(file, changed).expect("a file");
    }

    /// Returns what a release changes: commits, tags, files and work trees.
    fn state(&self) -> String {
        let words = [
            &["log", "--format=%H", "--all"][..],
            &["tag", "--list"],
            &["status", "--porcelain", "--ignored"],
            &["worktree", "list"],
        ];
        words.map(|words| self.git(words)).concat()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_release_is_a_commit_a_tag_and_files_with_their_sums() {
    require!("git", "python3", "sha256sum");
    let Some(copy) = Copy::new(Some(CHANGELOG)) else { return };
    let made = copy.release(&["--source-only", "7.0.1"]);
    assert!(made.status.success(), "{}{}", text(&made.stdout), text(&made.stderr));

    assert_eq!(copy.git(&["log", "--format=%s"]), "release: 7.0.1\nall\n");
    assert_eq!(copy.git(&["describe", "--exact-match"]), "v7.0.1\n");
    assert_eq!(copy.git(&["status", "--porcelain"]), "");
    assert_eq!(copy.git(&["worktree", "list"]).lines().count(), 1);
    let notes = copy.git(&["tag", "--list", "--format=%(contents)", "v7.0.1"]);
    assert!(
        notes.starts_with("Version 7.0.1\n\n")
            && notes.contains("\nAdded:\n\nlab:\n\n- A thing.\n"),
        "{notes}"
    );

    let manifest = std::fs::read_to_string(copy.path().join("Cargo.toml")).unwrap();
    let ours = manifest.lines().filter(|line| line.contains("path = ") && line.contains('{'));
    assert!(ours.clone().count() > 10);
    for line in ours {
        assert!(line.contains(r#"version = "7.0.1""#), "{line}");
    }
    // Cargo finds nothing to change: the locks are right, and the packages ask for each other.
    let metadata = ["metadata", "--locked", "--format-version=1", "--no-deps"];
    let metadata = copy.command(env!("CARGO")).args(metadata).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        assert_eq!(package["version"], "7.0.1", "{}", package["name"]);
    }

    let dist = copy.path().join("target/dist/7.0.1");
    let sums = copy.command("sha256sum").current_dir(&dist).args(["-c", "SHA256SUMS"]).output();
    let checked = sums.unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&dist).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(text(&checked.stdout).lines().count(), 2);

    let archive =
        files.iter().find(|file| file.to_string_lossy().ends_with("-7.0.1.tar.gz")).unwrap();
    let listed = copy.command("tar").arg("-tzf").arg(archive).output().unwrap();
    let (listed, tracked) = (text(&listed.stdout), copy.git(&["ls-files"]));
    let archived = listed.lines().filter(|name| !name.ends_with('/')).count();
    assert_eq!(archived, tracked.lines().count());

    let bill = files.iter().find(|file| file.to_string_lossy().ends_with(".cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&std::fs::read(bill).unwrap()).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let components = bill["components"].as_array().unwrap();
    let component = |name: &str| components.iter().find(|found| found["name"] == name);
    assert_eq!(component("busctl").unwrap()["version"], "7.0.1");
    assert_eq!(component("smoltcp").unwrap()["scope"], "required");
    assert_eq!(component("smoltcp").unwrap()["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert_eq!(component("serde_derive").unwrap()["scope"], "excluded");
    // What only tests need is in no artefact.
    assert!(component("proptest").is_none() && component("system-tests").is_none());
    let known: Vec<&serde_json::Value> =
        bill["dependencies"].as_array().unwrap().iter().map(|one| &one["ref"]).collect();
    for one in bill["dependencies"].as_array().unwrap() {
        for to in one["dependsOn"].as_array().unwrap() {
            assert!(known.contains(&to), "{to}");
        }
    }

    // The changelog is in its form again: the next release lacks nothing but a change.
    let next = copy.release(&["7.0.2"]);
    assert_eq!(
        text(&next.stderr),
        "packaging/release: CHANGELOG.md lists nothing under [Unreleased]: there is nothing to release\n"
    );
    copy.edit("CHANGELOG.md", |all| {
        all.replace("## [Unreleased]\n", "## [Unreleased]\n\n### Fixed\n\n- A fault.\n")
    });
    copy.commit();
    let next = copy.release(&["--source-only", "7.0.2"]);
    assert!(next.status.success(), "{}", text(&next.stderr));
    let log = std::fs::read_to_string(copy.path().join("CHANGELOG.md")).unwrap();
    let links: Vec<&str> = log.lines().rev().take(4).collect();
    let ends = [
        "[0.0.9]: https://github.com/shmlan/shmlan/releases/tag/v0.0.9",
        "/compare/v0.0.9...v7.0.1",
        "/compare/v7.0.1...v7.0.2",
        "/compare/v7.0.2...HEAD",
    ];
    assert!(links.iter().zip(ends).all(|(link, end)| link.ends_with(end)), "{links:?}");
}

#[test]
fn the_changelog_of_this_tree_has_the_form() {
    require!("git", "python3");
    let Some(copy) = Copy::new(None) else { return };
    let shown = copy.release(&["--dry-run", "7.0.0"]);
    let said = text(&shown.stderr);
    assert!(shown.status.success() || said.contains("lists nothing under [Unreleased]"), "{said}");
}

#[test]
fn a_dry_run_and_a_refusal_change_nothing() {
    require!("git", "python3");
    let Some(copy) = Copy::new(Some(CHANGELOG)) else { return };
    let before = copy.state();
    let shown = copy.release(&["--dry-run", "7.0.0"]);
    let printed = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    for line in [
        "+version = \"7.0.0\"",
        "+## [7.0.0] - 2",
        "+#define SHMBUS_VERSION \"7.0.0\"",
        "tag it v7.0.0",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert_eq!(copy.state(), before);

    let refused = |version: &str, why: &str| {
        let before = copy.state();
        let refused = copy.release(&[version]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.starts_with("packaging/release: ") && said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(text(&refused.stdout), "");
        assert_eq!(copy.state(), before);
    };
    refused("0.0.1", "does not come after");
    refused("7.0", "is no version");
    copy.git(&["tag", "v7.0.0"]);
    refused("7.0.0", "the tag v7.0.0 is there already");
    copy.git(&["checkout", "--quiet", "--detach"]);
    refused("7.0.1", "no branch is checked out");
    copy.git(&["checkout", "--quiet", "main"]);
    copy.edit("README.md", |all| format!("{all}more\n"));
    refused("7.0.1", "not committed");
    copy.git(&["checkout", "--quiet", "README.md"]);

    for (from, to, why) in [
        ("### Added\n", "### Improved\n", "are under Added, Changed"),
        ("### Fixed\n", "### Added\n", "each once"),
        ("### Added\n", "### Security\n", "CHANGELOG.md:13: 'Fixed' comes before 'Security'"),
        ("### Added\n", "", "CHANGELOG.md:10: a change is under Added"),
        ("## [0.0.9] - 2020-02-29\n", "## 0.0.9\n", "a version is '## [Unreleased]'"),
        ("## [0.0.9] - 2020-02-29\n", "## [Unreleased]\n", "Unreleased comes first, and once"),
        ("## [Unreleased]\n", "## Unreleased\n", "a version is '## [Unreleased]'"),
        ("\n[Unreleased]: ", "\n[unreleased]: ", "at its end are links for Unreleased"),
        ("# Changelog\n", "# Changes\n", "the first line"),
    ] {
        copy.edit("CHANGELOG.md", |all| all.replacen(from, to, 1));
        copy.commit();
        refused("7.0.1", why);
        copy.git(&["reset", "--quiet", "--hard", "HEAD~"]);
    }
}

#[test]
fn programs_and_packages_belong_to_a_release_and_their_failure_leaves_nothing() {
    require!("git", "python3");
    let Some(copy) = Copy::new(Some(CHANGELOG)) else { return };
    for maker in ["packaging/deb", "packaging/archive"] {
        let maker = copy.path().join(maker);
        let script = "#!/bin/sh\nset -e\nmkdir -p target/packages\n\
            git describe --always --dirty > target/packages/${0##*/}-$1\ntest \"$1\" != \"$FAILS\"\n";
        std::fs::write(&maker, script).unwrap();
        std::fs::set_permissions(&maker, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy.commit();
    let state = || {
        ["log", "tag", "worktree list", "status --porcelain"]
            .map(|words| copy.git(&words.split(' ').collect::<Vec<_>>()))
    };
    let before = state();
    let failed = copy
        .command("packaging/release")
        .arg("7.0.0")
        .env("FAILS", "aarch64-unknown-linux-musl")
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stdout));
    let said = text(&failed.stderr);
    assert!(said.ends_with("packaging/archive has failed; nothing is released\n"), "{said}");
    assert_eq!(state(), before);

    let made =
        copy.command("packaging/release").arg("7.0.0").env("FAILS", "no target").output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let dist = copy.path().join("target/dist/7.0.0");
    let commit = copy.git(&["rev-parse", "--short", "HEAD"]);
    let sums = std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    for file in ["deb-", "archive-x86_64-unknown-linux-musl", "archive-aarch64-unknown-linux-musl"]
    {
        // They are made from the commit of the release, with nothing changed.
        assert_eq!(std::fs::read_to_string(dist.join(file)).unwrap(), commit);
        assert!(sums.lines().any(|line| line.ends_with(&format!("  {file}"))), "{sums}");
    }
}
