//! Links that misbehave on purpose, as pings see them.

use serde_json::Value;
use system_tests::{Lab, WAIT_TIMEOUT, lab, wait};

/// Pings 10.0.0.2 from another station of the bus.
fn ping(lab: &Lab) -> Value {
    let args = "ping ./lan.bus 10.0.0.2 --from 10.0.0.1/24 -c 3 -i 0.02 --json";
    lab.run(args.split_whitespace()).report()
}

/// Pings until all pings are answered and the fastest takes at least `least` microseconds; returns
/// its time.
fn answered(lab: &Lab, least: f64) -> f64 {
    let mut fastest = None;
    wait::until("all pings are answered", WAIT_TIMEOUT, || {
        let report = ping(lab);
        fastest = report["rtt_min_us"].as_f64();
        report["received"] == 3 && fastest.is_some_and(|fastest| fastest >= least)
    });
    fastest.expect("a time")
}

#[test]
fn a_running_port_gets_worse_and_heals() {
    let lab = lab!();
    lab.does(&format!("socket add 1 {}", lab.arg("m.sock")));
    lab.does("create memif1/0");
    lab.does("linkstr memif1/0 ./lan.bus");
    let _node = lab.ready(["node"]);
    lab.does("up memif1/0");
    let _host = lab.ready(["host", "memif:role=client,id=0,socket=./m.sock", "10.0.0.2/24"]);
    answered(&lab, 0.0);

    // A ping passes the link twice.
    lab.does("set memif1/0 delay=20ms");
    assert!(answered(&lab, 40_000.0) >= 40_000.0);
    lab.does("set memif1/0 out.delay=0");
    let one_way = answered(&lab, 20_000.0);
    assert!(one_way >= 20_000.0, "{one_way}");
    assert_eq!(lab.show("memif1/0")["impairments"], "in.delay=20ms");

    lab.does("set memif1/0 in.loss=100%");
    assert_eq!(ping(&lab)["received"], 0);
    lab.shows("memif1/0", "what is lost", |shown| shown["rx_lost"].as_u64() > Some(0));
    lab.does("set memif1/0 loss=0 partition=on");
    assert_eq!(ping(&lab)["received"], 0);
    lab.does("set memif1/0 partition=off delay=0");
    answered(&lab, 0.0);
    let shown = lab.show("memif1/0");
    assert_eq!((&shown["impairments"], &shown["link"]), (&"".into(), &"up".into()), "{shown}");
    assert_eq!(shown["rings"][0]["size"], 1_024, "the same connection");

    for (setting, words) in [
        ("dealy=20ms", "did you mean 'delay'?"),
        ("delay=20mss", "delay=20mss: it is a time"),
        ("loss=200%", "from 0% to 100%"),
        ("reorder=10%", "add a delay"),
        ("rsize=9", "take it down before changing its rsize"),
    ] {
        lab.run(["set", "memif1/0", setting]).fails_with(2, &[words]);
    }
}

#[test]
fn the_link_of_a_host_misbehaves() {
    let lab = lab!();
    let args = "host ./lan.bus 10.0.0.2/24 --impair in.delay=10ms,seed=3 --impair out.delay=20ms";
    let host = lab.ready(args.split_whitespace());
    assert!(answered(&lab, 30_000.0) >= 30_000.0);
    assert!(host.interrupt().status.success());
    let cut = "host ./lan.bus 10.0.0.2/24 --impair loss=100%";
    let _host = lab.ready(cut.split_whitespace());
    assert_eq!(ping(&lab)["received"], 0);
    lab.run(["host", "./lan.bus", "10.0.0.3/24", "--impair", "lss=1%"])
        .fails_with(2, &["there is no impairment called 'lss' (did you mean 'loss'?)"]);
}
