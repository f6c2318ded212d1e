//! Reports of lasting or repeated trouble, each made once.

use std::error::Error;

/// After this many distinct reports further ones are suppressed, so that a peer cannot flood the
/// log.
const MAX_REPORTS: usize = 16;

/// Remembers which reports were made, so that each is made once.
#[derive(Debug, Default)]
pub struct ReportOnce(Vec<String>);

impl ReportOnce {
    /// Returns whether `text` should be reported, and remembers it.
    ///
    /// A text that differs from an earlier one in its numbers only is not reported again: the time
    /// that a lock was waited for, say, is another number every time. After 16 distinct texts none
    /// is reported until the next [`clear`](Self::clear).
    pub fn is_new(&mut self, text: &str) -> bool {
        let is_known = self.0.iter().any(|reported| differs_in_numbers_only(reported, text));
        if is_known || self.0.len() >= MAX_REPORTS {
            return false;
        }
        self.0.push(text.to_owned());
        true
    }

    /// Forgets all reports. The trouble is over; if it returns, it is reported again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Reports why the connection of the port `name` ended or was rejected, each reason once until
    /// the next [`clear`](Self::clear).
    pub(crate) fn report(
        &mut self,
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
        if self.0.contains(&text) || self.0.len() > MAX_REPORTS {
            tracing::debug!(port = name, text, "not reported again");
            return;
        }
        report(format!("{name}: {text}"));
        self.0.push(text);
        if self.0.len() > MAX_REPORTS {
            report(format!(
                "{name}: further reasons are logged with -vv only, until a peer has connected"
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
