//! `socket add`, `del` and `list`.

use std::fs;

use predicates::str::contains;

use crate::{Lab, mode};

#[test]
fn socket_0_is_vpps_and_fixed() {
    let lab = Lab::new();
    let sockets = lab.json("socket list --json");
    assert_eq!(
        sockets["sockets"],
        serde_json::json!([{ "id": 0, "path": "/run/vpp/memif.sock", "role": null, "interfaces": [] }])
    );
    lab.refuses("socket add 0 ./m.sock", "socket 0 is /run/vpp/memif.sock and fixed");
    lab.refuses("socket del 0", "fixed");
    assert!(!lab.path("state").join("sockets/0.toml").exists());
}

#[test]
fn sockets_are_added_listed_and_removed() {
    let lab = Lab::new();
    lab.prints("socket add 7 ./m.sock");
    lab.prints("socket add 3 @lan");
    assert_eq!(mode(&lab.path("state/sockets/7.toml")), 0o600);
    lab.prints("create memif7/0 role=client");
    lab.prints("create memif7/1 role=client");
    let text = lab.prints("socket list");
    let lines: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let path = lab.path("m.sock");
    assert_eq!(lines[0], "id role path interfaces");
    assert_eq!(lines[1], "0 /run/vpp/memif.sock");
    assert_eq!(lines[2], "3 @lan");
    assert_eq!(lines[3], format!("7 client {} memif7/0 memif7/1", path.display()));
    lab.prints("socket del 3");
    assert_eq!(lab.json("socket list --json")["sockets"].as_array().unwrap().len(), 2);
}

#[test]
fn a_socket_in_use_is_neither_changed_nor_removed() {
    let lab = Lab::new();
    lab.prints("socket add 1 ./m.sock");
    lab.prints("socket add 1 ./m.sock");
    lab.refuses(
        "socket add 1 ./n.sock",
        "an address is never changed; 'busctl socket del 1' first",
    );
    lab.refuses("socket add 2 ./m.sock", "m.sock is socket 1 already");
    lab.prints("create memif1/0");
    lab.refuses("socket del 1", "socket 1 is used by memif1/0: first 'busctl destroy memif1/0'");
    lab.prints("destroy memif1/0");
    lab.prints("socket del 1");
    lab.refuses("socket del 1", "there is no socket 1");
}

#[test]
fn what_is_no_socket_is_refused() {
    let lab = Lab::new();
    lab.refuses("socket add x ./m.sock", "invalid");
    lab.refuses("socket add 1", "required");
    lab.refuses("socket add 1 @", "cannot add socket 1: bad socket address");
    lab.refuses(&format!("socket add 1 /{}", "x".repeat(108)), "longer than 107 bytes");
    lab.refuses("socket ad 1 ./m.sock", "'add'");
    assert_eq!(lab.json("socket list --json")["sockets"].as_array().unwrap().len(), 1);
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_listed() {
    let lab = Lab::new();
    lab.prints("socket add 1 ./m.sock");
    lab.prints("socket add 2 ./n.sock");
    let record = lab.path("state/sockets/1.toml");
    fs::write(&record, "id = 1\npath = 7\n").unwrap();
    let name = record.to_str().unwrap().to_owned();
    lab.busctl("socket list")
        .assert()
        .success()
        .stdout(contains("n.sock"))
        .stderr(contains(name.clone()));
    assert!(lab.busctl("socket list --json").output().unwrap().status.success());
    lab.refuses("create memif1/0", &name);
    lab.prints("socket del 1");
    lab.prints("socket list");
}
