//! Round-trip times, and what a ping says of them in the end.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A day: longer than any reply is waited for.
const LONGEST_NANOS: u64 = 24 * 3600 * 1_000_000_000;

/// What became of the requests.
#[derive(Debug)]
pub struct Statistics {
    sent: u64,
    duplicates: u64,
    min: Duration,
    max: Duration,
    sum: Duration,
    /// The sum of the squares of nanoseconds.
    squares: f64,
    /// The most requests that were on their way when one of them was answered.
    pipe: u64,
    /// Of the latest replies, each with an eighth of the weight.
    moving_average: Duration,
    /// Nanoseconds, to a thousandth: a ping that runs for days takes no more memory than one of seconds.
    histogram: Histogram<u64>,
}

/// The keys of `ping --json`. Times are in microseconds; there are none without a reply.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Report {
    pub sent: u64,
    pub received: u64,
    /// The share that was not answered: 0 to 1.
    pub loss: f64,
    pub rtt_min_us: Option<f64>,
    pub rtt_avg_us: Option<f64>,
    pub rtt_p50_us: Option<f64>,
    pub rtt_max_us: Option<f64>,
    pub duplicates: u64,
}

impl Statistics {
    pub fn new() -> Self {
        Self {
            sent: 0,
            duplicates: 0,
            min: Duration::MAX,
            max: Duration::ZERO,
            sum: Duration::ZERO,
            squares: 0.0,
            pipe: 0,
            moving_average: Duration::ZERO,
            histogram: Histogram::new_with_max(LONGEST_NANOS, 3).expect("the bounds are valid"),
        }
    }

    pub fn count_sent(&mut self) {
        self.sent += 1;
    }

    pub fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Counts a reply to a request after which `later` others were sent.
    pub fn count_reply(&mut self, rtt: Duration, later: u64) {
        self.moving_average = if self.received() == 0 { rtt } else { self.moving_average * 7 / 8 + rtt / 8 };
        self.pipe = self.pipe.max(later + 1);
        self.min = self.min.min(rtt);
        self.max = self.max.max(rtt);
        self.sum = self.sum.saturating_add(rtt);
        let nanos = rtt.as_secs_f64() * 1e9;
        self.squares += nanos * nanos;
        self.histogram.saturating_record(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn received(&self) -> u64 {
        self.histogram.len()
    }

    /// The share of requests without a reply.
    #[expect(clippy::cast_precision_loss, reason = "a share of 2^53 pings is not told more precisely")]
    fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.sent.saturating_sub(self.received()) as f64 / self.sent as f64 }
    }

    /// Of no replies, it is nothing.
    fn average(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(self.received().into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What `ping --json` prints.
    pub fn report(&self) -> Report {
        let known = self.received() > 0;
        let micros = |time: Duration| known.then(|| micros(time));
        // The histogram rounds, and is not to contradict what is known exactly.
        let median = Duration::from_nanos(self.histogram.value_at_quantile(0.5)).max(self.min).min(self.max);
        Report {
            sent: self.sent,
            received: self.received(),
            loss: self.loss(),
            rtt_min_us: micros(self.min),
            rtt_avg_us: micros(self.average()),
            rtt_p50_us: micros(median),
            rtt_max_us: micros(self.max),
            duplicates: self.duplicates,
        }
    }

    /// The last lines of `ping`, in the form of ping(8).
    pub fn summary(&self, total: Duration) -> Summary<'_> {
        Summary { statistics: self, total, flood: false }
    }

    /// The same of a flood: with the time between requests, and the moving average.
    pub fn flood_summary(&self, total: Duration) -> Summary<'_> {
        Summary { flood: true, ..self.summary(total) }
    }
}

/// To the nanosecond, which is what the clock counts.
#[expect(clippy::cast_precision_loss, reason = "it begins to matter after a hundred days")]
fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// See [`Statistics::summary`].
pub struct Summary<'s> {
    statistics: &'s Statistics,
    total: Duration,
    flood: bool,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.statistics;
        write!(f, "{} packets transmitted, {} received, ", statistics.sent, statistics.received())?;
        if statistics.duplicates > 0 {
            write!(f, "+{} duplicates, ", statistics.duplicates)?;
        }
        // As ping has it: up to six digits, without zeros that say nothing.
        let percent = (statistics.loss() * 1e6).round() / 1e4;
        write!(f, "{percent}% packet loss, time {}ms", self.total.as_millis())?;
        if statistics.received() > 0 {
            let times = [statistics.min, statistics.average(), statistics.max];
            let [min, average, max] = times.map(|time| time.as_secs_f64() * 1e3);
            #[expect(clippy::cast_precision_loss, reason = "as for the share")]
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
    fn the_last_lines_are_those_of_ping() {
        let mut statistics = Statistics::new();
        for millis in [1, 2, 3] {
            statistics.count_sent();
            statistics.count_reply(Duration::from_millis(millis), 0);
        }
        assert_eq!(
            statistics.summary(Duration::from_millis(2003)).to_string(),
            "3 packets transmitted, 3 received, 0% packet loss, time 2003ms\n\
             rtt min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms"
        );
        // 7/8 of 7/8 of 1, and so on.
        let text = statistics.flood_summary(Duration::from_millis(4)).to_string();
        assert!(text.ends_with("/0.816 ms, ipg/ewma 2.000/1.359 ms"), "{text}");
        statistics.count_reply(Duration::from_millis(2), 2);
        let text = statistics.summary(Duration::ZERO).to_string();
        assert!(text.ends_with(" ms, pipe 3"), "{text}");

        let mut statistics = Statistics::new();
        (0..6).for_each(|_| statistics.count_sent());
        (0..3).for_each(|_| statistics.count_reply(Duration::ZERO, 0));
        statistics.count_duplicate();
        let text = statistics.summary(Duration::ZERO).to_string();
        assert!(
            text.starts_with("6 packets transmitted, 3 received, +1 duplicates, 50% packet loss"),
            "{text}"
        );
        statistics.count_sent();
        assert!(statistics.summary(Duration::ZERO).to_string().contains(" 57.1429% packet loss"));
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
            statistics.count_reply(Duration::from_nanos(nanos), 0);
        }
        let report = statistics.report();
        assert_eq!(report.rtt_min_us, Some(99.001));
        assert_eq!(report.rtt_max_us, Some(5000.777));
        let median = report.rtt_p50_us.unwrap();
        assert!((100.0..100.3).contains(&median), "{median}");
        assert_eq!(report.rtt_avg_us, Some(1325.475));
    }
}
