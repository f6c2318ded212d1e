//! Rates of interfaces and buses, computed between two samples.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use node::Counters;
use serde::Serialize;
use shmbus::{Bus, OpenError, Tap};

use crate::bus_view::DiscardFrames;
use crate::registry::{InterfaceName, Registry};

/// How much longer than the time between two samples the time between two reports may be. A runner
/// reports ten times a second while its counters change; an older report means only that they did
/// not.
const MAX_REPORT_DELAY: Duration = Duration::from_millis(250);

/// Bytes before each frame on the ring.
const PACKET_HEADER: u64 = 24;

/// The counters of an interface at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    counters: Counters,
    /// When the runner wrote the counters.
    written: Option<SystemTime>,
    taken: Instant,
}

/// What went through an interface in a second, between two samples; unknown at the first. The
/// fields are keys of `show --json -w`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct InterfaceRates {
    rx_pps: Option<f64>,
    rx_bps: Option<f64>,
    tx_pps: Option<f64>,
    tx_bps: Option<f64>,
}

/// Measures the rates of interfaces of any kind.
#[derive(Debug, Default)]
pub(crate) struct InterfaceMeter {
    latest: HashMap<InterfaceName, Sample>,
}

impl InterfaceMeter {
    /// Returns the rates since the last call for this interface.
    pub(crate) fn sample(&mut self, registry: &Registry, name: InterfaceName) -> InterfaceRates {
        let written = registry.reported_at(name);
        let sample =
            Sample { counters: registry.report(name).counters, written, taken: Instant::now() };
        match self.latest.insert(name, sample) {
            Some(before) => rates(&before, &sample),
            None => InterfaceRates::default(),
        }
    }
}

fn rates(before: &Sample, now: &Sample) -> InterfaceRates {
    let between_samples = now.taken.duration_since(before.taken);
    let between_reports = match (before.written, now.written) {
        (Some(before), Some(now)) => now.duration_since(before).ok(),
        _ => None,
    };
    let time = between_reports
        .filter(|time| !time.is_zero() && *time <= between_samples + MAX_REPORT_DELAY)
        .unwrap_or(between_samples)
        .as_secs_f64();
    let rate = |count: fn(&Counters) -> u64, factor: f64| {
        let (before, now) = (count(&before.counters), count(&now.counters));
        // Less than before: this is a new interface of the same name.
        let passed = now.checked_sub(before).unwrap_or(now);
        (time > 0.0).then(|| passed as f64 * factor / time)
    };
    InterfaceRates {
        rx_pps: rate(|counters| counters.rx_packets, 1.0),
        rx_bps: rate(|counters| counters.rx_bytes, 8.0),
        tx_pps: rate(|counters| counters.tx_packets, 1.0),
        tx_bps: rate(|counters| counters.tx_bytes, 8.0),
    }
}

/// Prints lines below those of the interface; none while the rates are unknown.
impl fmt::Display for InterfaceRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, pps, bps) in
            [("input", self.rx_pps, self.rx_bps), ("output", self.tx_pps, self.tx_bps)]
        {
            if let (Some(pps), Some(bps)) = (pps, bps) {
                writeln!(f, "\t{way} rate: {pps:.0} packets/s, {}bit/s", Scaled(bps))?;
            }
        }
        Ok(())
    }
}

/// What was sent on a bus in a second, between two samples; unknown at the first. The fields are
/// keys of `show --json -w`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct BusRates {
    pub(crate) pps: Option<f64>,
    pub(crate) bps: Option<f64>,
    /// Whether part of it was overwritten before it was read. Its frames are then assumed to be as
    /// long as the others.
    pub(crate) estimated: bool,
}

/// Measures the rate of frames on a bus.
#[derive(Debug)]
pub(crate) struct BusMeter {
    tap: Tap,
    taken: Option<Instant>,
}

impl BusMeter {
    /// Begins with new frames.
    ///
    /// # Errors
    /// When the bus is damaged so that its packets cannot be found.
    pub(crate) fn new(bus: Bus) -> Result<Self, OpenError> {
        Ok(Self { tap: Tap::new(bus)?, taken: None })
    }

    /// Returns whether the file of its bus was removed or replaced.
    pub(crate) fn is_removed(&self) -> bool {
        self.tap.bus().is_removed()
    }

