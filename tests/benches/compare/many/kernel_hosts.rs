//! Two network namespaces: the kernel's TCP and `ping`(8) between them.

use std::time::Duration;

use system_tests::namespace::Namespace;
use system_tests::{Lab, WAIT_TIMEOUT, ping_output, wait};

use super::hosts::{PING_INTERVAL, pings};
use crate::comparison::Spread;

/// The addresses of the two, for their interfaces.
const TO: &str = "10.0.0.1";
pub(super) const TO_NETWORKS: [&str; 2] = ["10.0.0.1/16", "fd00::1/64"];
pub(super) const FROM_NETWORKS: [&str; 2] = ["10.0.0.2/16", "fd00::2/64"];

/// A host in each of two namespaces, whose interfaces have the addresses above.
pub(super) struct KernelHosts<'l> {
    lab: &'l Lab,
    to: Namespace<'l>,
    from: Namespace<'l>,
}

impl<'l> KernelHosts<'l> {
    /// Waits until one reaches the other.
    pub(super) fn new(lab: &'l Lab, to: Namespace<'l>, from: Namespace<'l>) -> Self {
        let reached = || {
            let ping = from.spawn("ping", ["-c", "1", "-W", "1", TO]).finish(WAIT_TIMEOUT);
            ping.status.success()
        };
        wait::until("a ping gets through", WAIT_TIMEOUT, reached);
        Self { lab, to, from }
    }

    /// Returns the Gbit/s of TCP in `time`.
    pub(super) fn tcp(&self, time: Duration) -> f64 {
        let program = self.lab.reach(env!("CARGO_BIN_EXE_tcp-rate").as_ref());
        let address = format!("{TO}:5001");
        let receiver = self.to.spawn(&program, ["receive", &address]);
        receiver.wait_for_line("listening");
        let seconds = time.as_secs_f64().to_string();
        let sender = self.from.spawn(&program, ["send", &address, &seconds]);
        sender.finish(WAIT_TIMEOUT).succeeds();
        let finished = receiver.finish(WAIT_TIMEOUT);
        let rate = finished.succeeds().lines().last().and_then(|rate| rate.parse::<f64>().ok());
        rate.expect("the receiver prints a rate") / 1e9
    }

    /// Returns the median round trip in microseconds, with a rest before each.
    pub(super) fn ping(&self, time: Duration) -> f64 {
        let (interval, count) = (PING_INTERVAL.as_secs_f64().to_string(), pings(time).to_string());
        let ping = self.from.spawn("ping", ["-i", &interval, "-c", &count, "-W", "1", TO]);
        let trips = ping_output::round_trips(ping.finish(WAIT_TIMEOUT).succeeds());
        Spread::of(&trips).median
    }
}
