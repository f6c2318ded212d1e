//! The files of the registry: small, private, read and replaced as a whole.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::RegistryError;

/// Returns the text of `path`; none when there is no such file. Bytes that are not UTF-8 are
/// replaced, and fail in the parser.
pub(super) fn read(path: &Path) -> Result<Option<String>, RegistryError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RegistryError::file("read", path, error)),
    }
}

/// Replaces the content of `path` by `text`: a reader gets the old one or the new one. Only one
/// process does this to one file at a time. So the new file has a fixed name, and the next process
/// overwrites what a killed one left.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), RegistryError> {
    let mut new_name = std::ffi::OsString::from(".");
    new_name.push(path.file_name().unwrap_or_default());
    new_name.push(".new");
    let new = path.with_file_name(new_name);
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
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
pub(super) fn remove(path: &Path) -> Result<(), RegistryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RegistryError::file("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes a folder that only its owner may use, and the folders above it, unless it exists.
pub(super) fn make_folder(path: &Path) -> Result<(), RegistryError> {
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
