//! `busctl ping`.

use crate::Lab;

#[test]
fn replies_are_told_as_ping_tells_them() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24 fd00::1/64");
    for (target, from, len) in [("10.0.0.1", "10.0.0.2/24", 64), ("fd00::1", "fd00::2/64", 64)] {
        let text = lab.prints(&format!("ping ./lan.bus {target} --from {from} -c 2 -i 0.01"));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with(&format!("PING {target} from ")), "{text}");
        assert!(
            lines[1].starts_with(&format!("{len} bytes from {target}: icmp_seq=1 ttl=64 time=")),
            "{text}"
        );
        assert!(lines[2].contains("icmp_seq=2"), "{text}");
        assert_eq!(lines[4], format!("--- {target} ping statistics ---"), "{text}");
        assert!(
            lines[5].starts_with("2 packets transmitted, 2 received, 0% packet loss, time "),
            "{text}"
        );
        assert!(lines[6].starts_with("rtt min/avg/max/mdev = "), "{text}");
    }
}

#[test]
fn requests_of_every_size_are_answered() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24 fd00::1/64");
    for (target, from, sizes) in [
        ("10.0.0.1", "10.0.0.2/24", [0, 1472, 1473, 8000, 65507]),
        ("fd00::1", "fd00::2/64", [0, 1452, 1453, 4000, 65527]),
    ] {
        for size in sizes {
            let ping = format!("ping ./lan.bus {target} --from {from} -c 1 -s {size}");
            assert!(lab.prints(&ping).contains(&format!("{} bytes from {target}", size + 8)));
        }
    }
    lab.fails("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -s 65508", 2, "65507 are the most");
    lab.fails("ping ./lan.bus fd00::1 --from fd00::2/64 -s 65528", 2, "65527 are the most");
}

#[test]
fn a_host_that_is_not_there_is_unreachable_and_the_interval_is_kept() {
    let lab = Lab::new().with_bus();
    for (target, from, why) in [
        ("10.0.0.1", "10.0.0.2/24", "Destination Host Unreachable"),
        ("fd00::1", "fd00::2/64", "Destination unreachable: Address unreachable"),
    ] {
        let ping = format!("ping ./lan.bus {target} --from {from} -c 3 -i 0");
        let run = lab.busctl(&ping).assert().code(1);
        let text = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
        let own = from.split('/').next().unwrap();
        for sequence in 1..=3 {
            assert!(text.contains(&format!("From {own} icmp_seq={sequence} {why}\n")), "{text}");
        }
        let (_, time) = text.split_once("0 received, +3 errors, 100% packet loss, time ").unwrap();
        let millis: u32 = time.trim().strip_suffix("ms").unwrap().parse().unwrap();
        // They wait together, and not one after the other.
        assert!(millis < 4_000, "{text}");
    }
}

#[test]
fn the_json_has_the_keys_that_were_promised() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24");
    let report = lab.json("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 200 -i 0 --json");
    assert_eq!(
        (report["sent"].as_u64(), report["received"].as_u64()),
        (Some(200), Some(200)),
        "{report}"
    );
    assert_eq!(report["loss"].as_f64(), Some(0.0));
    let times =
        ["rtt_min_us", "rtt_p50_us", "rtt_avg_us", "rtt_max_us"].map(|key| report[key].as_f64());
    assert!(
        times.iter().all(|time| time.is_some_and(|time| (0.1..1e7).contains(&time))),
        "{report}"
    );
    assert!(times[0] <= times[1] && times[1] <= times[3] && times[2] <= times[3], "{report}");
}

#[test]
fn without_a_reply_it_fails_and_still_counts() {
    let lab = Lab::new().with_bus();
    let ping = "ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 2 -i 0.01 -W 0.1";
    let run = lab.busctl(ping).assert().code(1).stderr("busctl: no reply from 10.0.0.1\n");
    let text = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(text.contains("2 packets transmitted, 0 received, 100% packet loss"), "{text}");
    let run = lab.busctl(&format!("{ping} --json")).assert().code(1);
    let report: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(
        (report["loss"].as_f64(), &report["rtt_min_us"]),
        (Some(1.0), &serde_json::Value::Null)
    );
}

