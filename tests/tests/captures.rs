//! What `busctl dump` writes, read by other tools.

use std::process::Command;
use std::time::{Duration, Instant};

use system_tests::reference::RumpPeer;
use system_tests::{Lab, frames, lab, privilege, require};

/// Runs a tool in the lab and returns what it prints.
fn tool(lab: &Lab, program: &str, args: &[&str]) -> String {
    let program = system_tests::require::find(program).expect("it was required");
    lab.run_program(lab.command(program).args(args)).succeeds().to_owned()
}

#[test]
fn tshark_and_capinfos_read_a_pcapng_of_two_buses() {
    require!("tshark", "capinfos");
    let lab = lab!();
    let mut rumps = [1, 2].map(|unit| {
        RumpPeer::attach(&lab.path(&format!("{unit}.bus")), [0xb2, 0xa0, 0, 0, 0, unit])
    });
    for (rump, count) in rumps.iter_mut().zip([3, 4]) {
        rump.send((0..count).map(|number| frames::numbered(60, number)));
    }
    let (one, two, capture) = (lab.arg("1.bus"), lab.arg("2.bus"), lab.arg("both.pcapng"));
    lab.run(["dump", &one, &two, "-q", "-w", &capture]).succeeds();

    let report = tool(&lab, "capinfos", &[&capture]);
    for line in [
        "Number of packets:   7",
        "File encapsulation:  Ethernet",
        "nanoseconds (9)",
        "Number of interfaces in file: 2",
        "Capture length = 1514",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
    let fields =
        ["frame.interface_name", "frame.comment", "eth.src", "frame.len", "frame.time_epoch"];
    let mut args = vec!["-r", &capture, "-T", "fields"];
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let table = tool(&lab, "tshark", &args);
    let dumped = lab.run(["dump", &one, &two, "--json"]);
    let packets: Vec<serde_json::Value> = dumped
        .succeeds()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line.get("packet").is_some())
        .collect();
    assert_eq!((table.lines().count(), packets.len()), (7, 7), "{table}");
    for (line, packet) in table.lines().zip(packets) {
        let [bus, comment, source, len, time] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!(bus, packet["bus"], "{line}");
        assert_eq!(
            comment,
            format!("sender {}", packet["sender"].as_str().expect("a sender")),
            "{line}"
        );
        assert_eq!((source, len), ("02:00:00:00:00:77", "60"), "{line}");
        let stamp = format!(
            "{}.{:06}000",
            packet["seconds"],
            packet["microseconds"].as_u64().expect("a stamp")
        );
        assert_eq!(time, stamp, "{line}");
    }
}

/// Writes the same frames with both tools: the files have the same names and the same frames.
#[test]
fn a_ring_of_files_is_like_that_of_tcpdump() {
    require!("tcpdump");
    let lab = lab!();
    let all: Vec<_> = (0..3000).map(|number| frames::numbered(1500, number)).collect();
    frames::write_pcap(&lab.path("all.pcap"), &all);
    for turns in [
        &["-C", "1"][..],
        &["-C", "1", "-W", "1"],
        &["-C", "1", "-W", "3"],
        &["-C", "1", "-W", "11"],
    ] {
        let [ours, theirs] = ["ours", "theirs"].map(|whose| {
            let folder = lab.path(&format!("{whose}{}", turns.concat()));
            std::fs::create_dir(&folder).expect("a folder in the lab");
            privilege::hand_over(&folder);
            folder
        });
        let bus = lab.arg(&format!("bus{}", turns.concat()));
        let mut rump = RumpPeer::attach(bus.as_ref(), [0xb2, 0xa0, 0, 0, 0, 1]);
        let file = ours.join("f").display().to_string();
        let capture = lab.spawn([&["dump", &bus, "-f", "-w", &file], turns].concat());
        capture.wait_for_line("bus version");
        for (round, frames) in (1..).zip(all.chunks(300)) {
            rump.send(frames);
            capture.wait_for_line(&format!("packet {}, ", round * 300 - 1));
        }
        let _ = capture.interrupt();

        let file = theirs.join("f").display().to_string();
        tool(&lab, "tcpdump", &[&["-r", &lab.arg("all.pcap"), "-w", &file], turns].concat());
        let names = Lab::list(&theirs);
        assert_eq!(Lab::list(&ours), names, "{turns:?}");
        for name in names {
            let (ours, theirs) =
                (frames::read_pcap(&ours.join(&name)), frames::read_pcap(&theirs.join(&name)));
            assert!(
                ours == theirs,
                "{turns:?} {name}: {} frames, and {} in tcpdump's",
                ours.len(),
                theirs.len()
            );
        }
    }
}

/// As its user has it: the program is linked to where the programs of Wireshark look.
#[test]
fn wireshark_captures_from_a_bus() {
    require!("tshark");
    let lab = lab!();
    let (bus, home) = (lab.arg("lan.bus"), lab.arg("home"));
    let host = lab.ready(["host", &bus, "10.0.0.1/24"]);
    let at_home = |command: &mut Command| {
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("WIRESHARK_EXTCAP_DIR");
        lab.run_program(command).succeeds().to_owned()
    };
    let links = at_home(&mut lab.busctl(["extcap", "--install"]));
    assert_eq!(links.lines().count(), 2, "{links}");
    let program = system_tests::require::find("tshark").expect("it was required");
    let tshark = |args: &[&str]| {
        let mut command = lab.command(&program);
        command.args(args);
        command
    };
    let devices = at_home(&mut tshark(&["-D"]));
    let named = |line: &str| line.contains(&format!("{bus} (")) && line.contains(" host ");
    assert!(devices.lines().any(named), "{devices}");

    let file = lab.path("icmp.pcap");
    let saved = file.display().to_string();
    let words = ["-i", &bus, "-f", "icmp", "-s", "70", "-c", "4", "-F", "pcap", "-w", &saved];
    let mut capture = tshark(&words).env("HOME", &home).spawn().expect("tshark runs");
    // Each ping asks for the host's address, too.
    let begin = Instant::now();
    while capture.try_wait().expect("a child").is_none() {
        assert!(begin.elapsed() < Duration::from_mins(1), "tshark has seen no 4 frames");
        lab.run(["ping", &bus, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "1"]).succeeds();
    }
    let frames = frames::read_pcap(&file);
    assert_eq!(frames.len(), 4);
    for frame in frames {
        // IPv4, ICMP.
        assert_eq!((&frame[12..14], frame[23]), (&[8, 0][..], 1));
    }

    let said = lab.does(&format!("extcap --extcap-interface {bus} --extcap-capture-filter tcp"));
    assert_eq!(said, "");
    let said = lab.does(&format!("extcap --extcap-interface {bus} --extcap-capture-filter tpc"));
    assert!(said.contains("the filter 'tpc' is wrong"), "{said}");
    at_home(&mut lab.busctl(["extcap", "--uninstall"]));
    assert!(!at_home(&mut tshark(&["-D"])).contains(&bus));
    let _ = host.interrupt();
}
