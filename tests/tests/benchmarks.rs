//! `busctl bench` of each kind, for a second. It runs without privileges, counts by sequence
//! numbers, and leaves nothing. No speed is asserted, because it depends on the machine.

use serde_json::Value;
use system_tests::reference::RumpPeer;
use system_tests::{CpuLock, Lab, WAIT_TIMEOUT, lab, wait};

/// Returns a figure of a report.
fn figure(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"))
}

fn assert_nothing_is_left(lab: &Lab) {
    for folder in [lab.tmp(), lab.runtime(), lab.state()] {
        assert_eq!(Lab::list(&folder), [""; 0], "left in {}", folder.display());
    }
}

fn bench(kind: &str) {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let run = lab.run(["bench", kind, "--seconds", "1", "--frame", "128", "--json"]);
    let report = run.json();
    assert_eq!((&report["bench"], &report["frame"]), (&kind.into(), &128.into()), "{run}");
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}: {run}"));
    assert!(count("sent") > 1000 && count("received") > 1000, "{run}");
    if kind != "bus" {
        assert_eq!(
            count("sent"),
            count("received") + count("lost"),
            "every frame is accounted for: {run}"
        );
    }
    let seconds = report["seconds"].as_f64().unwrap_or_else(|| panic!("seconds: {run}"));
    assert!(seconds >= 0.9, "{run}");
    for rate in ["tx_pps", "rx_pps"] {
        assert!(report[rate].as_f64() > Some(0.0), "{rate}: {run}");
    }
    assert!(count("burst") > 0 && count("stations") >= 2, "{run}");
    assert_nothing_is_left(&lab);
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
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let report = lab.run(["bench", "bus", "--seconds", "1", "--stations", "4", "--json"]).json();
    assert_eq!(report["stations"].as_u64(), Some(4), "{report}");
}

/// With several rounds, JSON has a line for each measurement, and the table has a row for each
/// plan.
#[test]
fn rounds_are_lines_of_json_or_a_row_each() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let args = ["bench", "memif", "--count", "5000", "--rounds", "2"];
    let run = lab.run(args.into_iter().chain(["--json"]));
    let lines: Vec<Value> = run
        .succeeds()
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(lines.len(), 2, "{run}");
    assert!(lines.iter().all(|line| line["received"] == 5000 && line["lost"] == 0), "{run}");
    let table = lab.run(args);
    assert_eq!(table.succeeds().lines().count(), 3, "a header, a line, and a row: {table}");
}

#[test]
fn a_table_is_drawn_and_its_figures_are_kept() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let (svg, figures) = (lab.arg("table.svg"), lab.arg("table.json"));
    let files = ["--svg", &svg, "--figures", &figures];
    let words = ["bench", "adapter", "--sweep", "--seconds", "0.2", "--rounds", "1"];
    let run = lab.run([&words[..], &files].concat());
    let table = run.succeeds();

    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&figures).unwrap()).unwrap();
    assert_eq!(kept["command"], "busctl bench adapter --sweep --rounds 1 --seconds 0.2");
    let rows = kept["charts"][0]["rows"].as_array().unwrap();
    // A heading and a line stand above the rows of the table.
    assert_eq!(rows.len(), table.lines().count() - 2, "{table}");
    let received = rows[0][1][1].as_f64().unwrap();
    assert!(received > 0.0, "{kept}");

    let drawn = std::fs::read_to_string(&svg).unwrap();
    for text in ["frame 64, burst 32", kept["machine"].as_str().unwrap()] {
        assert!(drawn.contains(text), "{text}: {drawn}");
    }
}

