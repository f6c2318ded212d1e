//! Two hosts of ours, of which one sends to the other over TCP, or pings it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::{Lab, Process, WAIT_TIMEOUT};

use crate::ours::figure;

/// The host that receives and answers, and the one that sends and pings.
const TO: &str = "10.0.0.1";
const TO_NETWORK: &str = "10.0.0.1/16";
const FROM_NETWORK: &str = "10.0.0.2/16";

/// The pause between two pings: long compared with the time that hosts poll before they sleep.
pub(super) const PING_INTERVAL: Duration = Duration::from_millis(5);

/// Returns how many pings are sent in `time`.
pub(super) fn pings(time: Duration) -> u128 {
    (time.as_nanos() / PING_INTERVAL.as_nanos()).max(1)
}

/// Returns the Gbit/s of TCP between two hosts in `time`. `nics` are what they are on: a bus, or a
/// memif interface each.
pub(super) fn tcp(lab: &Lab, [to, from]: [&str; 2], time: Duration) -> f64 {
    let sink = lab.ready(["host", to, TO_NETWORK, "--tcp-sink", "5001"]);
    // More than can be sent: a signal ends it.
    let words = ["--tcp-source", &format!("{TO}:5001"), "1000G", "--json"];
    let source = lab.ready(["host", from, FROM_NETWORK].into_iter().chain(words));
    std::thread::sleep(time);
    let sent = stop(source);
    stop(sink);
    // The first object says that it is ready. Before a byte is sent there is no other.
    let mut reports = sent.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = reports.find(|report| report.get("ready").is_none());
    report.map_or(0.0, |report| figure(&report, "bits_per_second") / 1e9)
}

/// Returns the median round trip, in microseconds, of pings between two hosts that fall asleep
/// before each.
pub(super) fn ping(lab: &Lab, [to, from]: [&str; 2], time: Duration) -> f64 {
    let host = lab.ready(["host", to, TO_NETWORK]);
    let (interval, count) = (PING_INTERVAL.as_secs_f64().to_string(), pings(time).to_string());
    let words = ["--from", FROM_NETWORK, "-i", &interval, "-c", &count, "--json"];
    let report = lab.run(["ping", from, TO].into_iter().chain(words)).json();
    stop(host);
    figure(&report, "rtt_p50_us")
}

/// Ends a host in good order, and returns what it has printed.
fn stop(host: Process) -> String {
    host.signal(Signal::SIGTERM);
    host.finish(WAIT_TIMEOUT).stdout
}
