//! The documents are a book: the summary names each of them, their links lead somewhere, and their
//! pictures are what the data in the tree draws.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{pictures, require};

/// What a page loads for a picture, at most.
const MAX_PICTURE: usize = 60_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above")
}

/// Returns the documents in a folder of the tree.
fn documents(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let documents = names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
    documents.map(|name| Path::new(folder).join(name)).collect()
}

/// Returns the targets of the links in a text, in order.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn the_summary_names_each_document_once() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).expect("a summary");
    let mut named = BTreeSet::new();
    for target in links(&summary) {
        let document =
            docs.join(target).canonicalize().unwrap_or_else(|why| panic!("{target}: {why}"));
        let document =
            document.strip_prefix(root().canonicalize().expect("a root")).expect("inside");
        assert!(named.insert(document.to_owned()), "{target} is named twice");
    }
    let mut expected: BTreeSet<PathBuf> = documents("").into_iter().collect();
    expected.extend(documents("docs"));
    expected.remove(Path::new("docs/SUMMARY.md"));
    for folder in [
        "examples/labs",
        "memif",
        "memif/fuzz",
        "python",
        "shmbus",
        "shmbus/capi",
        "shmbus/vdeplug",
    ] {
        expected.extend(documents(folder));
    }
    assert_eq!(named, expected);
}

/// Runs the preprocessor of the book's copy in `tree`, as a check of all links.
fn check_links(tree: &Path) -> (bool, String) {
    let checked = Command::new("python3")
        .arg(tree.join("docs/book/chapters.py"))
        .arg("check")
        .output()
        .expect("python3 runs");
    let printed = [checked.stdout, checked.stderr].concat();
    (checked.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn all_links_of_the_documents_lead_somewhere() {
    require!("python3");
    let (is_good, printed) = check_links(root());
    assert!(is_good, "{printed}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    require!("python3");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a new folder");
        std::fs::write(file, text).expect("a new file");
    };
    let script = "docs/book/chapters.py";
    write(script, &std::fs::read_to_string(root().join(script)).expect("a script"));
    write("Cargo.toml", "[workspace.package]\n");
    write("docs/SUMMARY.md", "[A](A.md)\n[B](../B.md)\n");
    write(
        "B.md",
        "# B\n## Its \"second\" part\n```\n[code](nowhere.md)\n```\n`[code](nowhere.md)`\n",
    );
    for (link, expected) in [
        ("[b](../B.md#its-second-part) [b](../Cargo.toml) <https://example.org>", "2 chapters"),
        ("[b](../C.md)", "docs/A.md: the link to ../C.md leads to no file"),
        ("[b](../B.md#its-third-part)", "leads to no heading"),
        ("![picture](picture.svg)", "leads to no file"),
        ("[here](#there)", "leads to no heading"),
    ] {
        write("docs/A.md", &format!("# A\n{link}\n"));
        let (is_good, printed) = check_links(folder.path());
        assert!(printed.contains(expected), "{link}: {printed}");
        assert_eq!(is_good, expected == "2 chapters", "{link}: {printed}");
    }
}

#[test]
fn the_pictures_are_what_the_data_draws() {
    let pictures = pictures::all(root()).unwrap();
    assert!(pictures.len() > 8, "{pictures:?}");
    for picture in &pictures {
        let name = picture.file.display();
        let drawn = std::fs::read_to_string(root().join(&picture.file));
        let again = "`cargo run -p system-tests --bin draw-pictures` draws it";
        assert_eq!(drawn.ok().as_ref(), Some(&picture.svg), "{name}: {again}");
        assert!(picture.svg.len() <= MAX_PICTURE, "{name} has {} bytes", picture.svg.len());
    }
    // None is left of data that is gone.
    let mut expected: BTreeSet<PathBuf> =
        pictures.into_iter().map(|picture| picture.file).collect();
    for folder in ["docs/figures", "docs/figures/labs"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let file = Path::new(folder).join(entry.expect("an entry").file_name());
            if file.extension().is_some_and(|end| end == "svg") {
                assert!(expected.remove(&file), "{} is drawn from no data", file.display());
            }
        }
    }
    assert!(expected.is_empty());
}
