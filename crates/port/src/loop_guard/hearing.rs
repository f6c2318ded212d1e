//! What a guard hears on the bus of its port.

use shmbus::{Bus, FrameSink, RingFrame, Station, Vlan};

use super::probe::{LEN, Probe, TAGGED_LEN};
use super::sample::{Print, Printer};

/// As many bytes of a frame tell it from others.
const PRINTED: usize = 128;

/// Collects probes and prints among the frames on a bus. A probe has the tag that the port's peer
/// sees.
pub(super) struct Hearing<'p> {
    /// The sender of the port's own station.
    own: u64,
    /// The VLAN of the peer.
    vlan: Option<&'p Vlan>,
    /// Makes prints, if they are wanted.
    printer: Option<&'p Printer>,
    /// The probes of other stations, oldest first.
    pub(super) probes: Vec<(Option<u16>, Probe)>,
    /// The prints of all frames that are no probes, oldest first.
    pub(super) prints: Vec<Print>,
    /// How many of each are known to be whole.
    whole: (usize, usize),
}

impl<'p> Hearing<'p> {
    /// Begins to hear for the port of `station`.
    pub(super) fn new(station: &'p Station, printer: Option<&'p Printer>) -> Self {
        let (own, vlan) = (station.sender(), station.vlan());
        Self { own, vlan, printer, probes: Vec::new(), prints: Vec::new(), whole: (0, 0) }
    }
}

impl FrameSink for Hearing<'_> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        if !matches!(frame.len(), LEN | TAGGED_LEN) && self.printer.is_none() {
            return true;
        }
        let in_vlan = match self.vlan {
            None => None,
            Some(vlan) => match frame.in_vlan(vlan) {
                None => return true,
                seen => seen,
            },
        };
        let frame = in_vlan.as_ref().unwrap_or(frame);
        let mut bytes = [0; PRINTED];
        let len = frame.copy_to(&mut bytes);
        let is_own = frame.info().sender == self.own;
        match (Probe::parse(&bytes[..len]), self.printer) {
            (Some(probe), _) if !is_own => self.probes.push(probe),
            (None, Some(printer)) => self.prints.push(printer.print(is_own, &bytes[..len])),
            _ => {}
        }
        true
    }

    fn commit(&mut self) {
        self.whole = (self.probes.len(), self.prints.len());
    }

    fn discard(&mut self) {
        self.probes.truncate(self.whole.0);
        self.prints.truncate(self.whole.1);
    }
}

/// Returns whether other ports may be on the bus of `station`. A port that is alone there is on no
/// loop, unless a foreign station joins buses.
pub(super) fn has_other_ports(station: &Station) -> bool {
    let Ok(bus) = Bus::open_read_only(station.bus().path()) else { return false };
    let members = bus.members();
    let others = members.iter().filter(|member| member.mac != station.mac());
    // Stations without notes may be anything.
    others.into_iter().any(|member| member.joins)
        || bus.stations().is_ok_and(|stations| stations > members.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shmbus::StationOptions;

    use super::*;

    fn station(path: &Path, name: &str) -> Station {
        let bus = Bus::open_or_create(path, 0o600).expect("a bus");
        Station::join(bus, StationOptions::new().name(name)).expect("joined")
    }

    #[test]
    fn ports_are_known_by_their_mark_whatever_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let (mut port, mut other) = (station(&path, "vxlan7"), station(&path, "tapioca"));
        if port.bus().members().is_empty() {
            println!("skipped: this file system keeps no notes");
            return;
        }
        assert!(!has_other_ports(&port), "a host, whatever its name");
        other.set_joins(true);
        assert!(has_other_ports(&port));
        port.set_joins(true);
        other.set_joins(false);
        assert!(!has_other_ports(&port) && has_other_ports(&other));
    }
}
