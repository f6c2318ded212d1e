//! Text in summaries that comes out of frames.

use std::fmt;

/// The most characters of a name.
const LONGEST: usize = 60;

/// A MAC address in lower case with colons, as `tcpdump` prints it.
pub(super) struct Mac(pub(super) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// A name that a frame holds: printable ASCII, with `.` for anything else, cut when it is long.
pub(super) struct Name<'a>(pub(super) &'a [u8]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(LONGEST) {
            let char = if byte.is_ascii_graphic() || *byte == b' ' { *byte } else { b'.' };
            write!(f, "{}", char::from(char))?;
        }
        f.write_str(if self.0.len() > LONGEST { "..." } else { "" })
    }
}

/// Returns the number in two bytes at `at`.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Returns the number in four bytes at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Returns the MAC address at `at`.
pub(super) fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..)?.first_chunk().map(|bytes| Mac(*bytes))
}
