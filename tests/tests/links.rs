//! Links in the documents lead somewhere: each relative link of a Markdown file names a file of the
//! checkout, and its `#anchor` a heading there. Addresses in the network are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Folders without documents of ours.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Returns the root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

/// Returns all Markdown files below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        let path = entry.path();
        if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
            found.extend(documents(&path));
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// What a document links to, and what can be linked to in it.
struct Document {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self { links: Vec::new(), anchors: BTreeSet::new() };
        let mut heading: Option<String> = None;
        let extensions = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
        for event in Parser::new_ext(text, extensions) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().expect("a heading begins before it ends"));
                    document.add_anchor(&slug);
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => document.take_html(&html),
                _ => {}
            }
        }
        document
    }

    /// Adds the anchor of a heading; one of the same name gets a number.
    fn add_anchor(&mut self, slug: &str) {
        let mut anchor = slug.to_owned();
        for number in 1.. {
            if self.anchors.insert(anchor) {
                return;
            }
            anchor = format!("{slug}-{number}");
        }
    }

    /// Takes the links and anchors of a piece of HTML: `src="..."`, `href="..."` and `id="..."`.
    fn take_html(&mut self, html: &str) {
        let values = |name: &str| {
            let before = format!(" {name}=\"");
            let pieces = html.split(&before).skip(1);
            pieces.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect::<Vec<_>>()
        };
        self.links.extend(values("src"));
        self.links.extend(values("href"));
        self.anchors.extend(values("id"));
    }
}

/// Returns the anchor that GitHub gives to a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether a link has a scheme (`https:`, `mailto:`), and so leads out of the checkout.
fn leads_outside(link: &str) -> bool {
    link.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Returns what is wrong with a link in a document, if anything is.
fn fault(
    link: &str,
    document: &Path,
    root: &Path,
    documents: &BTreeMap<PathBuf, Document>,
) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, a)| (path, Some(a)));
    let target = match (path, path.strip_prefix('/')) {
        ("", _) => document.to_owned(),
        // GitHub begins these at the root of the repository.
        (_, Some(path)) => root.join(path),
        (path, None) => document.parent().expect("a file is in a folder").join(path),
    };
    let Ok(target) = target.canonicalize() else { return Some("no such file".to_owned()) };
    if !target.starts_with(root) {
        return Some("outside of the repository".to_owned());
    }
    let anchors = documents.get(&target).map(|document| &document.anchors);
    match (anchor, anchors) {
        (Some(anchor), Some(anchors)) if !anchors.contains(anchor) => {
            Some(format!("no heading has the anchor #{anchor}"))
        }
        _ => None,
    }
}

/// Returns the faults of all links in the documents below a folder.
fn faults(root: &Path) -> Vec<String> {
    let root = root.canonicalize().expect("a folder");
    let documents: BTreeMap<PathBuf, Document> = documents(&root)
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a text");
            (path, Document::parse(&text))
        })
        .collect();
    let mut faults = Vec::new();
    for (path, document) in &documents {
        for link in document.links.iter().filter(|link| !leads_outside(link)) {
            if let Some(fault) = fault(link, path, &root, &documents) {
                let path = path.strip_prefix(&root).expect("below the root").display();
                faults.push(format!("{path}: {link}: {fault}"));
            }
        }
    }
    faults
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = root();
    assert!(documents(&root).len() > 20, "the documents are not found");
    let faults = faults(&root);
    assert!(faults.is_empty(), "links that lead nowhere:\n{}", faults.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    std::fs::create_dir(folder.path().join("docs")).expect("a folder");
    write("docs/other.md", "# `One` and *two*, both\n## Again\n## Again\n<a id=\"here\"></a>\n");
    write(
        "README.md",
        "# Top\n[a](docs/other.md#one-and-two-both) [b](docs/other.md#again-1) [c](#top) [d](docs)\n\
         [e](https://example.org/none) [f](/docs/other.md#here) `[code](none)`\n\n```\n[code](none)\n```\n\
         [1](none.md) [2](docs/other.md#again-2) [3](#none) ![4](docs/none.svg) <img src=\"none.png\">\n\
         [5][reference]\n\n[reference]: none.txt\n[6](../..)\n",
    );
    let found = faults(folder.path());
    let expected = [
        "README.md: none.md: no such file",
        "README.md: docs/other.md#again-2: no heading has the anchor #again-2",
        "README.md: #none: no heading has the anchor #none",
        "README.md: docs/none.svg: no such file",
        "README.md: none.png: no such file",
        "README.md: none.txt: no such file",
        "README.md: ../..: outside of the repository",
    ];
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(found), sorted(expected.map(str::to_owned).to_vec()));
}
