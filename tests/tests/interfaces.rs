//! The registry's verbs, as `ifconfig` has them for shmif: create, linkstr, up, down, set, show and
//! destroy.

use serde_json::Value;
use system_tests::{Lab, WAIT_TIMEOUT, lab, wait};

fn show(lab: &Lab, name: &str) -> Value {
    lab.run(["show", name, "--json"]).json()
}

#[test]
fn create_takes_the_lowest_free_unit_and_prints_its_name() {
    let lab = lab!();
    for name in ["shmif0", "shmif1", "shmif2"] {
        assert_eq!(lab.run(["create"]).succeeds(), format!("{name}\n"));
    }
    lab.run(["destroy", "shmif1"]).succeeds();
    assert_eq!(lab.run(["create", "shmif"]).succeeds(), "shmif1\n");
    assert_eq!(lab.run(["create", "shmif7"]).succeeds(), "shmif7\n");
    lab.run(["create", "shmif7"]).fails_with(2, &["shmif7"]);
}

#[test]
fn interfaces_made_at_the_same_time_get_different_units() {
    let lab = lab!();
    let racers: Vec<_> = (0..10).map(|_| lab.spawn(["create"])).collect();
    let mut names: Vec<String> =
        racers.into_iter().map(|racer| racer.finish(WAIT_TIMEOUT).succeeds().to_owned()).collect();
    names.sort();
    assert_eq!(names, (0..10).map(|unit| format!("shmif{unit}\n")).collect::<Vec<_>>());
}

#[test]
fn a_new_interface_is_down_and_plugged_into_nothing() {
    let lab = lab!();
    lab.run(["create"]).succeeds();
    let shmif0 = show(&lab, "shmif0");
    assert_eq!((&shmif0["name"], &shmif0["kind"]), (&"shmif0".into(), &"shmif".into()), "{shmif0}");
    assert_eq!(shmif0["linkstr"], Value::Null, "{shmif0}");
    let mac = shmif0["mac"].as_str().expect("a MAC");
    assert!(mac.starts_with("b2:a0:") && mac.len() == 17, "{mac}");
    for counter in [
        "rx_packets",
        "rx_bytes",
        "rx_dropped",
        "rx_errors",
        "tx_packets",
        "tx_bytes",
        "tx_dropped",
        "tx_errors",
    ] {
        assert_eq!(shmif0[counter].as_u64(), Some(0), "{counter}: {shmif0}");
    }
    for key in ["flags", "link", "capenable"] {
        assert!(shmif0.get(key).is_some(), "{key}: {shmif0}");
    }
}

#[test]
fn linkstr_plugs_and_unplugs_as_shmif_does() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    lab.run(["create"]).succeeds();
    lab.run(["linkstr", "shmif0"]).fails_with(2, &["shmif0"]);
    lab.run(["up", "shmif0"]).fails_with(2, &["shmif0"]);
    lab.run(["linkstr", "shmif0", ""]).fails_with(2, &[]);
    lab.run(["linkstr", "shmif0", &format!("./{}", "x".repeat(1100))]).fails_with(2, &["long"]);
    assert!(!lab.path("lan.bus").exists());

    lab.run(["linkstr", "shmif0", &bus]).succeeds();
    assert!(lab.path("lan.bus").exists(), "the bus was made");
    assert_eq!(lab.run(["linkstr", "shmif0"]).succeeds(), format!("{bus}\n"));
    assert_eq!(show(&lab, "shmif0")["linkstr"], bus.as_str());
    lab.run(["linkstr", "shmif0", &lab.arg("other.bus")]).fails_with(2, &["shmif0"]);
    assert!(!lab.path("other.bus").exists(), "refused, and not made");

    lab.run(["up", "shmif0"]).succeeds();
    lab.run(["linkstr", "shmif0", "--unset"]).fails_with(2, &["up"]);
    assert_eq!(lab.run(["linkstr", "shmif0"]).succeeds(), format!("{bus}\n"), "still plugged in");
    lab.run(["down", "shmif0"]).succeeds();
    lab.run(["linkstr", "shmif0", "--unset"]).succeeds();
    lab.run(["linkstr", "shmif0"]).fails_with(2, &["shmif0"]);
}