    /// Returns the rates since the last call.
    pub(crate) fn sample(&mut self) -> BusRates {
        const STEP: usize = 1024;
        let before = self.tap.stats();
        let now = Instant::now();
        // A busy bus always has more frames. A ring full of the shortest frames is read many times
        // over in this time.
        let deadline = now + Duration::from_millis(100);
        loop {
            let overruns = self.tap.stats().overruns;
            let frames = self.tap.recv_into(&mut DiscardFrames, STEP);
            let overtaken = self.tap.stats().overruns > overruns;
            if (frames < STEP && !overtaken) || Instant::now() >= deadline {
                break;
            }
        }
        let stats = self.tap.stats();
        let Some(time) =
            self.taken.replace(now).map(|taken| now.duration_since(taken).as_secs_f64())
        else {
            return BusRates::default();
        };
        let seen = Seen {
            frames: stats.rx_packets - before.rx_packets,
            bytes: stats.rx_bytes - before.rx_bytes,
            missed: stats.overrun_bytes - before.overrun_bytes,
        };
        if time > 0.0 { seen.in_a_second(time) } else { BusRates::default() }
    }
}

/// What a tap read between two samples.
struct Seen {
    frames: u64,
    bytes: u64,
    /// Bytes of the ring that the tap missed.
    missed: u64,
}

impl Seen {
    fn in_a_second(&self, time: f64) -> BusRates {
        let on_ring = self.bytes + self.frames * PACKET_HEADER;
        let all = if on_ring == 0 { 1.0 } else { 1.0 + self.missed as f64 / on_ring as f64 };
        BusRates {
            pps: Some(self.frames as f64 * all / time),
            bps: Some(self.bytes as f64 * all * 8.0 / time),
            estimated: self.missed > 0,
        }
    }
}

impl fmt::Display for BusRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(pps), Some(bps)) = (self.pps, self.bps) else { return Ok(()) };
        let about = if self.estimated { "about " } else { "" };
        writeln!(f, "\trate: {about}{pps:.0} packets/s, {}bit/s", Scaled(bps))
    }
}

/// A number with a prefix of the SI, such as `512.1 M`, to be followed by the unit.
struct Scaled(f64);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number if number >= 1e9 => write!(f, "{:.2} G", number / 1e9),
            number if number >= 1e6 => write!(f, "{:.1} M", number / 1e6),
            number if number >= 1e3 => write!(f, "{:.1} k", number / 1e3),
            number => write!(f, "{number:.0} "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(start: Instant, taken: Duration, written: Duration, rx_packets: u64) -> Sample {
        let counters = Counters { rx_packets, rx_bytes: rx_packets * 100, ..Counters::default() };
        Sample { counters, written: Some(SystemTime::UNIX_EPOCH + written), taken: start + taken }
    }

    #[test]
    fn rates_are_over_the_time_between_reports() {
        let start = Instant::now();
        // Times that floating point represents exactly.
        let before = sample(start, SECOND, SECOND * 3 / 4, 1000);
        let now = sample(start, SECOND * 2, SECOND * 2, 2250);
        let rates = rates(&before, &now);
        assert_eq!((rates.rx_pps, rates.rx_bps), (Some(1000.0), Some(800_000.0)));
        assert_eq!((rates.tx_pps, rates.tx_bps), (Some(0.0), Some(0.0)));
    }

    /// A runner without news writes no report. Frames in its next report came since the last
    /// sample, not since the last report.
    #[test]
    fn silence_before_is_not_counted() {
        let start = Instant::now();
        let silent =
            rates(&sample(start, SECOND, SECOND, 7), &sample(start, SECOND * 2, SECOND, 7));
        assert_eq!(silent.rx_pps, Some(0.0));
        let after = rates(
            &sample(start, SECOND * 9, SECOND, 7),
            &sample(start, SECOND * 10, SECOND * 10, 17),
        );
        assert_eq!(after.rx_pps, Some(10.0));
    }

    #[test]
    fn an_interface_that_was_made_anew_has_no_rate_below_zero() {
        let start = Instant::now();
        let rates =
            rates(&sample(start, SECOND, SECOND, 500), &sample(start, SECOND * 2, SECOND * 2, 30));
        assert_eq!(rates.rx_pps, Some(30.0));
    }

    #[test]
    fn a_bus_counts_what_it_saw_and_estimates_the_rest() {
        let exact = Seen { frames: 10, bytes: 760, missed: 0 }.in_a_second(2.0);
        assert_eq!(exact, BusRates { pps: Some(5.0), bps: Some(3040.0), estimated: false });
        let half = Seen { frames: 10, bytes: 760, missed: 1000 }.in_a_second(2.0);
        assert_eq!(half, BusRates { pps: Some(10.0), bps: Some(6080.0), estimated: true });
        let nothing = Seen { frames: 0, bytes: 0, missed: 0 }.in_a_second(2.0);
        assert_eq!(nothing.pps, Some(0.0));
    }

    #[test]
    fn rates_are_short_for_people() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 512_100_000.0, 1.5e10].map(|number| Scaled(number).to_string()),
            ["0 ", "999 ", "1.0 k", "512.1 M", "15.00 G"]
        );
        assert_eq!(InterfaceRates::default().to_string(), "");
    }
}
