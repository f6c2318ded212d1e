//! Our figures, as `busctl bench` reports them.

use std::time::Duration;

use serde_json::Value;
use system_tests::Lab;

use crate::interrupt;

/// Opens a lab around the program that cargo built for this benchmark. A signal removes it.
pub(crate) fn lab() -> Lab {
    let lab = system_tests::lab!();
    interrupt::remove_on_signal(lab.path(""));
    lab
}

/// Runs `busctl bench` with these arguments for `time`, and returns its report.
pub(crate) fn bench(lab: &Lab, time: Duration, args: &[&str]) -> Value {
    lab.run(bench_args(time, args)).json()
}

/// Returns the whole command line of `busctl bench`.
pub(crate) fn bench_args(time: Duration, args: &[&str]) -> Vec<String> {
    let mut words = vec!["bench".to_owned()];
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    words.extend(["--json".to_owned(), "--seconds".to_owned(), time.as_secs_f64().to_string()]);
    words
}

/// Returns a figure of a report.
pub(crate) fn figure(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Returns the million frames a second that were received or, in the report of a sender alone,
/// sent.
pub(crate) fn rate(report: &Value) -> f64 {
    let key = if report["rx_pps"].is_null() { "tx_pps" } else { "rx_pps" };
    figure(report, key) / 1e6
}
