//! The devices that Wireshark may capture from: interfaces of the registry, and buses.

use std::ffi::{OsStr, OsString};

use shmbus::MacAddr6;

use crate::bus_argument::BusArgument;
use crate::buses::{self, BusEntry};
use crate::context::Context;
use crate::misuse::misuse;
use crate::registry::{Registry, format_mac};

/// The value of the device whose bus is an option.
const ANY: &str = "busctl";

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// What Wireshark calls it by, and finds it again by in another session.
    pub(super) value: String,
    /// What people read.
    pub(super) display: String,
    /// BUS, as other verbs take it; none when the user chooses it.
    pub(super) bus: Option<OsString>,
    /// The address of an interface that is a station.
    pub(super) mac: Option<MacAddr6>,
}

/// Returns the devices: first the interfaces, then the buses by path.
///
/// # Errors
/// When the registry cannot be read.
pub(super) fn all(registry: &Registry) -> anyhow::Result<Vec<Device>> {
    let buses = buses::all(registry)?;
    let (records, _) = registry.list()?;
    let interfaces = records.into_iter().filter_map(|record| {
        let path = record.linkstr.as_ref()?;
        let mac = record.shmif().map(|shmif| shmif.mac);
        let address = mac.map(|mac| format!("{}, ", format_mac(mac))).unwrap_or_default();
        let name = record.name.to_string();
        let display = plain(&format!("{name} ({address}{})", path.display()));
        Some(Device { bus: Some((&name).into()), value: name, display, mac })
    });
    let named = buses.iter().filter(|bus| bus.path == plain(&bus.path));
    let buses = named.map(|bus| Device {
        value: bus.path.clone(),
        display: describe(bus),
        bus: Some((&bus.path).into()),
        mac: None,
    });
    Ok(interfaces.chain(buses).chain([any()]).collect())
}

impl Device {
    /// Returns the device of this value. A bus need not be in the list.
    ///
    /// # Errors
    /// When it is neither an interface nor a path.
    pub(super) fn find(value: &OsStr, context: &Context) -> anyhow::Result<Self> {
        if value == ANY {
            return Ok(any());
        }
        let bus = BusArgument::try_from(value.to_owned()).map_err(misuse)?;
        let mac = match bus {
            BusArgument::Interface(name) => {
                context.registry()?.load(name)?.shmif().map(|shmif| shmif.mac)
            }
            BusArgument::Path(_) => None,
        };
        let text = value.to_string_lossy().into_owned();
        Ok(Self { display: text.clone(), value: text, bus: Some(value.to_owned()), mac })
    }
}

/// Returns the device whose bus the user chooses.
fn any() -> Device {
    let display = "a shared-memory LAN, by its file".to_owned();
    Device { value: ANY.to_owned(), display, bus: None, mac: None }
}

/// Returns the path of a bus with the stations on it.
fn describe(bus: &BusEntry) -> String {
    let names = bus.names(|member| format!("{} {}", member.name, member.mac));
    let names = if names.is_empty() { "no station" } else { &names };
    plain(&format!("{} ({names})", bus.path))
}

/// Returns a text without the characters that end a field.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '{' | '}') { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_ends_where_it_should() {
        assert_eq!(plain("a{b}c\n"), "a_b_c_");
    }
}
