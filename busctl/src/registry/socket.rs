//! The sockets of memif interfaces, by number.
//!
//! The rules are those of VPP and TNSR: socket 0 is VPP's own and fixed, a number keeps its address
//! while an interface uses it, and all interfaces on a socket have the same role.

use std::path::Path;

use memif::{OptionsError, SocketAddr};
use port::memif::DEFAULT_SOCKET;
use serde::{Deserialize, Serialize};

use super::file;

/// A socket and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Socket {
    /// Its number.
    pub(crate) id: u32,
    /// Its address: an absolute path, or `@` and an abstract name.
    pub(crate) path: String,
}

/// Why a text cannot be the address of a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocketError {
    /// It is not an address.
    #[error(transparent)]
    Address(#[from] OptionsError),
    /// A record cannot hold it.
    #[error(
        "the path of the socket is not UTF-8: its record is a text file, so it needs another name"
    )]
    NotUtf8,
    /// The path is relative, and the working folder is unknown.
    #[error("it is not clear where that is: {0}; give an absolute path")]
    Nowhere(String),
}

impl Socket {
    /// Returns socket 0, which always exists.
    #[must_use]
    pub(crate) fn zero() -> Self {
        Self { id: 0, path: DEFAULT_SOCKET.to_owned() }
    }

    /// Makes socket `id` at `typed`, which is a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// When `typed` is not an address.
    pub(crate) fn new(id: u32, typed: &Path) -> Result<Self, SocketError> {
        let text = typed.to_str().ok_or(SocketError::NotUtf8)?;
        // Parsed first: an empty path would become the working folder below.
        let address: SocketAddr = text.parse()?;
        let Some(path) = address.as_path() else {
            return Ok(Self { id, path: address.to_string() });
        };
        // Absolute, so that it means the same in every folder.
        let path =
            std::path::absolute(path).map_err(|error| SocketError::Nowhere(error.to_string()))?;
        SocketAddr::path(&path)?;
        Ok(Self {
            id,
            path: path.into_os_string().into_string().map_err(|_| SocketError::NotUtf8)?,
        })
    }

    /// Returns its address.
    ///
    /// # Errors
    /// When the record was edited and holds none.
    pub(crate) fn address(&self) -> Result<SocketAddr, OptionsError> {
        self.path.parse()
    }

    /// Reads the record of socket `id`, and checks what the TOML types do not.
    pub(super) fn parse(id: u32, text: &str) -> Result<Self, String> {
        let socket: Self = toml::from_str(text).map_err(|error| file::toml_error(text, &error))?;
        if socket.id != id {
            return Err(format!("it is of socket {}, not of {id}", socket.id));
        }
        let address = socket.address().map_err(|error| error.to_string())?;
        if address.as_path().is_some_and(Path::is_relative) {
            return Err("its path is not absolute".to_owned());
        }
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_or_abstract() {
        assert_eq!(Socket::new(1, Path::new("/tmp/m.sock")).unwrap().path, "/tmp/m.sock");
        assert_eq!(Socket::new(1, Path::new("@lan")).unwrap().path, "@lan");
        let here = Socket::new(1, Path::new("m.sock")).unwrap();
        assert!(Path::new(&here.path).is_absolute() && here.path.ends_with("/m.sock"), "{here:?}");
        for text in ["", "@", &"x".repeat(200)] {
            assert!(Socket::new(1, Path::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_damaged_record_says_what_is_wrong() {
        let socket = Socket::new(7, Path::new("/tmp/m.sock")).unwrap();
        let text = toml::to_string(&socket).unwrap();
        assert_eq!(Socket::parse(7, &text), Ok(socket));
        for (good, bad, why) in [
            ("id = 7", "id = 8", "it is of socket 8"),
            ("id = 7", "id = x", "line 1:"),
            ("/tmp/m.sock", "m.sock", "not absolute"),
            ("/tmp/m.sock", "", "empty"),
            ("path", "paht", "unknown field"),
        ] {
            let error = Socket::parse(7, &text.replace(good, bad)).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
