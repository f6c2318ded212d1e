//! BUS on the command line: an interface name, or a path that contains a `/`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};

use crate::registry::{InterfaceName, Registry};

/// BUS as it was typed. An `Args` struct just has a field of this type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BusArgument {
    /// The interface's MAC, flags and bus are used.
    Interface(InterfaceName),
    /// A station is made for the occasion.
    Path(PathBuf),
}

/// A text that is no BUS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is neither the name of an interface (such as shmif0) nor a path with a '/' in it; for a file in this folder say ./{0}"
)]
pub(crate) struct ParseBusError(String);

impl TryFrom<OsString> for BusArgument {
    type Error = ParseBusError;

    /// `memif0/1` is both a name and a path: it is the name.
    fn try_from(text: OsString) -> Result<Self, ParseBusError> {
        if let Some(Ok(name)) = text.to_str().map(str::parse) {
            return Ok(Self::Interface(name));
        }
        if text.as_encoded_bytes().contains(&b'/') {
            return Ok(Self::Path(text.into()));
        }
        Err(ParseBusError(text.to_string_lossy().into_owned()))
    }
}

impl ValueParserFactory for BusArgument {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::try_from).into()
    }
}

impl BusArgument {
    /// The path of the bus, for those who only look at it.
    ///
    /// # Errors
    /// When the interface does not exist or has no bus.
    pub(crate) fn path(&self, registry: &Registry) -> anyhow::Result<PathBuf> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Interface(name) => Ok(registry.load(*name)?.bus()?.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BusArgument, ParseBusError> {
        OsString::from(text).try_into()
    }

    #[test]
    fn a_name_is_a_name_and_a_slash_makes_a_path() {
        assert_eq!(parse("shmif3"), Ok(BusArgument::Interface(InterfaceName::Shmif(3))));
        assert_eq!(parse("memif0/1"), Ok(BusArgument::Interface(InterfaceName::Memif { socket: 0, id: 1 })));
        assert_eq!(parse("./shmif3"), Ok(BusArgument::Path("./shmif3".into())));
        assert_eq!(parse("/dev/shm/lan"), Ok(BusArgument::Path("/dev/shm/lan".into())));
        assert!(parse("lan").unwrap_err().to_string().contains("./lan"));
        assert!(parse("").is_err());
    }
}
