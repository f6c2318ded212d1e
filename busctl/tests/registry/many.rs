//! Ten at once on one registry.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;

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
    // Each process sets a key of its own, so that every change is a real one and none may undo
    // another.
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

/// A thousand operations on interfaces of all kinds and on sockets, each in a process of its own:
/// some of each writer's own, some on what all of them share. Everything that was said to be done
/// is there in the end, and nothing else.
#[test]
fn ten_that_do_a_hundred_things_each_tear_nothing() {
    const ROUNDS: usize = 14;
    let lab = Lab::new();
    lab.prints("create shmif1000 capenable=0");
    lab.prints("linkstr shmif1000 ./shared.bus");
    thread::scope(|scope| {
        for writer in 0..PROCESSES {
            let lab = &lab;
            scope.spawn(move || {
                let (socket, id) = (writer + 1, writer);
                let memif = format!("memif{socket}/{id}");
                let bus = format!("./{writer}.bus");
                // 7 operations a round, and 2 at the end.
                for round in 0..ROUNDS {
                    lab.prints(&format!("socket add {socket} ./{writer}.sock"));
                    assert_eq!(
                        lab.prints(&format!("create {memif} rsize=9")),
                        format!("{memif}\n")
                    );
                    lab.prints(&format!("linkstr {memif} {bus}"));
                    lab.prints(&format!("set {memif} rsize=11 name=round-{round}"));
                    lab.prints(&format!("set shmif1000 mac=02:00:00:00:{writer:02x}:{round:02x}"));
                    lab.prints(&format!("destroy {memif}"));
                    lab.prints(&format!("socket del {socket}"));
                }
                lab.prints(&format!("socket add {socket} ./{writer}.sock"));
                lab.prints(&format!("create {memif} role=client name=last"));
            });
        }
        // A process that reads meanwhile never sees half a record.
        for _ in 0..20 {
            let shown = lab.json("show --json");
            assert_eq!(shown["damaged"], serde_json::json!([]));
            let names = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
            let names: Vec<_> = shown["interfaces"].as_array().unwrap().iter().map(names).collect();
            assert!(names.contains(&"shmif1000".to_owned()), "{names:?}");
        }
    });
    let shown = lab.json("show --json");
    let interfaces = shown["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 1 + PROCESSES);
    for writer in 0..PROCESSES {
        let name = format!("memif{}/{writer}", writer + 1);
        let memif = interfaces.iter().find(|interface| interface["name"] == name.as_str()).unwrap();
        assert_eq!(
            (&memif["role"], &memif["linkstr"]),
            (&"client".into(), &Value::Null),
            "{memif}"
        );
    }
    let revision = std::fs::read_to_string(lab.path("state/interfaces/shmif1000.toml")).unwrap();
    let changes = PROCESSES * ROUNDS + 1;
    assert!(revision.contains(&format!("revision = {}\n", changes + 1)), "{revision}");
    let sockets = lab.json("socket list --json");
    assert_eq!(sockets["sockets"].as_array().unwrap().len(), 1 + PROCESSES);
    let left: Vec<_> = std::fs::read_dir(lab.path("state/interfaces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, [""; 0], "no half-written file is left");
}
