//! `busctl dump`.

use std::fs;
use std::io::Read as _;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;
use shmbus::{Bus, Station, StationOptions};

use crate::{Lab, frame, terminal};

fn send(lab: &Lab, frames: &[Vec<u8>]) {
    send_on(lab, "lan.bus", frames);
}

fn send_on(lab: &Lab, bus: &str, frames: &[Vec<u8>]) {
    let bus = Bus::open_or_create(lab.path(bus), 0o600).unwrap();
    Station::join(bus, StationOptions::new()).unwrap().send_burst(frames).unwrap();
}

fn read_pcapng(lab: &Lab, name: &str) -> Vec<Block<'static>> {
    let mut reader = PcapNgReader::new(fs::File::open(lab.path(name)).unwrap()).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    blocks
}

#[test]
fn an_empty_bus_is_its_header() {
    let lab = Lab::new().with_bus();
    let header = "bus version 3, lock: 0, generation: 0, firstoff: 0xfffe0, lastoff: 0x0000\n";
    assert_eq!(lab.prints("dump ./lan.bus"), header);
    assert_eq!(lab.prints("dump ./lan.bus -H"), header);
}

#[test]
fn each_packet_is_a_line_with_the_place_of_its_frame() {
    let lab = Lab::new().with_bus();
    send(&lab, &[frame(b""), frame(&[0; 1500])]);
    let text = lab.prints("dump ./lan.bus");
    let lines: Vec<_> = text.lines().collect();
    // The first packet lies behind the empty one at 0, and each frame behind 24 bytes of header.
    assert!(lines[0].ends_with("generation: 0, firstoff: 0xfffe0, lastoff: 0x003e"), "{text}");
    assert!(lines[1].starts_with("packet 0, offset 0x0030, length 0x000e, ts "), "{text}");
    assert!(lines[2].starts_with("packet 1, offset 0x0056, length 0x05ea, ts "), "{text}");
    let (_, micros) = lines[1].rsplit_once('/').unwrap();
    assert_eq!((lines.len(), micros.len()), (3, 6), "{text}");
    assert_eq!(lab.prints("dump ./lan.bus -c 1").lines().count(), 2);
    assert_eq!(lab.prints("dump ./lan.bus -H").lines().count(), 1);
}

/// A bus as a rump kernel and its tools leave it, with a packet that is too short to be a frame.
#[test]
fn packets_are_counted_as_shmif_dumpbus_counts_them() {
    let lab = Lab::new();
    let mut bus = vec![0; 1 << 20];
    let mut put = |at: usize, words: &[u32]| {
        for (index, word) in words.iter().enumerate() {
            bus[at + 4 * index..][..4].copy_from_slice(&word.to_ne_bytes());
        }
    };
    // Magic, version, generation, first, last, and the lock of a process that is gone.
    put(0, &[0xca11_d054, 3, 0, 0, 1_048_544, 77, 1]);
    // Behind the first, empty packet: one of 5 bytes, an empty one, and one of 14.
    put(32 + 24, &[5, 1, 2]);
    put(32 + 53, &[0, 9, 9]);
    put(32 + 77, &[14, 4_000_000_000, 999_999]);
    fs::write(lab.path("lan.bus"), &bus).unwrap();
    assert_eq!(
        lab.prints("dump ./lan.bus"),
        "bus version 3, lock: 1, generation: 0, firstoff: 0xfffe0, lastoff: 0x004d\n\
         packet 0, offset 0x0030, length 0x0005, ts 1/000002\n\
         packet 1, offset 0x0065, length 0x000e, ts 4000000000/999999\n"
    );
}

