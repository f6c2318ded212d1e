//! Values of a file, with their templates computed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::Value;
use toml::de::{DeTable, DeValue};

use super::problem::Found;
use super::shape::{Form, IMPAIRMENTS};
use super::source::Source;
use super::syntax::{Cell, is};
use super::template::{Place, Templates};

/// A text with its place.
pub(super) type Text = (String, Range<usize>);

/// What all of reading needs.
///
/// A value of the wrong type has been reported before, so what reads values skips it.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) found: Found<'a>,
    pub(super) templates: Templates,
}

impl Reader<'_> {
    /// Reads a text, or another value that is written without quotes.
    pub(super) fn text(&self, cell: &Cell<'_>, scope: &Value) -> Option<String> {
        match cell.get_ref() {
            DeValue::String(text) => {
                self.templates.render(text, scope, &Place::Here(cell.span()), &self.found)
            }
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    /// Reads what a text means.
    pub(super) fn parsed<T>(
        &self,
        cell: &Cell<'_>,
        scope: &Value,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(cell, scope)?;
        parse(text.trim()).map_err(|why| self.found.add(&cell.span(), why)).ok()
    }

    /// Reads `true` or `false`.
    pub(super) fn bool(&self, cell: &Cell<'_>, scope: &Value) -> Option<bool> {
        if !is(cell.get_ref(), &Form::Bool) {
            return None;
        }
        self.parsed(cell, scope, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            text => Err(format!("the template must become true or false, and becomes '{text}'")),
        })
    }

    /// Reads an integer between `least` and `most`.
    pub(super) fn integer(
        &self,
        cell: &Cell<'_>,
        scope: &Value,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        if !is(cell.get_ref(), &Form::Integer) {
            return None;
        }
        let number = match cell.get_ref() {
            DeValue::Integer(number) => {
                i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            _ => self.text(cell, scope)?.trim().parse().ok(),
        };
        let number = number.and_then(|number| u32::try_from(number).ok());
        let valid = number.filter(|number| (least..=most).contains(number));
        if valid.is_none() {
            self.found.add(&cell.span(), format!("this is a number from {least} to {most}"));
        }
        valid
    }

    /// Reads a text, or a list of texts.
    pub(super) fn texts(&self, cell: &Cell<'_>, scope: &Value) -> Vec<Text> {
        let read = |cell: &Cell<'_>| {
            let text = cell.get_ref().is_str().then(|| self.text(cell, scope)).flatten()?;
            Some((text, cell.span()))
        };
        match cell.get_ref() {
            DeValue::Array(array) => array.iter().filter_map(read).collect(),
            _ => read(cell).into_iter().collect(),
        }
    }

    /// Reads what each text of a list means.
    pub(super) fn all<T>(
        &self,
        cell: &Cell<'_>,
        scope: &Value,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(T, Range<usize>)> {
        let texts = self.texts(cell, scope).into_iter();
        texts
            .filter_map(|(text, span)| match parse(text.trim()) {
                Ok(value) => Some((value, span)),
                Err(why) => {
                    self.found.add(&span, why);
                    None
                }
            })
            .collect()
    }
}

/// The tables that a thing gets its keys from: a later one counts more.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers<'f> {
    tables: Vec<&'f DeTable<'f>>,
}

impl<'f> Layers<'f> {
    /// Returns the keys of these tables.
    pub(super) fn new(tables: impl IntoIterator<Item = &'f DeTable<'f>>) -> Self {
        Self { tables: tables.into_iter().collect() }
    }

    /// Returns the value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'f Cell<'f>> {
        self.tables.iter().rev().find_map(|table| table.get(key))
    }

    /// Returns the names and values of a table in all layers, merged.
    pub(super) fn merged(&self, key: &str) -> BTreeMap<&'f str, &'f Cell<'f>> {
        let tables = self.tables.iter().filter_map(|table| table.get(key)?.get_ref().as_table());
        tables.flatten().map(|(name, cell)| (name.get_ref().as_ref(), cell)).collect()
    }

    /// Returns all keys of all layers with their places.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'f str, Range<usize>)> {
        let keys = self.tables.iter().flat_map(|table| table.keys());
        keys.map(|key| (key.get_ref().as_ref(), key.span()))
    }
}

impl Reader<'_> {
    /// Reads a merged table of texts and other plain values.
    pub(super) fn scalars(
        &self,
        layers: &Layers<'_>,
        key: &str,
        scope: &Value,
    ) -> BTreeMap<String, Text> {
        let merged = layers.merged(key).into_iter();
        merged
            .filter_map(|(name, cell)| {
                let text = self.text(cell, scope)?;
                Some((name.to_owned(), (text, cell.span())))
            })
            .collect()
    }

    /// Returns the impairments of a LAN or an interface as a text such as `delay=20ms,in.loss=1%`,
    /// with the place of the first. It is `None` when there are none.
    pub(super) fn impairments(&self, layers: &Layers<'_>, scope: &Value) -> Option<Text> {
        let mut pairs = Vec::new();
        let mut place: Option<Range<usize>> = None;
        for direction in ["", "in", "out"] {
            let merged = layers.merged(direction);
            for (word, _) in IMPAIRMENTS {
                let (name, cell) = if direction.is_empty() {
                    (Cow::Borrowed(*word), layers.get(word))
                } else {
                    let name = format!("{direction}.{word}");
                    let cell = layers.get(&name).or_else(|| merged.get(word).copied());
                    (Cow::Owned(name), cell)
                };
                let Some(cell) = cell else { continue };
                let Some(value) = self.impairment(cell, scope) else { continue };
                let first = place.get_or_insert_with(|| cell.span());
                if cell.span().start < first.start {
                    *first = cell.span();
                }
                pairs.push(format!("{name}={value}"));
            }
        }
        let (place, text) = (place?, pairs.join(","));
        if let Err(why) = self.source.judge(&text) {
            self.found.add(&place, why);
        }
        Some((text, place))
    }

    /// Reads the value of an impairment.
    fn impairment(&self, cell: &Cell<'_>, scope: &Value) -> Option<String> {
        let value = match cell.get_ref() {
            DeValue::Boolean(true) => "on".to_owned(),
            DeValue::Boolean(false) => "off".to_owned(),
            _ => self.text(cell, scope)?.trim().to_owned(),
        };
        if value.is_empty() || value.contains([',', '=']) {
            self.found.add(&cell.span(), "the value of an impairment has no ',' and no '='");
            return None;
        }
        Some(value)
    }
}

/// Returns the entries of a table in the order of the file.
pub(super) fn in_order<'f>(table: &'f DeTable<'f>) -> Vec<(&'f str, Range<usize>, &'f Cell<'f>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(name, cell)| (name.get_ref().as_ref(), name.span(), cell)).collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    entries
}
