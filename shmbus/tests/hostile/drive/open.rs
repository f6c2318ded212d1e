//! Arbitrary bytes as a bus file, opened in every way there is.

use shmbus::{Bus, LegacyDump, MAX_FRAME, Tap};

use super::bus_file::BusFile;
use super::input::{Input, Recipe};
use super::invariants::{check_text, drain};

pub(crate) fn open(bytes: &[u8]) {
    let recipe = Recipe::read(&mut Input::new(bytes));
    let before = recipe.bake();
    let file = BusFile::new(&before);

    match Bus::open_read_only(file.path()) {
        Ok(bus) => {
            look(&bus);
            match Tap::oldest(bus) {
                Ok(tap) => drain(&mut tap.with_runts()),
                Err(error) => check_text(&error),
            }
        }
        Err(error) => check_text(&error),
    }
    match LegacyDump::open(file.path()) {
        Ok(dump) => {
            assert!(dump.frames().all(|frame| (1..=MAX_FRAME).contains(&frame.bytes.len())));
        }
        Err(error) => check_text(&error),
    }
    assert!(file.bytes() == before, "who looks changes nothing");

    match Bus::open(file.path()) {
        Ok(bus) => look(&bus),
        Err(error) => check_text(&error),
    }
    assert!(file.bytes() == before, "who opens changes nothing");

    if is_locked_blank(&before) {
        return;
    }
    match Bus::open_or_create(file.path(), 0o600) {
        Ok(bus) => look(&bus),
        Err(error) => {
            check_text(&error);
            assert!(file.bytes() == before, "what is refused is left alone");
        }
    }
    match file.station() {
        Ok(station) => drop(station),
        Err(error) => check_text(&error),
    }
}

fn look(bus: &Bus) {
    let state = bus.state();
    assert!(!bus.is_lost());
    assert_eq!(bus.stations().expect("a file system with locks"), 0, "{state:?}");
    assert!(bus.members().is_empty());
}

/// A file that another process seems to be making a bus of: a maker waits two seconds for it, which
/// is long for each of many inputs.
fn is_locked_blank(file: &[u8]) -> bool {
    file.len() >= 32 && file[..4] == [0; 4] && file[24..28] != [0; 4]
}