#[test]
fn a_pcap_has_the_frames_and_stdout_the_text() {
    let lab = Lab::new().with_bus();
    let frames: Vec<_> = (0..1500).map(|len| frame(&vec![7; len])).collect();
    // More than a ring holds: the oldest are gone.
    send(&lab, &frames);
    let text = lab.prints("dump ./lan.bus -w lan.pcap");
    let captured = lab.read_pcap("lan.pcap");
    assert_eq!(captured.len(), text.lines().count() - 1);
    assert!((600..1500).contains(&captured.len()), "{}", captured.len());
    assert!(captured == frames[frames.len() - captured.len()..]);

    let output = lab.command("dump ./lan.bus -w -").output().unwrap();
    assert!(output.stdout == fs::read(lab.path("lan.pcap")).unwrap());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), text);
}

#[test]
fn a_live_dump_goes_on_and_an_interrupted_one_is_whole() {
    let lab = Lab::new().with_bus();
    send(&lab, &[frame(b"old")]);
    let mut dump = lab.start("dump ./lan.bus -f -w live.pcap");
    assert!(dump.line().starts_with("bus version 3"));
    assert!(dump.line().starts_with("packet 0, "));
    send(&lab, &[frame(b"new")]);
    assert!(dump.line().starts_with("packet 1, "));
    // These two may still be unread when it is asked to stop.
    send(&lab, &[frame(b"newer"), frame(b"newest")]);
    assert_eq!(dump.interrupt(), Some(0));
    let captured = lab.read_pcap("live.pcap");
    assert_eq!(captured, [frame(b"old"), frame(b"new"), frame(b"newer"), frame(b"newest")]);
}

#[test]
fn a_live_pcap_on_a_pipe_is_there_while_the_bus_is_quiet() {
    let lab = Lab::new().with_bus();
    send(&lab, &[frame(b"one")]);
    let mut dump = lab.start("dump ./lan.bus -f -w -");
    let mut bytes = [0; 24 + 16 + 17];
    dump.stdout.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[40..], frame(b"one"));
    send(&lab, &[frame(b"two")]);
    dump.stdout.read_exact(&mut bytes[24..]).unwrap();
    assert_eq!(bytes[40..], frame(b"two"));
}

#[test]
fn it_changes_nothing_and_needs_only_permission_to_read() {
    let lab = Lab::new().with_bus();
    send(&lab, &[frame(b"one")]);
    let before = fs::read(lab.path("lan.bus")).unwrap();
    let mut mode = fs::metadata(lab.path("lan.bus")).unwrap().permissions();
    mode.set_readonly(true);
    fs::set_permissions(lab.path("lan.bus"), mode).unwrap();
    assert_eq!(lab.prints("dump ./lan.bus").lines().count(), 2);
    assert!(fs::read(lab.path("lan.bus")).unwrap() == before);
}

#[test]
fn files_that_cannot_be_written_are_named() {
    let lab = Lab::new().with_bus();
    lab.fails("dump ./lan.bus -w nowhere/lan.pcap", 2, "nowhere/lan.pcap: No such file");
    lab.fails("dump ./lan.bus -w ./lan.bus", 2, "it is the bus itself");
    assert_eq!(fs::metadata(lab.path("lan.bus")).unwrap().len(), 1 << 20);
    lab.busctl("dump ./lan.bus -w /dev/full")
        .assert()
        .code(1)
        .stderr("busctl: cannot write to /dev/full: No space left on device\n");
    lab.fails("dump ./lan.bus -H -w lan.pcap", 2, "cannot be used with");
    lab.fails("dump ./lan.bus -c 0", 2, "0 is not in 1..");
    lab.fails("dump lan.bus", 2, "say ./lan.bus");
}

