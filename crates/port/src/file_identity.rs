//! Which file a path leads to, under whatever name.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file, or the place of a file that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The device and the inode.
    File(u64, u64),
    /// The canonical path of the folder, and the name in it.
    Missing(PathBuf),
}

impl Identity {
    /// Returns the identity of the file that `path` leads to at this moment.
    pub(super) fn of(path: &Path) -> Self {
        if let Ok(found) = std::fs::metadata(path) {
            return Self::File(found.dev(), found.ino());
        }
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Self::Missing(path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_file_have_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "").unwrap();
        std::fs::hard_link(path("a"), path("b")).unwrap();
        std::os::unix::fs::symlink(path("a"), path("c")).unwrap();
        std::os::unix::fs::symlink(folder.path(), path("here")).unwrap();
        std::fs::write(path("d"), "").unwrap();
        assert_eq!(Identity::of(&path("a")), Identity::of(&path("b")));
        assert_eq!(Identity::of(&path("a")), Identity::of(&path("c")));
        assert_ne!(Identity::of(&path("a")), Identity::of(&path("d")));
        assert_eq!(Identity::of(&path("none")), Identity::of(&path("here/none")));
        assert_ne!(Identity::of(&path("none")), Identity::of(&path("nothing")));
    }
}
