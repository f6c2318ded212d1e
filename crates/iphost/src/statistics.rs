//! The statistics of a ping: requests, replies and round-trip times.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time in the histogram, a day. No caller waits longer for a reply.
const MAX_NANOS: u64 = 24 * 3600 * 1_000_000_000;

/// The statistics of a ping.
///
/// [`report`](Self::report) returns figures, [`summary`](Self::summary) the closing lines of
/// `ping(8)`.
#[derive(Debug)]
pub struct Statistics {
    sent: u64,
    duplicates: u64,
    errors: u64,
    /// Replies with a wrong checksum, which do not count as received.
    bad_checksums: u64,
    /// Replies with other data than the request, which count as received.
    damaged: u64,
    min: Duration,
    max: Duration,
    sum: Duration,
    /// The sum of the squares of nanoseconds.
    squares: f64,
    /// The most requests in flight when one of them was answered.
    pipe: u64,
    /// The moving average of round-trip times: each reply has an eighth of the weight.
    moving_average: Duration,
    /// Round-trip times in nanoseconds, accurate to a thousandth. A ping that runs for days takes
    /// no more memory than one of seconds.
    histogram: Histogram<u64>,
}

/// The figures of a ping, with the keys of `ping --json`. Times are in microseconds, and `None`
/// when there was no reply.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Report {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that were answered.
    pub received: u64,
    /// The share of requests without a reply, from 0 to 1.
    pub loss: f64,
    /// The shortest round-trip time.
    pub rtt_min_us: Option<f64>,
    /// The average round-trip time.
    pub rtt_avg_us: Option<f64>,
    /// The median round-trip time, to a thousandth.
    pub rtt_p50_us: Option<f64>,
    /// The longest round-trip time.
    pub rtt_max_us: Option<f64>,
    /// Further replies to requests that were answered before.
    pub duplicates: u64,
    /// ICMP errors about requests.
    pub errors: u64,
    /// Replies with a wrong checksum. They are not counted as received.
    pub bad_checksums: u64,
    /// Replies whose data is not that of the request. They are counted as received.
    pub damaged: u64,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            duplicates: 0,
            errors: 0,
            bad_checksums: 0,
            damaged: 0,
            min: Duration::MAX,
            max: Duration::ZERO,
            sum: Duration::ZERO,
            squares: 0.0,
            pipe: 0,
            moving_average: Duration::ZERO,
            histogram: Histogram::new_with_max(MAX_NANOS, 3).expect("the bounds are valid"),
        }
    }

    /// Counts a request.
    pub(crate) fn count_sent(&mut self) {
        self.sent += 1;
    }

    /// Counts an ICMP error about a request.
    pub(crate) fn count_error(&mut self) {
        self.errors += 1;
    }

    /// Counts a reply with a wrong checksum.
    pub(crate) fn count_bad_checksum(&mut self) {
        self.bad_checksums += 1;
    }

    /// Counts a reply to a request that was answered before.
    pub(crate) fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Counts the reply to a request after which `later` others were sent. Its data may be
    /// `damaged`.
    pub(crate) fn count_reply(&mut self, rtt: Duration, later: u64, damaged: bool) {
        self.damaged += u64::from(damaged);
        self.moving_average =
            if self.received() == 0 { rtt } else { self.moving_average * 7 / 8 + rtt / 8 };
        self.pipe = self.pipe.max(later + 1);
        self.min = self.min.min(rtt);
        self.max = self.max.max(rtt);
        self.sum = self.sum.saturating_add(rtt);
        let nanos = rtt.as_secs_f64() * 1e9;
        self.squares += nanos * nanos;
        self.histogram.saturating_record(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns how many requests were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns how many requests were answered.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns how many requests were answered with what they had sent.
    #[must_use]
    pub fn received_undamaged(&self) -> u64 {
        self.received() - self.damaged
    }

    /// Returns the share of requests without a reply.
    fn loss(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            self.sent.saturating_sub(self.received()) as f64 / self.sent as f64
        }
    }

    /// Returns the average round-trip time, or 0 without a reply.
    fn average(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(self.received().into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the figures that `ping --json` prints.
    #[must_use]
    pub fn report(&self) -> Report {
        let known = self.received() > 0;
        let micros = |time: Duration| known.then(|| micros(time));
        // The histogram rounds, and must not contradict the exact minimum and maximum.
        let median =
            Duration::from_nanos(self.histogram.value_at_quantile(0.5)).max(self.min).min(self.max);
        Report {
            sent: self.sent,
            received: self.received(),
            loss: self.loss(),
            rtt_min_us: micros(self.min),
            rtt_avg_us: micros(self.average()),
            rtt_p50_us: micros(median),
            rtt_max_us: micros(self.max),
            duplicates: self.duplicates,
            errors: self.errors,
            bad_checksums: self.bad_checksums,
            damaged: self.damaged,
        }
    }

    /// Returns the closing lines of `ping(8)`, for a ping that took `total`.
    #[must_use]
    pub fn summary(&self, total: Duration) -> PingSummary<'_> {
        PingSummary { statistics: self, total, flood: false }
    }

    /// Returns the closing lines of a flood ping: those of [`summary`](Self::summary) with the
    /// average time between requests and the moving average of round-trip times.
    #[must_use]
    pub fn flood_summary(&self, total: Duration) -> PingSummary<'_> {
        PingSummary { statistics: self, total, flood: true }
    }
}

