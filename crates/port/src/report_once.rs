//! Reporting trouble once, although it lasts or comes again.

use std::error::Error;

/// After this many distinct reports further ones are suppressed, so that a peer cannot flood the log.
const MAX_REPORTS: usize = 16;

/// The reports that were made since the trouble was last over.
#[derive(Debug, Default)]
pub struct ReportOnce(Vec<String>);

impl ReportOnce {
    /// Returns whether `text` is to be reported: it is unlike all that was reported before, and there were at most 16 of
    /// these. Texts that differ in their numbers only are alike: how long a lock was waited for is another number every time.
    pub fn is_new(&mut self, text: &str) -> bool {
        let is_known = self.0.iter().any(|reported| is_alike(reported, text));
        if is_known || self.0.len() > MAX_REPORTS {
            return false;
        }
        self.0.push(text.to_owned());
        true
    }

    /// Forgets everything: the trouble is over, and reported again when it comes back.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Reports why the connection of the port `name` ended or was turned away, each reason once until the next
    /// [`clear`](Self::clear).
    pub(crate) fn report(&mut self, name: &str, reason: &dyn Error, report: &mut dyn FnMut(String)) {
        let mut text = reason.to_string();
        // Some errors name their cause in their own words.
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
            report(format!("{name}: further reasons are logged with -vv only, until a peer has connected"));
        }
    }
}

/// Returns whether two texts are the same but for their numbers.
fn is_alike(one: &str, other: &str) -> bool {
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty())
    }
    words(one).eq(words(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_reported_once_and_not_endlessly_many() {
        let mut once = ReportOnce::default();
        let mut lines = Vec::new();
        let mut hear = |once: &mut ReportOnce, what: String| {
            let before = lines.len();
            once.report("memif0/0", &std::io::Error::other(what), &mut |line| lines.push(line));
            lines.len() - before
        };
        assert_eq!(hear(&mut once, "no".to_owned()), 1);
        assert_eq!(hear(&mut once, "no".to_owned()), 0);
        once.clear();
        assert_eq!(hear(&mut once, "no".to_owned()), 1);
        let more: usize = (0..100).map(|number| hear(&mut once, format!("reason {number}"))).sum();
        assert_eq!(more, MAX_REPORTS + 1);
    }

    #[test]
    fn numbers_alone_make_no_new_report() {
        let mut once = ReportOnce::default();
        assert!(once.is_new("locked for 9 ms"));
        assert!(!once.is_new("locked for 2001 ms"));
        assert!(once.is_new("locked for 9 s"));
        assert!(once.is_new("locked"));
        once.clear();
        assert!(once.is_new("locked"));
    }
}
