//! `busctl host`.

use std::io::{Read as _, Write as _};

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
fn it_follows_its_interface_to_another_bus() {
    let lab = Lab::new();
    let busctl = |words: &str| lab.prints(&format!("--state ./state {words}"));
    for words in ["create shmif0", "linkstr shmif0 ./lan.bus", "up shmif0"] {
        busctl(words);
    }
    let host = lab.ready("--state ./state host shmif0 10.0.0.1/24");
    for bus in ["other.bus", "lan.bus"] {
        let plug = format!("linkstr shmif0 ./{bus}");
        for words in ["down shmif0", "linkstr shmif0 --unset", &plug, "up shmif0"] {
            busctl(words);
        }
        // It sleeps between the requests.
        let ping = format!("ping ./{bus} 10.0.0.1 --from 10.0.0.2/24 -c 5 -i 0.01 --json");
        assert_eq!(lab.json(&ping)["received"], 5);
    }
    assert_eq!(host.interrupt(), Some(0));
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

#[test]
fn networks_and_broadcasts_are_no_addresses_of_hosts() {
    let lab = Lab::new();
    for address in ["10.0.0.0/24", "10.0.0.255/24", "fd00::/64"] {
        lab.fails(&format!("host ./lan.bus {address}"), 2, "a host cannot have this address");
    }
    assert!(!lab.path("lan.bus").exists());
}

#[test]
fn an_address_that_another_host_has_is_refused_and_the_first_keeps_it() {
    let lab = Lab::new();
    for (first, second, taken) in [
        ("10.0.0.1/24", "10.0.0.9/24 10.0.0.1/16", "10.0.0.1"),
        ("fd00::1/64", "10.0.0.9/24 fd00::1/64", "fd00::1"),
    ] {
        let host = lab.ready(&format!("host ./lan.bus {first}"));
        let line = format!("the address is taken: {taken} is also used by the host at ");
        lab.fails(&format!("host ./lan.bus {second}"), 1, &line);
        assert_eq!(host.interrupt(), Some(0));
        // It is free now.
        assert_eq!(lab.ready(&format!("host ./lan.bus {second}")).interrupt(), Some(0));
    }
}

#[test]
fn a_missing_bus_is_made_as_it_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let host = lab.ready("host ./lan.bus 10.0.0.1/24 --mode 0660 --size 4M --json");
    let bus = lab.path("lan.bus").metadata().unwrap();
    assert_eq!((bus.len(), bus.permissions().mode() & 0o777), (4 << 20, 0o660));
    assert_eq!(host.interrupt(), Some(0));
}

#[test]
fn what_is_sent_is_counted_at_both_ends() {
    let lab = Lab::new();
    let mut sink = lab.ready("host ./lan.bus 10.0.0.1/24 fd00::1/64 --tcp-sink 5001 --json");
    for (from, to, bytes, written) in [
        ("10.0.0.2/24", "10.0.0.1:5001", 3 << 20, "3M"),
        ("fd00::2/64", "[fd00::1]:5001", 5 << 10, "5k"),
        ("10.0.0.2/24", "10.0.0.1:5001", 0, "0"),
    ] {
        let source =
            lab.prints(&format!("host ./lan.bus {from} --tcp-source {to} {written} --json"));
        let sent: serde_json::Value =
            serde_json::from_str(source.strip_prefix("{\"ready\":true}\n").unwrap()).unwrap();
        let received: serde_json::Value = serde_json::from_str(&sink.line()).unwrap();
        for end in [&sent, &received] {
            assert_eq!((&end["bytes"], &end["complete"]), (&bytes.into(), &true.into()), "{end}");
            assert_eq!((&end["from"], &end["to"]), (&sent["from"], &to.into()), "{end}");
            let (seconds, rate) =
                (end["seconds"].as_f64().unwrap(), end["bits_per_second"].as_f64().unwrap());
            assert!((rate * seconds - f64::from(bytes) * 8.0).abs() < 1.0, "{end}");
        }
    }
    assert_eq!(sink.interrupt(), Some(0));
}

#[test]
fn a_sink_takes_many_at_a_time_and_tells_of_each() {
    let lab = Lab::new();
    let mut sink = lab.ready("host ./lan.bus 10.0.0.1/24 --tcp-sink 5001");
    let sources: Vec<_> = (2..8)
        .map(|last| {
            lab.start(&format!("host ./lan.bus 10.0.0.{last}/24 --tcp-source 10.0.0.1:5001 1M"))
        })
        .collect();
    for _ in &sources {
        let line = sink.line();
        assert!(
            line.contains(" -> 10.0.0.1:5001: 1048576 bytes in ") && line.ends_with("bit/s"),
            "{line}"
        );
    }
    for mut source in sources {
        assert_eq!(source.line(), "ready");
        assert!(source.line().contains(" 1048576 bytes in "));
        assert_eq!(source.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_source_says_how_far_it_came_and_fails() {
    let lab = Lab::new();
    let _echo = lab.ready("host ./lan.bus 10.0.0.1/24");
    let refused =
        lab.busctl("host ./lan.bus 10.0.0.2/24 --tcp-source 10.0.0.1:5001 1M").assert().code(1);
    refused.stderr("busctl: 10.0.0.1:5001 has refused the connection\n");
    // An echo whose answers are not read stops receiving.
    let mut source = lab.ready("host ./lan.bus 10.0.0.2/24 --tcp-source 10.0.0.1:7 1G");
    while lab.prints("dump ./lan.bus").lines().count() < 50 {}
    source.signal(nix::sys::signal::Signal::SIGINT);
    assert!(source.line().ends_with(", broken off"));
    assert_eq!(source.child.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    source.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.starts_with("busctl: 10.0.0.1:7 has acknowledged only "), "{stderr}");
    assert!(stderr.ends_with(" of 1073741824 bytes\n"), "{stderr}");
}

#[test]
fn transfers_that_cannot_be_are_refused() {
    let lab = Lab::new();
    let source = "host ./lan.bus 10.0.0.2/24 fd00::2/64 --tcp-source";
    for (words, why) in [
        ("10.0.0.1 1M", "it takes an address and a port"),
        ("fd00::1:5001 1M", "it takes an address and a port"),
        ("10.0.0.1:5001 much", "a size is a number of bytes"),
        ("10.0.0.1:0 1M", "there is no port 0"),
        ("10.0.1.1:5001 1M", "not on a network of this host"),
        ("10.0.0.2:5001 1M", "this host's own address"),
        ("10.0.0.1:5001", "2 values required"),
        ("10.0.0.1:5001 1M --count 2", "cannot be used with"),
        ("10.0.0.1:5001 1M --commands", "cannot be used with"),
    ] {
        lab.fails(&format!("{source} {words}"), 2, why);
    }
    lab.fails("host ./lan.bus 10.0.0.1/24 --tcp-sink 7", 2, "it is the echo's");
    lab.fails("host ./lan.bus 10.0.0.1/24 --tcp-sink 0", 2, "non-zero");
    assert!(!lab.path("lan.bus").exists());
}
