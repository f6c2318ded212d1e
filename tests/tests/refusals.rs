//! Peers that do not fit: a wrong secret, an unknown id, another mode, another version. Our side
//! names the cause in one line, and the peer receives it. Neither the other ports nor the next peer
//! notice.

use system_tests::process::Stream;
use system_tests::rawmemif::{Answer, Init, RawClient, Refuser};
use system_tests::{CpuLock, Lab, Process, Testpmd, WAIT_TIMEOUT, lab, port, require, wait};

/// Starts a server with a secret on id 5.
fn server(lab: &Lab) -> Process {
    lab.ready([
        "attach",
        &lab.arg("lan.bus"),
        &port::server(&lab.path("m.sock"), 5, "secret=sesame"),
    ])
}

/// Asserts that a client that sends `init` receives `cause`, and that one line on our side names
/// it.
fn refused(init: &Init<'_>, cause: &str) {
    let lab = lab!();
    let node = server(&lab);
    let client = RawClient::connect(&lab.path("m.sock"));
    let Answer::DisconnectReason(reason) = client.init(init) else {
        panic!("{init:?} was not refused")
    };
    assert!(
        reason.to_lowercase().contains(cause),
        "the peer receives the {cause} as reason: {reason}"
    );
    assert_eq!(client.answer(), Answer::Closed, "and that is the end");
    node.wait_for(0, WAIT_TIMEOUT, &format!("a line that names the {cause}"), |line| {
        line.stream == Stream::Err
            && line.text.starts_with("busctl: ")
            && line.text.to_lowercase().contains(cause)
    });
    // The right client is still accepted.
    let client = RawClient::connect(&lab.path("m.sock"));
    assert_eq!(
        client.init(&Init { id: 5, secret: "sesame", ..Init::default() }),
        Answer::Message(1),
        "an ACK"
    );
    let end = node.interrupt();
    assert_eq!(
        end.stderr.lines().filter(|line| line.to_lowercase().contains(cause)).count(),
        1,
        "once: {end}"
    );
}

#[test]
fn a_client_with_a_wrong_secret_gets_the_reason() {
    refused(&Init { id: 5, secret: "tahini", ..Init::default() }, "secret");
}

#[test]
fn a_client_without_a_secret_gets_the_reason() {
    refused(&Init { id: 5, ..Init::default() }, "secret");
}

#[test]
fn a_client_that_wants_an_unknown_id_gets_the_reason() {
    refused(&Init { id: 6, secret: "sesame", ..Init::default() }, "id 6");
}

#[test]
fn a_client_in_another_mode_gets_the_reason() {
    refused(&Init { id: 5, secret: "sesame", mode: 1, ..Init::default() }, "mode");
}

#[test]
fn a_client_with_another_version_gets_the_reason() {
    refused(&Init { id: 5, secret: "sesame", version: 0x0100, ..Init::default() }, "version");
}

#[test]
fn a_second_client_for_a_taken_id_gets_the_reason() {
    let lab = lab!();
    let _node =
        lab.ready(["attach", &lab.arg("lan.bus"), &port::server(&lab.path("m.sock"), 0, "")]);
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let _first =
        lab.ready(["attach", &lab.arg("far.bus"), &port::client(&lab.path("m.sock"), 0, "")]);
    let far = lab.arg("far.bus");
    let ping =
        ["ping", &far, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "40", "-i", "0.1", "--json"];
    let answer = lab.run(ping).report();
    assert!(answer["received"].as_u64() >= Some(1), "the first one is connected: {answer}");
    let second = RawClient::connect(&lab.path("m.sock"));
    let Answer::DisconnectReason(reason) = second.init(&Init::default()) else {
        panic!("the id was taken")
    };
    assert!(!reason.is_empty());
    lab.run(ping).succeeds();
}

