//! What is wrong in a lab file, and where.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// The most problems that are collected: a file of nothing but mistakes must not fill the memory.
const MAX_PROBLEMS: usize = 200;

/// Something wrong at one place of a lab file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what to do: one line.
    pub message: String,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(word) => write!(f, " (did you mean '{word}'?)"),
            None => Ok(()),
        }
    }
}

/// All that is wrong in a lab file, in the order of the file.
///
/// As a text it has a line for each problem, such as
/// `two-routers.toml:12:9: there is no LAN 'ofice' (did you mean 'office'?)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, as it was named.
    pub path: Option<PathBuf>,
    /// At least one problem.
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match &self.path {
                Some(path) => write!(f, "{}:{problem}", path.display())?,
                None => write!(f, "{problem}")?,
            }
        }
        Ok(())
    }
}

/// The problems of a text while it is read.
#[derive(Debug)]
pub(super) struct Found<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: RefCell<BTreeSet<Problem>>,
    /// Whether what is read now has been read before, for another of several things.
    is_repeating: Cell<bool>,
}

impl<'a> Found<'a> {
    /// Returns an empty list of problems of a text.
    pub(super) fn new(text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text, lines, problems: RefCell::default(), is_repeating: Cell::new(false) }
    }

    /// Returns the part of the text at a span.
    pub(super) fn source(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Adds a problem at a span.
    pub(super) fn add(&self, span: &Range<usize>, message: impl Into<String>) {
        let (line, column) = self.position(span.start);
        self.add_at(line, column, &message.into(), None);
    }

    /// Adds a problem at a span, with the one of `known` that resembles `word` most.
    pub(super) fn add_mistyped<T: AsRef<str>>(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = T>,
    ) {
        if self.is_full() {
            return;
        }
        let suggestion = port::suggest::closest(word, known).map(|known| known.as_ref().to_owned());
        let (line, column) = self.position(span.start);
        self.add_at(line, column, &message.into(), suggestion);
    }

    /// Adds a problem in a line, such as one of a template.
    pub(super) fn add_at(
        &self,
        line: usize,
        column: usize,
        message: &str,
        suggestion: Option<String>,
    ) {
        if self.is_full() || (self.is_repeating.get() && self.is_known_at(line, column)) {
            return;
        }
        let message = one_line(message);
        self.problems.borrow_mut().insert(Problem { line, column, message, suggestion });
    }

    /// Returns whether there is a problem at this place already.
    pub(super) fn is_known(&self, span: &Range<usize>) -> bool {
        let (line, column) = self.position(span.start);
        self.is_known_at(line, column)
    }

    fn is_known_at(&self, line: usize, column: usize) -> bool {
        let problems = self.problems.borrow();
        problems.iter().any(|problem| (problem.line, problem.column) == (line, column))
    }

    /// Sets whether what is read next has been read before, for another of several things: a place
    /// then has one problem at most.
    pub(super) fn set_repeating(&self, is_repeating: bool) {
        self.is_repeating.set(is_repeating);
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Returns whether no more are taken.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= MAX_PROBLEMS
    }

    /// Returns the line and the column of an offset, both from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines[line - 1];
        let column =
            self.text.get(start..offset).map_or(offset - start, |part| part.chars().count());
        (line, column + 1)
    }

    /// Returns the problems, in the order of the file.
    pub(super) fn into_list(self) -> Vec<Problem> {
        self.problems.into_inner().into_iter().collect()
    }
}

/// Returns a text without line breaks and other control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_line_and_column_in_characters() {
        let found = Found::new("a = 1\nö = \"ü\"\n");
        found.add(&(11..13), "what");
        found.add_mistyped(&(0..1), "there is no LAN 'ofice'", "ofice", ["office", "lab"]);
        let list = found.into_list();
        let path = Some(PathBuf::from("x.toml"));
        assert_eq!(
            Problems { path, list }.to_string(),
            "x.toml:1:1: there is no LAN 'ofice' (did you mean 'office'?)\nx.toml:2:5: what"
        );
    }

    #[test]
    fn a_place_beyond_the_text_is_no_panic() {
        let found = Found::new("ö");
        assert_eq!(found.position(1), (1, 2));
        assert_eq!(found.position(9), (1, 10));
        assert_eq!(found.source(&(1..9)), "");
    }
}
