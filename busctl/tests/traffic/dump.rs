//! `busctl dump`.

use std::io::Read as _;

use shmbus::{Bus, Interface, StationOptions};

use crate::{Lab, frame};

fn send(lab: &Lab, frames: &[Vec<u8>]) {
    let bus = Bus::open(lab.path("lan.bus")).unwrap();
    Interface::join(bus, StationOptions::new()).unwrap().send_burst(frames).unwrap();
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
    // Magic, version, generation, first, last, and the lock of somebody who is gone.
    put(0, &[0xca11_d054, 3, 0, 0, 1_048_544, 77, 1]);
    // Behind the first, empty packet: one of 5 bytes, an empty one, and one of 14.
    put(32 + 24, &[5, 1, 2]);
    put(32 + 53, &[0, 9, 9]);
    put(32 + 77, &[14, 4_000_000_000, 999_999]);
    std::fs::write(lab.path("lan.bus"), &bus).unwrap();
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
    assert!(output.stdout == std::fs::read(lab.path("lan.pcap")).unwrap());
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
    let before = std::fs::read(lab.path("lan.bus")).unwrap();
    let mut mode = std::fs::metadata(lab.path("lan.bus")).unwrap().permissions();
    mode.set_readonly(true);
    std::fs::set_permissions(lab.path("lan.bus"), mode).unwrap();
    assert_eq!(lab.prints("dump ./lan.bus").lines().count(), 2);
    assert!(std::fs::read(lab.path("lan.bus")).unwrap() == before);
}

#[test]
fn files_that_cannot_be_written_are_named() {
    let lab = Lab::new().with_bus();
    lab.fails("dump ./lan.bus -w nowhere/lan.pcap", 2, "nowhere/lan.pcap: No such file");
    lab.fails("dump ./lan.bus -w ./lan.bus", 2, "it is the bus itself");
    assert_eq!(std::fs::metadata(lab.path("lan.bus")).unwrap().len(), 1 << 20);
    lab.busctl("dump ./lan.bus -w /dev/full")
        .assert()
        .code(1)
        .stderr("busctl: cannot write to /dev/full: No space left on device\n");
    lab.fails("dump ./lan.bus -H -w lan.pcap", 2, "cannot be used with");
    lab.fails("dump ./lan.bus -c 0", 2, "0 is not in 1..");
    lab.fails("dump lan.bus", 2, "say ./lan.bus");
}

/// Magic, version, generation, first, last, lock, spare, and packets of an old bus, in either byte order.
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
        std::fs::write(lab.path("lan.bus"), &bus).unwrap();
        let text = "bus version 2, lock: 0, generation: 0, firstoff: 0xfffe0, lastoff: 0x0026\n\
                    packet 0, offset 0x0018, length 0x000e, ts 1/000002\n\
                    packet 1, offset 0x0032, length 0x003c, ts 4000000000/999999\n";
        assert_eq!(lab.prints("dump ./lan.bus"), text);
        assert_eq!(lab.prints("dump ./lan.bus -c 1 -w lan.pcap").lines().count(), 2);
        assert_eq!(lab.read_pcap("lan.pcap").len(), 1);
        assert_eq!(lab.prints("dump ./lan.bus -H").lines().count(), 1);

        lab.fails("dump ./lan.bus -f", 2, "can be dumped, not joined");
        lab.fails("host ./lan.bus 10.0.0.1/24", 2, "can be dumped, not joined");
        assert!(std::fs::read(lab.path("lan.bus")).unwrap() == bus, "nothing is changed");
    }
}
