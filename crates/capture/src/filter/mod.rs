//! Filters in the language of `tcpdump`, pcap-filter(7).
//!
//! libpcap compiles an expression to a classic BPF program; the machine that runs it is ours. It is
//! checked before it runs, and needs no library for each frame.

#[cfg(test)]
mod judged;
mod libpcap;
mod place;
mod program;

use std::ffi::CString;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use self::libpcap::CompileError;
use self::program::Program;
use crate::link_type::LinkType;

/// Chooses frames, of Ethernet by default, by an expression in the language of `tcpdump`.
///
/// Tags of VLANs are part of the frames, as in a file. Clones share the program.
///
/// ```no_run
/// use capture::Filter;
///
/// let filter = Filter::compile("arp or tcp port 80")?;
/// let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x08, 0x06], &[0; 46]].concat();
/// assert!(filter.matches(&frame, frame.len()));
/// # Ok::<(), capture::FilterError>(())
/// ```
#[derive(Clone)]
pub struct Filter {
    expression: Arc<str>,
    program: Arc<Program>,
}

/// Why an expression makes no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The library that compiles filters cannot be loaded.
    #[error("a filter needs the library libpcap, which {}", no_library(reason))]
    NoLibrary {
        /// The loader's words.
        reason: String,
    },
    /// The expression is wrong.
    #[error("the filter '{expression}' is wrong: {message}{}", at_place(expression, place.as_ref()))]
    Wrong {
        /// The expression, in one line.
        expression: String,
        /// What is wrong.
        message: String,
        /// The bytes of the expression that are wrong, where that is known; empty at its end when
        /// something is missing.
        place: Option<Range<usize>>,
    },
}

impl Filter {
    /// Compiles an expression. An empty one matches every frame.
    ///
    /// Names of hosts and services are looked up, which may take time.
    ///
    /// # Errors
    /// When the expression is wrong, and when libpcap is not installed.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        Self::compile_for(LinkType::Ethernet, expression)
    }

    /// Compiles an expression for frames of a link type, as [`compile`](Self::compile) does for those of
    /// Ethernet.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); also when it asks for what such frames do not have.
    pub fn compile_for(link_type: LinkType, expression: &str) -> Result<Self, FilterError> {
        // One line: it is shown in messages, and all white space is equal to the compiler.
        let line: String =
            expression.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        let line = line.trim();
        let wrong = |message: String, place| FilterError::Wrong {
            expression: line.to_owned(),
            message,
            place,
        };
        if let Some(at) = line.find(char::is_control) {
            return Err(wrong("it has a control character".to_owned(), Some(at..at + 1)));
        }
        let instructions = compile(line, link_type).map_err(|error| match error {
            CompileError::Missing(reason) => FilterError::NoLibrary { reason },
            CompileError::Refused(message) => {
                let place = place::find(line, &message, |line| is_syntax_error(line, link_type));
                let short = message.strip_prefix("can't parse filter expression: ");
                wrong(short.unwrap_or(&message).to_owned(), place)
            }
        })?;
        match Program::check(&instructions) {
            Ok(program) => Ok(Self { expression: line.into(), program: Arc::new(program) }),
            Err(error) => Err(wrong(error.to_string(), None)),
        }
    }

    /// Returns whether a frame matches. `original_len` is its length on the wire, which is greater
    /// than that of `frame` where a capture keeps only the beginning.
    #[must_use]
    #[inline]
    pub fn matches(&self, frame: &[u8], original_len: usize) -> bool {
        let length = u32::try_from(original_len).unwrap_or(u32::MAX);
        self.program.run(frame, length) > 0
    }

    /// Returns the expression, in one line.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }
}

impl FilterError {
    /// Returns the expression and a line with carets below the word that is wrong, where that is
    /// known.
    #[must_use]
    pub fn marked(&self) -> Option<[String; 2]> {
        let Self::Wrong { expression, place: Some(place), .. } = self else { return None };
        let before = expression.get(..place.start)?.chars().count();
        let width = expression.get(place.clone())?.chars().count().max(1);
        Some([expression.clone(), " ".repeat(before) + &"^".repeat(width)])
    }
}

/// Returns why libpcap is missing, and what to do.
fn no_library(reason: &str) -> String {
    if cfg!(target_feature = "crt-static") {
        return "a statically linked program cannot load; take the program of a Debian package, or build \
                it for a target that is linked dynamically"
            .to_owned();
    }
    format!(
        "cannot be loaded: {reason}; install libpcap (on Debian and Ubuntu the package libpcap0.8)"
    )
}

/// Says where the mistake is, unless the message says it.
fn at_place(expression: &str, place: Option<&Range<usize>>) -> String {
    match place.map(|place| expression.get(place.clone()).unwrap_or_default()) {
        None => String::new(),
        Some("") => " at its end".to_owned(),
        Some(word) => format!(" at '{word}'"),
    }
}

fn compile(line: &str, link_type: LinkType) -> Result<Vec<program::Instruction>, CompileError> {
    let line = CString::new(line).map_err(|error| CompileError::Refused(error.to_string()))?;
    libpcap::compile(&line, link_type.dlt())
}

fn is_syntax_error(line: &str, link_type: LinkType) -> bool {
    match compile(line, link_type) {
        Err(CompileError::Refused(message)) => message.contains("syntax error"),
        _ => false,
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.expression).finish()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}

/// Filters are equal when their expressions are.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression
    }
}

impl Eq for Filter {}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(expression: &str) -> Result<Self, FilterError> {
        Self::compile(expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specimens::{ipv4_to, udp};

    #[test]
    fn packets_without_ethernet_are_chosen_too() {
        let packet = ipv4_to([10, 0, 0, 2], 17, 0, &udp(7, 53, &[]));
        for (expression, matches) in
            [("udp port 53", true), ("host 10.0.0.3", false), ("ip6", false)]
        {
            let filter = Filter::compile_for(LinkType::Ip, expression).unwrap();
            assert_eq!(filter.matches(&packet, packet.len()), matches, "{expression}");
        }
    }

    #[test]
    fn a_mistake_is_shown_with_its_place() {
        let marked = |expression| {
            let error = Filter::compile(expression).unwrap_err();
            let [line, carets] = error.marked().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(line, expression);
            assert!(!error.to_string().contains('\n'), "{error}");
            carets
        };
        assert_eq!(marked("tcp prt 80"), "    ^^^");
        assert_eq!(marked("tcp port 80 adn host 10.0.0.1"), "            ^^^");
        assert_eq!(marked("tcp and"), "       ^");
        assert_eq!(marked("(tcp or udp"), "           ^");
        assert_eq!(marked("tcp) or udp"), "   ^");
        assert_eq!(marked("tcp[13 & 2 != 0"), "           ^^");
        assert_eq!(marked("port 80 or port 80000"), "                ^^^^^");
        let error = Filter::compile("inbound").unwrap_err();
        assert!(error.to_string().contains("kernel"), "{error}");
    }
}
