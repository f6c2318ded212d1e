//! `busctl host`.

use std::io::Write as _;

use crate::Lab;

#[test]
fn it_pings_when_it_is_told_to_and_ends_with_its_commands() {
    let lab = Lab::new();
    let _other = lab.ready("host ./lan.bus 10.0.0.1/24 fd00::1/64");
    let mut host = lab.ready("host ./lan.bus 10.0.0.2/24 fd00::2/64 --commands");
    let mut stdin = host.stdin.take().unwrap();
    stdin.write_all(b"ping 10.0.0.1 5 0.01\nping fd00::1 2 0\npong\nping 10.0.0.1 1").unwrap();
    stdin.write_all(b" 0\n").unwrap();
    drop(stdin);
    let mut answer = || -> serde_json::Value { serde_json::from_str(&host.line()).unwrap() };
    let first = answer();
    assert_eq!((&first["target"], &first["received"]), (&"10.0.0.1".into(), &5.into()), "{first}");
    assert_eq!(answer()["received"], 2);
    assert_eq!(answer()["command"], "pong");
    assert_eq!(answer()["sent"], 1);
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_runs_until_it_is_asked_to_stop() {
    let lab = Lab::new();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let mut host = lab.ready("host ./lan.bus 10.0.0.1/24");
        host.signal(signal);
        // timeout(1) signals twice, and that is one request.
        host.signal(signal);
        assert_eq!(host.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn two_at_the_same_socket_are_refused_and_the_first_goes_on() {
    let lab = Lab::new();
    let first = lab.start("host memif:role=server,socket=./m.sock 10.0.0.1/24");
    while !lab.path("m.sock").exists() {}
    lab.fails("host memif:role=server,socket=./m.sock 10.0.0.2/24", 2, "m.sock");
    assert_eq!(first.interrupt(), Some(0));
    assert!(!lab.path("m.sock").exists(), "nothing is left behind");
}

#[test]
fn addresses_no_host_can_have_are_refused() {
    let lab = Lab::new();
    lab.fails("host ./lan.bus", 2, "ADDR/LEN");
    lab.fails("host ./lan.bus 10.0.0.1", 2, "the length of its network's prefix");
    lab.fails("host ./lan.bus 10.0.0.1/24 10.0.0.1/16", 2, "given twice");
    let many: Vec<_> = (1..=8).map(|last| format!("10.0.0.{last}/24")).collect();
    lab.fails(&format!("host ./lan.bus {}", many.join(" ")), 2, "at most 7");
    assert!(!lab.path("lan.bus").exists());
}