/// Magic, version, generation, first, last, lock, spare, and packets of an old bus, in either byte
/// order.
#[test]
fn buses_that_cannot_be_joined_can_be_dumped() {
    let orders: [fn(u32) -> u32; 2] = [|word| word, u32::swap_bytes];
    for order in orders {
        let lab = Lab::new();
        let mut bus = vec![0; 1 << 20];
        let mut put = |at: usize, words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                bus[at + 4 * index..][..4].copy_from_slice(&order(*word).to_ne_bytes());
            }
        };
        put(0, &[0xca11_d054, 2, 0, 0, 1_048_544, 38, 0, 0]);
        // Version 2 has 12 bytes before each frame. The first packet is empty.
        put(32 + 12, &[14, 1, 2, u32::MAX, u32::MAX]);
        put(32 + 38, &[60, 4_000_000_000, 999_999, 0xaabb_ccdd]);
        fs::write(lab.path("lan.bus"), &bus).unwrap();
        let text = "bus version 2, lock: 0, generation: 0, firstoff: 0xfffe0, lastoff: 0x0026\n\
                    packet 0, offset 0x0018, length 0x000e, ts 1/000002\n\
                    packet 1, offset 0x0032, length 0x003c, ts 4000000000/999999\n";
        assert_eq!(lab.prints("dump ./lan.bus"), text);
        assert_eq!(lab.prints("dump ./lan.bus -c 1 -w lan.pcap").lines().count(), 2);
        assert_eq!(lab.read_pcap("lan.pcap").len(), 1);
        assert_eq!(lab.prints("dump ./lan.bus -H").lines().count(), 1);

        lab.fails("dump ./lan.bus -f", 2, "can be dumped, not joined");
        lab.fails("host ./lan.bus 10.0.0.1/24", 2, "can be dumped, not joined");
        assert!(fs::read(lab.path("lan.bus")).unwrap() == bus, "nothing is changed");
    }
}

#[test]
fn a_pcapng_has_an_interface_for_each_bus() {
    let lab = Lab::new();
    send_on(&lab, "one.bus", &[frame(b"first")]);
    send_on(&lab, "two.bus", &[frame(b"second"), frame(b"third")]);
    let text = lab.prints("dump ./one.bus ./two.bus -w both.pcapng");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("./one.bus: bus version 3"), "{text}");
    assert!(lines[1].starts_with("./two.bus: bus version 3"), "{text}");
    assert!(lines[2..].iter().any(|line| line.starts_with("./two.bus: packet 1, ")), "{text}");
    assert_eq!(lines.len(), 5, "{text}");

    let blocks = read_pcapng(&lab, "both.pcapng");
    let mut names = Vec::new();
    let mut frames = Vec::new();
    let mut senders = Vec::new();
    let mut received = Vec::new();
    for block in &blocks {
        match block {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.snaplen, 1514);
                names.extend(interface.options.iter().filter_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                }));
            }
            Block::EnhancedPacket(packet) => {
                frames.push((packet.interface_id, packet.data.to_vec()));
                let [EnhancedPacketOption::Comment(sender)] = &packet.options[..] else {
                    panic!("{packet:?}")
                };
                senders.push(sender.to_string());
            }
            Block::InterfaceStatistics(statistics) => {
                received.extend(statistics.options.iter().filter_map(|option| match option {
                    InterfaceStatisticsOption::IsbIfRecv(frames) => {
                        Some((statistics.interface_id, *frames))
                    }
                    _ => None,
                }));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names, ["./one.bus", "./two.bus"]);
    frames.sort();
    assert_eq!(frames, [(0, frame(b"first")), (1, frame(b"second")), (1, frame(b"third"))]);
    assert_eq!(received, [(0, 1), (1, 2)]);
    senders.sort();
    senders.dedup();
    assert_eq!(senders.len(), 2, "{senders:?}");
    // The identity is the one that the bus has.
    let json = lab.prints("dump ./one.bus --json");
    let packet: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert!(senders.contains(&format!("sender {}", packet["sender"].as_str().unwrap())));
}

#[test]
fn the_name_of_the_file_says_the_format_unless_the_user_does() {
    let lab = Lab::new().with_bus();
    let begins = |words: &str, file: &str, magic: u32| {
        assert_eq!(lab.prints(&format!("dump ./lan.bus -q {words}")), "");
        assert_eq!(fs::read(lab.path(file)).unwrap()[..4], magic.to_ne_bytes(), "{words}");
    };
    let (pcap, pcapng) = (0xa1b2_c3d4, 0x0a0d_0d0a);
    begins("-w a.pcap", "a.pcap", pcap);
    begins("-w a", "a", pcap);
    begins("-w a.pcapng", "a.pcapng", pcapng);
    begins("-w b.pcap --format pcapng", "b.pcap", pcapng);
    begins("-w b.pcapng --format pcap", "b.pcapng", pcap);
}

