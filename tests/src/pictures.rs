//! The pictures of the documents, drawn from what lies in the tree: figures in `docs/figures`, and
//! the labs of `examples/labs`. `cargo run -p system-tests --bin draw-pictures` draws them all.

use std::error::Error;
use std::path::{Path, PathBuf};

use lab::Plan;
use lab::file::Source;
use lab::graph::{self, Drawing, Measurements};

/// A picture: where it belongs, and what it should be.
#[derive(Debug)]
pub struct Picture {
    /// The file, from the root of the tree.
    pub file: PathBuf,
    /// The drawing, as SVG.
    pub svg: String,
}

/// Returns all pictures of the tree at `root`, sorted by file.
///
/// # Errors
/// When a file of figures or of a lab cannot be read; the message names it.
pub fn all(root: &Path) -> Result<Vec<Picture>, Box<dyn Error>> {
    let folder = Path::new("docs/figures");
    let mut pictures = Vec::new();
    for file in files(root, folder, "json")? {
        let svg =
            measured(&root.join(&file)).map_err(|why| format!("{}: {why}", file.display()))?;
        pictures.push(Picture { file: file.with_extension("svg"), svg });
    }
    for file in files(root, Path::new("examples/labs"), "toml")? {
        let svg = drawn(&root.join(&file)).map_err(|why| format!("{}: {why}", file.display()))?;
        let name = file.with_extension("svg");
        let name = name.file_name().ok_or("a file has a name")?;
        pictures.push(Picture { file: folder.join("labs").join(name), svg });
    }
    pictures.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(pictures)
}

fn measured(file: &Path) -> Result<String, Box<dyn Error>> {
    let measured: Measurements = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    Ok(measured.svg())
}

fn drawn(file: &Path) -> Result<String, Box<dyn Error>> {
    // What a user gives by the environment is not drawn.
    let given = ["KERNEL", "INITRD"].map(|name| (name.to_owned(), name.to_lowercase()));
    let source = Source::new().path(file).vars(given);
    let plan = Plan::from_toml(&std::fs::read_to_string(file)?, &source)?;
    Ok(graph::svg(&Drawing::from(&plan)))
}

/// Returns the files in `folder` with an extension, from `root`.
fn files(root: &Path, folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = std::fs::read_dir(root.join(folder))
        .map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = folder.join(entry?.file_name());
        if file.extension().is_some_and(|found| found == extension) {
            files.push(file);
        }
    }
    Ok(files)
}