#[test]
fn a_flood_is_quiet_and_tells_its_pace() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24");
    let text = lab.prints("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -f -c 300");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[3].starts_with("300 packets transmitted, 300 received, 0% packet loss, time "),
        "{text}"
    );
    let (_, pace) = lines[4].split_once(" ms, ").unwrap();
    assert!(pace.contains("ipg/ewma ") && pace.ends_with(" ms"), "{text}");
    lab.json("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -f -c 3 --json");
}

#[test]
fn the_first_request_waits_for_its_target() {
    let lab = Lab::new().with_bus();
    let ping = lab.start("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 1 -W 20 --json");
    while !lab.prints("dump ./lan.bus").contains("packet 0") {}
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24");
    let mut ping = ping;
    let report: serde_json::Value = serde_json::from_str(&ping.line()).unwrap();
    assert_eq!(report["received"], 1, "{report}");
    assert!(
        report["rtt_max_us"].as_f64() < Some(900_000.0),
        "the wait is not in the time: {report}"
    );
}

#[test]
fn an_interrupted_ping_prints_its_statistics() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24");
    let mut ping = lab.start("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -i 60");
    while !ping.line().contains("icmp_seq=1") {}
    ping.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(ping.line(), "");
    assert!(ping.line().starts_with("--- "));
    assert!(ping.line().starts_with("1 packets transmitted, 1 received"));
    assert_eq!(ping.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_host_behind_memif_is_pinged_and_waited_for() {
    let lab = Lab::new();
    let host = lab.start("host memif:role=client,id=3,socket=./m.sock,reconnect=10 10.0.0.1/24");
    let ping = "ping memif:role=server,id=3,socket=./m.sock 10.0.0.1 --from 10.0.0.2/24 -c 3 -i 0.01 -W 20";
    assert!(lab.prints(ping).contains("3 packets transmitted, 3 received"));
    // The peer went and another came: the host is still there.
    assert!(lab.prints(ping).contains("3 packets transmitted, 3 received"));
    assert!(!lab.path("m.sock").exists());
    assert_eq!(host.interrupt(), Some(0));
    let alone = "ping memif:role=client,socket=./m.sock 10.0.0.1 --from 10.0.0.2/24 -W 0.1";
    lab.busctl(alone)
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicates::str::contains("no memif peer"));
}

#[test]
fn addresses_that_do_not_go_together_are_refused() {
    let lab = Lab::new();
    for (target, from, why) in [
        ("10.0.1.1", "10.0.0.2/24", "on another network"),
        ("10.0.0.2", "10.0.0.2/24", "the address of the ping itself"),
        ("fd00::1", "10.0.0.2/24", "one is IPv4 and the other IPv6"),
        ("224.0.0.1", "10.0.0.2/24", "not the address of a single host"),
        ("10.0.0.1", "10.0.0.2", "the length of its network's prefix"),
        ("10.0.0.1", "10.0.0.255/24", "a host cannot have this address"),
        ("10.0.0.255", "10.0.0.2/24", "the broadcast address of the network"),
        ("10.0.0.0", "10.0.0.2/24", "that of the network itself"),
        ("255.255.255.255", "10.0.0.2/24", "another network"),
        ("fd00::", "fd00::2/64", "that of the network itself"),
        ("ff02::1", "fd00::2/64", "not the address of a single host"),
        ("ten", "10.0.0.2/24", "invalid IP address"),
    ] {
        lab.fails(&format!("ping ./lan.bus {target} --from {from}"), 2, why);
    }
    lab.fails("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -i -1", 2, "unexpected argument");
    lab.fails("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -i=-1", 2, "a number of seconds");
    lab.fails("ping memif:rol=server 10.0.0.1 --from 10.0.0.2/24", 2, "did you mean 'role'?");
    lab.fails("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24", 2, "no such file");
    assert!(!lab.path("lan.bus").exists());
}