#[test]
fn a_ring_of_files_has_the_latest_frames() {
    let lab = Lab::new().with_bus();
    let mut dump = lab.start("dump ./lan.bus -f -w ring.pcap -C 1k -W 3");
    dump.line();
    // Four frames of 300 bytes make more than 1 KiB: a file has five at most.
    let frames: Vec<_> = (0..23).map(|number| frame(&[number; 286])).collect();
    for (number, frame) in frames.iter().enumerate() {
        send(&lab, std::slice::from_ref(frame));
        assert!(dump.line().starts_with(&format!("packet {number}, ")));
    }
    assert_eq!(dump.interrupt(), Some(0));
    // 24 bytes of header, and each frame with 16: the fourth passes 1,024, and so the fifth opens
    // the next file.
    let files = ["ring.pcap0", "ring.pcap1", "ring.pcap2"].map(|name| lab.read_pcap(name));
    assert!(files == [frames[12..16].to_vec(), frames[16..20].to_vec(), frames[20..].to_vec()]);
    assert!(!lab.path("ring.pcap").exists() && !lab.path("ring.pcap3").exists());

    // Without a number of files they are not written over, and each is a whole pcapng.
    send(&lab, &frames);
    lab.prints("dump ./lan.bus -q -w all.pcapng -C 1k");
    let packets = |name: &str| {
        let blocks = read_pcapng(&lab, name);
        assert!(matches!(blocks[0], Block::InterfaceDescription(_)), "{name}");
        blocks.iter().filter(|block| matches!(block, Block::EnhancedPacket(_))).count()
    };
    let mut names = vec!["all.pcapng".to_owned()];
    names.extend(
        (1..)
            .map(|number| format!("all.pcapng{number}"))
            .take_while(|name| lab.path(name).exists()),
    );
    assert_eq!(names.iter().map(|name| packets(name)).sum::<usize>(), 46);
    assert!(names.len() > 10, "{names:?}");
}

#[test]
fn what_is_missed_is_said_and_noted_in_the_capture() {
    let lab = Lab::new().with_bus();
    let mut dump = lab.start("dump ./lan.bus -f -w holes.pcapng");
    dump.line();
    send(&lab, &[frame(b"one")]);
    dump.line();
    dump.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", dump.child.id());
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {}
    // Twice around the ring.
    for _ in 0..3 {
        send(&lab, &vec![frame(&[7; 1000]); 700]);
    }
    send(&lab, &[frame(b"last")]);
    dump.signal(Signal::SIGCONT);
    let mut rest = String::new();
    dump.signal(Signal::SIGINT);
    dump.stdout.read_to_string(&mut rest).unwrap();
    let mut stderr = String::new();
    dump.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(dump.child.wait().unwrap().code(), Some(0));
    let warning = "busctl: warning: the bus was faster than this dump: overtaken 1 times, ";
    assert!(
        stderr.starts_with(warning) && stderr.ends_with(" bytes of the ring missed\n"),
        "{stderr}"
    );
    let blocks = read_pcapng(&lab, "holes.pcapng");
    // Everything that was still there when it was asked to stop.
    let latest = blocks.iter().rev().find_map(|block| match block {
        Block::EnhancedPacket(packet) => Some(packet.data.to_vec()),
        _ => None,
    });
    assert_eq!(latest, Some(frame(b"last")));
    assert!(blocks.len() > 900, "{}", blocks.len());
    let Some(Block::InterfaceStatistics(statistics)) = blocks.last() else { panic!("{blocks:?}") };
    let said = |option: &InterfaceStatisticsOption<'_>| match option {
        InterfaceStatisticsOption::Comment(comment) => comment.starts_with("overtaken 1 times, "),
        _ => false,
    };
    assert!(statistics.options.iter().any(said), "{statistics:?}");
}

