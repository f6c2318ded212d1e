//! `busctl replay`.

use std::time::{Duration, Instant};

use crate::{Lab, frame, terminal};

#[test]
fn what_is_replayed_is_dumped_again() {
    let lab = Lab::new().with_bus();
    let frames: Vec<_> = (0..700).map(|len| frame(&vec![9; len])).collect();
    lab.write_pcap("in.pcap", &frames);
    let text = lab.prints("replay in.pcap ./lan.bus");
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert!(text.starts_with(&format!("700 frames, {bytes} bytes in ")), "{text}");
    lab.prints("dump ./lan.bus -w out.pcap");
    assert!(lab.read_pcap("out.pcap") == frames);

    let again =
        lab.busctl("replay - ./lan.bus --json").pipe_stdin(lab.path("in.pcap")).unwrap().output();
    let report: serde_json::Value = serde_json::from_slice(&again.unwrap().stdout).unwrap();
    assert_eq!(
        (report["frames"].as_u64(), report["bytes"].as_u64()),
        (Some(700), Some(bytes as u64))
    );
}

#[test]
fn what_a_bus_does_not_carry_is_passed_over_and_said() {
    let lab = Lab::new().with_bus();
    lab.write_pcap(
        "in.pcap",
        [vec![0xff; 1515], frame(b"good"), vec![0xff; 13], frame(&[1; 1500])],
    );
    let run = lab.busctl("replay in.pcap ./lan.bus --loop 3 --json").assert().success();
    let output = run.get_output();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["frames"], 6, "{report}");
    assert_eq!(
        (report["skipped_long"].as_u64(), report["skipped_short"].as_u64()),
        (Some(3), Some(3))
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("3 frames passed over: longer than 1514 bytes"), "{stderr}");
    assert!(stderr.contains("3 frames passed over: shorter than 14 bytes"), "{stderr}");
}

#[test]
fn it_keeps_its_pace() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", vec![frame(b"tick"); 50]);
    let begin = Instant::now();
    lab.prints("replay in.pcap ./lan.bus --pps 100");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(480), "{took:?}");
}

#[test]
fn an_interrupted_replay_says_how_far_it_came() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", [frame(b"tick")]);
    let mut replay = lab.start("replay in.pcap ./lan.bus --pps 100 --loop 1000000 --json");
    while lab.prints("dump ./lan.bus").lines().count() < 5 {}
    replay.signal(nix::sys::signal::Signal::SIGTERM);
    let report: serde_json::Value = serde_json::from_str(&replay.line()).unwrap();
    assert!((4..100_000).contains(&report["frames"].as_u64().unwrap()), "{report}");
    assert_eq!(replay.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_no_capture_changes_nothing() {
    let lab = Lab::new().with_bus();
    let before = std::fs::read(lab.path("lan.bus")).unwrap();
    std::fs::write(lab.path("notes.txt"), "These are my notes.").unwrap();
    std::fs::write(lab.path("short.pcap"), b"\xd4\xc3\xb2\xa1\x02").unwrap();
    let mut wifi =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    wifi.extend([105, 0, 0, 0]);
    std::fs::write(lab.path("wifi.pcap"), &wifi).unwrap();
    wifi[20] = 1;
    wifi.extend([0; 8]);
    wifi.extend([60, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3]);
    std::fs::write(lab.path("cut.pcap"), &wifi).unwrap();
    lab.fails("replay notes.txt ./lan.bus", 2, "notes.txt: it is not a capture");
    lab.fails("replay short.pcap ./lan.bus", 2, "its header is damaged: it is truncated");
    lab.fails("replay wifi.pcap ./lan.bus", 2, "not Ethernet but of link type 105");
    lab.fails("replay cut.pcap ./lan.bus", 2, "it is truncated at frame 1");
    lab.fails("replay nowhere.pcap ./lan.bus", 2, "nowhere.pcap: No such file");
    lab.fails("replay - ./lan.bus --loop 2", 2, "stdin can be played only once");
    assert!(std::fs::read(lab.path("lan.bus")).unwrap() == before);
    lab.write_pcap("in.pcap", [frame(b"one")]);
    lab.fails("replay in.pcap ./no.bus", 2, "no.bus: no such file");
    assert!(!lab.path("no.bus").exists());
}

#[test]
fn a_capture_that_is_damaged_further_on_is_replayed_up_to_there() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", [frame(b"one"), frame(b"two")]);
    let bytes = std::fs::read(lab.path("in.pcap")).unwrap();
    std::fs::write(lab.path("in.pcap"), &bytes[..bytes.len() - 1]).unwrap();
    let run = lab.busctl("replay in.pcap ./lan.bus").assert().code(1);
    let output = run.get_output();
    assert!(output.stdout.starts_with(b"1 frames, 17 bytes"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is truncated at frame 2"));
}

/// A frame played a million times: not the file.
#[test]
fn a_small_capture_is_read_once_however_often_it_is_played() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", [vec![1; 13], frame(b"tick")]);
    let mut replay = lab.start("replay in.pcap ./lan.bus --loop 1000000 --json");
    // It is at work with the first frames on the bus, and the file can go.
    while lab.prints("dump ./lan.bus").lines().count() < 2 {}
    std::fs::write(lab.path("in.pcap"), "").unwrap();
    let report: serde_json::Value = serde_json::from_str(&replay.line()).unwrap();
    assert_eq!(
        (&report["frames"], &report["skipped_short"]),
        (&1_000_000.into(), &1_000_000.into())
    );
    assert_eq!(replay.child.wait().unwrap().code(), Some(0));
}

#[test]
fn pcapng_is_replayed_too_and_every_bus_in_it() {
    let lab = Lab::new().with_bus();
    drop(shmbus::Bus::open_or_create(lab.path("two.bus"), 0o600).unwrap());
    lab.write_pcap("a.pcap", [frame(b"one")]);
    lab.write_pcap("b.pcap", [frame(b"two")]);
    lab.prints("replay a.pcap ./lan.bus");
    lab.prints("replay b.pcap ./two.bus");
    lab.prints("dump ./lan.bus ./two.bus -q -w both.pcapng");
    let third = lab.path("three.bus");
    drop(shmbus::Bus::open_or_create(&third, 0o600).unwrap());
    assert!(lab.prints("replay both.pcapng ./three.bus").starts_with("2 frames, 34 bytes in "));
    lab.prints("dump ./three.bus -q -w all.pcap");
    assert_eq!(lab.read_pcap("all.pcap"), [frame(b"one"), frame(b"two")]);
}

#[test]
fn a_bar_is_for_terminals() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", vec![frame(b"tick"); 30]);
    let (status, shown) = terminal::run(&mut lab.command("replay in.pcap ./lan.bus --pps 100"));
    assert!(status.success() && shown.contains(" frames, ") && shown.contains("to go"), "{shown}");
    assert!(
        shown.trim_end().ends_with(" s") && shown.contains("30 frames, 540 bytes in "),
        "{shown}"
    );
    lab.busctl("replay in.pcap ./lan.bus --pps 100").assert().success().stderr("");
}
