//! The record of an interface.

use std::path::{Path, PathBuf};

use memif::Role;
use port::memif::MemifSpec;
use port::socket::SocketSpec;
use port::tap::TapSpec;
use port::trunk::TrunkSpec;
use port::vxlan::VxlanSpec;
use port::{FrameRules, Impairments, ParsePortError};
use serde::{Deserialize, Serialize};
use shmbus::MIN_FRAME;

use super::error::RegistryError;
use super::file;
use super::name::{InterfaceName, Kind};
use super::port_settings::PortSettings;
use super::settings::{KeyValue, SettingError};
use super::shmif::{Media, Shmif};

/// The longest path of a bus in bytes, as in shmif.
pub(crate) const LINKSTR_MAX: usize = 1024;

/// The bytes of an Ethernet header with a VLAN tag.
const TAGGED_HEADER: usize = MIN_FRAME + 4;

/// One interface. Its file is TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "RecordFile", try_from = "RecordFile")]
pub(crate) struct Record {
    /// Its name, which is also the file's.
    pub(crate) name: InterfaceName,
    /// Grows with every change, so that a runner can report which revision it follows.
    pub(crate) revision: u64,
    /// Whether the interface is set up.
    pub(crate) up: bool,
    /// The bus it is plugged into: an absolute path.
    pub(crate) linkstr: Option<PathBuf>,
    /// The settings of its kind.
    pub(crate) settings: Settings,
}

/// The settings of an interface, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settings {
    /// A station on a bus.
    Shmif(Shmif),
    /// A port: memif, TAP, socket, VXLAN or trunk.
    Port(PortSettings),
}

/// The fields of the file, in their order.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    name: InterfaceName,
    revision: u64,
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    linkstr: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmif: Option<Shmif>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memif: Option<PortSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tap: Option<PortSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sock: Option<PortSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vxlan: Option<PortSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trunk: Option<PortSettings>,
}

impl From<Record> for RecordFile {
    fn from(record: Record) -> Self {
        let Record { name, revision, up, linkstr, settings } = record;
        let (shmif, mut port) = match settings {
            Settings::Shmif(shmif) => (Some(shmif), None),
            Settings::Port(port) => (None, Some(port)),
        };
        let mut table = |kind| port.take_if(|_| name.kind() == kind);
        let [memif, tap, sock, vxlan, trunk] =
            [Kind::Memif, Kind::Tap, Kind::Sock, Kind::Vxlan, Kind::Trunk].map(&mut table);
        Self { name, revision, up, linkstr, shmif, memif, tap, sock, vxlan, trunk }
    }
}

impl TryFrom<RecordFile> for Record {
    type Error = String;

    fn try_from(file: RecordFile) -> Result<Self, String> {
        let RecordFile { name, revision, up, linkstr, shmif, memif, tap, sock, vxlan, trunk } =
            file;
        let ports = [
            (Kind::Memif, memif),
            (Kind::Tap, tap),
            (Kind::Sock, sock),
            (Kind::Vxlan, vxlan),
            (Kind::Trunk, trunk),
        ];
        let tables =
            ports.into_iter().filter_map(|(kind, port)| Some((kind, Settings::Port(port?))));
        let mut tables = tables.chain(shmif.map(|shmif| (Kind::Shmif, Settings::Shmif(shmif))));
        let settings = match (tables.next(), tables.next()) {
            (Some((kind, settings)), None) if kind == name.kind() => settings,
            _ => {
                let kind = name.kind();
                return Err(format!("it should have one table of settings, called [{kind}]"));
            }
        };
        Ok(Self { name, revision, up, linkstr, settings })
    }
}

impl Record {
    /// Makes the record of a new interface, which is down and has no bus.
    #[must_use]
    pub(crate) fn new(name: InterfaceName, settings: Settings) -> Self {
        Self { name, revision: 1, up: false, linkstr: None, settings }
    }

    /// Returns the settings of a shmif interface; none for another kind.
    #[must_use]
    pub(crate) fn shmif(&self) -> Option<&Shmif> {
        match &self.settings {
            Settings::Shmif(shmif) => Some(shmif),
            Settings::Port(_) => None,
        }
    }