#[test]
fn frames_are_explained_on_demand() {
    let lab = Lab::new().with_bus();
    send(&lab, &[frame(b"hello")]);
    let text = lab.prints("dump ./lan.bus -v");
    let line = text.lines().nth(1).unwrap();
    let (before, summary) = line
        .split_once(' ')
        .and_then(|(number, rest)| {
            assert_eq!(number, "0");
            rest.split_once(' ')
        })
        .unwrap();
    assert!(before.contains('.') && before.parse::<f64>().is_ok(), "{line}");
    assert_eq!(summary, "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, EtherType 0x88b5, 19 bytes");

    let json = lab.prints("dump ./lan.bus --json -v");
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["version"], &lines[0]["locked"]), (&3.into(), &false.into()));
    assert_eq!(
        (&lines[1]["packet"], &lines[1]["length"], &lines[1]["offset"]),
        (&0.into(), &19.into(), &48.into())
    );
    assert_eq!(lines[1]["summary"], "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, EtherType 0x88b5");
    let plain: Value =
        serde_json::from_str(lab.prints("dump ./lan.bus --json").lines().nth(1).unwrap()).unwrap();
    assert!(plain.get("summary").is_none() && plain["bus"] == "./lan.bus", "{plain}");
    assert_eq!(lab.prints("dump ./lan.bus --json -H").lines().count(), 1);
}

#[test]
fn wrong_use_is_refused_and_nothing_is_written() {
    let lab = Lab::new().with_bus();
    drop(Bus::open_or_create(lab.path("two.bus"), 0o600).unwrap());
    let before = fs::read_dir(lab.path("")).unwrap().count();
    lab.fails("dump ./lan.bus ./two.bus -w both.pcap", 2, "a pcap cannot hold several buses");
    lab.fails(
        "dump ./lan.bus ./two.bus -w both.pcapng --format pcap",
        2,
        "a pcap cannot hold several buses",
    );
    lab.fails("dump ./lan.bus -w - -C 1", 2, "stdout is one file");
    lab.fails("dump ./lan.bus -C 1", 2, "--write");
    lab.fails("dump ./lan.bus -w a -W 2", 2, "--turn-size");
    for size in ["0", "-1", "x", "1.5", "1t", "18446744073709551615k", ""] {
        lab.busctl("dump ./lan.bus -w a").arg(format!("-C={size}")).assert().code(2).stdout("");
    }
    lab.fails("dump ./lan.bus -w a -C 0k", 2, "a number of million bytes above 0");
    lab.fails("dump ./lan.bus -w a -C 1 -W 0", 2, "0 is not in 1..");
    lab.fails("dump ./lan.bus --format pcap", 2, "--write");
    lab.fails("dump ./lan.bus -w a --format pcp", 2, "'pcap'");
    // Short summaries, as of tcpdump.
    lab.prints("dump ./lan.bus -q");
    lab.fails("dump ./lan.bus -q -v -w a", 2, "cannot be used with");
    lab.fails("dump", 2, "<BUS>");
    lab.fails("dump ./lan.bus ./no.bus -w a", 2, "no.bus: no such file");
    lab.fails("dump shmif7", 2, "there is no interface shmif7");
    lab.fails("dump ./lan.bus -w lan.bus", 2, "it is the bus itself");
    assert_eq!(fs::read_dir(lab.path("")).unwrap().count(), before);
    // In a ring, too: the second file would be another bus that is dumped.
    fs::rename(lab.path("two.bus"), lab.path("x1")).unwrap();
    send(&lab, &vec![frame(&[7; 1000]); 3]);
    lab.fails("dump ./lan.bus ./x1 -q -w x --format pcapng -C 1k", 2, "x1: it is the bus itself");
    assert_eq!(fs::metadata(lab.path("x1")).unwrap().len(), 1 << 20);
}

