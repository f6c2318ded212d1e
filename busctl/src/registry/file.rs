//! The files of the registry: small, private, read and replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

use super::error::RegistryError;

/// The largest file that is read, in bytes. A record has less than 3,000.
const MAX_SIZE: u64 = 1 << 16;

/// What is open is a pipe, a device or a folder.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
struct NotRegular;

/// What is at the path of a file of the registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Missing,
    Text(String),
    /// Something that cannot be a file of the registry, and why.
    Damaged(&'static str),
}

/// Reads `path`. Bytes that are not UTF-8 are replaced, and fail in the parser.
pub(super) fn read(path: &Path) -> Result<Content, RegistryError> {
    let failed = |error| RegistryError::file("read", path, error);
    let file = match open_regular(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
        Err(error) if is_not_regular(&error) => {
            return Ok(Content::Damaged("it is not a regular file"));
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Ok(Content::Damaged("it is larger than 65,536 bytes"));
    }
    Ok(Content::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Opens a regular file. Anything else, such as a pipe without another end, fails at once.
pub(crate) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, NotRegular);
    // To open a device may have an effect, so its kind is looked at first.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(not_regular());
    }
    let file = options.custom_flags(O_NONBLOCK | O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn is_not_regular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotRegular>)
}

/// Replaces the content of `path` by `text`: a reader gets the old one or the new one. Only one
/// process does this to one file at a time. So the new file has a fixed name, and the next process
/// removes what a killed one left.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), RegistryError> {
    let mut new_name = std::ffi::OsString::from(".");
    new_name.push(path.file_name().unwrap_or_default());
    new_name.push(".new");
    let new = path.with_file_name(new_name);
    let write = || -> io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|error| {
        // On a full disk, half a file would only take more room.
        let _ = fs::remove_file(&new);
        RegistryError::file("write", path, error)
    })
}

/// Removes `path`, which need not exist.
pub(crate) fn remove(path: &Path) -> Result<(), RegistryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RegistryError::file("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes a folder that only its owner may use, and the folders above it, unless it exists.
pub(crate) fn make_folder(path: &Path) -> Result<(), RegistryError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| RegistryError::file("make", path, error))
}

/// Returns the message of a TOML error with its line, and without the excerpt around it.
pub(super) fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_file_of_the_registry_neither_blocks_nor_fills_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        symlink("pipe", path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["pipe", "device", "link", "folder"] {
            let not_regular = Content::Damaged("it is not a regular file");
            assert_eq!(read(&path(name)).unwrap(), not_regular, "{name}");
            let mut options = OpenOptions::new();
            assert!(open_regular(options.write(true).create(true), &path(name)).is_err());
        }
        File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read(&path("huge")).unwrap(), Content::Damaged(_)));
        assert_eq!(read(&path("none")).unwrap(), Content::Missing);
    }

    #[test]
    fn a_file_is_replaced_whatever_lies_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        for path in [&path, &folder.path().join(".record.new")] {
            mkfifo(path, Mode::S_IRWXU).unwrap();
        }
        replace(&path, "text").unwrap();
        assert_eq!(read(&path).unwrap(), Content::Text("text".to_owned()));
    }
}
