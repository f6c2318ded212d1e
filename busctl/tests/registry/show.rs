//! `show`: interfaces and buses, for people and for programs.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use predicates::str::contains;
use serde_json::Value;
use shmbus::{Bus, Station, StationOptions};

use crate::runner::Runner;
use crate::{Lab, refused};

#[test]
fn an_interface_is_shown_as_ifconfig_does() {
    let lab = Lab::new();
    lab.prints("create shmif0 mac=02:00:00:00:00:01 capenable=tso4 promisc=on");
    lab.prints("linkstr shmif0 ./lan.bus");
    lab.prints("up shmif0");
    let text = lab.prints("show shmif0");
    let bus = lab.path("lan.bus");
    for part in [
        "shmif0: flags=0x8903<UP,BROADCAST,PROMISC,SIMPLEX,MULTICAST> mtu 1500\n",
        "\tenabled=0x80<tso4>\n",
        "\taddress: 02:00:00:00:00:01\n",
        &format!("\tlinkstr: {}\n", bus.display()),
        "\tmedia: auto, link up\n",
        "\trun by: no process\n",
        "\tinput: 0 packets, 0 bytes, 0 dropped, 0 errors\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_running_interface_shows_its_process_and_keeps_its_counters() {
    let lab = Lab::new().with_interface_up();
    let runner = Runner::claim(&lab.path("state"), "shmif0");
    runner.report(&runner.record(), "", &[("tx_packets", 7), ("tx_bytes", 700)]);
    let running = lab.json("show shmif0 --json");
    assert_eq!((&running["running"], &running["pid"]), (&true.into(), &std::process::id().into()));
    assert!(running["flags"].as_array().unwrap().contains(&"running".into()));
    drop(runner);
    let stopped = lab.json("show shmif0 --json");
    assert_eq!((&stopped["running"], &stopped["pid"]), (&false.into(), &Value::Null));
    assert_eq!((&stopped["tx_packets"], &stopped["tx_bytes"]), (&7.into(), &700.into()));
}

#[test]
fn json_has_the_promised_keys() {
    let lab = Lab::new().with_interface_up();
    let interface = lab.json("show shmif0 --json");
    for key in "name kind linkstr mac flags link capenable rx_packets rx_bytes rx_dropped rx_errors tx_packets tx_bytes \
                tx_dropped tx_errors"
        .split(' ')
        .filter(|key| !key.is_empty())
    {
        assert!(interface.get(key).is_some(), "{key}");
    }
    let bus = lab.json("show ./lan.bus --json");
    for key in ["path", "version", "generation", "first", "last", "locked", "frames", "stations"] {
        assert!(bus.get(key).is_some(), "{key}");
    }
}

#[test]
fn a_bus_is_shown_with_its_frames_and_stations() {
    let lab = Lab::new();
    let path = lab.path("lan.bus");
    let mut station =
        Station::join(Bus::open_or_create(&path, 0o600).unwrap(), StationOptions::new()).unwrap();
    for _ in 0..200 {
        station.send(&[0xff; 60]).unwrap();
    }
    let bus = lab.json("show ./lan.bus --json");
    assert_eq!(
        (&bus["version"], &bus["generation"], &bus["frames"]),
        (&3.into(), &0.into(), &200.into())
    );
    assert_eq!((&bus["stations"], &bus["locked"]), (&1.into(), &false.into()));
    drop(station);
    assert_eq!(lab.json("show ./lan.bus --json")["stations"], 0);
    let text = lab.prints("show ./lan.bus");
    assert!(text.contains("frames: 200 whole in the ring"), "{text}");
}

#[test]
fn a_bus_can_be_shown_where_there_is_no_place_for_state() {
    let lab = Lab::new().with_interface_up();
    let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
    command.args(["--state", "/proc/none", "show", "--json"]).arg(lab.path("lan.bus"));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_shown() {
    let lab = Lab::new();
    lab.prints("create");
    lab.prints("create");
    let record = lab.path("state/interfaces/shmif0.toml");
    fs::write(&record, "name = \"shmif0\"\nup = yes\n").unwrap();
    let name = record.to_str().unwrap().to_owned();
    lab.busctl("show")
        .assert()
        .success()
        .stdout(contains("shmif1: "))
        .stderr(contains(name.clone()));
    lab.refuses("show shmif0", &name);
    lab.refuses("up shmif0", "is damaged: line 2");
    lab.prints("destroy shmif0");
    assert_eq!(lab.json("show --json")["interfaces"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_not_there_is_said() {
    let lab = Lab::new();
    lab.prints("create");
    lab.refuses("show shmif5", "there is no interface shmif5");
    lab.refuses("show lan.bus", "for a file in this folder say ./lan.bus");
    lab.refuses("show ./lan.bus", "no such file or directory");
    lab.refuses("show .//", "directory");
    for seconds in ["0", "x", "1e9", "nan", "inf", ""] {
        refused(lab.busctl("show").arg(format!("-w={seconds}")), 2, "a number of seconds above 0");
    }
}

/// `show` with these arguments, going on and on.
fn watch(lab: &Lab, words: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busctl"));
    command
        .current_dir(lab.path(""))
        .arg("--state")
        .arg(lab.path("state"))
        .args(words.split_whitespace());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[test]
fn watching_repeats_one_object_a_line() {
    let lab = Lab::new();
    lab.prints("create");
    let (child, lines) = watch(&lab, "show shmif0 --json -w 0.05");
    for line in lines.take(3) {
        assert_eq!(serde_json::from_str::<Value>(&line.unwrap()).unwrap()["name"], "shmif0");
    }
    // Its reader has gone with the iterator: it ends by itself, quietly.
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn watching_an_interface_tells_its_rates() {
    let lab = Lab::new().with_interface_up();
    let runner = Runner::claim(&lab.path("state"), "shmif0");
    let (mut child, lines) = watch(&lab, "show --json -w 0.05");
    let mut objects = lines
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["interfaces"][0].take());
    let first = objects.next().unwrap();
    assert_eq!((&first["rx_pps"], &first["tx_bps"]), (&Value::Null, &Value::Null));
    let second = objects.next().unwrap();
    assert_eq!((&second["rx_pps"], &second["tx_bps"]), (&0.0.into(), &0.0.into()));
    runner.report(&runner.record(), "", &[("rx_packets", 1000), ("rx_bytes", 60_000)]);
    let counted = objects.find(|object| object["rx_pps"].as_f64() > Some(0.0)).unwrap();
    // The time between the two looks is not known here, but the same for both.
    let (pps, bps) = (counted["rx_pps"].as_f64().unwrap(), counted["rx_bps"].as_f64().unwrap());
    assert!((bps / pps - 480.0).abs() < 1.0, "{counted}");
    assert_eq!(objects.next().unwrap()["rx_pps"], 0.0);
    child.kill().unwrap();
    child.wait().unwrap();
    // What is not watched has none.
    assert!(lab.json("show shmif0 --json").get("rx_pps").is_none());
}

#[test]
fn watching_a_bus_tells_its_rate() {
    let lab = Lab::new();
    let path = lab.path("lan.bus");
    let mut station =
        Station::join(Bus::open_or_create(&path, 0o600).unwrap(), StationOptions::new()).unwrap();
    let (mut child, mut lines) = watch(&lab, "show ./lan.bus -w 0.05 --json");
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["pps"], Value::Null);
    station.send_burst(vec![[0xff; 60]; 100]).unwrap();
    let busy = loop {
        let object = next();
        if object["pps"].as_f64() > Some(0.0) {
            break object;
        }
    };
    let (pps, bps) = (busy["pps"].as_f64().unwrap(), busy["bps"].as_f64().unwrap());
    assert!((bps / pps - 480.0).abs() < 1.0 && busy["estimated"] == false, "{busy}");
    // More than the ring holds.
    station.send_burst(vec![[0xff; 1500]; 2000]).unwrap();
    while next()["estimated"] == false {}
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, mut lines) = watch(&lab, "show ./lan.bus -w 0.05");
    let rate = lines.find(|line| line.as_ref().unwrap().contains("rate: ")).unwrap().unwrap();
    assert_eq!(rate, "\trate: 0 packets/s, 0 bit/s");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_mtu_is_that_of_the_bus() {
    let lab = Lab::new().with_interface_up();
    let big = shmbus::BusOptions::new().size(4 << 20);
    drop(big.open_or_create(lab.path("big.bus")).unwrap());
    lab.prints("create shmif1");
    assert_eq!(lab.json("show shmif1 --json")["mtu"], 1500, "without a bus");
    lab.prints("linkstr shmif1 ./big.bus");
    assert_eq!(lab.json("show shmif0 --json")["mtu"], 1500);
    assert_eq!(lab.json("show shmif1 --json")["mtu"], 9202);
    assert!(lab.prints("show shmif1").contains(" mtu 9202\n"));
    assert_eq!(lab.json("show ./lan.bus --json")["max_frame"], 1514);
    assert_eq!(lab.json("show ./big.bus --json")["max_frame"], 9216);
}
