//! Ten at once on one registry.

use std::collections::BTreeSet;
use std::thread;

use crate::Lab;

const PROCESSES: usize = 10;
const EACH: usize = 10;

#[test]
fn ten_that_create_get_a_hundred_different_names() {
    let lab = Lab::new();
    let names: BTreeSet<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..PROCESSES)
            .map(|_| scope.spawn(|| (0..EACH).map(|_| lab.prints("create")).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let expected = (0..PROCESSES * EACH).map(|unit| format!("shmif{unit}\n")).collect();
    assert_eq!(names, expected);
    assert_eq!(lab.json("show --json")["interfaces"].as_array().unwrap().len(), PROCESSES * EACH);
}

#[test]
fn ten_that_change_one_interface_lose_nothing() {
    let lab = Lab::new();
    lab.prints("create shmif0 capenable=0");
    lab.prints("linkstr shmif0 ./lan.bus");
    let revision = || {
        let text = std::fs::read_to_string(lab.path("state/interfaces/shmif0.toml")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("revision = ")).unwrap();
        line.parse::<usize>().unwrap()
    };
    let before = revision();
    // Each sets something that nobody else does, so that every change is one and none may undo another's.
    thread::scope(|scope| {
        for writer in 0..PROCESSES {
            let lab = &lab;
            scope.spawn(move || {
                for round in 0..EACH {
                    lab.prints(&format!("set shmif0 mac=02:00:00:00:{writer:02x}:{round:02x}"));
                    lab.prints("show shmif0 --json");
                }
            });
        }
    });
    assert_eq!(revision(), before + PROCESSES * EACH);
    assert_eq!(lab.json("show --json")["damaged"].as_array().unwrap().len(), 0);
}
