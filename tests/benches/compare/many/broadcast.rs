//! A broadcast to sleeping stations, each a process.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use system_tests::{Lab, WAIT_TIMEOUT};

use super::bus_station;
use crate::comparison::{Spread, Table};
use crate::ours;

/// About how long the sender rests before a broadcast.
const REST: Duration = Duration::from_millis(20);

/// Measures how long the send of a broadcast takes its sender, and how long it is until the last
/// station has it.
pub(super) fn to_sleepers(table: &mut Table<'_>, sizes: &[usize]) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading("a broadcast to sleeping stations, each a process", "µs", "-");
    let broadcasts = (time.as_nanos() / REST.as_nanos()).max(1);
    for size in sizes.iter().copied().filter(|size| *size > 0) {
        let bus = lab.arg(&format!("{size}.bus"));
        let later = RefCell::new(VecDeque::new());
        table.alone(&format!("the send, to {size}"), "µs", None, &mut || {
            let (send, last) = broadcast(&lab, &bus, size, broadcasts);
            later.borrow_mut().push_back(last);
            send
        });
        table.alone(&format!("until the last of {size} has it"), "µs", None, &mut || {
            later.borrow_mut().pop_front().expect("one for each round")
        });
    }
}

/// Returns the medians of both times, in microseconds.
fn broadcast(lab: &Lab, bus: &str, listeners: usize, count: u128) -> (f64, f64) {
    let listeners: Vec<_> = (0..listeners).map(|_| bus_station(lab, &["listen", bus])).collect();
    for listener in &listeners {
        listener.wait_for_line("ready");
    }
    let sender = bus_station(lab, &["broadcast", bus, &count.to_string()]).finish(WAIT_TIMEOUT);
    let sent = lines::<3>(sender.succeeds());
    let mut last = HashMap::new();
    for listener in listeners {
        for [number, heard] in lines::<2>(listener.finish(WAIT_TIMEOUT).succeeds()) {
            let last = last.entry(number).or_insert(heard);
            *last = heard.max(*last);
        }
    }
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let took: Vec<_> = sent.iter().map(|[.., took]| microseconds(*took)).collect();
    let until_last: Vec<_> = sent
        .iter()
        .filter_map(|[number, began, _]| {
            Some(microseconds(last.get(number)?.saturating_sub(*began)))
        })
        .collect();
    assert!(!until_last.is_empty(), "no station has heard a broadcast");
    (Spread::of(&took).median, Spread::of(&until_last).median)
}

/// Returns the lines that consist of `N` numbers.
fn lines<const N: usize>(text: &str) -> Vec<[u64; N]> {
    let numbers = |line: &str| -> Option<[u64; N]> {
        let numbers: Result<Vec<_>, _> = line.split_whitespace().map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    };
    text.lines().filter_map(numbers).collect()
}
