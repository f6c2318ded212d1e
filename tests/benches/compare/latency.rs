//! Round trips of single frames, compared with the least the system needs: two threads that wake
//! each other by eventfds, or that poll a cache line.

use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::comparison::{Criterion, Table, Target};
use crate::cpu::{line_round_trip, pin};
use crate::ours::{self, bench, figure};

/// Compares round trips with both ends asleep, with both ends polling, and through nodes.
pub(crate) fn beside_eventfds(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    let trip = |args: &[&str]| figure(&bench(&lab, time, args), "rtt_p50_us");
    // Without a rest, the answering end may find the next frame before it falls asleep.
    let asleep = |subject| trip(&[subject, "--latency", "--rx-mode", "interrupt", "--pps", "1000"]);
    let awake = |subject| trip(&[subject, "--latency"]);

    table.heading(
        "round trip, both ends asleep, after 1 ms of rest",
        "µs, medians in each round",
        "eventfds",
    );
    let mut two_wakes = || eventfds(time, Duration::from_millis(1));
    table.row("bus", Criterion::Excess(Some(5.0)), &mut || asleep("bus"), &mut two_wakes);
    table.row("memif", Criterion::Excess(None), &mut || asleep("memif"), &mut two_wakes);

    table.heading("round trip, both ends polling", "µs, medians in each round", "cache line");
    let mut line = || line_round_trip() / 1e3;
    table.row("bus", Criterion::Excess(None), &mut || awake("bus"), &mut line);
    table.row("memif", Criterion::Excess(None), &mut || awake("memif"), &mut line);

    // After a pause all threads sleep, and the processor may, too. Two wake-ups by eventfds show
    // what that costs.
    table.heading(
        "memif, node, bus, node, memif, one way, after 1 ms of rest",
        "µs, medians",
        "eventfds, 2 wakes",
    );
    let after_rest = |mode| {
        let args = ["adapter", "--latency", "--rx-mode", mode, "--pps", "1000"];
        figure(&bench(&lab, time, &args), "oneway_p50_us")
    };
    table.row(
        "all asleep",
        Criterion::Excess(None),
        &mut || after_rest("interrupt"),
        &mut two_wakes,
    );
    table.row(
        "receiver polling",
        Criterion::Excess(None),
        &mut || after_rest("polling"),
        &mut two_wakes,
    );
    for (what, mode) in
        [("all asleep, by itself", "interrupt"), ("receiver polling, by itself", "polling")]
    {
        table.alone(what, "µs", Some(Target::AtMost(60.0)), &mut || after_rest(mode));
    }
}

/// Returns the median round trip in microseconds of two threads on two processors that wake each
/// other by writing eventfds, with a rest before each trip.
fn eventfds(time: Duration, rest: Duration) -> f64 {
    let make = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).expect("an eventfd");
    let (there, back) = (make(), make());
    let (there, back) = (&there, &back);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            // A counter above one ends the thread.
            while there.read().expect("an eventfd") == 1 {
                back.write(1).expect("an eventfd");
            }
        });
        let asking = scope.spawn(move || {
            pin(0);
            let mut trips = Vec::new();
            let begin = Instant::now();
            while begin.elapsed() < time {
                std::thread::sleep(rest);
                let sent = Instant::now();
                there.write(1).expect("an eventfd");
                back.read().expect("an eventfd");
                trips.push(sent.elapsed());
            }
            there.write(2).expect("an eventfd");
            trips.sort();
            trips[trips.len() / 2].as_secs_f64() * 1e6
        });
        asking.join().expect("a thread that only counts")
    })
}
