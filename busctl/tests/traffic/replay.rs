//! `busctl replay`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::{Lab, frame, terminal};

/// The bytes of a pcap with one frame, of which the first 24 are the file's header.
fn pcap_of(lab: &Lab, frame: &[u8]) -> Vec<u8> {
    lab.write_pcap("one.pcap", [frame]);
    std::fs::read(lab.path("one.pcap")).unwrap()
}

/// Waits until the bus has so many frames.
fn until_frames(lab: &Lab, bus: &str, count: usize) {
    let begin = Instant::now();
    while lab.prints(&format!("dump {bus}")).lines().count() < 1 + count {
        assert!(begin.elapsed() < Duration::from_secs(30), "frame {count} is not on the bus");
    }
}

#[test]
fn each_frame_of_a_live_pipe_goes_out_before_the_next_one_comes() {
    let lab = Lab::new().with_bus();
    let mut replay = lab.start("replay - ./lan.bus");
    let mut pipe = replay.stdin.take().unwrap();
    let capture = pcap_of(&lab, &frame(b"live"));
    pipe.write_all(&capture).unwrap();
    until_frames(&lab, "./lan.bus", 1);
    // The second one comes in pieces, and goes out once it is whole.
    let (head, rest) = capture[24..].split_at(20);
    pipe.write_all(head).unwrap();
    assert_eq!(lab.prints("dump ./lan.bus").lines().count(), 2);
    pipe.write_all(rest).unwrap();
    until_frames(&lab, "./lan.bus", 2);
    drop(pipe);
    assert!(replay.line().starts_with("2 frames, 36 bytes in "));
    assert_eq!(replay.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_replay_that_waits_for_a_pipe_can_be_stopped() {
    let lab = Lab::new().with_bus();
    mkfifo(&lab.path("pipe"), Mode::S_IRWXU).unwrap();
    for words in ["replay - ./lan.bus", "replay pipe ./lan.bus"] {
        let mut replay = lab.start(words);
        replay.until_it_catches_sigterm();
        replay.signal(Signal::SIGTERM);
        assert!(replay.line().starts_with("0 frames"), "{words}");
        assert_eq!(replay.child.wait().unwrap().code(), Some(0), "{words}");
    }
    lab.fails("replay pipe ./lan.bus --loop 2", 2, "a pipe can be played only once");
}

#[test]
fn the_longest_frame_is_that_of_the_bus() {
    let lab = Lab::new().with_bus();
    let bus = shmbus::BusOptions::new().size(4 << 20).open_or_create(lab.path("big.bus")).unwrap();
    let frames = [vec![0xff; 1515], vec![0xff; bus.max_frame()], vec![0xff; 60]];
    lab.write_pcap("in.pcap", frames.iter().chain([&vec![0xff; bus.max_frame() + 1]]));
    let report = lab.json("replay in.pcap ./big.bus --json");
    assert_eq!((&report["frames"], &report["skipped_long"]), (&3.into(), &1.into()));
    lab.prints("dump ./big.bus -q -w out.pcap");
    assert_eq!(lab.read_pcap("out.pcap"), frames);
    let report = lab.json("replay in.pcap ./lan.bus --json --loop 2");
    assert_eq!((&report["frames"], &report["skipped_long"]), (&2.into(), &6.into()));
}

#[test]
fn frames_of_other_links_are_passed_over_and_said_once() {
    let lab = Lab::new().with_bus();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/capture/tests/seeds");
    for (seed, rounds, frames, other) in
        [("interface_of_other_kind_between", 1, 3, 1), ("other_kind_first", 3, 9, 3)]
    {
        let file = seeds.join(format!("pcapng/{seed}.pcapng"));
        let run = lab
            .busctl(&format!("replay {} ./lan.bus --json --loop {rounds}", file.display()))
            .assert()
            .success();
        let report: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        assert_eq!(
            (report["frames"].as_u64(), report["skipped_other_link"].as_u64()),
            (Some(frames), Some(other)),
            "{seed}"
        );
        let said = String::from_utf8_lossy(&run.get_output().stderr);
        assert_eq!(said.matches("of another link type than Ethernet").count(), 1, "{said}");
    }
    let file = seeds.join("pcap/trailing_garbage.pcap");
    let run = lab.busctl(&format!("replay {} ./lan.bus", file.display())).assert().success();
    let said = String::from_utf8_lossy(&run.get_output().stderr);
    assert!(said.contains("3 bytes at the end of the capture are no frame"), "{said}");
}

/// A host that is stopped reads nothing, and reports what it has missed when it runs again.
#[test]
fn what_receivers_lost_is_said_at_the_end() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", vec![vec![0xff; 1000]; 1000]);
    let report = lab.json("replay in.pcap ./lan.bus --json");
    assert!(report["receivers_lost"].is_null(), "{report}");
    let host = lab.ready("host ./lan.bus 10.0.0.1/24");
    let report = lab.json("replay in.pcap ./lan.bus --json --pps 100000");
    assert_eq!(report["receivers_lost"], 0, "{report}");

    host.signal(Signal::SIGSTOP);
    // The ring is filled twelve times in a second; the host runs again in the second half.
    let mut replay = lab.start("replay in.pcap ./lan.bus --loop 12 --pps 12000");
    let begin = Instant::now();
    while lab.json("show ./lan.bus --json")["generation"].as_u64().unwrap() < 6 {
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
    host.signal(Signal::SIGCONT);
    let mut said = String::new();
    replay.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("receivers on the bus lost about "), "{said}");
    assert_eq!(replay.child.wait().unwrap().code(), Some(0));
}

/// Returns when the frames of the bus were sent, since 1970.
fn times(lab: &Lab) -> Vec<Duration> {
    lab.prints("dump ./lan.bus -q -w times.pcap");
    let mut reader = capture::CaptureReader::new(File::open(lab.path("times.pcap")).unwrap());
    let mut times = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        times.push(frame.time.unwrap());
    }
    times
}