#[test]
fn a_full_disk_ends_a_live_dump() {
    let lab = Lab::new().with_bus();
    for capture in ["-w /dev/full", "-w /dev/full --format pcapng -q"] {
        // Nothing comes: that the header cannot be written is enough.
        lab.busctl(&format!("dump ./lan.bus -f {capture}"))
            .assert()
            .code(1)
            .stderr("busctl: cannot write to /dev/full: No space left on device\n");
    }
}

#[test]
fn a_terminal_is_shown_how_a_capture_gets_on_and_never_the_capture() {
    let lab = Lab::new().with_bus();
    send(&lab, &vec![frame(b"x"); 20]);
    let (status, shown) = terminal::run(&mut lab.command("dump ./lan.bus -w -"));
    assert_eq!(status.code(), Some(2));
    assert!(shown.contains("a terminal cannot show a capture"), "{shown}");
    let (status, shown) = terminal::run(&mut lab.command("dump ./lan.bus -f -q -w a.pcap -c 20"));
    assert!(status.success(), "{shown}");
    assert_eq!(lab.read_pcap("a.pcap").len(), 20);
    // Elsewhere there is no sign of it.
    lab.busctl("dump ./lan.bus -f -q -w a.pcap -c 20").assert().success().stdout("").stderr("");
}

#[test]
fn a_bus_that_is_removed_is_noticed() {
    let lab = Lab::new().with_bus();
    let mut dump = lab.start("dump ./lan.bus -f");
    dump.line();
    fs::remove_file(lab.path("lan.bus")).unwrap();
    let mut line = String::new();
    let stderr = dump.child.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
    assert!(line.contains("lan.bus was removed"), "{line}");
    assert_eq!(dump.interrupt(), Some(0));
}

/// Waits until the process handles `SIGTERM` itself.
fn until_stoppable(process: &crate::Running) {
    let status = format!("/proc/{}/status", process.child.id());
    loop {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught & (1 << (Signal::SIGTERM as u64 - 1)) != 0 {
            return;
        }
    }
}

