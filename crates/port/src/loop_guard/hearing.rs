//! What a guard hears on the bus of its port.

use shmbus::{Bus, FrameSink, RingFrame, Station};

use super::probe::{LEN, Probe};
use super::sample::{Print, Printer};

/// As many bytes of a frame tell it from others.
const PRINTED: usize = 128;
/// How the names of the stations of ports begin, besides those of captures.
const PORTS: [&str; 4] = ["memif", "tap", "bus ", "sock"];

/// Collects probes and prints among the frames on a bus.
pub(super) struct Hearing<'p> {
    /// The sender of the port's own station.
    own: u64,
    /// Makes prints, if they are wanted.
    printer: Option<&'p Printer>,
    /// The probes of other stations, oldest first.
    pub(super) probes: Vec<Probe>,
    /// The prints of all frames that are no probes, oldest first.
    pub(super) prints: Vec<Print>,
    /// How many of each are known to be whole.
    whole: (usize, usize),
}

impl<'p> Hearing<'p> {
    /// Begins to hear for the port of `station`.
    pub(super) fn new(station: &Station, printer: Option<&'p Printer>) -> Self {
        let own = station.sender();
        Self { own, printer, probes: Vec::new(), prints: Vec::new(), whole: (0, 0) }
    }
}

impl FrameSink for Hearing<'_> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        if frame.len() != LEN && self.printer.is_none() {
            return true;
        }
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
    let is_port = |name: &str| PORTS.iter().any(|kind| name.starts_with(kind));
    let others = members.iter().filter(|member| member.mac != station.mac());
    // Stations without notes may be anything.
    others.into_iter().any(|member| is_port(&member.name))
        || bus.stations().is_ok_and(|stations| stations > members.len())
}
