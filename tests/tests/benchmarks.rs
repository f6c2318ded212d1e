//! `busctl bench` of each kind, for a second: it runs without privileges, counts from sequence numbers, and leaves nothing.
//! No speed is asserted: that depends on the machine.

use system_tests::turn::Turn;
use system_tests::{Lab, lab};

fn bench(kind: &str) {
    let _turn = Turn::take();
    let lab = lab!();
    let run = lab.run(["bench", kind, "--seconds", "1", "--frame", "128", "--json"]);
    let report = run.json();
    assert_eq!((&report["bench"], &report["frame"]), (&kind.into(), &128.into()), "{run}");
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}: {run}"));
    assert!(count("sent") > 1000 && count("received") > 1000, "{run}");
    if kind != "bus" {
        assert_eq!(count("sent"), count("received") + count("lost"), "every frame is accounted for: {run}");
    }
    let seconds = report["seconds"].as_f64().unwrap_or_else(|| panic!("seconds: {run}"));
    assert!(seconds >= 0.9, "{run}");
    for rate in ["tx_pps", "rx_pps"] {
        assert!(report[rate].as_f64() > Some(0.0), "{rate}: {run}");
    }
    assert!(count("burst") > 0 && count("stations") >= 2, "{run}");
    for folder in [lab.tmp(), lab.runtime(), lab.state()] {
        assert_eq!(Lab::list(&folder), [""; 0], "left in {}", folder.display());
    }
}

#[test]
fn the_bus_benchmark_runs() {
    bench("bus");
}

#[test]
fn the_memif_benchmark_accounts_for_every_frame() {
    bench("memif");
}

#[test]
fn the_adapter_benchmark_accounts_for_every_frame() {
    bench("adapter");
}

#[test]
fn several_stations_can_listen() {
    let _turn = Turn::take();
    let lab = lab!();
    let report = lab.run(["bench", "bus", "--seconds", "1", "--stations", "4", "--json"]).json();
    assert_eq!(report["stations"].as_u64(), Some(4), "{report}");
}
