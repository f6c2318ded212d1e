//! The bytes of a frame as text, in the form of `tcpdump`.

use std::io::{self, Write};

/// How the bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex {
    /// Whether the header before the packet is shown, too.
    pub(super) link: bool,
    pub(super) form: HexForm,
}

/// What is on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HexForm {
    Hex,
    HexAndAscii,
    Ascii,
}

impl Hex {
    /// Writes the bytes of a frame, whose packet is behind `header` bytes.
    pub(super) fn write(
        self,
        file: &mut impl Write,
        frame: &[u8],
        header: usize,
    ) -> io::Result<()> {
        let from = if self.link { 0 } else { header };
        let bytes = frame.get(from..).unwrap_or_default();
        if self.form == HexForm::Ascii {
            let is_shown = |byte: u8| is_printable(byte) || b"\t\n\r".contains(&byte);
            let text: String = bytes.iter().map(|byte| shown(*byte, is_shown(*byte))).collect();
            return writeln!(file, "{}", text.replace('\r', "."));
        }
        for (line, bytes) in bytes.chunks(16).enumerate() {
            let mut hex = String::with_capacity(40);
            for pair in bytes.chunks(2) {
                hex.push(' ');
                for byte in pair {
                    for digit in [byte >> 4, byte & 15] {
                        hex.extend(char::from_digit(digit.into(), 16));
                    }
                }
            }
            write!(file, "\t0x{:04x}: ", line * 16)?;
            if self.form == HexForm::HexAndAscii {
                let text: String =
                    bytes.iter().map(|byte| shown(*byte, is_printable(*byte))).collect();
                writeln!(file, "{hex:<40}  {text}")?;
            } else {
                writeln!(file, "{hex}")?;
            }
        }
        Ok(())
    }
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn shown(byte: u8, as_it_is: bool) -> char {
    if as_it_is { char::from(byte) } else { '.' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_tcpdump() {
        let frame: Vec<u8> = (0..14).chain(*b"E..<tcp and more").chain([0xff]).collect();
        let text = |link, form| {
            let mut text = Vec::new();
            Hex { link, form }.write(&mut text, &frame, 14).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(
            text(false, HexForm::HexAndAscii),
            "\t0x0000:  452e 2e3c 7463 7020 616e 6420 6d6f 7265  E..<tcp.and.more\n\
             \t0x0010:  ff                                       .\n"
        );
        assert_eq!(
            text(true, HexForm::Hex),
            "\t0x0000:  0001 0203 0405 0607 0809 0a0b 0c0d 452e\n\
             \t0x0010:  2e3c 7463 7020 616e 6420 6d6f 7265 ff\n"
        );
        assert_eq!(text(false, HexForm::Ascii), "E..<tcp.and.more.\n");
    }
}
