//! Round trips of single frames, beside what the system needs at least: two threads that wake each other by eventfds, or that
//! look at a cache line.

use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::contest::{Judge, Sheet, Target};
use crate::core::{line_round_trip, pin};
use crate::ours::{self, bench, figure};

/// Asleep and awake.
pub(crate) fn beside_eventfds(sheet: &mut Sheet<'_>) {
    let (lab, time) = (ours::lab(), sheet.time());
    let trip = |args: &[&str]| figure(&bench(&lab, time, args), "rtt_p50_us");
    let asleep = |subject| trip(&[subject, "--latency", "--rx-mode", "interrupt"]);
    let awake = |subject| trip(&[subject, "--latency"]);

    sheet.heading("round trip, both ends asleep", "µs, medians in each round", "eventfds");
    sheet.row("bus", Judge::Excess(Some(5.0)), &mut || asleep("bus"), &mut || eventfds(time));
    sheet.row("memif", Judge::Excess(None), &mut || asleep("memif"), &mut || eventfds(time));

    sheet.heading("round trip, both ends polling", "µs, medians in each round", "cache line");
    let mut line = || line_round_trip() / 1e3;
    sheet.row("bus", Judge::Excess(None), &mut || awake("bus"), &mut line);
    sheet.row("memif", Judge::Excess(None), &mut || awake("memif"), &mut line);

    sheet.heading("memif, node, bus, node, memif", "µs, median in each round", "-");
    // Two a tenth of a second: whoever can sleep does so in between.
    let idle = ["adapter", "--latency", "--rx-mode", "interrupt", "--pps", "100"];
    sheet.alone("a single frame, one way, all asleep", "µs", Some(Target::AtMost(60.0)), &mut || {
        figure(&bench(&lab, time.max(Duration::from_secs(1)), &idle), "oneway_p50_us")
    });
    let waiting = ["adapter", "--latency", "--pps", "100"];
    sheet.alone("the same, receiver polling", "µs", Some(Target::AtMost(60.0)), &mut || {
        figure(&bench(&lab, time.max(Duration::from_secs(1)), &waiting), "oneway_p50_us")
    });
}

/// The median round trip in microseconds of two threads on two processors that wake each other by writing eventfds.
fn eventfds(time: Duration) -> f64 {
    let make = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).expect("an eventfd");
    let (there, back) = (make(), make());
    let (there, back) = (&there, &back);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            // More than one in the counter: it is over.
            while there.read().expect("an eventfd") == 1 {
                back.write(1).expect("an eventfd");
            }
        });
        let asking = scope.spawn(move || {
            pin(0);
            let mut trips = Vec::new();
            let begin = Instant::now();
            while begin.elapsed() < time {
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
