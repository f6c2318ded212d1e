//! The rows of the tables.

use crate::bench::{Load, MemifOptions, Plan, RxMode, Sender, Topology};

/// The default options of memif.
pub(super) const DEFAULT_MEMIF: MemifOptions =
    MemifOptions { sender: Sender::Client, rsize: 10, bsize: 2_048, queues: 1, zero_copy: false };
/// The burst of testpmd, and of many other programs.
const USUAL_BURST: usize = 32;

const FRAMES: [usize; 3] = [64, 512, 1_514];
const BURSTS: [usize; 3] = [1, 32, 256];
const STATIONS: [usize; 4] = [2, 4, 16, 64];

/// Returns the rows of a table of rates, with the topology and the time of `base`.
pub(super) fn rates(base: &Plan) -> Vec<Plan> {
    let usual = Plan { load: Load { frame: 64, burst: USUAL_BURST, ..base.load }, ..*base };
    match base.topology {
        Topology::Bus => {
            each(&[usual], &STATIONS, |plan, stations| plan.stations = stations)
                .by(&FRAMES, |plan, frame| plan.load.frame = frame)
                .by(&BURSTS, |plan, burst| plan.load.burst = burst)
                .0
        }
        Topology::Memif => memif(&usual),
        Topology::Adapter => {
            each(&[usual], &FRAMES, |plan, frame| plan.load.frame = frame)
                .by(&BURSTS[1..], |plan, burst| plan.load.burst = burst)
                .0
        }
    }
}

/// Changes one parameter at a time: all combinations would be thousands of rows.
fn memif(usual: &Plan) -> Vec<Plan> {
    let one = &[*usual];
    let senders = [Sender::Client, Sender::Server];
    let mut rows = each(one, &senders, |plan, sender| plan.options.memif.sender = sender)
        .by(&[64, 256, 512, 1_024, 1_514, 4_096, 9_000], |plan, frame| plan.load.frame = frame)
        .0;
    rows.extend(each(one, &[1, 8, 128, 256], |plan, burst| plan.load.burst = burst).0);
    rows.extend(
        each(one, &[8, 9, 11, 12, 13, 14], |plan, rsize| plan.options.memif.rsize = rsize).0,
    );
    rows.extend(
        each(one, &[2], |plan, queues| plan.options.memif.queues = queues)
            .by(&[64, 1_514], |plan, frame| plan.load.frame = frame)
            .0,
    );
    rows.extend(
        each(one, &senders, |plan, sender| plan.options.memif.sender = sender)
            .by(&[64, 1_514, 9_000], |plan, frame| {
                plan.load.frame = frame;
                plan.options.memif.zero_copy = true;
            })
            .0,
    );
    let asleep = Plan {
        options: crate::bench::EndOptions { rx_mode: RxMode::Interrupt, ..usual.options },
        ..*usual
    };
    rows.extend(
        each(&[asleep], &[None, Some(1_000), Some(100_000)], |plan, pps| {
            plan.load.pps = pps;
            if pps.is_some() {
                plan.load.burst = 1;
            }
        })
        .0,
    );
    rows
}

/// Returns the rows of a table of latencies.
pub(super) fn latencies(base: &Plan) -> Vec<Plan> {
    let modes = [RxMode::Polling, RxMode::Interrupt];
    each(&[*base], &modes, |plan, mode| plan.options.rx_mode = mode)
        .by(&[64, 1_514], |plan, frame| plan.load.frame = frame)
        // Back to back, and with pauses in which every end that can falls asleep.
        .by(&[None, Some(500)], |plan, pps| plan.load.pps = pps)
        .0
}

/// Rows of a table.
struct Rows(Vec<Plan>);

impl Rows {
    /// Repeats every row with each value.
    fn by<T: Copy>(self, values: &[T], set: impl Fn(&mut Plan, T)) -> Self {
        each(&self.0, values, set)
    }
}

fn each<T: Copy>(rows: &[Plan], values: &[T], set: impl Fn(&mut Plan, T)) -> Rows {
    let with = |row: &Plan, value| {
        let mut row = *row;
        set(&mut row, value);
        row
    };
    Rows(
        rows.iter()
            .flat_map(|row| values.iter().map(move |&value| (row, value)))
            .map(|(row, value)| with(row, value))
            .collect(),
    )
}
