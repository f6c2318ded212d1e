//! The bus compared with a ring without a protocol, and with many listeners.

use system_tests::Lab;

use crate::comparison::{Criterion, Table, Target};
use crate::ours::{self, bench, figure, rate};
use crate::plain_ring;

/// Compares buses of both formats with the plain ring, with one writer and one polling reader.
pub(crate) fn beside_a_plain_ring(table: &mut Table<'_>) {
    let lab = ours::lab();
    let shared = Format {
        name: "bus",
        flags: &[],
        // A burst of one is a wake-up for every frame: a system call, which the plain ring does not
        // make.
        target: |frame, burst| match (frame, burst) {
            // 20 M frames/s where the ring does 100 M.
            (64, 64) => Some(0.2),
            (1_514, 32..) => Some(0.7),
            _ => None,
        },
        alone: &[(64, 20.0)],
    };
    let own = Format {
        name: "bus of our own format",
        flags: &["--own-format"],
        target: |frame, burst| match (frame, burst) {
            (64, 32) => Some(0.25),
            (1_514, 32..) => Some(0.85),
            _ => None,
        },
        alone: &[(1, 8.0), (32, 30.0)],
    };
    for format in [shared, own] {
        compare(table, &lab, &format);
    }
}

/// A format of buses, and what is asked of it.
struct Format {
    name: &'static str,
    /// Of `busctl bench bus`.
    flags: &'static [&'static str],
    /// For a length of frames and a length of bursts: the least ratio to the plain ring.
    target: fn(usize, usize) -> Option<f64>,
    /// Lengths of bursts of 64 bytes, and the least rates by themselves, in million frames/s.
    alone: &'static [(usize, f64)],
}

fn compare(table: &mut Table<'_>, lab: &Lab, format: &Format) {
    let time = table.time();
    let ours = |frame: usize, burst: usize| {
        let (frame, burst) = (frame.to_string(), burst.to_string());
        let args = ["bus", "--frame", &frame, "--burst", &burst];
        rate(&bench(lab, time, &[&args[..], format.flags].concat()))
    };
    let heading = format!("{}: one writer, one polling reader", format.name);
    table.heading(&heading, "million frames/s received", "plain ring");
    for frame in [64, 512, 1_514] {
        for burst in [1, 32, 64, 256] {
            table.row(
                &format!("{frame} bytes, bursts of {burst}"),
                Criterion::Ratio((format.target)(frame, burst)),
                &mut || ours(frame, burst),
                &mut || plain_ring::rate(&lab.path("plain"), frame, burst, time),
            );
        }
    }
    for &(burst, least) in format.alone {
        table.alone(
            &format!("64 bytes, bursts of {burst}, by itself"),
            "million frames/s",
            Some(Target::AtLeast(least)),
            &mut || ours(64, burst),
        );
    }
}

/// Measures what listeners cost a writer.
pub(crate) fn with_many_taps(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    let cost = |stations, frame| {
        let args = ["bus", "--taps", "--burst", "32", "--stations", stations, "--frame", frame];
        let report = bench(&lab, time, &args);
        figure(&report, "tx_cpu_seconds") * 1e9 / figure(&report, "sent")
    };
    table.heading("bus: 16 awake taps", "processor time of the writer, ns a frame", "1 tap");
    for frame in ["64", "1514"] {
        table.row(
            &format!("{frame} bytes, bursts of 32"),
            Criterion::Cost(Some(1.0)),
            &mut || cost("17", frame),
            &mut || cost("2", frame),
        );
    }
}
