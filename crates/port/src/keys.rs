//! `key=value` pairs with commas between, as every kind of port is written.

use std::collections::HashMap;

use shmbus::MacAddr6;

use crate::parse::ParsePortError;
use crate::suggest;

/// The pairs of one port, by key.
#[derive(Debug)]
pub(super) struct Keys<'t>(HashMap<&'t str, &'t str>);

impl<'t> Keys<'t> {
    /// Reads what follows the colon of a port of `kind`, which has the keys `known`.
    pub(super) fn parse(kind: &'static str, known: &[&str], text: &'t str) -> Result<Self, ParsePortError> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| pair.split_once('=').ok_or_else(|| ParsePortError::NoValue(pair.to_owned())))
            .collect::<Result<_, _>>()?;
        Self::new(kind, known, pairs)
    }

    /// The same of pairs that are apart already.
    pub(super) fn new(
        kind: &'static str,
        known: &[&str],
        pairs: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, ParsePortError> {
        let mut keys = HashMap::new();
        for (key, value) in pairs {
            if !known.contains(&key) {
                let hint = suggest::hint(key, known);
                return Err(ParsePortError::Key { kind, key: key.to_owned(), hint });
            }
            if keys.insert(key, value).is_some() {
                return Err(ParsePortError::Twice(key.to_owned()));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t str> {
        self.0.get(key).copied()
    }

    /// One of several words; the first is the default.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, ParsePortError> {
        let Some(word) = self.get(key) else { return Ok(words[0].1) };
        words.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            refused(key, word, &format!("it is one of {}{}", known.join(", "), suggest::hint(word, known)))
        })
    }

    /// A key that can have one value here, and why.
    pub(super) fn only(&self, key: &str, word: &str, why: &str) -> Result<(), ParsePortError> {
        match self.get(key) {
            Some(other) if other != word => {
                Err(refused(key, other, &format!("only '{word}' is possible: {why}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn number<T>(
        &self,
        key: &str,
        default: T,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<T, ParsePortError>
    where
        T: TryFrom<u64>,
    {
        let Some(text) = self.get(key) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                refused(key, text, &format!("it is a number from {} to {}", range.start(), range.end()))
            })
    }

    /// `learn=on`, which every kind of port has: whether its peer gets only what it needs.
    pub(super) fn learn(&self) -> Result<bool, ParsePortError> {
        self.choice("learn", &[("off", false), ("on", true)])
    }

    /// A station's address.
    pub(super) fn mac(&self, key: &str) -> Result<Option<MacAddr6>, ParsePortError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let mac: MacAddr6 = text.parse().map_err(|error| refused(key, text, &error))?;
        if mac.is_multicast() || mac.is_nil() {
            return Err(refused(key, text, &"it is no station's address: make the first byte 02"));
        }
        Ok(Some(mac))
    }
}

/// A value that its key cannot have.
pub(super) fn refused(key: &str, value: &str, problem: &impl ToString) -> ParsePortError {
    ParsePortError::Value { key: key.to_owned(), value: value.to_owned(), problem: problem.to_string() }
}
