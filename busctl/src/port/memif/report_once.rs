//! What the user was told, so that it is told once.

use std::error::Error;

/// How many different reasons are told before it is enough.
const MAX_REASONS: usize = 16;

/// The reasons that were told since a connection was last up.
#[derive(Default)]
pub(super) struct ReportOnce(Vec<String>);

impl ReportOnce {
    /// What to tell of `reason`: each new one once. It is told again only after a connection was up in between. Whoever
    /// makes up ever new ones is not listened to for long.
    pub(super) fn once(&mut self, name: &str, reason: &dyn Error, tell: &mut dyn FnMut(String)) {
        let mut text = reason.to_string();
        // Some name their cause in their own words.
        if let Some(cause) =
            reason.source().map(ToString::to_string).filter(|cause| !text.contains(cause.as_str()))
        {
            text = format!("{text}: {cause}");
        }
        if self.0.contains(&text) || self.0.len() > MAX_REASONS {
            tracing::debug!(port = name, text, "not told again");
            return;
        }
        tell(format!("{name}: {text}"));
        self.0.push(text);
        if self.0.len() > MAX_REASONS {
            tell(format!("{name}: further reasons are told by -vv only, until somebody has connected"));
        }
    }

    /// A connection is up: everything is worth telling again.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_and_not_endlessly_many() {
        let mut told = ReportOnce::default();
        let mut lines = Vec::new();
        let mut hear = |told: &mut ReportOnce, what: String| {
            let before = lines.len();
            told.once("memif0/0", &std::io::Error::other(what), &mut |line| lines.push(line));
            lines.len() - before
        };
        assert_eq!(hear(&mut told, "no".to_owned()), 1);
        assert_eq!(hear(&mut told, "no".to_owned()), 0);
        told.clear();
        assert_eq!(hear(&mut told, "no".to_owned()), 1);
        let more: usize = (0..100).map(|number| hear(&mut told, format!("reason {number}"))).sum();
        assert_eq!(more, MAX_REASONS + 1);
    }
}
