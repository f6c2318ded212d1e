//! A bus file that is overwritten, cut short or repaired while verbs run on it. The verbs end with
//! a line that names the cause, or continue where they were.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use system_tests::reference::RumpPeer;
use system_tests::{Lab, Process, WAIT_TIMEOUT, frames, lab};

/// The kinds of damage to a file.
const DAMAGES: [fn(&File); 3] = [
    |file| file.write_all_at(b"oops", 0).expect("overwritten"),
    // The page of the header remains.
    |file| file.set_len(4096).expect("cut short"),
    |file| file.set_len(0).expect("cut to nothing"),
];

const LAST: u64 = 20;
const LOCK: u64 = 24;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).expect("a bus")
}

/// Creates a bus with one frame on it.
fn bus(lab: &Lab) -> RumpPeer {
    let mut rump = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 1]);
    rump.send([frames::numbered(60, 0)]);
    rump
}

fn live_dump(lab: &Lab) -> Process {
    let dump = lab.spawn(["dump", &lab.arg("lan.bus"), "-f"]);
    dump.wait_for_line("packet 0,");
    dump
}

#[test]
fn verbs_on_a_bus_that_is_damaged_end_and_report_it() {
    for damage in DAMAGES {
        let lab = lab!();
        drop(bus(&lab));
        let path = lab.arg("lan.bus");
        let port = format!("memif:role=server,id=0,socket={}", lab.arg("memif.sock"));
        let running = [
            live_dump(&lab),
            lab.ready(["host", &path, "10.0.0.2/24"]),
            lab.ready(["attach", &path, &port]),
        ];
        damage(&open(&lab.path("lan.bus")));
        for process in running {
            let ended = process.finish(WAIT_TIMEOUT);
            assert_eq!(ended.status.code(), Some(1), "{ended}");
            let last = ended.stderr.lines().last().unwrap_or_default();
            assert!(
                last.starts_with("busctl: ") && last.contains("is gone: its file was cut short"),
                "{ended}"
            );
        }
    }
}

/// Leaves the bus as a rump kernel does that dies between storing `last` and writing the packet:
/// locked.
fn die_as_a_rump_kernel(file: &File) {
    let word = |at| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at).expect("a bus");
        u32::from_ne_bytes(bytes)
    };
    let last = word(LAST);
    let next = last + 24 + word(32 + u64::from(last));
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    file.write_all_at(&next.to_ne_bytes(), LAST).expect("stored");
}

#[test]
fn a_live_dump_continues_where_it_was_when_its_bus_is_repaired() {
    let lab = lab!();
    drop(bus(&lab));
    let dump = live_dump(&lab);
    let file = open(&lab.path("lan.bus"));
    for round in 1..=3 {
        die_as_a_rump_kernel(&file);
        let refused = lab.run(["repair", &lab.arg("lan.bus")]);
        refused.fails_with(2, &[&dump.id().to_string()]);
        lab.run(["repair", &lab.arg("lan.bus"), "--force"]).succeeds();
        let mut rump = RumpPeer::attach(&lab.path("lan.bus"), [0xb2, 0xa0, 0, 0, 0, 2]);
        rump.send([frames::numbered(60, round)]);
        dump.wait_for_line(&format!("packet {round},"));
    }
    let ended = dump.interrupt();
    assert_eq!(
        ended.stdout.lines().filter(|line| line.starts_with("packet ")).count(),
        4,
        "{ended}"
    );
}

#[test]
fn a_bus_that_a_rump_kernel_died_making_is_repaired() {
    let lab = lab!();
    let path = lab.write("lan.bus", b"");
    let file = open(&path);
    file.set_len(1 << 20).expect("as long as a bus");
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).expect("locked");
    lab.run(["attach", &lab.arg("lan.bus"), &format!("memif:socket={}", lab.arg("memif.sock"))])
        .fails_with(1, &["busctl repair"]);
    let repaired = lab.run(["repair", &lab.arg("lan.bus")]);
    assert!(repaired.succeeds().contains("had not been made to its end, and is now"), "{repaired}");
    let mut rump = RumpPeer::attach(&path, [0xb2, 0xa0, 0, 0, 0, 1]);
    rump.send([frames::numbered(60, 0)]);
    assert_eq!(lab.run(["dump", &lab.arg("lan.bus"), "-c", "1"]).succeeds().lines().count(), 2);
}
