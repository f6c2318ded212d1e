//! The results of measurements, as `--json` prints them.

use anyhow::bail;
use serde::Serialize;

use super::frames::{Sent, Tally};
use super::latency::RoundTrips;
use super::protocol::Reported;
use super::{MemifOptions, Plan, RxMode, Topology};

/// The result of a measurement of rates. With several receivers, their values are sums. A value is
/// `None` when it is unknown: with one end of ours, what the other end did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) bench: Topology,
    /// Bytes in a frame.
    pub(crate) frame: usize,
    /// Frames in a burst.
    pub(crate) burst: usize,
    /// Stations, the sender included.
    pub(crate) stations: usize,
    /// How long the sender sent.
    pub(crate) seconds: f64,
    /// Frames sent.
    pub(crate) sent: Option<u64>,
    /// Frames received.
    pub(crate) received: Option<u64>,
    /// Frames that were sent and not received, by their sequence numbers.
    pub(crate) lost: Option<u64>,
    /// Frames that came twice or out of order.
    pub(crate) misordered: u64,
    /// Frames sent a second.
    pub(crate) tx_pps: Option<f64>,
    /// Frames received a second, between the first and the last.
    pub(crate) rx_pps: Option<f64>,
    /// CPU time of the sender.
    pub(crate) tx_cpu_seconds: Option<f64>,
    /// CPU time of the receivers, from the start until all was sent.
    pub(crate) rx_cpu_seconds: Option<f64>,
    /// Whether the receivers poll or sleep.
    pub(crate) rx_mode: RxMode,
    /// Whether the receivers are taps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) taps: Option<bool>,
    /// The options of memif, if it was used.
    #[serde(flatten)]
    pub(crate) memif: Option<MemifOptions>,
}

impl Report {
    /// Makes a report without results.
    fn blank(plan: &Plan, seconds: f64) -> Self {
        let (load, options) = (plan.load, plan.options);
        Self {
            bench: plan.topology,
            frame: load.frame,
            burst: load.burst,
            stations: plan.stations,
            seconds,
            sent: None,
            received: None,
            lost: None,
            misordered: 0,
            tx_pps: None,
            rx_pps: None,
            tx_cpu_seconds: None,
            rx_cpu_seconds: None,
            rx_mode: options.rx_mode,
            taps: (plan.topology == Topology::Bus).then_some(options.taps),
            memif: (plan.topology == Topology::Memif).then_some(options.memif),
        }
    }

    /// Checks that there is something to report.
    ///
    /// # Errors
    /// When no frame was sent: zeros would look like a result.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.sent == Some(0) {
            bail!("no frame of {} bytes was sent: there was room for none", self.frame);
        }
        Ok(())
    }

    /// Makes the report of both ends.
    pub(super) fn new(plan: &Plan, sender: &Reported<Sent>, receivers: &[Reported<Tally>]) -> Self {
        let lost = |receiver: &Reported<Tally>| -> u64 {
            receiver
                .results
                .iter()
                .zip(&sender.results)
                .map(|(tally, sent)| tally.lost(sent.frames))
                .sum()
        };
        let tallies = || receivers.iter().flat_map(|receiver| &receiver.results);
        let rate = |tally: &Tally| per_second(tally.received, tally.time.as_secs_f64());
        Self {
            received: Some(tallies().map(|tally| tally.received).sum()),
            lost: Some(receivers.iter().map(lost).sum()),
            misordered: tallies().map(|tally| tally.misordered + tally.foreign).sum(),
            rx_pps: Some(tallies().map(rate).sum::<f64>().round()),
            rx_cpu_seconds: Some(
                receivers.iter().map(|receiver| receiver.usage.cpu.as_secs_f64()).sum::<f64>(),
            ),
            ..Self::of_sender(plan, sender)
        }
    }

    /// Makes the report of a sender.
    pub(super) fn of_sender(plan: &Plan, sender: &Reported<Sent>) -> Self {
        let seconds = sender.results.iter().map(|sent| sent.time.as_secs_f64()).fold(0.0, f64::max);
        let sent = sender.results.iter().map(|sent| sent.frames).sum();
        Self {
            sent: Some(sent),
            tx_pps: Some(per_second(sent, seconds).round()),
            tx_cpu_seconds: Some(sender.usage.cpu.as_secs_f64()),
            ..Self::blank(plan, seconds)
        }
    }

    /// Makes the report of a receiver. Frames of other programs carry no numbers that would show
    /// losses.
    pub(super) fn of_receiver(plan: &Plan, receiver: &Reported<Tally>) -> Self {
        let tallies = &receiver.results;
        let seconds = tallies.iter().map(|tally| tally.time.as_secs_f64()).fold(0.0, f64::max);
        let frames = tallies.iter().map(|tally| tally.received + tally.foreign).sum();
        let numbered = tallies.iter().all(|tally| tally.foreign == 0);
        Self {
            received: Some(frames),
            lost: numbered.then(|| tallies.iter().map(|tally| tally.gaps).sum()),
            misordered: tallies.iter().map(|tally| tally.misordered).sum(),
            rx_pps: Some(per_second(frames, seconds).round()),
            rx_cpu_seconds: Some(receiver.usage.cpu.as_secs_f64()),
            ..Self::blank(plan, seconds)
        }
    }
}

