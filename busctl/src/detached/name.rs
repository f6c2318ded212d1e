//! The names of detached processes.

use std::fmt;
use std::str::FromStr;

/// The longest name in bytes.
const MAX_LEN: usize = 64;
/// How much of a name that is longer remains, with room for a number behind it.
const CUT_LEN: usize = 53;

/// The name of a detached process, which is also the stem of its files: up to 64 letters, digits,
/// `.`, `_` and `-`, the first no `.` and no `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DetachedName(String);

impl DetachedName {
    /// Makes a name from a verb and what it works on. Characters that a name may not have become
    /// `-`.
    pub(super) fn derived(verb: &str, subject: Option<&str>) -> Self {
        let mut text = verb.to_owned();
        for part in subject.iter().flat_map(|subject| subject.split(|c| !is_allowed(c))) {
            if !part.is_empty() {
                text.push('-');
                text.push_str(part);
            }
        }
        // All of it is ASCII.
        text.truncate(CUT_LEN);
        Self(text)
    }

    /// Returns the name with a number behind it, for the case that it is taken.
    pub(super) fn numbered(&self, number: u32) -> Self {
        Self(format!("{}-{number}", self.0))
    }

    /// Returns the name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl fmt::Display for DetachedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for DetachedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = !text.is_empty()
            && text.len() <= MAX_LEN
            && text.chars().all(is_allowed)
            && !text.starts_with(['.', '-']);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a name has up to {MAX_LEN} letters, digits, '.', '_' and '-', and begins with no '.' or '-'"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_stem_of_a_file() {
        for text in ["web", "host-lan-2", "_x", "1.2"] {
            assert_eq!(text.parse::<DetachedName>().map(|name| name.to_string()), Ok(text.into()));
        }
        let long = "x".repeat(MAX_LEN + 1);
        for text in ["", ".", "..", "-a", ".a", "a/b", "a b", "ä", "a\n", long.as_str()] {
            assert!(text.parse::<DetachedName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn derived_names_are_names() {
        for subject in ["lan", "memif0/1", "a  b", "äöü", "..", &"long".repeat(100)] {
            let derived = DetachedName::derived("attach", Some(subject));
            for name in [derived.numbered(4_000_000_000), derived] {
                assert_eq!(name.as_str().parse(), Ok(name.clone()));
            }
        }
        assert_eq!(DetachedName::derived("attach", Some("a  b")).as_str(), "attach-a-b");
    }
}