    /// Returns the bus it is plugged into.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn bus(&self) -> Result<&Path, RegistryError> {
        self.linkstr.as_deref().ok_or(RegistryError::NoBus { name: self.name })
    }

    /// Returns the settings of a port; none for another kind.
    #[must_use]
    pub(crate) fn port(&self) -> Option<&PortSettings> {
        match &self.settings {
            Settings::Port(port) => Some(port),
            Settings::Shmif(_) => None,
        }
    }

    /// Returns the specification of a memif interface, without its socket; none for another kind.
    #[must_use]
    pub(crate) fn memif(&self) -> Option<MemifSpec> {
        let InterfaceName::Memif { id, .. } = self.name else { return None };
        // Settings are checked when a record is read and when it is changed.
        MemifSpec::of_interface(id, self.port()?.pairs()).ok()
    }

    /// Returns what a user should know about a setting that this record has accepted.
    #[must_use]
    pub(crate) fn warning(&self, setting: &KeyValue) -> Option<String> {
        let warning = self.memif().filter(|_| setting.key == "secret")?.secret_warning()?;
        Some(format!("{}: {warning}", self.name))
    }

    /// Returns the specification of a tap interface; none for another kind.
    #[must_use]
    pub(crate) fn tap(&self) -> Option<TapSpec> {
        let InterfaceName::Tap(_) = self.name else { return None };
        TapSpec::of_interface(&self.name.to_string(), self.port()?.pairs()).ok()
    }

    /// Returns which frames pass between it and its bus.
    fn rules(&self) -> FrameRules {
        match &self.settings {
            Settings::Shmif(shmif) => FrameRules { mtu: shmif.mtu, vlan: None },
            Settings::Port(_) => self.link_settings().map(|(rules, _)| rules).unwrap_or_default(),
        }
    }

    /// Returns what its link does to frames on purpose.
    #[must_use]
    pub(crate) fn impairments(&self) -> Impairments {
        self.link_settings().map(|(_, impairments)| impairments).unwrap_or_default()
    }

    /// Returns what ports of every kind have; none for another kind, and while the settings are no whole.
    fn link_settings(&self) -> Option<(FrameRules, Impairments)> {
        match self.name.kind() {
            Kind::Shmif => None,
            Kind::Memif => self.memif().map(|spec| (spec.rules, spec.impairments)),
            Kind::Tap => self.tap().map(|spec| (spec.rules, spec.impairments)),
            Kind::Sock => self.socket().ok()?.map(|spec| (spec.rules, spec.impairments)),
            Kind::Vxlan => self.vxlan().ok()?.map(|spec| (spec.rules, spec.impairments)),
            Kind::Trunk => self.trunk().map(|spec| (spec.rules, spec.impairments)),
        }
    }

    /// Checks that its settings go together.
    ///
    /// # Errors
    /// When two do not.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        if let Some(memif) = self.memif() {
            memif.check_port().map_err(SettingError::Port)?;
        }
        match self.vxlan() {
            // Its own address and the other ends may be set later.
            Ok(_) | Err(ParsePortError::Missing { .. }) => {}
            Err(error) => return Err(SettingError::Port(error)),
        }
        self.impairments().check().map_err(SettingError::Port)
    }

    /// Returns the MTU that is set for it, if one is.
    #[must_use]
    pub(crate) fn set_mtu(&self) -> Option<usize> {
        self.rules().mtu
    }

    /// Returns the largest payload of its frames where the bus carries frames of `longest` bytes. A
    /// VLAN tag takes 4 bytes of it.
    #[must_use]
    pub(crate) fn mtu(&self, longest: usize) -> usize {
        let FrameRules { mtu, vlan } = self.rules();
        let carried = longest - if vlan.is_some() { TAGGED_HEADER } else { MIN_FRAME };
        mtu.map_or(carried, |mtu| mtu.min(carried))
    }

    /// Returns the specification of a sock interface; none for another kind.
    ///
    /// # Errors
    /// When its settings exclude each other, or it has no place yet.
    pub(crate) fn socket(&self) -> Result<Option<SocketSpec>, ParsePortError> {
        match (self.name, self.port()) {
            (InterfaceName::Sock(_), Some(settings)) => {
                SocketSpec::of_interface(settings.pairs()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the specification of a vxlan interface; none for another kind.
    ///
    /// # Errors
    /// When its settings exclude each other, or it has no other ends yet.
    pub(crate) fn vxlan(&self) -> Result<Option<VxlanSpec>, ParsePortError> {
        match (self.name, self.port()) {
            (InterfaceName::Vxlan(unit), Some(settings)) => {
                VxlanSpec::of_interface(unit, settings.pairs()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the specification of a trunk interface; none for another kind.
    #[must_use]
    pub(crate) fn trunk(&self) -> Option<TrunkSpec> {
        let InterfaceName::Trunk(_) = self.name else { return None };
        TrunkSpec::of_interface(&self.name.to_string(), self.port()?.pairs()).ok()
    }

    /// Returns the role of a memif interface; none for another kind.
    #[must_use]
    pub(crate) fn role(&self) -> Option<Role> {
        self.memif().map(|memif| memif.role)
    }

    /// Makes one setting.
    ///
    /// # Errors
    /// When there is no such key, or it does not take this value; nothing is changed then.
    pub(crate) fn apply(&mut self, setting: &KeyValue) -> Result<(), SettingError> {
        match &mut self.settings {
            Settings::Shmif(shmif) => shmif.apply(setting),
            Settings::Port(port) => port.apply(self.name, setting),
        }
    }

    /// Reads the record of `name`, and checks what the TOML types do not.
    pub(super) fn parse(name: InterfaceName, text: &str) -> Result<Self, String> {
        let record: Self = toml::from_str(text).map_err(|error| file::toml_error(text, &error))?;
        if record.name != name {
            return Err(format!("it is of {}, not of {name}", record.name));
        }
        if let Settings::Port(port) = &record.settings {
            port.check(name).map_err(|error| error.to_string())?;
            record.check().map_err(|error| error.to_string())?;
        }
        match &record.linkstr {
            Some(path) if !path.is_absolute() => {
                return Err("linkstr is not an absolute path".to_owned());
            }
            Some(path) => check_linkstr(path).map_err(|error| error.to_string())?,
            None if record.up => return Err("it is up without a bus".to_owned()),
            None => {}
        }
        Ok(record)
    }

    /// Returns the text of the file.
    pub(super) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Returns whether a shmif interface has a carrier, as its media says; none (unknown) without a
    /// bus. For a port, only the runner knows that.
    #[must_use]
    pub(crate) fn link(&self) -> Option<bool> {
        self.linkstr.as_ref().and(self.shmif()).map(|shmif| shmif.media == Media::Auto)
    }
}

/// Why a path cannot be the bus of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkstrError {
    /// The path is empty.
    #[error("the path of the bus is empty")]
    Empty,
    /// Longer than [`LINKSTR_MAX`].
    #[error("the path of the bus is too long: {0} bytes, and at most {LINKSTR_MAX} are possible")]
    TooLong(usize),
    /// A record cannot hold it.
    #[error(
        "the path of the bus is not UTF-8: the record of an interface is a text file, so its bus needs another name"
    )]
    NotUtf8,
}

/// Checks that `path` can be the bus of an interface.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_linkstr(path: &Path) -> Result<(), LinkstrError> {
    match (path.as_os_str().len(), path.to_str()) {
        (0, _) => Err(LinkstrError::Empty),
        (length, _) if length > LINKSTR_MAX => Err(LinkstrError::TooLong(length)),
        (_, None) => Err(LinkstrError::NotUtf8),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: InterfaceName = InterfaceName::Shmif(0);

    fn example() -> Record {
        Record {
            up: true,
            linkstr: Some("/lan.bus".into()),
            ..Record::new(NAME, Settings::Shmif(Shmif::default()))
        }
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
            ("[shmif]", "[memif]", "invalid type"),
            ("[shmif]", "[shmif2]", "unknown field"),
        ] {
            assert!(text.contains(good), "{good} in {text}");
            let error = Record::parse(NAME, &text.replace(good, bad)).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Record::parse(NAME, "").is_err());
        assert!(Record::parse(NAME, "\0\0\0\0").is_err());
    }

    #[test]
    fn the_record_of_a_port_reads_back_and_is_checked() {
        let name = InterfaceName::Memif { socket: 0, id: 7 };
        let mut record = Record::new(name, Settings::Port(PortSettings::default()));
        for setting in ["role=client", "secret=hunter2", "rsize=9"] {
            record.apply(&setting.parse().unwrap()).unwrap();
        }
        let text = record.to_toml().unwrap();
        assert_eq!(Record::parse(name, &text), Ok(record.clone()));
        assert!(!format!("{record:?}").contains("hunter2"));
        for (good, bad, why) in [
            ("\"9\"", "\"99\"", "rsize=99: it is a number from 1 to 14"),
            ("rsize", "rsiz", "no key 'rsiz' (did you mean 'rsize'?)"),
            ("[memif]", "[tap]", "one table of settings, called [memif]"),
            ("[memif]\n", "", "unknown field"),
        ] {
            let error = Record::parse(name, &text.replace(good, bad)).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }

        record.apply(&"rsize=".parse().unwrap()).unwrap();
        assert!(
            record.port().unwrap().pairs().all(|(key, _)| key != "rsize"),
            "an empty value restores the default"
        );
        for (text, why) in [
            ("id=3", "is in its name"),
            ("rsiz=", "no key 'rsiz'"),
            ("mode=l2", "it is one of ethernet, ip"),
        ] {
            let error = record.apply(&text.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
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
        record.apply(&"media=none".parse().unwrap()).unwrap();
        assert_eq!(record.link(), Some(false));
        record.linkstr = None;
        assert_eq!(record.link(), None);
    }
}
