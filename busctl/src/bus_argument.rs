//! BUS on the command line (an interface name, or a path that contains a `/`), and how a missing
//! bus is made.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use shmbus::{BIG_BUS_SIZE, BUS_SIZE, BusOptions};

use crate::quantity;
use crate::registry::{InterfaceName, Registry, RegistryError};

/// BUS as it was typed. An `Args` struct just has a field of this type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BusArgument {
    /// The interface's MAC address, flags and bus are used.
    Interface(InterfaceName),
    /// A temporary station is made on the bus.
    Path(PathBuf),
}

/// The text is neither a name nor a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is neither the name of an interface (such as shmif0) nor a path with a '/' in it; for a file in this folder say ./{0}"
)]
pub(crate) struct ParseBusError(String);

impl TryFrom<OsString> for BusArgument {
    type Error = ParseBusError;

    /// Reads BUS. `memif0/1` is both a name and a path: it is the name.
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
    /// Returns it as text that means the same in any folder.
    pub(crate) fn absolute(&self) -> String {
        match self {
            Self::Interface(name) => name.to_string(),
            Self::Path(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
        }
    }

    /// Returns the path of the bus, for a verb that only reads it.
    ///
    /// # Errors
    /// When the interface does not exist or has no bus.
    pub(crate) fn path(&self, registry: &Registry) -> Result<PathBuf, RegistryError> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Interface(name) => Ok(registry.load(*name)?.bus()?.to_owned()),
        }
    }
}

/// Several BUS with commas between, as they were typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusList(Vec<BusArgument>);

impl BusList {
    /// Returns them in order; there is at least one.
    #[must_use]
    pub(crate) fn buses(&self) -> &[BusArgument] {
        &self.0
    }
}

impl TryFrom<OsString> for BusList {
    type Error = ParseBusError;

    fn try_from(text: OsString) -> Result<Self, ParseBusError> {
        let parts = text.as_encoded_bytes().split(|byte| *byte == b',');
        let part = |part: &[u8]| OsStr::from_bytes(part).to_owned().try_into();
        parts.map(part).collect::<Result<_, _>>().map(Self)
    }
}

impl ValueParserFactory for BusList {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::try_from).into()
    }
}

/// How a missing bus is made: flags to be flattened into the `Args` of every verb that makes one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NewBus {
    /// Permissions of a new bus, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    mode: u32,

    /// Size of a new bus, such as 16M; rump kernels share only buses of 1M [default: 1M]
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    size: Option<u64>,

    /// Make a new bus in our own format, which rump kernels cannot share, also if it has 1M: sending
    /// costs no system call while all stations are awake
    #[arg(long)]
    own_format: bool,
}

impl NewBus {
    /// The help of `--size` for a verb that makes [big](Self::big_options) buses.
    pub(crate) const BIG_SIZE_HELP: &str = "Size of a new bus; 1M makes one that rump kernels can \
                                            share [default: 16M, in our own format]";

    /// Returns the same as options of the library: without a size, those of a bus that rump kernels
    /// share.
    #[must_use]
    pub(crate) fn options(&self) -> BusOptions {
        self.with_size(self.size.unwrap_or(BUS_SIZE)).shmif(!self.own_format)
    }

    /// Returns the same for a verb whose stations are all of this kind: without a size, the options
    /// of a big bus of our own format.
    #[must_use]
    pub(crate) fn big_options(&self) -> BusOptions {
        let shmif = self.size.is_some() && !self.own_format;
        self.with_size(self.size.unwrap_or(BIG_BUS_SIZE)).shmif(shmif)
    }

    fn with_size(&self, size: u64) -> BusOptions {
        BusOptions::new().mode(self.mode).size(size)
    }
}

/// Reads permissions of a bus.
///
/// # Errors
/// When it is not an octal number of permissions.
pub(crate) fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| "permissions are an octal number up to 0777".to_owned())
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
        assert_eq!(
            parse("memif0/1"),
            Ok(BusArgument::Interface(InterfaceName::Memif { socket: 0, id: 1 }))
        );
        assert_eq!(parse("./shmif3"), Ok(BusArgument::Path("./shmif3".into())));
        assert_eq!(parse("/dev/shm/lan"), Ok(BusArgument::Path("/dev/shm/lan".into())));
        assert!(parse("lan").unwrap_err().to_string().contains("./lan"));
        assert!(parse("").is_err());
    }

    #[test]
    fn buses_have_commas_between() {
        let list = BusList::try_from(OsString::from("./a,shmif1,/b")).unwrap();
        let shmif1 = BusArgument::Interface(InterfaceName::Shmif(1));
        let (a, b) = (BusArgument::Path("./a".into()), BusArgument::Path("/b".into()));
        assert_eq!(list.buses(), [a, shmif1, b]);
        for text in ["", ",", "./a,", "./a,b"] {
            assert!(BusList::try_from(OsString::from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_has_no_special_bits() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "8", "1777", "+600", "0x1", "rw"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