#[test]
fn a_bus_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab!();
    lab.run(["create"]).succeeds();
    lab.run(["linkstr", "shmif0", &lab.arg("lan.bus")]).succeeds();
    assert_eq!(std::fs::metadata(lab.path("lan.bus")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn set_changes_what_show_reports() {
    let lab = lab!();
    lab.run(["create", "shmif0", "mac=02:00:00:00:00:01"]).succeeds();
    assert_eq!(show(&lab, "shmif0")["mac"], "02:00:00:00:00:01");
    lab.run(["set", "shmif0", "mac=02:00:00:00:00:02", "promisc=on"]).succeeds();
    assert_eq!(show(&lab, "shmif0")["mac"], "02:00:00:00:00:02");
    let before = show(&lab, "shmif0");
    lab.run(["set", "shmif0", "mac=01:00:00:00:00:02"]).fails_with(2, &["mac"]);
    lab.run(["set", "shmif0", "mac=nonsense"]).fails_with(2, &["mac", "nonsense"]);
    lab.run(["set", "shmif0", "colour=blue"]).fails_with(2, &["colour"]);
    lab.run(["set", "shmif0", "mac=02:00:00:00:00:03", "colour=blue"]).fails_with(2, &["colour"]);
    assert_eq!(show(&lab, "shmif0"), before, "all of it or nothing");
}

#[test]
fn destroy_removes_the_interface_and_leaves_the_bus() {
    let lab = lab!();
    lab.run(["create"]).succeeds();
    lab.run(["linkstr", "shmif0", &lab.arg("lan.bus")]).succeeds();
    lab.run(["destroy", "shmif0"]).succeeds();
    lab.run(["show", "shmif0"]).fails_with(2, &["shmif0"]);
    lab.run(["destroy", "shmif0"]).fails_with(2, &["shmif0"]);
    assert!(lab.path("lan.bus").exists(), "others may be on it");
}

#[test]
fn invalid_names_are_refused() {
    let lab = lab!();
    for name in ["eth0", "shmif", "shmif-1", "shmif00", "shmif0x", "../shmif0", "shmif99999999999"]
    {
        lab.run(["up", name]).fails_with(2, &[name]);
    }
    for name in ["eth0", "shmif-1", "shmif0x"] {
        lab.run(["create", name]).fails_with(2, &[name]);
    }
    assert_eq!(
        lab.run(["show"]).succeeds().lines().filter(|line| line.contains("shmif")).count(),
        0
    );
}

#[test]
fn an_interface_gives_its_address_and_bus_to_the_verbs_that_use_it() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    for (name, mac) in [("shmif0", "mac=02:00:00:00:00:01"), ("shmif1", "mac=02:00:00:00:00:02")] {
        lab.run(["create", name, mac]).succeeds();
        lab.run(["linkstr", name, &bus]).succeeds();
        lab.run(["up", name]).succeeds();
    }
    let host = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
    let second = lab.run(["host", "shmif0", "10.0.0.9/24"]);
    assert!(
        second.stderr.contains(&host.id().to_string()),
        "the first one's pid is named: {second}"
    );
    assert!(second.status.code() == Some(1) || second.status.code() == Some(2), "{second}");

    lab.run(["ping", "shmif1", "10.0.0.1", "--from", "10.0.0.2/24", "-c", "3", "-i", "0.01"])
        .succeeds();
    let capture = lab.run(["dump", "shmif1", "-w", &lab.arg("lan.pcap")]);
    capture.succeeds();
    let frames = system_tests::frames::read_pcap(&lab.path("lan.pcap"));
    assert!(
        frames.iter().any(|frame| frame[6..12] == [2, 0, 0, 0, 0, 1]),
        "the host has shmif0's MAC"
    );
    assert!(
        frames.iter().any(|frame| frame[6..12] == [2, 0, 0, 0, 0, 2]),
        "the ping has shmif1's MAC"
    );

    // The runner saves its counters periodically, so they may be a moment old.
    let counts = |shmif0: &Value| {
        ["rx_packets", "tx_packets"].map(|key| shmif0[key].as_u64().expect("a counter"))
    };
    wait::until("an ARP request and three pings are counted, both ways", WAIT_TIMEOUT, || {
        counts(&show(&lab, "shmif0")).into_iter().all(|packets| packets >= 4)
    });
    let before = counts(&show(&lab, "shmif0"));
    let _ = host.interrupt();
    let after = counts(&show(&lab, "shmif0"));
    assert!(
        after[0] >= before[0] && after[1] >= before[1],
        "the last values stay: {after:?} after {before:?}"
    );
    let _again = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
}

#[test]
fn an_interface_whose_process_was_killed_is_free_again() {
    let lab = lab!();
    lab.run(["create"]).succeeds();
    lab.run(["linkstr", "shmif0", &lab.arg("lan.bus")]).succeeds();
    lab.run(["up", "shmif0"]).succeeds();
    for _ in 0..3 {
        lab.ready(["host", "shmif0", "10.0.0.1/24"]).kill();
    }
    let _host = lab.ready(["host", "shmif0", "10.0.0.1/24"]);
}

#[test]
fn the_state_folder_is_refused_when_it_belongs_to_another_user() {
    let lab = lab!();
    // As root we create a folder that belongs to root. As another user we take one of the system's.
    let folder =
        if system_tests::privilege::are_root() { lab.path("theirs") } else { "/usr".into() };
    let _ = std::fs::create_dir(&folder);
    let state = folder.to_str().expect("text").to_owned();
    lab.run(["--state", &state, "create"]).fails_with(2, &[&state]);
    assert!(!folder.join("shmif0").exists() && !folder.join("shmif0.toml").exists());
}
