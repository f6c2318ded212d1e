//! The bus compared with a ring without a protocol, and with many listeners.

use crate::comparison::{Criterion, Table, Target};
use crate::ours::{self, bench, figure, rate};
use crate::plain_ring;

/// Compares the bus with the plain ring, with one writer and one polling reader.
pub(crate) fn beside_a_plain_ring(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading("bus: one writer, one polling reader", "million frames/s received", "plain ring");
    for frame in [64, 512, 1_514] {
        for burst in [1, 32, 64, 256] {
            let (frame_text, burst_text) = (frame.to_string(), burst.to_string());
            let args = ["bus", "--frame", &frame_text, "--burst", &burst_text];
            // A burst of one is a wake-up for every frame: a system call, which the plain ring does
            // not make.
            let target = match (frame, burst) {
                // 20 M frames/s where the ring does 100 M.
                (64, 64) => Some(0.2),
                (1_514, 32..) => Some(0.7),
                _ => None,
            };
            table.row(
                &format!("{frame} bytes, bursts of {burst}"),
                Criterion::Ratio(target),
                &mut || rate(&bench(&lab, time, &args)),
                &mut || plain_ring::rate(&lab.path("plain"), frame, burst, time),
            );
        }
    }
    table.alone(
        "64 bytes, bursts of 64, by itself",
        "million frames/s",
        Some(Target::AtLeast(20.0)),
        &mut || rate(&bench(&lab, time, &["bus", "--frame", "64", "--burst", "64"])),
    );
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