/// Returns a time in microseconds, to the nanosecond. The clock is not more precise.
fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// Displays the closing lines of `ping(8)`; see [`Statistics::summary`].
#[derive(Debug, Clone, Copy)]
pub struct PingSummary<'s> {
    statistics: &'s Statistics,
    total: Duration,
    flood: bool,
}

impl fmt::Display for PingSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.statistics;
        write!(f, "{} packets transmitted, {} received, ", statistics.sent, statistics.received())?;
        if statistics.duplicates > 0 {
            write!(f, "+{} duplicates, ", statistics.duplicates)?;
        }
        if statistics.bad_checksums > 0 {
            write!(f, "+{} corrupted, ", statistics.bad_checksums)?;
        }
        if statistics.errors > 0 {
            write!(f, "+{} errors, ", statistics.errors)?;
        }
        // Up to six digits without trailing zeros, as ping prints it.
        let percent = (statistics.loss() * 1e6).round() / 1e4;
        write!(f, "{percent}% packet loss, time {}ms", self.total.as_millis())?;
        if statistics.bad_checksums > 0 {
            write!(f, "\nreplies with a wrong checksum: {}", statistics.bad_checksums)?;
        }
        if statistics.received() > 0 {
            let times = [statistics.min, statistics.average(), statistics.max];
            let [min, average, max] = times.map(|time| time.as_secs_f64() * 1e3);
            let square = statistics.squares / statistics.received() as f64 / 1e12;
            let deviation = (square - average * average).max(0.0).sqrt();
            write!(f, "\nrtt min/avg/max/mdev = {min:.3}/{average:.3}/{max:.3}/{deviation:.3} ms")?;
            if statistics.pipe > 1 {
                write!(f, ", pipe {}", statistics.pipe)?;
            }
            if self.flood && statistics.sent > 1 {
                let gap = self.total.as_secs_f64() * 1e3 / (statistics.sent - 1) as f64;
                let moving = statistics.moving_average.as_secs_f64() * 1e3;
                write!(f, ", ipg/ewma {gap:.3}/{moving:.3} ms")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_ping() {
        let mut statistics = Statistics::new();
        for millis in [1, 2, 3] {
            statistics.count_sent();
            statistics.count_reply(Duration::from_millis(millis), 0, false);
        }
        assert_eq!(
            statistics.summary(Duration::from_millis(2003)).to_string(),
            "3 packets transmitted, 3 received, 0% packet loss, time 2003ms\n\
             rtt min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms"
        );
        // 7/8 of 7/8 of 1, and so on.
        let text = statistics.flood_summary(Duration::from_millis(4)).to_string();
        assert!(text.ends_with("/0.816 ms, ipg/ewma 2.000/1.359 ms"), "{text}");
        statistics.count_reply(Duration::from_millis(2), 2, false);
        let text = statistics.summary(Duration::ZERO).to_string();
        assert!(text.ends_with(" ms, pipe 3"), "{text}");

        let mut statistics = Statistics::new();
        (0..6).for_each(|_| statistics.count_sent());
        (0..3).for_each(|_| statistics.count_reply(Duration::ZERO, 0, false));
        statistics.count_duplicate();
        let text = statistics.summary(Duration::ZERO).to_string();
        assert!(
            text.starts_with("6 packets transmitted, 3 received, +1 duplicates, 50% packet loss"),
            "{text}"
        );
        statistics.count_sent();
        assert!(statistics.summary(Duration::ZERO).to_string().contains(" 57.1429% packet loss"));
        statistics.count_bad_checksum();
        (0..2).for_each(|_| statistics.count_error());
        let text = statistics.summary(Duration::ZERO).to_string();
        assert!(text.contains(" 3 received, +1 duplicates, +1 corrupted, +2 errors, "), "{text}");
        assert!(text.contains("\nreplies with a wrong checksum: 1\n"), "{text}");
    }

    #[test]
    fn without_a_reply_there_are_no_times() {
        let mut statistics = Statistics::new();
        statistics.count_sent();
        assert_eq!(
            statistics.summary(Duration::from_millis(7)).to_string(),
            "1 packets transmitted, 0 received, 100% packet loss, time 7ms"
        );
        let report = statistics.report();
        assert_eq!((report.sent, report.received, report.loss), (1, 0, 1.0));
        assert_eq!(
            (report.rtt_min_us, report.rtt_avg_us, report.rtt_p50_us, report.rtt_max_us),
            (None, None, None, None)
        );
    }

    #[test]
    fn the_report_is_in_microseconds_and_in_order() {
        let mut statistics = Statistics::new();
        for nanos in [100_123, 101_999, 99_001, 5_000_777] {
            statistics.count_sent();
            statistics.count_reply(Duration::from_nanos(nanos), 0, false);
        }
        let report = statistics.report();
        assert_eq!(report.rtt_min_us, Some(99.001));
        assert_eq!(report.rtt_max_us, Some(5000.777));
        let median = report.rtt_p50_us.unwrap();
        assert!((100.0..100.3).contains(&median), "{median}");
        assert_eq!(report.rtt_avg_us, Some(1325.475));
    }
}
