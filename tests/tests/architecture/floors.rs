//! The table of `docs/ARCHITECTURE.md` that says on which floor every file is.

use std::path::{Path, PathBuf};

/// Rows, bottom up within a crate; each has files and folders.
pub(crate) struct Floors(Vec<Vec<PathBuf>>);

impl Floors {
    /// Reads the table under the heading "Every file": the second cell of a row has the paths, in
    /// backticks.
    pub(crate) fn read(document: &Path) -> Self {
        let text = std::fs::read_to_string(document).expect("a document");
        let (_, section) = text.split_once("## Every file").expect("the section");
        let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let paths = |row: &str| {
            let cell = row.split('|').nth(2).expect("a second cell");
            cell.split('`').skip(1).step_by(2).map(PathBuf::from).collect()
        };
        Self(rows.map(paths).collect())
    }

    /// Returns the row of a file: the one with the longest path that is a prefix of the file's.
    pub(crate) fn place(&self, file: &Path) -> Option<usize> {
        let longest = |paths: &[PathBuf]| {
            let leading = paths.iter().filter(|path| file.starts_with(path));
            leading.map(|path| path.components().count()).max()
        };
        let rows = self.0.iter().enumerate();
        rows.filter_map(|(row, paths)| longest(paths).map(|length| (length, row)))
            .max()
            .map(|(_, row)| row)
    }

    /// Returns a message for each path in the table that does not exist.
    pub(crate) fn rows_without_files(&self, root: &Path) -> Vec<String> {
        let missing = |path: &&PathBuf| !root.join(path).exists();
        self.0
            .iter()
            .flatten()
            .filter(missing)
            .map(|path| format!("there is no {}", path.display()))
            .collect()
    }
}
