//! The notes that stations leave of themselves: see [`Member`].
//!
//! A station's number (see [`liveness`]) says that it is alive, and not which process it is. Its
//! note goes where the bus file goes and needs no name elsewhere. On a file system without extended
//! attributes there are no notes.

use std::fs::File;
use std::time::{Duration, Instant};

use macaddr::MacAddr6;
use xattr::FileExt as _;

use crate::format::member::{self, Member};
use crate::mechanism::ring::lock::Owner;
use crate::system::liveness;

/// How long the notes of others are looked at. A process that may write the bus can leave thousands
/// of them, and thousands of locks among which the kernel searches for each.
const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

/// Leaves a note, and removes those of dead stations.
pub(crate) fn enter(file: &File, owner: Owner, mac: MacAddr6, name: &str) {
    let deadline = Instant::now() + LOOK_TIMEOUT;
    let in_time = |_: &Owner| Instant::now() < deadline;
    let others = noted(file).take_while(in_time).filter(|other| *other != owner);
    for dead in others.filter(|other| !is_alive(file, *other)) {
        // Another station may be doing the same.
        let _ = file.remove_xattr(attribute(dead));
    }
    note(file, owner, mac, name, false);
}

/// Writes the note of `owner`, or replaces it.
pub(crate) fn note(file: &File, owner: Owner, mac: MacAddr6, name: &str, joins: bool) {
    let note = member::note(std::process::id(), mac, name, joins);
    if let Err(error) = file.set_xattr(attribute(owner), note.as_bytes()) {
        tracing::debug!(%error, "no note of this station on the bus file");
    }
}

/// Removes the note of `owner`.
pub(crate) fn leave(file: &File, owner: Owner) {
    // There may have been none.
    let _ = file.remove_xattr(attribute(owner));
}

/// What the station `owner` says of itself, dead or alive.
pub(crate) fn look_up(file: &File, owner: Owner) -> Option<Member> {
    let note = file.get_xattr(attribute(owner)).ok()??;
    Member::parse(owner.number(), &note)
}

/// The stations that are alive and left a note, in the order of their processes.
pub(crate) fn members(file: &File) -> Vec<Member> {
    let deadline = Instant::now() + LOOK_TIMEOUT;
    let mut members: Vec<Member> = noted(file)
        .take_while(|_| Instant::now() < deadline)
        .filter(|owner| is_alive(file, *owner))
        .filter_map(|owner| look_up(file, owner))
        .collect();
    members.sort_by_key(|member| (member.pid, member.number));
    members
}

fn attribute(owner: Owner) -> String {
    member::attribute(owner.number())
}

fn is_alive(file: &File, owner: Owner) -> bool {
    // In doubt it is alive: a note too many does no harm.
    liveness::is_alive(file, owner).unwrap_or(true)
}

/// The owners that left notes.
fn noted(file: &File) -> impl Iterator<Item = Owner> + use<> {
    let names = file.list_xattr().ok();
    names.into_iter().flatten().filter_map(|name| {
        let number = member::number_of(name.to_str()?)?;
        // The owner keeps fewer bits than a forged name may have.
        Owner::new(number).filter(|owner| owner.number() == number)
    })
}
