//! The note a station leaves of itself: its process, address and name, as text in an extended
//! attribute of the bus file.
//!
//! `42 B2:A0:00:00:00:01 alice` is a note. Behind the name of a station that joins the bus to another
//! network there is a tab, which no name contains, and the word `joins`. The attribute is called `user.shmbus.` and the station's
//! number in hexadecimal. Any process that may write the bus can write such notes: they are for
//! people to read, and nothing depends on them.

use std::fmt;

use macaddr::MacAddr6;

use super::printable::is_printable;

const PREFIX: &str = "user.shmbus.";
/// A longer note is not read.
const MAX_NOTE: usize = 200;
/// Characters of a name that are kept.
pub const MAX_MEMBER_NAME: usize = 64;
/// What follows the name of a station that joins the bus to another network.
const JOINS: &str = "\tjoins";

/// A live station of this kind, as it describes itself. Rump kernels leave no such note.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its number on the bus, as it stands in the lock word while it sends.
    pub number: u32,
    /// Its process, as numbered in its own pid namespace.
    pub pid: u32,
    /// Its address.
    pub mac: MacAddr6,
    /// Its name, made printable.
    pub name: String,
    /// Whether it joins the bus to another network: whether it is the station of a port.
    pub joins: bool,
}

impl Member {
    /// Reads the note of station `number`; `None` when it is no such note.
    pub(crate) fn parse(number: u32, note: &[u8]) -> Option<Self> {
        let note = std::str::from_utf8(note).ok().filter(|note| note.len() <= MAX_NOTE)?;
        let mut words = note.splitn(3, ' ');
        let pid = words.next()?.parse().ok()?;
        let mac = words.next()?.parse().ok()?;
        let name = words.next()?;
        let (name, joins) = match name.strip_suffix(JOINS) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let name = name.chars().map(printable).take(MAX_MEMBER_NAME).collect();
        Some(Self { number, pid, mac, name, joins })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The text of a note.
pub(crate) fn note(pid: u32, mac: MacAddr6, name: &str, joins: bool) -> String {
    let name: String = name.chars().map(printable).take(MAX_MEMBER_NAME).collect();
    format!("{pid} {mac} {name}{}", if joins { JOINS } else { "" })
}

fn printable(c: char) -> char {
    if is_printable(c) { c } else { '?' }
}

/// The name of the attribute that holds the note of station `number`.
pub(crate) fn attribute(number: u32) -> String {
    format!("{PREFIX}{number:08x}")
}

/// The number of the station whose note the attribute `name` holds; `None` for any other attribute.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    // One name for each number: otherwise a forger could make one station look like many.
    (name == attribute(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_and_nothing_else() {
        let member = Member::parse(7, b"42 B2:A0:00:00:00:01 my \x1b[31mhost").expect("a note");
        assert_eq!((member.number, member.pid), (7, 42));
        assert_eq!(member.mac, MacAddr6::new(0xb2, 0xa0, 0, 0, 0, 1));
        assert_eq!(member.name, "my ?[31mhost");
        let turned = "42 B2:A0:00:00:00:01 a\u{202e}b\u{200b}c\u{e0041}".as_bytes();
        assert_eq!(Member::parse(7, turned).expect("a note").name, "a?b?c?");
        assert_eq!(note(42, member.mac, "a\u{2066}b", false), "42 B2:A0:00:00:00:01 a?b");
        for joins in [false, true] {
            let written = note(42, member.mac, "tap\tjoins", joins);
            let read = Member::parse(7, written.as_bytes()).expect("a note");
            assert_eq!((&*read.name, read.joins), ("tap?joins", joins));
        }
        for forged in [
            &b""[..],
            b"x",
            b"-1 B2:A0:00:00:00:01 a",
            b"1 B2:A0 a",
            b"1 B2:A0:00:00:00:01",
            b"\xff\xff",
        ] {
            assert_eq!(Member::parse(7, forged), None);
        }
        let long = format!("1 B2:A0:00:00:00:01 {}", "a".repeat(MAX_NOTE));
        assert_eq!(Member::parse(7, long.as_bytes()), None);
    }

    #[test]
    fn an_attribute_names_one_station() {
        assert_eq!(number_of(&attribute(0x2a)), Some(0x2a));
        for other in
            ["user.shmbus.2a", "user.shmbus.0000002A", "user.shmbus.", "user.other.0000002a"]
        {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