#[test]
fn a_pipe_without_a_reader_swallows_no_signal() {
    let lab = Lab::new().with_bus();
    mkfifo(&lab.path("pipe"), Mode::S_IRWXU).unwrap();
    for words in
        ["dump ./lan.bus -f -w pipe", "dump ./lan.bus -w pipe", "attach ./lan.bus pcap:out=pipe"]
    {
        let mut dump = lab.start(words);
        until_stoppable(&dump);
        dump.signal(Signal::SIGTERM);
        assert_eq!(dump.child.wait().unwrap().code(), Some(0), "{words}");
    }
    // With a reader it is written.
    send(&lab, &[frame(b"one")]);
    let mut dump = lab.start("dump ./lan.bus -q -w pipe");
    let capture = fs::read(lab.path("pipe")).unwrap();
    assert_eq!(capture[40..], frame(b"one"));
    assert_eq!(dump.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_is_not_read_is_given_up_after_a_signal() {
    let lab = Lab::new().with_bus();
    mkfifo(&lab.path("pipe"), Mode::S_IRWXU).unwrap();
    // It holds the pipe open and reads nothing.
    let _reader = fs::File::options().read(true).write(true).open(lab.path("pipe")).unwrap();
    let mut dump = lab.start("dump ./lan.bus -f -q -w pipe");
    until_stoppable(&dump);
    // More than the pipe holds.
    send(&lab, &vec![frame(&[7; 1000]); 200]);
    dump.signal(Signal::SIGTERM);
    assert_eq!(dump.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    dump.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the output is not read"), "{said}");
}

#[test]
fn a_limit_on_the_size_of_files_is_said() {
    let lab = Lab::new().with_bus();
    send(&lab, &vec![frame(&[7; 1000]); 500]);
    let program = env!("CARGO_BIN_EXE_busctl");
    let limited = |words: &str| {
        // Blocks of 512 or 1,024 bytes, as the shell has it.
        let script = format!("ulimit -f 100; {program} {words}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).current_dir(lab.path("")).env("TMPDIR", lab.path(""));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let line =
        "busctl: cannot write to lan.pcap: File too large; 'ulimit -f' limits the size of files\n";
    assert_eq!(limited("dump ./lan.bus -q -w lan.pcap"), (Some(1), line.to_owned()));
    let (code, said) = limited("dump ./lan.bus --json > text");
    assert!(code == Some(1) && said.contains("cannot write to stdout: File too large"), "{said}");
}

#[test]
fn frames_of_senders_with_other_clocks_can_have_the_time_of_their_arrival() {
    let lab = Lab::new().with_bus();
    let mut dump = lab.start("dump ./lan.bus -f --arrival --json -w live.pcapng");
    dump.line();
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs()
    };
    let before = now();
    send(&lab, &[frame(b"one")]);
    let packet: Value = serde_json::from_str(&dump.line()).unwrap();
    assert!((before..=now()).contains(&packet["seconds"].as_u64().unwrap()), "{packet}");
    assert_eq!(dump.interrupt(), Some(0));
    let blocks = read_pcapng(&lab, "live.pcapng");
    let stamp = blocks.iter().find_map(|block| match block {
        Block::EnhancedPacket(packet) => Some(packet.timestamp.as_secs()),
        _ => None,
    });
    assert!((before..=now()).contains(&stamp.unwrap()));
    lab.fails("dump ./lan.bus --arrival", 2, "--follow");
}

#[test]
fn a_link_of_ones_own_is_followed() {
    let lab = Lab::new().with_bus();
    std::os::unix::fs::symlink("real.pcap", lab.path("link.pcap")).unwrap();
    lab.prints("dump ./lan.bus -q -w link.pcap");
    assert!(lab.read_pcap("real.pcap").is_empty());
    std::os::unix::fs::symlink("lan.bus", lab.path("bus.pcap")).unwrap();
    lab.fails("dump ./lan.bus -q -w bus.pcap", 2, "it is the bus itself");
}

/// A UDP packet from this port, and one of another protocol.
fn packets() -> [Vec<u8>; 2] {
    let udp = |port: u16| {
        let head = [0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let ports = [port.to_be_bytes(), 9_u16.to_be_bytes()].concat();
        [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &head, &ports, &[0, 12, 0, 0], b"data"]
            .concat()
    };
    [udp(7), udp(8)]
}

#[test]
fn a_filter_chooses_frames_and_its_mistakes_are_shown() {
    let lab = Lab::new().with_bus();
    let [seven, eight] = packets();
    send(&lab, &[seven.clone(), frame(b"other"), eight.clone()]);
    lab.busctl("dump ./lan.bus -q -w all.pcap").assert().success();
    let lines = |line: &str| lab.prints(line).lines().count() - 1;
    assert_eq!(lines("dump ./lan.bus udp"), 2);
    assert_eq!(lines("dump ./lan.bus -v udp port 8"), 1);
    assert_eq!(lines("dump ./lan.bus net 10.0.0.0/8 and not port 7"), 1);
    assert_eq!(lines("dump ./lan.bus ./lan.bus udp and src port 7"), 3);
    fs::write(lab.path("filter"), "udp # and\nport 7\n").unwrap();
    lab.busctl("dump ./lan.bus -q -w seven.pcap -F filter").assert().success();
    assert_eq!(lab.read_pcap("seven.pcap"), std::slice::from_ref(&seven));
    lab.busctl("dump ./lan.bus udp prot 80").assert().code(2).stderr(
        "busctl: the filter 'udp prot 80' is wrong: syntax error at 'prot'\n  \
             udp prot 80\n      ^^^^\n",
    );
    lab.fails("dump ./lan.bus -F filter udp", 2, "in words and by -F");
    fs::write(lab.path("two.bus"), "").unwrap();
    lab.fails("dump ./lan.bus two.bus", 2, "say ./two.bus");

    let two = Bus::open_or_create(lab.path("three.bus"), 0o600).unwrap();
    drop(two);
    lab.busctl("replay all.pcap ./three.bus udp dst port 9 and src port 8").assert().success();
    lab.busctl("dump ./three.bus -q -w three.pcap").assert().success();
    assert_eq!(lab.read_pcap("three.pcap"), [eight]);
}

#[test]
fn flags_are_those_of_tcpdump() {
    let lab = Lab::new().with_bus();
    let [seven, _] = packets();
    send(&lab, std::slice::from_ref(&seven));
    let last = |line: &str| {
        let text = lab.prints(line);
        text.split_once('\n').unwrap().1.to_owned()
    };
    let udp = "10.0.0.1:7 > 10.0.0.2:9: UDP";
    assert_eq!(last("dump ./lan.bus -n -t"), format!("0 {udp}, length 4, 46 bytes\n"));
    assert_eq!(last("dump ./lan.bus -q -t"), format!("0 {udp}, 46 bytes\n"));
    let ethernet = "02:00:00:00:00:01 > 02:00:00:00:00:02";
    assert_eq!(last("dump ./lan.bus -et"), format!("0 {ethernet}, {udp}, length 4, 46 bytes\n"));
    let details = "(tos 0x0, ttl 64, id 0, offset 0, flags [none], proto 17, length 32)";
    assert!(last("dump ./lan.bus -vv").ends_with(&format!(", 46 bytes {details}\n")));
    assert!(
        last("dump ./lan.bus -tX")
            .ends_with("\t0x0010:  0a00 0002 0007 0009 000c 0000 6461 7461  ............data\n")
    );
    assert!(
        last("dump ./lan.bus -txx")
            .contains("\t0x0000:  0200 0000 0002 0200 0000 0001 0800 4500\n")
    );
    assert!(last("dump ./lan.bus -ttttt").contains(" 00:00:00.000000 10.0.0.1"));

    for name in ["lan.pcap.gz", "lan.pcap.zst"] {
        lab.busctl(&format!("dump ./lan.bus -q -s 20 -w {name}")).assert().success();
        lab.fails(&format!("replay {name} ./lan.bus --pps 0"), 2, "0 is not in 1..");
        let output = lab.command(&format!("replay {name} ./lan.bus -F none")).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let two = Bus::open_or_create(lab.path("two.bus"), 0o600).unwrap();
        drop(two);
        lab.busctl(&format!("replay {name} ./two.bus")).assert().success();
    }
    lab.busctl("dump ./two.bus -q -w two.pcap").assert().success();
    assert_eq!(lab.read_pcap("two.pcap"), [&seven[..20], &seven[..20]]);

    lab.busctl("dump ./lan.bus -q -G 60 -w lan-%Y.pcap").assert().success();
    assert!(fs::read_dir(lab.path(".")).unwrap().any(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("lan-20") && name.len() == "lan-2026.pcap".len()
    }));
    lab.fails("dump ./lan.bus -q -G 60 -w lan.pcap", 2, "-G takes a FILE with a time in it");
    // It ends after so many files, although it follows a bus that is silent.
    lab.busctl("dump ./lan.bus -f -q -G 1 -W 1 -w one-%Y.pcap").assert().success();
    let names = fs::read_dir(lab.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
    let one = names.iter().find(|name| name.starts_with("one-")).expect("a file");
    assert_eq!(lab.read_pcap(one), [seven]);
}

#[test]
fn a_dump_from_now_has_nothing_of_the_past() {
    let lab = Lab::new().with_bus();
    let [seven, eight] = packets();
    send(&lab, &[seven]);
    let mut dump = lab.start("dump ./lan.bus --now -n");
    assert!(dump.line().starts_with("bus version 3"));
    // The header is printed once the tap is there.
    send(&lab, &[eight]);
    assert!(dump.line().contains("10.0.0.1:8 > 10.0.0.2:9"));
    assert_eq!(dump.interrupt(), Some(0));
}
