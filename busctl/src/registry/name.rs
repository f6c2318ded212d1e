//! Names of interfaces: `shmif<N>`, `memif<SOCKET>/<ID>`, `tap<N>`, `sock<N>`, `vxlan<N>`,
//! `trunk<N>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A station on a bus.
    Shmif,
    /// A memif peer.
    Memif,
    /// A TAP device of the kernel.
    Tap,
    /// A socket that carries frames.
    Sock,
    /// A tunnel to other machines.
    Vxlan,
    /// A tunnel to machines that are found through Zenoh.
    Trunk,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 6] =
        [Self::Shmif, Self::Memif, Self::Tap, Self::Sock, Self::Vxlan, Self::Trunk];

    /// Returns the word that names of this kind begin with.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Shmif => "shmif",
            Self::Memif => "memif",
            Self::Tap => "tap",
            Self::Sock => "sock",
            Self::Vxlan => "vxlan",
            Self::Trunk => "trunk",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// The valid name of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum InterfaceName {
    /// `shmif<N>`
    Shmif(u32),
    /// `memif<SOCKET>/<ID>`
    Memif {
        /// Which socket.
        socket: u32,
        /// Which interface on that socket.
        id: u32,
    },
    /// `tap<N>`
    Tap(u32),
    /// `sock<N>`
    Sock(u32),
    /// `vxlan<N>`
    Vxlan(u32),
    /// `trunk<N>`
    Trunk(u32),
}

impl InterfaceName {
    /// Returns the kind of the interface.
    #[must_use]
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Shmif(_) => Kind::Shmif,
            Self::Memif { .. } => Kind::Memif,
            Self::Tap(_) => Kind::Tap,
            Self::Sock(_) => Kind::Sock,
            Self::Vxlan(_) => Kind::Vxlan,
            Self::Trunk(_) => Kind::Trunk,
        }
    }

    /// Returns the name with another unit; for a memif interface, with another id.
    #[must_use]
    pub(super) fn with_unit(self, unit: u32) -> Self {
        match self {
            Self::Shmif(_) => Self::Shmif(unit),
            Self::Memif { socket, .. } => Self::Memif { socket, id: unit },
            Self::Tap(_) => Self::Tap(unit),
            Self::Sock(_) => Self::Sock(unit),
            Self::Vxlan(_) => Self::Vxlan(unit),
            Self::Trunk(_) => Self::Trunk(unit),
        }
    }

    /// Returns the name for use in the name of a file. No name contains a `-`, so this is
    /// reversible.
    pub(super) fn file_stem(self) -> String {
        self.to_string().replace('/', "-")
    }

    pub(super) fn from_file_stem(stem: &str) -> Option<Self> {
        let name: Self = stem.replace('-', "/").parse().ok()?;
        (name.file_stem() == stem).then_some(name)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shmif(unit) => write!(formatter, "shmif{unit}"),
            Self::Memif { socket, id } => write!(formatter, "memif{socket}/{id}"),
            Self::Tap(unit) => write!(formatter, "tap{unit}"),
            Self::Sock(unit) => write!(formatter, "sock{unit}"),
            Self::Vxlan(unit) => write!(formatter, "vxlan{unit}"),
            Self::Trunk(unit) => write!(formatter, "trunk{unit}"),
        }
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, ParseNameError> {
        text.parse()
    }
}

impl FromStr for InterfaceName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::parse(text).ok_or_else(|| ParseNameError { text: text.to_owned() })
    }
}

impl InterfaceName {
    fn parse(text: &str) -> Option<Self> {
        if let Some(unit) = text.strip_prefix("shmif") {
            Some(Self::Shmif(number(unit)?))
        } else if let Some(rest) = text.strip_prefix("memif") {
            let (socket, id) = rest.split_once('/')?;
            Some(Self::Memif { socket: number(socket)?, id: number(id)? })
        } else if let Some(unit) = text.strip_prefix("sock") {
            Some(Self::Sock(number(unit)?))
        } else if let Some(unit) = text.strip_prefix("vxlan") {
            Some(Self::Vxlan(number(unit)?))
        } else if let Some(unit) = text.strip_prefix("trunk") {
            Some(Self::Trunk(number(unit)?))
        } else {
            Some(Self::Tap(number(text.strip_prefix("tap")?)?))
        }
    }
}

/// Reads a number in the only form that [`InterfaceName`] prints: `shmif01` would be a second name
/// for `shmif1`.
pub(super) fn number(digits: &str) -> Option<u32> {
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The text is not the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no interface's name{hint}: names are shmif<N>, memif<SOCKET>/<ID>, tap<N>, sock<N>, vxlan<N> and trunk<N>, such as shmif0",
        hint = port::suggest::hint(text.trim_end_matches(|c: char| !c.is_alphabetic()), Kind::ALL.map(Kind::word)))]
pub(crate) struct ParseNameError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_fits_a_file() {
        for text in [
            "shmif0",
            "shmif4294967295",
            "memif0/0",
            "memif7/12",
            "tap3",
            "sock4",
            "vxlan42",
            "trunk0",
        ] {
            let name: InterfaceName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(InterfaceName::from_file_stem(&name.file_stem()), Some(name));
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in [
            "",
            "shmif",
            "shmif-1",
            "shmif+1",
            "shmif01",
            "shmif4294967296",
            "memif0",
            "memif0/",
            "memif/0",
            "eth0",
            "../x",
        ] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
        assert_eq!(InterfaceName::from_file_stem("memif0/1"), None);
    }
}
