//! What was measured, as `--json` prints it.

use serde::Serialize;

use super::frames::{Sent, Tally};
use super::latency::RoundTrips;
use super::protocol::Reported;
use super::{MemifOptions, Plan, RxMode, Topology};

/// What was measured. With several receivers, what concerns them is the sum over them. What is not known is `None`: where
/// only one end is ours, what the other did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What was measured.
    pub bench: Topology,
    /// Bytes in a frame.
    pub frame: usize,
    /// Frames handed over at once.
    pub burst: usize,
    /// Stations, the sender included.
    pub stations: usize,
    /// How long the sender sent.
    pub seconds: f64,
    /// Frames sent.
    pub sent: Option<u64>,
    /// Frames received.
    pub received: Option<u64>,
    /// Frames that were sent and not received, by their sequence numbers.
    pub lost: Option<u64>,
    /// Frames that came twice or out of order. There should be none.
    pub misordered: u64,
    /// Frames sent a second.
    pub tx_pps: Option<f64>,
    /// Frames received a second, between the first and the last.
    pub rx_pps: Option<f64>,
    /// Processor time of the sender.
    pub tx_cpu_seconds: Option<f64>,
    /// Processor time of the receivers, from the beginning until all was sent.
    pub rx_cpu_seconds: Option<f64>,
    /// Whether the receivers poll or sleep.
    pub rx_mode: RxMode,
    /// Whether the receivers only listen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taps: Option<bool>,
    /// How memif was used, if it was.
    #[serde(flatten)]
    pub memif: Option<MemifOptions>,
}

impl Report {
    /// A report of nothing yet.
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

    /// Of both ends.
    pub(super) fn new(plan: &Plan, sender: &Reported<Sent>, receivers: &[Reported<Tally>]) -> Self {
        let lost = |receiver: &Reported<Tally>| -> u64 {
            receiver.results.iter().zip(&sender.results).map(|(tally, sent)| tally.lost(sent.frames)).sum()
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

    /// Of the sender only.
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

    /// Of a receiver only. The frames of somebody else carry no numbers that could tell what was lost.
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

/// How long single frames took, in microseconds: round trips, and the way there by itself.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it: round trip or one way, and which quantile")]
pub(crate) struct LatencyReport {
    /// What was measured.
    pub bench: Topology,
    /// Bytes in a frame.
    pub frame: usize,
    /// Whether both ends poll or sleep.
    pub rx_mode: RxMode,
    /// How long it was measured.
    pub seconds: f64,
    /// Frames that came back.
    pub round_trips: u64,
    /// Frames that did not within a second.
    pub lost: u64,
    pub rtt_min_us: f64,
    pub rtt_p50_us: f64,
    pub rtt_p99_us: f64,
    pub rtt_max_us: f64,
    pub oneway_min_us: f64,
    pub oneway_p50_us: f64,
    pub oneway_p99_us: f64,
    pub oneway_max_us: f64,
    /// Processor time of the end that asks.
    pub tx_cpu_seconds: f64,
    /// Processor time of the end that answers.
    pub rx_cpu_seconds: f64,
}

impl LatencyReport {
    pub(super) fn new(plan: &Plan, sender: &Reported<RoundTrips>, others: &[Reported<()>]) -> Option<Self> {
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
