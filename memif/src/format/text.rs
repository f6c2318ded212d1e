//! NUL-terminated strings in fixed fields, which the peer may fill with anything.

use std::fmt;

/// A string field of `N` bytes as it is on the wire: it ends at the first NUL or at the end of the
/// field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// Makes a field of as much of `text` as fits before a closing NUL, cut between characters.
    pub(crate) fn new(text: &str) -> Self {
        let mut end = text.len().min(N - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut field = [0; N];
        field[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self(field)
    }

    pub(crate) fn from_wire(field: [u8; N]) -> Self {
        Self(field)
    }

    pub(crate) fn wire(&self) -> &[u8; N] {
        &self.0
    }
}

/// Writes readable text, whatever the peer sent: bytes that are no UTF-8, control characters, and
/// characters that reorder or hide text on a terminal are replaced.
impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        let text = String::from_utf8_lossy(&self.0[..end]);
        text.chars().try_for_each(|c| {
            let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            fmt::Write::write_char(f, if c.is_control() || hidden { char::REPLACEMENT_CHARACTER } else { c })
        })
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character_and_closed() {
        let text = Text::<8>::new("abcdef\u{e9}x");
        assert_eq!(text.to_string(), "abcdef");
        assert_eq!(text.wire()[7], 0);
    }

    #[test]
    fn hostile_bytes_become_readable() {
        assert_eq!(Text::from_wire(*b"a\x1b[2J\xff\0zz").to_string(), "a\u{fffd}[2J\u{fffd}");
        assert_eq!(Text::from_wire(*b"unclosed").to_string(), "unclosed");
        assert_eq!(Text::<8>::new("a\u{202e}b").to_string(), "a\u{fffd}b");
    }
}
