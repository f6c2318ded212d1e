//! The example programs of gomemif, memif in Go, as peers in both roles. Its source is not a package of
//! any distribution: `BUSCTL_GOMEMIF` names the folder with its examples as `go build` makes them.

use std::path::{Path, PathBuf};

use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, require, wait};

/// Returns the example `name`, if there is one. Says so if there is none.
fn example(name: &str) -> Option<PathBuf> {
    let program = std::env::var_os("BUSCTL_GOMEMIF").map(|folder| PathBuf::from(folder).join(name));
    let program = program.filter(|program| program.is_file());
    if let Some(skipped) = require::skips(program.is_some(), "gomemif in BUSCTL_GOMEMIF", false) {
        eprintln!("{skipped}");
    }
    program
}

/// Starts an example, and the work that it does after a line on its stdin.
fn start(lab: &Lab, program: &Path, role: &str) -> Process {
    let mut command = lab.command(lab.reach(program));
    command.args([format!("-role={role}"), format!("-socket={}", lab.arg("m.sock"))]);
    let mut process = Process::spawn("gomemif", &mut command);
    process.type_line("start");
    process
}

/// Returns whether a host on the bus, as which each example answers, replies to all pings.
fn answers(lab: &Lab, count: &str) -> bool {
    let bus = lab.arg("a.bus");
    let ping = ["ping", &bus, "192.168.1.1", "--from", "192.168.1.2/24", "-W", "2"];
    let run = lab.run(ping.into_iter().chain(["-c", count, "-i", "0.01"]));
    run.stdout.contains(&format!(" {count} received"))
}

#[test]
fn its_responders_answer_as_clients_and_as_servers() {
    // As a server, the second one has two queues.
    for (name, server_queues) in
        [("icmp_responder_poll", ""), ("icmp_responder_cb", ",rx-queues=2,tx-queues=2")]
    {
        let Some(program) = example(name) else { return };
        for (theirs, ours) in [("slave", "server"), ("master", "client")] {
            let lab = lab!();
            let queues = if theirs == "master" { server_queues } else { "" };
            let port = format!("memif:role={ours},socket={}{queues}", lab.arg("m.sock"));
            let attach = || lab.ready(["attach", &lab.arg("a.bus"), &port]);
            // A client of theirs tries once.
            let (_port, _responder) = if theirs == "slave" {
                let port = attach();
                (port, start(&lab, &program, theirs))
            } else {
                let responder = start(&lab, &program, theirs);
                (attach(), responder)
            };
            wait::until(&format!("{name} answers as {theirs}"), WAIT_TIMEOUT, || {
                answers(&lab, "1")
            });
            assert!(answers(&lab, "200"), "{name} as {theirs}");
        }
    }
}

#[test]
fn its_bridge_joins_two_buses() {
    let Some(program) = example("bridge") else { return };
    let lab = lab!();
    let _bridge = start(&lab, &program, "master");
    let socket = lab.arg("m.sock");
    let _ports = [(0, "a.bus"), (1, "b.bus")].map(|(id, bus)| {
        let port = format!("memif:role=client,id={id},socket={socket}");
        lab.ready(["attach", &lab.arg(bus), &port])
    });
    let _host = lab.ready(["host", &lab.arg("b.bus"), "192.168.1.1/24"]);
    wait::until("the host is reached", WAIT_TIMEOUT, || answers(&lab, "1"));
    assert!(answers(&lab, "200"));
}
