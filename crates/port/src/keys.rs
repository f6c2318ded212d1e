//! `key=value` pairs separated by commas: the syntax that all kinds of port share.

use std::collections::HashMap;

use shmbus::MacAddr6;

use crate::error::ParsePortError;
use crate::suggest;

/// The pairs of one port, by key.
#[derive(Debug)]
pub(super) struct Keys<'t>(HashMap<&'t str, &'t str>);

impl<'t> Keys<'t> {
    /// Parses what follows the colon of a port of `kind`, which has the keys `known`.
    pub(super) fn parse(
        kind: &'static str,
        known: &[&str],
        text: &'t str,
    ) -> Result<Self, ParsePortError> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| {
                pair.split_once('=').ok_or_else(|| ParsePortError::NoValue(pair.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Self::new(kind, known, pairs)
    }

    /// Takes pairs that are split already.
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

    /// Returns the value of a key, if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&'t str> {
        self.0.get(key).copied()
    }

    /// Returns the choice of one of several words. The first is the default.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<T, ParsePortError> {
        let Some(word) = self.get(key) else { return Ok(words[0].1) };
        words.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            refused(
                key,
                word,
                &format!("it is one of {}{}", known.join(", "), suggest::hint(word, known)),
            )
        })
    }

    /// Checks a key that takes only one value; `why` says for what reason.
    pub(super) fn only(&self, key: &str, word: &str, why: &str) -> Result<(), ParsePortError> {
        match self.get(key) {
            Some(other) if other != word => {
                Err(refused(key, other, &format!("only '{word}' is possible: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns the value of a key as a number within `range`.
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
                refused(
                    key,
                    text,
                    &format!("it is a number from {} to {}", range.start(), range.end()),
                )
            })
    }

    /// Returns the value of `learn`, which every kind of port has: whether its peer receives only
    /// what it needs.
    pub(super) fn learn(&self) -> Result<bool, ParsePortError> {
        self.choice("learn", &[("off", false), ("on", true)])
    }

    /// Returns the value of a key as the address of a station.
    pub(super) fn mac(&self, key: &str) -> Result<Option<MacAddr6>, ParsePortError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let mac: MacAddr6 = text.parse().map_err(|error| refused(key, text, &error))?;
        if mac.is_multicast() || mac.is_nil() {
            return Err(refused(key, text, &"it is no station's address: make the first byte 02"));
        }
        Ok(Some(mac))
    }
}

/// Makes the error of a key that does not take a value.
pub(super) fn refused(key: &str, value: &str, problem: &impl ToString) -> ParsePortError {
    ParsePortError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        problem: problem.to_string(),
    }
}
