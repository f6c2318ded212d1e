//! Makes text of other processes fit to print in a line of a terminal.
//!
//! A name in a note, or a path, is shown to people beside other names. So it must not move the
//! cursor, turn the direction of what follows, or look like another name by characters that no
//! reader sees.

/// Characters that leave no mark of their own: those of Unicode's `Default_Ignorable_Code_Point`
/// (zero-width characters, variation selectors, fillers, tags) and its format controls, general
/// category `Cf` (among them all that change the direction of text).
const INVISIBLE: [(u32, u32); 26] = [
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    // The separators of lines and paragraphs, and embeddings of direction.
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1_10bd, 0x1_10bd),
    (0x1_10cd, 0x1_10cd),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
    // Noncharacters at the end of the last plane.
    (0x10_fffe, 0x10_ffff),
];

/// Whether a character shows as itself and changes nothing else in the line.
pub(crate) fn is_printable(c: char) -> bool {
    let code = u32::from(c);
    !c.is_control() && !INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_any_script_are_printable() {
        assert!(
            "node 7/eth-0 \u{e9}\u{153} \u{4f60}\u{597d} \u{5e9} \u{1f600}"
                .chars()
                .all(is_printable)
        );
    }

    #[test]
    fn what_hides_or_turns_text_is_not() {
        for c in [
            '\0',
            '\n',
            '\x1b',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{2028}',
            '\u{2060}',
            '\u{feff}',
            '\u{61c}',
            '\u{34f}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e01ef}',
        ] {
            assert!(!is_printable(c), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn the_ranges_are_in_order() {
        assert!(INVISIBLE.iter().all(|(first, last)| first <= last));
        assert!(INVISIBLE.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
