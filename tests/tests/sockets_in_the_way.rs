//! Sockets that cannot be used, and stale sockets. The first are refused in one line and left
//! alone. The second never need to be removed by hand.

use system_tests::{Lab, Process, lab, port};

fn attach(lab: &Lab, bus: &str, port: &str) -> Process {
    lab.ready(["attach", &lab.arg(bus), port])
}

/// Asserts that the node behind `m.sock` accepts a client: a second node connects, and a ping
/// crosses both.
fn takes_a_client(lab: &Lab) {
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let _caller =
        lab.ready(["attach", &lab.arg("far.bus"), &port::client(&lab.path("m.sock"), 0, "")]);
    let ping = [
        "ping",
        &lab.arg("far.bus"),
        "10.0.0.2",
        "--from",
        "10.0.0.1/24",
        "-c",
        "40",
        "-i",
        "0.1",
        "--json",
    ];
    let answer = lab.run(ping).report();
    assert!(answer["received"].as_u64() >= Some(1), "{answer}");
}

#[test]
fn a_socket_in_a_folder_that_is_not_there_is_refused() {
    let lab = lab!();
    let port = port::server(&lab.path("nowhere/m.sock"), 0, "");
    lab.run(["attach", &lab.arg("lan.bus"), &port]).fails_with(2, &["nowhere/m.sock", "director"]);
    assert!(!lab.path("nowhere").exists());
    assert!(!lab.path("lan.bus").exists(), "nothing was changed: not even the bus was made");
}

#[test]
fn a_socket_in_use_is_refused_and_keeps_working() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 0, "");
    let _first = attach(&lab, "lan.bus", &port);
    lab.run(["attach", &lab.arg("other.bus"), &port]).fails_with(2, &["m.sock", "in use"]);
    assert!(!lab.path("other.bus").exists(), "nothing was changed");
    takes_a_client(&lab);
}

#[test]
fn a_file_where_the_socket_should_be_is_refused_and_left_alone() {
    let lab = lab!();
    lab.write("m.sock", b"precious");
    let port = port::server(&lab.path("m.sock"), 0, "");
    lab.run(["attach", &lab.arg("lan.bus"), &port]).fails_with(2, &["m.sock", "socket"]);
    assert_eq!(std::fs::read(lab.path("m.sock")).unwrap(), b"precious");
    assert!(!lab.path("lan.bus").exists(), "nothing was changed");
}

#[test]
fn a_folder_where_no_socket_may_be_made_is_refused() {
    let lab = lab!();
    std::fs::create_dir(lab.path("locked")).unwrap();
    system_tests::privilege::take_away(&lab.path("locked"));
    let port = port::server(&lab.path("locked/m.sock"), 0, "");
    lab.run(["attach", &lab.arg("lan.bus"), &port])
        .fails_with(2, &["locked/m.sock", "permission denied"]);
    assert!(!lab.path("lan.bus").exists(), "nothing was changed");
    // The lab can remove the folder only if it may list it.
    std::fs::set_permissions(
        lab.path("locked"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let lab = lab!();
    let port = port::server(&lab.path(&"s".repeat(120)), 0, "");
    lab.run(["attach", &lab.arg("lan.bus"), &port]).fails_with(2, &["long"]);
    assert!(!lab.path("lan.bus").exists(), "nothing was changed");
}

#[test]
fn the_socket_a_killed_node_left_is_no_obstacle() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 0, "");
    for _ in 0..5 {
        attach(&lab, "lan.bus", &port).kill();
        assert!(lab.path("m.sock").exists(), "a killed node leaves its socket");
    }
    let _node = attach(&lab, "lan.bus", &port);
    takes_a_client(&lab);
}

#[test]
fn an_interrupted_node_leaves_no_socket() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 0, "");
    for _ in 0..5 {
        let node = attach(&lab, "lan.bus", &port);
        assert!(lab.path("m.sock").exists());
        let end = node.interrupt();
        assert_eq!(end.stderr, "", "quietly: {end}");
        assert!(!lab.path("m.sock").exists(), "{end}");
        assert_eq!(Lab::list(&lab.state()), [""; 0], "no record of the node is left");
    }
}

#[test]
fn an_interrupted_node_removes_only_its_own_socket() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 0, "");
    let node = attach(&lab, "lan.bus", &port);
    // Another node's socket takes its place.
    std::fs::remove_file(lab.path("m.sock")).unwrap();
    let _theirs = attach(&lab, "other.bus", &port);
    let _ = node.interrupt();
    assert!(lab.path("m.sock").exists(), "it belongs to another process by now");
}

#[test]
fn two_ports_with_one_id_on_one_socket_are_refused() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 3, "");
    lab.run(["attach", &lab.arg("lan.bus"), &port, &port]).fails_with(2, &["id", "3"]);
    assert!(!lab.path("m.sock").exists());
    assert!(!lab.path("lan.bus").exists(), "nothing was changed");
}
