//! Who is on the bus: what stations say of themselves.
//!
//! A station's number (see [`crate::liveness`]) says that it lives, and not who it is. So each leaves a note of its process,
//! name and address in an extended attribute of the bus file, `user.shmbus.` and its number: the notes go where the file goes,
//! need no further name, and whoever may write the bus may write them. They are for people to read. Anybody on the bus can
//! forge them, and a file system without such attributes has none; nothing depends on them.

use std::fmt;
use std::fs::File;

use macaddr::MacAddr6;
use xattr::FileExt as _;

use crate::liveness;
use crate::ring::lock::Owner;

const PREFIX: &str = "user.shmbus.";
/// A longer note is not read.
const MAX_NOTE: usize = 200;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 64;

/// A live station of this kind, as it describes itself. Rump kernels leave no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its number on the bus, as it stands in the lock word while it sends.
    pub number: u32,
    /// Its process, as numbered in its own pid namespace.
    pub pid: u32,
    /// Its address when it joined.
    pub mac: MacAddr6,
    /// What it calls itself, made printable.
    pub name: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

fn attribute(owner: Owner) -> String {
    format!("{PREFIX}{:08x}", owner.number())
}

/// Leaves a note, and clears away those of the dead.
pub(crate) fn enter(file: &File, owner: Owner, mac: MacAddr6, name: &str) {
    for dead in noted(file).filter(|other| *other != owner && !is_alive(file, *other)) {
        // Another may be doing the same.
        let _ = file.remove_xattr(attribute(dead));
    }
    note(file, owner, mac, name);
}

/// Says who `owner` is, or is now.
pub(crate) fn note(file: &File, owner: Owner, mac: MacAddr6, name: &str) {
    let name: String = name.chars().take(MAX_NAME).collect();
    let note = format!("{} {mac} {name}", std::process::id());
    if let Err(error) = file.set_xattr(attribute(owner), note.as_bytes()) {
        tracing::debug!(%error, "no note of this station on the bus file");
    }
}

/// Takes the note away.
pub(crate) fn leave(file: &File, owner: Owner) {
    // There may have been none.
    let _ = file.remove_xattr(attribute(owner));
}

/// What the station `owner` says of itself, dead or alive.
pub(crate) fn look_up(file: &File, owner: Owner) -> Option<Member> {
    let note = file.get_xattr(attribute(owner)).ok()??;
    parse(owner, &note)
}

/// The stations that live and left a note, in the order of their processes.
pub(crate) fn members(file: &File) -> Vec<Member> {
    let mut members: Vec<Member> =
        noted(file).filter(|owner| is_alive(file, *owner)).filter_map(|owner| look_up(file, owner)).collect();
    members.sort_by_key(|member| (member.pid, member.number));
    members
}

fn is_alive(file: &File, owner: Owner) -> bool {
    // In doubt it lives: a note too many does no harm.
    liveness::is_alive(file, owner).unwrap_or(true)
}

/// The owners that left notes.
fn noted(file: &File) -> impl Iterator<Item = Owner> + use<> {
    let names = file.list_xattr().ok();
    names.into_iter().flatten().filter_map(|name| {
        let number = u32::from_str_radix(name.to_str()?.strip_prefix(PREFIX)?, 16).ok()?;
        // One name for each number: else a forger could make one station look like many.
        Owner::new(number).filter(|owner| name == *attribute(*owner))
    })
}

fn parse(owner: Owner, note: &[u8]) -> Option<Member> {
    let note = std::str::from_utf8(note).ok().filter(|note| note.len() <= MAX_NOTE)?;
    let mut words = note.splitn(3, ' ');
    let pid = words.next()?.parse().ok()?;
    let mac = words.next()?.parse().ok()?;
    let name = words.next()?.chars().map(|c| if c.is_control() { '?' } else { c }).take(MAX_NAME).collect();
    Some(Member { number: owner.number(), pid, mac, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_and_nothing_else() {
        let owner = Owner::new(7).expect("not 0");
        let member = parse(owner, b"42 B2:A0:00:00:00:01 my \x1b[31mhost").expect("a note");
        assert_eq!((member.number, member.pid), (7, 42));
        assert_eq!(member.mac, MacAddr6::new(0xb2, 0xa0, 0, 0, 0, 1));
        assert_eq!(member.name, "my ?[31mhost");
        for forged in
            [&b""[..], b"x", b"-1 B2:A0:00:00:00:01 a", b"1 B2:A0 a", b"1 B2:A0:00:00:00:01", b"\xff\xff"]
        {
            assert_eq!(parse(owner, forged), None);
        }
        let long = format!("1 B2:A0:00:00:00:01 {}", "a".repeat(MAX_NOTE));
        assert_eq!(parse(owner, long.as_bytes()), None);
    }
}