#[test]
fn every_variant_of_memif_accounts_for_every_frame() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    for variant in [
        &["--zero-copy", "--sender", "server"][..],
        &["--rx-mode", "interrupt", "--frame", "9000"],
        &["--rsize", "14", "--bsize", "64", "--sender", "server"],
        &["--rsize", "1", "--burst", "1"],
    ] {
        let args = ["bench", "memif", "--count", "20000", "--json"];
        let run = lab.run(args.into_iter().chain(variant.iter().copied()));
        let report = run.json();
        assert_eq!(
            (&report["sent"], &report["received"]),
            (&20_000.into(), &20_000.into()),
            "{run}"
        );
        assert_eq!((&report["lost"], &report["misordered"]), (&0.into(), &0.into()), "{run}");
    }
    let report = lab.run(["bench", "memif", "--queues", "2", "--seconds", "0.5", "--json"]).json();
    assert_eq!((&report["queues"], &report["lost"]), (&2.into(), &0.into()), "{report}");
    assert_eq!(report["sent"], report["received"], "{report}");
}

/// A receiver that sleeps between frames uses less processor time than one that polls.
#[test]
fn processor_time_is_not_wall_clock_time() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let share = |mode| {
        let args = [
            "bench",
            "memif",
            "--burst",
            "1",
            "--pps",
            "100",
            "--seconds",
            "2",
            "--json",
            "--rx-mode",
        ];
        let report = lab.run(args.into_iter().chain([mode])).json();
        assert!(figure(&report, "received") > 0.0, "{report}");
        figure(&report, "rx_cpu_seconds") / figure(&report, "seconds")
    };
    let (asleep, awake) = (share("interrupt"), share("polling"));
    assert!(asleep < awake, "asleep {asleep}, polling {awake}");
}

#[test]
fn single_frames_come_back_over_every_path() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    for subject in ["bus", "memif", "adapter"] {
        for mode in ["polling", "interrupt"] {
            let args =
                ["bench", subject, "--latency", "--count", "50", "--rx-mode", mode, "--json"];
            let run = lab.run(args);
            let report = run.json();
            assert_eq!(
                (&report["bench"], &report["rx_mode"]),
                (&subject.into(), &mode.into()),
                "{run}"
            );
            // The very first frames may find a node that is not yet connected at both ends.
            assert!(figure(&report, "round_trips") + figure(&report, "lost") >= 50.0, "{run}");
            assert!(figure(&report, "round_trips") > 0.0, "{run}");
            let quantiles = ["rtt_min_us", "rtt_p50_us", "rtt_p99_us", "rtt_max_us"];
            assert!(quantiles.map(|key| figure(&report, key)).is_sorted(), "{run}");
            assert!(figure(&report, "oneway_min_us") > 0.0, "{run}");
            assert!(figure(&report, "oneway_min_us") <= figure(&report, "rtt_min_us"), "{run}");
        }
    }
    assert_nothing_is_left(&lab);
}

/// Two commands, each one end of the same measurement.
#[test]
fn either_end_of_memif_can_be_measured_alone() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let keys = |role| format!("role={role},id=3,socket={}", lab.arg("sock"));
    let listening = lab.spawn([
        "bench",
        "memif",
        "--seconds",
        "0.5",
        "--json",
        "--receive-from",
        &keys("server"),
    ]);
    let client = format!("{},rsize=8", keys("client"));
    let sent = lab.run(["bench", "memif", "--seconds", "1", "--json", "--send-to", &client]).json();
    let received = listening.finish(WAIT_TIMEOUT).json();
    assert!(figure(&received, "received") > 0.0 && received["sent"].is_null(), "{received}");
    assert!(sent["sent"].as_u64() >= received["received"].as_u64(), "{sent} {received}");
    assert_eq!(received["lost"], 0, "our own frames are numbered: {received}");
    assert_eq!((&sent["sender"], &received["sender"]), (&"client".into(), &"client".into()));
    assert_eq!(sent["rsize"], 8, "as its keys say: {sent}");
    assert!(!lab.path("sock").exists(), "the socket is gone with the server");
}

#[test]
fn frames_of_a_rump_kernel_are_counted_without_numbers() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let bus = lab.path("lan.bus");
    let mut peer = RumpPeer::attach(&bus, [2, 0, 0, 0, 0, 9]);
    let mut run = lab.spawn([
        "bench",
        "bus",
        "--seconds",
        "0.3",
        "--json",
        "--receive-from",
        &lab.arg("lan.bus"),
    ]);
    let sent = wait::poll(WAIT_TIMEOUT, || {
        peer.send(vec![[0xff; 60]; 16]);
        (!run.is_running()).then_some(())
    });
    assert!(sent.is_some(), "it ends by itself after the first frame");
    let report = run.finish(WAIT_TIMEOUT).json();
    assert!(figure(&report, "received") >= 16.0, "{report}");
    assert!(report["lost"].is_null() && report["sent"].is_null(), "{report}");
}

