//! Reports of lasting or repeated trouble, each made once.

use std::error::Error;
use std::time::{Duration, Instant};

/// After this many distinct reports further ones are suppressed, so that a peer cannot flood the
/// log.
const MAX_REPORTS: usize = 16;

/// Remembers which reports were made, so that each is made once.
#[derive(Debug, Default)]
pub struct ReportOnce {
    texts: Vec<String>,
    budget: LineBudget,
}

/// Limits the lines about one interface over time, however often its peer comes and goes: 32 at a time,
/// and one every 10 s after that.
#[derive(Debug)]
pub struct LineBudget {
    /// How many lines may be printed now.
    left: u32,
    /// When `left` last grew.
    refilled: Instant,
    /// Reports that were left out since the last line.
    left_out: u64,
}

/// The most lines at a time.
const MAX_LINES: u32 = 32;
/// After this time another line may be printed.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

impl Default for LineBudget {
    fn default() -> Self {
        Self { left: MAX_LINES, refilled: Instant::now(), left_out: 0 }
    }
}

impl LineBudget {
    /// Returns whether a line may be printed at `now`, and counts it.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.left < MAX_LINES && now.saturating_duration_since(self.refilled) >= LINE_INTERVAL
        {
            self.left += 1;
            self.refilled += LINE_INTERVAL;
        }
        if self.left == MAX_LINES {
            self.refilled = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.left_out += 1;
            return false;
        };
        self.left = left;
        true
    }
}

impl ReportOnce {
    /// Returns whether `text` should be reported, and remembers it.
    ///
    /// A text that differs from an earlier one in its numbers only is not reported again: the time
    /// that a lock was waited for, say, is another number every time. After 16 distinct texts none
    /// is reported until the next [`clear`](Self::clear).
    pub fn is_new(&mut self, text: &str) -> bool {
        let is_known = self.texts.iter().any(|reported| differs_in_numbers_only(reported, text));
        if is_known || self.texts.len() >= MAX_REPORTS {
            return false;
        }
        self.texts.push(text.to_owned());
        true
    }

    /// Forgets all reports. The trouble is over; if it returns, it is reported again.
    pub fn clear(&mut self) {
        self.texts.clear();
    }

    /// Reports why the connection of the port `name` ended or was rejected, each reason once until
    /// the next [`clear`](Self::clear). A peer that comes and goes clears often: after 32 lines there
    /// is at most one every 10 s.
    pub(crate) fn report(
        &mut self,
        name: &str,
        reason: &dyn Error,
        report: &mut dyn FnMut(String),
    ) {
        self.report_at(Instant::now(), name, reason, report);
    }

    fn report_at(
        &mut self,
        now: Instant,
        name: &str,
        reason: &dyn Error,
        report: &mut dyn FnMut(String),
    ) {
        let mut text = reason.to_string();
        // Some errors name their cause themselves.
        if let Some(cause) =
            reason.source().map(ToString::to_string).filter(|cause| !text.contains(cause.as_str()))
        {
            text = format!("{text}: {cause}");
        }
        let is_known = self.texts.contains(&text) || self.texts.len() > MAX_REPORTS;
        if is_known || !self.budget.take(now) {
            tracing::debug!(port = name, text, "not reported again");
            return;
        }
        let left_out = std::mem::take(&mut self.budget.left_out);
        let others = match left_out {
            0 => String::new(),
            count => format!(" (and {count} other reports that came too fast)"),
        };
        report(format!("{name}: {text}{others}"));
        self.texts.push(text);
        if self.texts.len() > MAX_REPORTS {
            report(format!(
                "{name}: further reasons are logged with -vv only, until a peer has connected"
            ));
        }
        if self.budget.left == 0 && left_out == 0 {
            let seconds = LINE_INTERVAL.as_secs();
            report(format!(
                "{name}: reports come too fast; one every {seconds} s is printed, the others with -vv only"
            ));
        }
    }
}

/// Returns whether two texts are equal except for their numbers.
fn differs_in_numbers_only(one: &str, other: &str) -> bool {
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty())
    }
    words(one).eq(words(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_reported_once_and_their_number_is_limited() {
        let mut once = ReportOnce::default();
        let mut lines = Vec::new();
        let mut report = |once: &mut ReportOnce, what: String| {
            let before = lines.len();
            once.report("memif0/0", &std::io::Error::other(what), &mut |line| lines.push(line));
            lines.len() - before
        };
        assert_eq!(report(&mut once, "no".to_owned()), 1);
        assert_eq!(report(&mut once, "no".to_owned()), 0);
        once.clear();
        assert_eq!(report(&mut once, "no".to_owned()), 1);
        let more: usize =
            (0..100).map(|number| report(&mut once, format!("reason {number}"))).sum();
        assert_eq!(more, MAX_REPORTS + 1);
    }

    /// The peer of an interface connects and goes, with another reason each time, a thousand times a
    /// second for a minute.
    #[test]
    fn lines_are_limited_over_time() {
        let mut once = ReportOnce::default();
        let mut lines = Vec::new();
        let start = Instant::now();
        for millis in 0..60_000u64 {
            once.clear();
            let reason = std::io::Error::other(format!("reason {millis}"));
            let now = start + Duration::from_millis(millis);
            once.report_at(now, "memif0/0", &reason, &mut |line| lines.push(line));
        }
        assert!((33..=33 + 6).contains(&lines.len()), "{}", lines.len());
        assert!(lines.iter().any(|line| line.contains("reports come too fast")), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.contains("other reports that came too fast")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_text_with_other_numbers_is_not_new() {
        let mut once = ReportOnce::default();
        assert!(once.is_new("locked for 9 ms"));
        assert!(!once.is_new("locked for 2001 ms"));
        assert!(once.is_new("locked for 9 s"));
        assert!(once.is_new("locked"));
        once.clear();
        assert!(once.is_new("locked"));
    }
}