fn per_second(frames: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { frames as f64 / seconds } else { 0.0 }
}

/// The result of a measurement of latency: quantiles of round trips and of the way there, in
/// microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LatencyReport {
    /// What was measured.
    pub(crate) bench: Topology,
    /// Bytes in a frame.
    pub(crate) frame: usize,
    /// Whether both ends poll or sleep.
    pub(crate) rx_mode: RxMode,
    /// How long the measurement took.
    pub(crate) seconds: f64,
    /// Frames that came back.
    pub(crate) round_trips: u64,
    /// Frames that did not come back within a second.
    pub(crate) lost: u64,
    pub(crate) rtt_min_us: f64,
    pub(crate) rtt_p50_us: f64,
    pub(crate) rtt_p99_us: f64,
    pub(crate) rtt_max_us: f64,
    pub(crate) oneway_min_us: f64,
    pub(crate) oneway_p50_us: f64,
    pub(crate) oneway_p99_us: f64,
    pub(crate) oneway_max_us: f64,
    /// CPU time of the end that sends first.
    pub(crate) tx_cpu_seconds: f64,
    /// CPU time of the end that sends back.
    pub(crate) rx_cpu_seconds: f64,
}

impl LatencyReport {
    /// Checks that there is something to report.
    ///
    /// # Errors
    /// When no frame came back: zeros would look like a result.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.round_trips == 0 {
            bail!("no frame of {} bytes came back; {} were lost", self.frame, self.lost);
        }
        Ok(())
    }

    pub(super) fn new(
        plan: &Plan,
        sender: &Reported<RoundTrips>,
        others: &[Reported<()>],
    ) -> Option<Self> {
        let RoundTrips { trips, lost, there, back } = *sender.results.first()?;
        Some(Self {
            bench: plan.topology,
            frame: plan.load.frame,
            rx_mode: plan.options.rx_mode,
            seconds: sender.usage.wall.as_secs_f64(),
            round_trips: trips,
            lost,
            rtt_min_us: back.min,
            rtt_p50_us: back.p50,
            rtt_p99_us: back.p99,
            rtt_max_us: back.max,
            oneway_min_us: there.min,
            oneway_p50_us: there.p50,
            oneway_p99_us: there.p99,
            oneway_max_us: there.max,
            tx_cpu_seconds: sender.usage.cpu.as_secs_f64(),
            rx_cpu_seconds: others.iter().map(|other| other.usage.cpu.as_secs_f64()).sum(),
        })
    }
}
