//! What the traffic of others costs an idle host.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use system_tests::{Lab, Process, WAIT_TIMEOUT, proc_files};

use super::crowd::{Crowd, Form};
use crate::comparison::{Criterion, Table};
use crate::ours;

/// The address of the station that the traffic is for.
const OTHER: &str = "02:00:00:00:00:99";
/// The rate of the traffic, in frames/s: low enough that a bystander can be woken for each burst.
const RATE: f64 = 1e6;
/// How long an idle host may take to come to rest after traffic.
const REST: Duration = Duration::from_millis(300);
/// Figures are for so many frames.
const FRAMES: f64 = 1e6;

/// What a process used.
struct Used {
    milliseconds: f64,
    switches: f64,
}

/// Measures an idle host while others send unicast frames to each other, and for the same time
/// without traffic: an idle host looks around ten times a second by itself.
pub(super) fn of_a_bystander(table: &mut Table<'_>, sizes: &[usize]) {
    let lab = ours::lab();
    table.heading(
        "an idle host, per 1 M unicast frames between others",
        "its processor time in ms; its voluntary switches",
        "no traffic",
    );
    rows(table, &lab, Form::Processes, 1);
    if let Some(most) = sizes.iter().copied().filter(|size| (1..=64).contains(size)).max() {
        rows(table, &lab, Form::OneProcess, most);
    }
}

fn rows(table: &mut Table<'_>, lab: &Lab, form: Form, count: usize) {
    let bus = lab.arg(&format!("{form:?}-{count}.bus"));
    let crowd = Crowd::on_bus(lab, &bus, form, count);
    let bystander = crowd.ids().next().expect("the crowd is not empty");
    let _receiver = station(lab, &["receive", &bus, OTHER]);
    let time = table.time();
    let frames = (time.as_secs_f64() * RATE).ceil();
    // Both figures are of one measurement: the second row prints what the first has seen.
    let switches = [(); 2].map(|()| RefCell::new(VecDeque::new()));
    let milliseconds = |side: usize, seen: Used| {
        switches[side].borrow_mut().push_back(seen.switches);
        seen.milliseconds
    };
    let seen = |side: usize| switches[side].borrow_mut().pop_front().expect("one for each round");
    let busy = Cell::new(time);
    let what = match form {
        Form::Processes => "a host".to_owned(),
        Form::OneProcess => form.describe(count),
    };
    table.row(
        &format!("processor, {what}"),
        Criterion::Excess(Some(1.0)),
        &mut || {
            let (used, took) = used(bystander, frames, || send(lab, &bus, frames));
            busy.set(took);
            milliseconds(0, used)
        },
        &mut || {
            let quiet = || {
                std::thread::sleep(busy.get());
                busy.get()
            };
            milliseconds(1, used(bystander, frames, quiet).0)
        },
    );
    // A look more or less at either end of the time is not the traffic's.
    table.row(
        &format!("switches, {what}"),
        Criterion::Excess(Some(5.0)),
        &mut || seen(0),
        &mut || seen(1),
    );
}

/// Returns what a process uses during `measure`, per [`FRAMES`] of `frames`, and what `measure`
/// returns.
fn used<T>(pid: u32, frames: f64, measure: impl FnOnce() -> T) -> (Used, T) {
    std::thread::sleep(REST);
    let before = (proc_files::cpu_time(pid), proc_files::voluntary_switches(pid));
    let measured = measure();
    let after = (proc_files::cpu_time(pid), proc_files::voluntary_switches(pid));
    let per_frames = |amount: f64| amount * FRAMES / frames;
    let used = Used {
        milliseconds: per_frames(after.0.saturating_sub(before.0).as_secs_f64() * 1e3),
        switches: per_frames(after.1.abs_diff(before.1) as f64),
    };
    (used, measured)
}

/// Sends the traffic, and returns how long that takes.
fn send(lab: &Lab, bus: &str, frames: f64) -> Duration {
    let (frames, rate) = (frames.to_string(), RATE.to_string());
    let finished =
        super::bus_station(lab, &["send", bus, OTHER, &frames, &rate]).finish(WAIT_TIMEOUT);
    let seconds = finished.succeeds().trim().parse().expect("it prints seconds");
    Duration::from_secs_f64(seconds)
}

fn station(lab: &Lab, words: &[&str]) -> Process {
    let station = super::bus_station(lab, words);
    station.wait_for_line("ready");
    station
}
