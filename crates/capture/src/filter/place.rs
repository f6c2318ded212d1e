//! Where in an expression the compiler's complaint is.
//!
//! libpcap says what is wrong and not where. Its message often quotes the word. For a plain syntax
//! error the place is found by trial: the longest beginning that some ending makes right is good,
//! and the word behind it is not.

use std::ops::Range;
use std::time::{Duration, Instant};

/// How long to search. A word that looks like the name of a host may be looked up in the network.
const LIMIT: Duration = Duration::from_millis(300);

/// What makes a good beginning complete, from the most common to the rarest.
const ENDINGS: [&str; 14] = [
    "",
    " 1",
    " 1.2.3.4",
    " host 1.2.3.4",
    " port 1",
    " 02:00:00:00:00:01",
    " = 1",
    "] = 1",
    " 0] = 1",
    " + 1 = 1",
    " tcp",
    " mask 1.2.3.4",
    " 1 = 1",
    "1",
];

/// Signs of two characters.
const SIGNS: [&str; 8] = ["!=", "==", ">=", "<=", "<<", ">>", "&&", "||"];

/// Returns the place of the word that `message` complains about, in bytes. At the end of the
/// expression the place is empty. `is_syntax_error` compiles a text.
pub(super) fn find(
    expression: &str,
    message: &str,
    is_syntax_error: impl Fn(&str) -> bool,
) -> Option<Range<usize>> {
    let words = words(expression);
    if !message.contains("syntax error") {
        return quoted(expression, message, &words);
    }
    let began = Instant::now();
    // All words are good when only something is missing.
    for good in (0..=words.len()).rev() {
        let end = good.checked_sub(1).map_or(0, |last| words[last].end);
        let beginning = &expression[..end];
        let open = beginning.matches('(').count().saturating_sub(beginning.matches(')').count());
        let closing = ")".repeat(open);
        for ending in ENDINGS {
            if !is_syntax_error(&format!("{beginning}{ending}{closing}")) {
                let at_end = expression.trim_end().len();
                return Some(words.get(good).cloned().unwrap_or(at_end..at_end));
            }
            if began.elapsed() > LIMIT {
                return None;
            }
        }
    }
    words.first().cloned()
}

/// Returns the place of the first word that the message has in quotes, or else of the last that it
/// has at all.
fn quoted(expression: &str, message: &str, words: &[Range<usize>]) -> Option<Range<usize>> {
    let quotes = message.split(['\'', '"', '`']).skip(1).step_by(2);
    let has = |text: &str| words.iter().find(|word| &expression[(*word).clone()] == text);
    let in_quotes = quotes.filter(|text| !text.is_empty()).find_map(|text| {
        let whole = || expression.find(text).map(|at| at..at + text.len());
        has(text).cloned().or_else(whole)
    });
    in_quotes.or_else(|| {
        let said = self::words(message);
        let is_said = |word: &Range<usize>| {
            said.iter().any(|said| message[said.clone()] == expression[word.clone()])
        };
        words.iter().rev().find(|word| is_said(word)).cloned()
    })
}

/// Returns the places of words and signs.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (at, char) in text.char_indices() {
        let is_part = char.is_alphanumeric() || "._-:/\\".contains(char);
        match words.last_mut() {
            Some(last) if is_part && in_word => last.end = at + char.len_utf8(),
            Some(last) if SIGNS.contains(&&text[last.start..at + char.len_utf8()]) => {
                last.end = at + char.len_utf8();
            }
            _ if char.is_whitespace() => {}
            _ => words.push(at..at + char.len_utf8()),
        }
        in_word = is_part;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_found() {
        let place = |expression, message| {
            find(expression, message, |_| true).map(|place| &expression[place])
        };
        assert_eq!(place("host nowhere", "unknown host 'nowhere'"), Some("nowhere"));
        assert_eq!(place("tcp port 80000", "illegal port number 80000 > 65535"), Some("80000"));
        assert_eq!(place("ip broadcast", "no memory"), None);
    }

    #[test]
    fn the_longest_good_beginning_is_found() {
        // A language of numbers with signs between.
        let is_wrong = |text: &str| {
            let mut number = true;
            let mut good = true;
            for word in words(text) {
                good &= text[word].parse::<u32>().is_ok() == number;
                number = !number;
            }
            !good || number
        };
        let place = |expression| find(expression, "syntax error", is_wrong);
        assert_eq!(place("1 + 2 3"), Some(6..7));
        assert_eq!(place("1 +  "), Some(3..3));
        assert_eq!(place("+"), Some(0..1));
    }
}
