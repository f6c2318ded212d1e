//! The address of a control socket.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::socket::UnixAddr;

use crate::error::OptionsError;

/// The address of a control socket: a path, or an abstract name.
///
/// As text, an abstract name begins with `@` (or with a NUL byte, as in the kernel's format); all
/// other text is a path.
///
/// ```
/// use memif::SocketAddr;
/// let path: SocketAddr = "/run/vpp/memif.sock".parse()?;
/// let name: SocketAddr = "@/run/memif.sock".parse()?;
/// assert_eq!(name, SocketAddr::abstract_name("/run/memif.sock")?);
/// assert_eq!(path.to_string(), "/run/vpp/memif.sock");
/// # Ok::<(), memif::OptionsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketAddr(Inner);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Inner {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The length of the kernel's field, less the NUL that ends a path or starts a name.
const MAX_LEN: usize = 107;

impl SocketAddr {
    /// Returns the address of a socket at a path of at most 107 bytes.
    ///
    /// # Errors
    /// [`OptionsError::Address`] when it is empty, too long, or holds a NUL byte.
    pub fn path(path: impl AsRef<Path>) -> Result<Self, OptionsError> {
        let path = path.as_ref();
        check(path.as_os_str().as_bytes(), path.display())?;
        Ok(Self(Inner::Path(path.to_owned())))
    }

    /// Returns the address of an abstract socket with a name of at most 107 bytes. It has no file
    /// and vanishes with its server. A leading NUL and trailing NULs are not part of the name.
    ///
    /// # Errors
    /// [`OptionsError::Address`] when it is empty, too long, or holds a NUL byte.
    pub fn abstract_name(name: impl AsRef<OsStr>) -> Result<Self, OptionsError> {
        let shown = name.as_ref();
        let name = shown.as_bytes();
        let name = name.strip_prefix(b"\0").unwrap_or(name);
        let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        check(&name[..end], shown.display())?;
        Ok(Self(Inner::Abstract(name[..end].to_owned())))
    }

    /// Returns the path, or `None` for an abstract name.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Inner::Path(path) => Some(path),
            Inner::Abstract(_) => None,
        }
    }

    /// Returns the abstract name, without the NUL before it; `None` for a path.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            Inner::Path(_) => None,
            Inner::Abstract(name) => Some(name),
        }
    }

    pub(crate) fn to_unix(&self) -> io::Result<UnixAddr> {
        Ok(match &self.0 {
            Inner::Path(path) => UnixAddr::new(path)?,
            Inner::Abstract(name) => UnixAddr::new_abstract(name)?,
        })
    }

    /// Returns the socket's directory.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let parent = self.as_path()?.parent()?;
        Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
    }

    /// Returns the socket's directory if it does not exist.
    pub(crate) fn missing_directory(&self) -> Option<PathBuf> {
        self.directory().filter(|directory| !directory.is_dir())
    }
}

fn check(bytes: &[u8], shown: impl fmt::Display) -> Result<(), OptionsError> {
    let problem = match bytes {
        [] => "it is empty",
        _ if bytes.contains(&0) => "it holds a NUL byte",
        _ if bytes.len() > MAX_LEN => "it is longer than 107 bytes",
        _ => return Ok(()),
    };
    Err(OptionsError::Address { address: shown.to_string(), problem })
}

impl FromStr for SocketAddr {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match text.strip_prefix(['@', '\0']) {
            Some(name) => Self::abstract_name(name),
            None => Self::path(text),
        }
    }
}

impl TryFrom<&str> for SocketAddr {
    type Error = OptionsError;

    fn try_from(text: &str) -> Result<Self, OptionsError> {
        text.parse()
    }
}

impl TryFrom<&Path> for SocketAddr {
    type Error = OptionsError;

    fn try_from(path: &Path) -> Result<Self, OptionsError> {
        Self::path(path)
    }
}

/// Writes what [`FromStr`] reads: `@` and the name, or the path.
impl fmt::Display for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Path(path) => path.display().fmt(f),
            Inner::Abstract(name) => write!(f, "@{}", OsString::from_vec(name.clone()).display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_an_abstract_name_are_one() {
        let name = SocketAddr::abstract_name("memif").unwrap();
        for text in ["@memif", "\0memif", "@memif\0\0", "\0memif\0"] {
            assert_eq!(text.parse::<SocketAddr>().unwrap(), name);
        }
        assert_eq!(name.to_string(), "@memif");
        assert_eq!(name.directory(), None);
    }

    #[test]
    fn bad_addresses_are_rejected() {
        for text in ["", "@", "\0", "/a\0b", "@a\0b"] {
            assert!(text.parse::<SocketAddr>().is_err(), "{text:?}");
        }
        assert!(SocketAddr::path("x".repeat(107)).is_ok());
        assert!(SocketAddr::path("x".repeat(108)).is_err());
    }

    #[test]
    fn missing_directories_are_found() {
        let addr = SocketAddr::path("/nonexistent/memif.sock").unwrap();
        assert_eq!(addr.missing_directory(), Some(PathBuf::from("/nonexistent")));
        assert_eq!(SocketAddr::path("memif.sock").unwrap().missing_directory(), None);
    }
}