#[test]
fn stopping_leaves_nothing() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    let shared = || Lab::list(std::path::Path::new("/dev/shm"));
    let mine = |names: Vec<String>| {
        names.into_iter().filter(|name| name.starts_with("busctl-bench-")).count()
    };
    let before = mine(shared());
    let run = lab.spawn(["bench", "bus", "--seconds", "60"]);
    assert!(
        wait::poll(WAIT_TIMEOUT, || (mine(shared()) > before).then_some(())).is_some(),
        "it has begun"
    );
    let ended = run.interrupt();
    ended.fails_with(1, &["stopped"]);
    assert_eq!(mine(shared()), before, "its folder is gone");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = lab!();
    for (args, cause) in [
        (&["bench", "bus", "--frame", "21"][..], "22 to 9216"),
        (&["bench", "bus", "--latency", "--frame", "29"], "30 to 9216"),
        (&["bench", "memif", "--stations", "3"], "--stations 3"),
        (&["bench", "bus", "--rsize", "8"], "bench memif"),
        (&["bench", "memif", "--taps"], "--taps"),
        (&["bench", "memif", "--queues", "2", "--count", "9"], "one queue"),
        (&["bench", "adapter", "--send-to", "./x"], "--send-to"),
        (&["bench", "memif", "--send-to", "role=sever"], "server"),
        (&["bench", "bus", "--cpu", "1"], "--cpu"),
        (&["bench", "bus", "--sweep", "--frame", "64"], "--sweep"),
        (&["bench", "bus", "--receive-from", "./none"], "no such file"),
    ] {
        lab.run(args).fails_with(2, &[cause]);
    }
}

/// The bus, or the rings, are made so that they carry them.
#[test]
fn jumbo_frames_are_measured() {
    let _cpus = CpuLock::acquire();
    let lab = lab!();
    for words in [
        "bench bus --frame 9000 --own-format",
        "bench bus --frame 9216 --latency",
        "bench adapter --frame 9000",
        "bench memif --frame 65553",
    ] {
        let run = lab.run(words.split(' ').chain(["--seconds", "0.1", "--json"]));
        let report = run.json();
        let frames = report["received"].as_u64().or(report["round_trips"].as_u64());
        assert!(frames > Some(0), "{run}");
    }
    lab.run(["bench", "bus", "--frame", "9217"]).fails_with(2, &["9216 bytes on a bus"]);
    lab.run(["bench", "memif", "--frame", "65554"]).fails_with(2, &["65553 bytes over memif"]);
}

/// Zeros would look like a result.
#[test]
fn frames_that_never_fit_a_ring_are_refused() {
    let lab = lab!();
    for words in [
        "bench memif --frame 9000 --bsize 64 --rsize 6",
        "bench memif --frame 9000 --bsize 64 --rsize 6 --sender server --count 10",
        "bench memif --frame 9000 --bsize 64 --rsize 6 --latency",
        "bench memif --frame 1514 --send-to role=client,socket=./m.sock,rsize=4,bsize=64",
    ] {
        let refused = lab.run(words.split(' '));
        refused.fails_with(2, &["buffers of 64 bytes", "raise --bsize or --rsize"]);
    }
    // A server does not know the ring before the client comes.
    let receive = "bench memif --receive-from role=client,socket=./s.sock,rsize=4,bsize=64";
    let send = "bench memif --frame 1514 --seconds 0.3 --send-to role=server,socket=./s.sock";
    let receiver = lab.spawn(receive.split(' '));
    lab.run(send.split(' ')).fails_with(1, &["no frame of 1514 bytes was sent"]);
    drop(receiver);
    assert_nothing_is_left(&lab);
}
