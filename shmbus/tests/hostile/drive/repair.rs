//! A bus of arbitrary bytes, put right.

use shmbus::{Bus, LockFound, RepairError, RingFound, Tap};

use super::bus_file::BusFile;
use super::input::{Input, Recipe};
use super::invariants::{check_text, drain, still_works};

const LOCK: u32 = 24;

pub(crate) fn repair(bytes: &[u8]) {
    let recipe = Recipe::read(&mut Input::new(bytes));
    let before = recipe.bake();
    let file = BusFile::new(&before);

    let done = match shmbus::repair(file.path(), false) {
        Ok(done) => done,
        Err(error) => {
            check_text(&error);
            assert!(matches!(error, RepairError::Open(_)), "no other process has it: {error}");
            assert!(file.bytes() == before, "what is refused is left alone");
            return;
        }
    };
    assert!(!done.to_string().contains(char::is_control));
    assert_eq!(file.word(LOCK), 0, "the lock is free");

    let tap =
        Tap::oldest(Bus::open_read_only(file.path()).expect("a bus")).expect("a sound header");
    let mut tap = tap.with_runts();
    drain(&mut tap);
    assert_eq!(tap.stats().corrupt, 0, "the packets follow each other");
    assert!(tap.stats().rx_packets <= done.packets.into(), "{done:?}");

    let again = shmbus::repair(file.path(), false).expect("a bus");
    assert_eq!((again.lock, again.ring), (LockFound::Free, RingFound::Sound), "after {done:?}");

    let (mut sender, mut receiver) =
        (file.station().expect("a bus"), file.station().expect("a bus"));
    still_works(&mut sender, &mut |burst| receiver.recv_burst(burst));
}