#[test]
fn frames_go_out_as_they_were_recorded() {
    let lab = Lab::new().with_bus();
    // The second frame 0.2 s after the first, the third 0.1 s before it, the fourth another 0.2 s
    // later.
    let mut capture = pcap_of(&lab, &frame(b"timed"));
    let record = capture.split_off(24);
    for tenths in [0, 2, 1, 4_u32] {
        let mut record = record.clone();
        record[..4].copy_from_slice(&7_u32.to_ne_bytes());
        record[4..8].copy_from_slice(&(tenths * 100_000).to_ne_bytes());
        capture.extend(record);
    }
    std::fs::write(lab.path("timed.pcap"), &capture).unwrap();
    let (begin, since) = (Instant::now(), UNIX_EPOCH.elapsed().unwrap());
    lab.prints("replay timed.pcap ./lan.bus --speed 2");
    // The same gaps in every round.
    assert!(begin.elapsed() >= Duration::from_millis(200));
    lab.prints("replay timed.pcap ./lan.bus --speed 20 --loop 11");
    assert!(begin.elapsed() >= Duration::from_millis(400));
    lab.fails("replay timed.pcap ./lan.bus --speed 0", 2, "not a number above 0");
    lab.fails("replay timed.pcap ./lan.bus --speed 1 --pps 1", 2, "cannot be used with");
    for (time, due) in times(&lab).into_iter().zip([0, 100, 100, 200]) {
        // The bus counts microseconds.
        let earliest = since + Duration::from_millis(due);
        assert!(time + Duration::from_micros(1) >= earliest, "{time:?} {earliest:?}");
    }
}

#[test]
fn a_rate_in_bits_counts_the_bytes_of_frames() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", vec![vec![0xff; 1000]; 11]);
    // 80,000 bits are sent before the last frame.
    let report = lab.json("replay in.pcap ./lan.bus --mbit 0.4 --json");
    assert_eq!(report["frames"], 11);
    assert!(report["seconds"].as_f64().unwrap() >= 0.19, "{report}");
}

#[test]
fn packets_of_the_interface_any_become_ethernet() {
    let lab = Lab::new().with_bus();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/capture/tests/seeds/pcap");
    lab.prints(&format!("replay {} ./lan.bus", seeds.join("cooked.pcap").display()));
    lab.prints("dump ./lan.bus -q -w out.pcap");
    let frames = lab.read_pcap("out.pcap");
    let heads: Vec<_> = frames.iter().map(|frame| &frame[..14]).collect();
    let sender = [2, 0, 0, 0, 0, 1];
    let head = |to: [u8; 6], kind: [u8; 2]| [&to[..], &sender, &kind].concat();
    let expected =
        [head([0xff; 6], [0x88, 0xb5]), head([1, 0, 0x5e, 0, 0, 5], [8, 0]), head([0; 6], [0, 5])];
    assert_eq!(heads, expected);
}

/// The ring holds 12,483 of these frames.
#[test]
fn receivers_get_the_time_to_keep_up_unless_they_are_not_wanted_to() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", vec![vec![0xff; 60]; 1000]);
    let run =
        lab.busctl("replay in.pcap ./lan.bus --loop 200 --json").assert().success().stderr("");
    let report: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let turns = report["ring_turns"].as_f64().unwrap();
    assert!((15.9..16.1).contains(&turns), "{report}");
    assert!(report["seconds"].as_f64().unwrap() >= 0.02 * (turns - 1.0), "{report}");
    // As fast as the bus takes them, which no receiver can be sure to follow.
    let run = lab.busctl("replay in.pcap ./lan.bus --loop 2000 --top-speed").assert().success();
    let said = String::from_utf8_lossy(&run.get_output().stderr);
    assert!(said.contains("the ring was filled 160 times in "), "{said}");
    lab.fails("replay in.pcap ./lan.bus --topspeed --pps 5", 2, "cannot be used with");
}

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
    assert!(output.stdout.starts_with(b"1 frame, 17 bytes"), "{output:?}");
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