#[test]
fn ip_mode_is_refused_on_a_bus() {
    let lab = lab!();
    let port = port::server(&lab.path("m.sock"), 0, "mode=ip");
    lab.run(["attach", &lab.arg("lan.bus"), &port]).fails_with(2, &["mode", "ip"]);
    assert!(!lab.path("lan.bus").exists() && !lab.path("m.sock").exists(), "nothing was changed");
}

#[test]
fn a_refused_client_of_ours_reports_each_reason_once_and_keeps_calling() {
    let lab = lab!();
    let refuser = Refuser::listen(&lab.path("m.sock"));
    let mut node = lab.spawn([
        "attach",
        &lab.arg("lan.bus"),
        &port::client(&lab.path("m.sock"), 0, "secret=sesame"),
    ]);
    for _ in 0..3 {
        assert_eq!(refuser.refuse("no room at the inn"), "sesame");
    }
    let _ = refuser.refuse("the stable is full");
    node.wait_for_line("the stable is full");
    let _ = refuser.refuse("the stable is full");
    assert!(node.is_running());
    let end = node.interrupt();
    for reason in ["no room at the inn", "the stable is full"] {
        let reports = end
            .stderr
            .lines()
            .filter(|line| line.starts_with("busctl: ") && line.contains(reason))
            .count();
        assert_eq!(reports, 1, "{reason:?}, once: {end}");
    }
}

#[test]
fn a_client_of_ours_with_a_wrong_secret_gets_in_once_the_server_is_put_right() {
    let lab = lab!();
    let wrong = lab.ready([
        "attach",
        &lab.arg("lan.bus"),
        &port::server(&lab.path("m.sock"), 0, "secret=tahini"),
    ]);
    let caller = lab.spawn([
        "attach",
        &lab.arg("far.bus"),
        &port::client(&lab.path("m.sock"), 0, "secret=sesame"),
    ]);
    let line = caller.wait_for_line("secret");
    assert!(line.starts_with("busctl: "), "{line}");
    wrong.wait_for_line("secret");
    let _ = wrong.interrupt();
    let _right = lab.ready([
        "attach",
        &lab.arg("lan.bus"),
        &port::server(&lab.path("m.sock"), 0, "secret=sesame"),
    ]);
    let _host = lab.ready(["host", &lab.arg("lan.bus"), "10.0.0.2/24"]);
    let far = lab.arg("far.bus");
    let reached = wait::poll(WAIT_TIMEOUT, || {
        let ping = lab.run(["ping", &far, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1"]);
        ping.status.success().then_some(())
    });
    assert!(reached.is_some());
}

/// DPDK's driver at the other end prints the reason it receives.
#[test]
fn a_testpmd_client_with_a_wrong_secret_gets_the_reason() {
    require!("dpdk-testpmd");
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let node = server(&lab);
    let mut testpmd =
        Testpmd::client(&lab.path("m.sock"), 5).key("secret=tahini").verbose().start(&lab);
    node.wait_for_line("secret");
    let refused = |line: &system_tests::process::Line| {
        line.text.contains("isconnect") && line.text.contains("ecret")
    };
    testpmd.process().wait_for(0, WAIT_TIMEOUT, "the reason", refused);
    assert!(!testpmd.link_is_up());
    testpmd.quit().succeeds();
    let mut right = Testpmd::client(&lab.path("m.sock"), 5).key("secret=sesame").start(&lab);
    right.wait_for_link();
}

/// Hundreds of clients that connect and send nothing do not affect the node's peers.
#[test]
fn silent_clients_do_not_keep_others_out() {
    let lab = lab!();
    let _node = server(&lab);
    let _silent: Vec<RawClient> = (0..200)
        .map(|_| RawClient::try_connect(&lab.path("m.sock")))
        .take_while(Option::is_some)
        .flatten()
        .collect();
    let welcome = wait::poll(WAIT_TIMEOUT, || {
        let client = RawClient::try_connect(&lab.path("m.sock"))?;
        (client.init(&Init { id: 5, secret: "sesame", ..Init::default() }) == Answer::Message(1))
            .then_some(())
    });
    assert!(welcome.is_some(), "the right client gets in");
}
