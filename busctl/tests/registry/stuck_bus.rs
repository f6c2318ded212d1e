//! Buses whose lock was left behind, or whose header was scribbled on: what `show` says and what
//! `repair` does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};

use shmbus::{Bus, Station, StationOptions};

use crate::Lab;

const VERSION: u64 = 4;
const LAST: u64 = 20;
const LOCK: u64 = 24;

fn made(lab: &Lab) -> File {
    let path = lab.path("lan.bus");
    let bus = Bus::open_or_create(&path, 0o600).unwrap();
    Station::join(bus, StationOptions::new()).unwrap().send(&[0xff; 60]).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

/// As a rump kernel leaves it that dies between storing `last` and writing the packet's header,
/// where the ring holds what is none.
fn die_as_a_rump_kernel(file: &File) {
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).unwrap();
    file.write_all_at(&108_u32.to_ne_bytes(), LAST).unwrap();
    file.write_all_at(&[0xff; 4], 32 + 108).unwrap();
}

#[test]
fn a_dead_rump_kernel_is_named_with_the_cure() {
    let lab = Lab::new();
    let file = made(&lab);
    assert_eq!(lab.json("show ./lan.bus --json")["lock"], "free");
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).unwrap();
    assert!(lab.prints("show ./lan.bus").contains("busctl repair ./lan.bus"));
    die_as_a_rump_kernel(&file);
    let bus = lab.json("show ./lan.bus --json");
    assert_eq!((&bus["lock"], &bus["locked"]), (&"unknown".into(), &true.into()));
    let trouble = bus["trouble"].as_str().unwrap();
    assert!(trouble.contains("repair the bus ('busctl repair' does)"), "{trouble}");
    assert!(!trouble.contains("next station"), "no station can mend it: {trouble}");
    assert!(lab.prints("show ./lan.bus").contains("repair the bus"));
    for verb in ["dump -H ./lan.bus", "dump --json ./lan.bus"] {
        lab.refuses(verb, "repair the bus ('busctl repair' does)");
    }
    let done = lab.json("repair ./lan.bus --json");
    assert_eq!((&done["repaired"], &done["packets"]), (&true.into(), &2.into()));
    let bus = lab.json("show ./lan.bus --json");
    assert_eq!((&bus["lock"], &bus["frames"]), (&"free".into(), &1.into()));
    assert!(bus["trouble"].is_null());
}

#[test]
fn the_lock_of_a_dead_station_is_named_with_the_cure() {
    let lab = Lab::new();
    let file = made(&lab);
    // A station that held this number is no more.
    file.write_all_at(&[1, 0, 0, 0, 77, 0, 0, 0], LOCK).unwrap();
    let bus = lab.json("show ./lan.bus --json");
    assert_eq!(bus["lock"], "dead-station");
    assert!(bus["trouble"].as_str().unwrap().contains("busctl repair ./lan.bus"));
    assert!(lab.prints("repair ./lan.bus").contains("dead station"));
    assert_eq!(lab.json("show ./lan.bus --json")["lock"], "free");
}

/// A host of ours says when it has the lock, so it is not the unknown owner.
#[test]
fn a_host_is_not_in_the_way_of_a_repair() {
    let lab = Lab::new();
    let file = made(&lab);
    let mut host = Host::start(&lab);
    file.write_all_at(&1_u32.to_ne_bytes(), LOCK).unwrap();
    assert!(lab.prints("repair ./lan.bus").contains("unknown owner"));
    assert_eq!(lab.json("show ./lan.bus --json")["stations"], 1);
    host.end();
}

#[test]
fn a_scribbled_version_is_mended_by_force() {
    let lab = Lab::new();
    let file = made(&lab);
    file.write_all_at(&0x3000_u32.to_ne_bytes(), VERSION).unwrap();
    for verb in ["show ./lan.bus", "repair ./lan.bus", "dump ./lan.bus"] {
        lab.refuses(verb, "busctl repair --force");
    }
    let done = lab.json("repair --force ./lan.bus --json");
    assert_eq!((&done["repaired"], &done["scribbled_version"]), (&true.into(), &0x3000.into()));
    assert_eq!(lab.json("show ./lan.bus --json")["frames"], 1);
}

#[test]
fn a_big_bus_that_a_rump_kernel_cut_is_named_as_that() {
    let lab = Lab::new();
    let path = lab.path("lan.bus");
    shmbus::BusOptions::new().size(4 << 20).open_or_create(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(shmbus::BUS_SIZE).unwrap();
    lab.refuses("show ./lan.bus", "a rump kernel that attached to it cut it");
}

/// `busctl host` on the bus of a lab.
struct Host(Child);

impl Host {
    fn start(lab: &Lab) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_busctl"))
            .args(["host", "./lan.bus", "10.0.0.1/24"])
            .current_dir(lab.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut host = Self(child);
        let stdout = host.0.stdout.take().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        host
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}
