//! Many that make and open the same bus at once.

use std::sync::Barrier;

use shmbus::{Bus, Interface, StationOptions};

#[test]
fn who_opens_a_bus_that_is_being_made_waits_for_it() {
    for _ in 0..200 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            let (path, start) = (&path, &start);
            for _ in 0..2 {
                scope.spawn(move || {
                    start.wait();
                    let bus = Bus::open_or_create(path, 0o600).expect("made or joined");
                    Interface::join(bus, StationOptions::new()).expect("joined");
                });
            }
            for writable in [true, false] {
                scope.spawn(move || {
                    start.wait();
                    while !path.exists() {
                        std::thread::yield_now();
                    }
                    let open = if writable { Bus::open } else { Bus::open_read_only };
                    let bus = open(path).expect("it is there, or about to be");
                    assert_eq!(bus.state().version, 3);
                });
            }
        });
    }
}
