//! What an interface is: the record that is kept of it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shmbus::MacAddr6;
use shmbus::offload::Capabilities;

use super::name::InterfaceName;
use super::{capabilities, mac};

/// The longest path of a bus, in bytes, as shmif has it.
pub const LINKSTR_MAX: usize = 1024;

/// One interface. As a file it is TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name, which is also the file's.
    pub name: InterfaceName,
    /// Grows with every change, so that it can be told how far a running process follows.
    pub revision: u64,
    /// Whether it shall be up.
    pub up: bool,
    /// The bus it is plugged into: an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linkstr: Option<PathBuf>,
    /// What only a shmif interface has.
    pub shmif: Shmif,
}

/// The settings of a shmif interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shmif {
    /// Its address; unicast.
    #[serde(with = "mac")]
    pub mac: MacAddr6,
    /// Which checksums and segmentations it does for its user.
    #[serde(with = "capabilities")]
    pub capenable: Capabilities,
    /// Whether it hands up what is addressed to others.
    pub promisc: bool,
    /// What it pretends to be plugged into.
    pub media: Media,
}

impl Default for Shmif {
    /// A new interface: an address of its own, everything else off.
    fn default() -> Self {
        Self { mac: shmbus::random_mac(), capenable: Capabilities::NONE, promisc: false, media: Media::Auto }
    }
}

/// What an interface pretends to be plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// The bus.
    Auto,
    /// Nothing: the link is down, frames are accepted and counted, and none goes onto the bus.
    None,
}

impl Media {
    /// The word for it on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
        }
    }
}

impl Record {
    /// A new record of an interface that is down and has no bus.
    #[must_use]
    pub fn new(name: InterfaceName, shmif: Shmif) -> Self {
        Self { name, revision: 1, up: false, linkstr: None, shmif }
    }

    /// Reads the record of `name`, and checks what TOML cannot.
    pub(super) fn parse(name: InterfaceName, text: &str) -> Result<Self, String> {
        let record: Self = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        if record.name != name {
            return Err(format!("it is of {}, not of {name}", record.name));
        }
        match &record.linkstr {
            Some(path) if !path.is_absolute() => return Err("linkstr is not an absolute path".to_owned()),
            Some(path) => check_linkstr(path).map_err(|error| error.to_string())?,
            None if record.up => return Err("it is up without a bus".to_owned()),
            None => {}
        }
        Ok(record)
    }

    /// The text of the file.
    pub(super) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Whether it has a carrier: unknown (none) without a bus, else as its media say.
    #[must_use]
    pub fn link(&self) -> Option<bool> {
        self.linkstr.as_ref().map(|_| self.shmif.media == Media::Auto)
    }
}

/// Why a path cannot be a bus's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkstrError {
    /// No path at all.
    #[error("the path of the bus is empty")]
    Empty,
    /// Longer than [`LINKSTR_MAX`].
    #[error("the path of the bus is too long: {0} bytes, and at most {LINKSTR_MAX} will do")]
    TooLong(usize),
    /// It could not be written into a record.
    #[error(
        "the path of the bus is not UTF-8: the record of an interface is a text file, so its bus needs another name"
    )]
    NotUtf8,
}

/// Whether `path` may be the bus of an interface.
///
/// # Errors
/// When it may not.
pub fn check_linkstr(path: &Path) -> Result<(), LinkstrError> {
    match (path.as_os_str().len(), path.to_str()) {
        (0, _) => Err(LinkstrError::Empty),
        (length, _) if length > LINKSTR_MAX => Err(LinkstrError::TooLong(length)),
        (_, None) => Err(LinkstrError::NotUtf8),
        _ => Ok(()),
    }
}

/// A TOML error with its place, without the picture around it.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: InterfaceName = InterfaceName::Shmif(0);

    fn example() -> Record {
        Record { up: true, linkstr: Some("/lan.bus".into()), ..Record::new(NAME, Shmif::default()) }
    }

    #[test]
    fn a_record_reads_back() {
        let record = example();
        assert_eq!(Record::parse(NAME, &record.to_toml().unwrap()), Ok(record));
    }

    #[test]
    fn a_damaged_record_says_what_is_wrong() {
        let text = example().to_toml().unwrap();
        for (good, bad, why) in [
            ("\"shmif0\"", "\"shmif1\"", "it is of shmif1"),
            ("\"shmif0\"", "\"eth0\"", "no interface's name"),
            ("linkstr = \"/lan.bus\"\n", "", "up without a bus"),
            ("/lan.bus", "lan.bus", "absolute"),
            ("/lan.bus", "", "absolute"),
            ("mac = \"b2", "mac = \"b3", "not the address of one station"),
            ("capenable = 0", "capenable = -1", "invalid value"),
            ("up = true", "up = maybe", "line 3:"),
            ("up = true", "upp = true", "unknown field"),
            ("[shmif]", "", "unknown field"),
        ] {
            assert!(text.contains(good), "{good} in {text}");
            let error = Record::parse(NAME, &text.replace(good, bad)).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Record::parse(NAME, "").is_err());
        assert!(Record::parse(NAME, "\0\0\0\0").is_err());
    }

    #[test]
    fn the_path_of_a_bus_has_limits() {
        assert_eq!(check_linkstr(Path::new("")), Err(LinkstrError::Empty));
        assert_eq!(check_linkstr(Path::new(&"x".repeat(1024))), Ok(()));
        assert_eq!(check_linkstr(Path::new(&"x".repeat(1025))), Err(LinkstrError::TooLong(1025)));
    }

    #[test]
    fn the_link_is_unknown_without_a_bus() {
        let mut record = example();
        assert_eq!(record.link(), Some(true));
        record.shmif.media = Media::None;
        assert_eq!(record.link(), Some(false));
        record.linkstr = None;
        assert_eq!(record.link(), None);
    }
}
