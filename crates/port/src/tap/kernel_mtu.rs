//! The MTU of a TAP interface, which follows what the bus carries.
//!
//! The kernel sends packets as long as the MTU of the interface. Longer ones than the bus carries
//! would be dropped, and TCP finds that out slowly. A lower MTU that a user has set stays.

use netif::Interfaces;
use shmbus::Station;

/// The MTU of a new interface.
const NEW: u32 = 1_500;

/// Sets the MTU of one interface.
pub(super) struct KernelMtu {
    interfaces: Interfaces,
    name: String,
    /// What was set last.
    set: Option<u32>,
    /// What the user should know.
    report: Option<String>,
}

/// Returns the MTU to set on an interface with the MTU `current` where the bus carries `carried`;
/// `None` when it stays. `set` is the MTU that was set last.
fn wanted(current: u32, carried: u32, set: Option<u32>) -> Option<u32> {
    let is_of_user = current < carried && current != NEW && Some(current) != set;
    (current != carried && !is_of_user).then_some(carried)
}

impl KernelMtu {
    pub(super) fn new(interfaces: Interfaces, name: String) -> Self {
        Self { interfaces, name, set: None, report: None }
    }

    /// Sets the MTU that the station has.
    pub(super) fn follow(&mut self, station: &Station) {
        let Ok(carried) = u32::try_from(station.mtu()) else { return };
        let (name, bus) = (&self.name, station.bus().path().display());
        // A deleted interface has none; the port finds that out by itself.
        let Ok(interface) = self.interfaces.get(name) else { return };
        let Some(mtu) = wanted(interface.mtu, carried, self.set) else { return };
        match self.interfaces.set_mtu(name, mtu) {
            Ok(()) => {
                tracing::info!(name, mtu, "MTU");
                self.set = Some(mtu);
            }
            Err(error) if interface.mtu > mtu => {
                self.report = Some(format!(
                    "the interface has an MTU of {}, and {bus} carries {mtu}: longer packets are \
                     dropped ({error}); 'ip link set {name} mtu {mtu}' lowers it",
                    interface.mtu
                ));
            }
            // Shorter packets pass as well.
            Err(error) => tracing::info!(name, mtu, %error, "the MTU stays"),
        }
    }

    pub(super) fn has_report(&self) -> bool {
        self.report.is_some()
    }

    pub(super) fn take_report(&mut self) -> Option<String> {
        self.report.take()
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn an_interface_follows_its_bus_and_its_user() {
        for (current, carried, set, mtu) in [
            (1_500, 1_500, None, None),
            (1_500, 9_202, None, Some(9_202)),
            (9_202, 1_500, Some(9_202), Some(1_500)),
            (1_496, 9_202, Some(1_496), Some(9_202)),
            // Too long for the bus.
            (9_000, 1_500, None, Some(1_500)),
            // The user's choice.
            (1_400, 1_500, None, None),
            (1_400, 1_500, Some(1_500), None),
        ] {
            assert_eq!(wanted(current, carried, set), mtu, "{current} {carried} {set:?}");
        }
    }
}
