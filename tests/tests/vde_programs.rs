//! Programs that speak VDE, on a bus by the plug-in `libvdeplug_shmif.so`: `vde_plug`, `vde_switch`
//! and machines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shmbus::{Burst, Bus, Station, StationOptions};
use system_tests::vm::Image;
use system_tests::{Lab, Process, WAIT_TIMEOUT, built, frames, lab, require, wait};

/// How long a machine may take to boot on a loaded machine, without KVM.
const BOOT: Duration = Duration::from_mins(3);

/// Returns the folder of the plug-in.
fn plugins(lab: &Lab) -> PathBuf {
    lab.reach(&built::library("libvdeplug_shmif.so")).parent().expect("a folder").to_owned()
}

/// Prepares a program that finds our plug-in, and those of the system.
fn vde(lab: &Lab, program: &str) -> Command {
    let of_triplet = |triplet: std::fs::DirEntry| triplet.path().join("vdeplug");
    let systems = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(of_triplet);
    let folders = [plugins(lab)].into_iter().chain(systems.filter(|folder| folder.is_dir()));
    let mut command = lab.command(program);
    command.env("VDEPLUGIN_PATH", std::env::join_paths(folders).expect("no colons"));
    command
}

fn url(lab: &Lab, bus: &str) -> String {
    format!("shmif://{}", lab.arg(bus))
}

fn join(path: &Path) -> Station {
    wait::until("the bus is made", WAIT_TIMEOUT, || Bus::open(path).is_ok());
    let options = StationOptions::new().promiscuous(true);
    Station::join(Bus::open(path).expect("a bus"), options).expect("joined")
}

/// A station at one end of a cable, and what it has sent and received.
struct End {
    station: Station,
    sent: u64,
    received: u64,
}

impl End {
    fn new(path: &Path) -> Self {
        Self { station: join(path), sent: 0, received: 0 }
    }

    fn send(&mut self, count: u64, len: usize) {
        let burst: Vec<_> =
            (self.sent..self.sent + count).map(|number| frames::numbered(len, number)).collect();
        self.station.send_burst(&burst).expect("sent");
        self.sent += count;
    }

    /// Takes in what there is: nothing is lost, doubled or damaged, and the order is kept.
    fn receive(&mut self) {
        let mut burst = Burst::new(64);
        while self.station.recv_burst(&mut burst) > 0 {
            for frame in &burst {
                assert_eq!(frames::number_of(frame.bytes), Some(self.received));
                self.received += 1;
            }
        }
    }
}

/// Two buses and a cable between them: frames go both ways at a pace that the receivers set, also
/// over a cable that stands still for a while; and a cable that is killed leaves nothing.
#[test]
fn vde_plug_carries_every_frame_between_two_buses() {
    const FRAMES: u64 = 4_000;
    /// So many are under way in each direction: those of both fit on a ring, however late each is
    /// read.
    const WINDOW: u64 = 200;
    require!("vde_plug");
    let lab = lab!();
    let mut command = vde(&lab, "vde_plug");
    let mut cable =
        Process::spawn("vde_plug", command.args([url(&lab, "one.bus"), url(&lab, "two.bus")]));
    let paths = [lab.path("one.bus"), lab.path("two.bus")];
    let [mut one, mut two] = [End::new(&paths[0]), End::new(&paths[1])];
    for end in [&one, &two] {
        let members = || end.station.bus().members();
        wait::until("the cable is there", WAIT_TIMEOUT, || {
            members().iter().any(|member| member.name == "vdeplug" && member.joins)
        });
    }
    let begin = Instant::now();
    while one.received < FRAMES || two.received < FRAMES {
        let received = [two.received, one.received];
        for (end, received) in [&mut one, &mut two].into_iter().zip(received) {
            let room = (received + WINDOW).min(FRAMES) - end.sent;
            end.send(room, 22 + usize::try_from(received % 1_400).expect("small"));
            end.receive();
        }
        assert!(begin.elapsed() < 2 * WAIT_TIMEOUT, "{} and {}", one.received, two.received);
    }
    // What the ring holds waits for a slow program: a third of it, and later as much of the other
    // direction.
    cable.signal(Signal::SIGSTOP);
    one.send(WINDOW, 1_514);
    two.send(WINDOW, 1_514);
    cable.signal(Signal::SIGCONT);
    wait::until("all have come", WAIT_TIMEOUT, || {
        one.receive();
        two.receive();
        one.received == FRAMES + WINDOW && two.received == FRAMES + WINDOW
    });
    cable.kill();
    for end in [&one, &two] {
        wait::until("it is gone", WAIT_TIMEOUT, || {
            end.station.bus().stations().expect("counted") == 0
        });
        assert_eq!(end.station.stats().overruns, 0);
    }
    // The bus works as before.
    let (mut alice, mut bob) = (one, End::new(&paths[0]));
    alice.sent = 0;
    alice.send(100, 60);
    bob.receive();
    assert_eq!(bob.received, 100);
    drop((alice, bob, two));
    let left = Lab::list(paths[0].parent().expect("a folder"));
    assert!(!left.iter().any(|name| name.contains(".wake")), "{left:?}");
}

/// Each bus has a plug in one switch of VDE.
#[test]
fn two_buses_meet_in_a_vde_switch() {
    require!("vde_switch", "vde_plug");
    let lab = lab!();
    let control = lab.arg("ctl");
    let _switch =
        Process::spawn("vde_switch", lab.command("vde_switch").args(["--sock", &control]));
    wait::until("the switch is there", WAIT_TIMEOUT, || lab.path("ctl/ctl").exists());
    let plug = |bus: &str| {
        let mut command = vde(&lab, "vde_plug");
        let url = format!("{}[name=cable/mode=0640]", url(&lab, bus));
        Process::spawn("vde_plug", command.args([url, format!("vde://{control}")]))
    };
    let _cables = [plug("one.bus"), plug("two.bus")];
    for bus in ["one.bus", "two.bus"] {
        wait::until("it is on the bus", WAIT_TIMEOUT, || {
            let members = Bus::open_read_only(lab.path(bus)).map(|bus| bus.members());
            members.is_ok_and(|members| members.iter().any(|member| member.name == "cable"))
        });
    }
    let _host = lab.ready(["host", &lab.arg("one.bus"), "10.0.0.1/24"]);
    let two = lab.arg("two.bus");
    let ping =
        ["ping", &two, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "20", "-i", "0.05", "--json"];
    let run = lab.run(ping);
    assert!(run.report()["received"].as_u64() >= Some(18), "{run}");
}

#[test]
fn a_machine_is_on_a_bus_by_vde() {
    require!("qemu-system-x86_64", "busybox");
    let lab = lab!();
    let Some(image) = Image::new(&lab) else { return };
    let image = image.with_vde_plugins(&plugins(&lab));
    let bus = lab.arg("lan.bus");
    let _host = lab.ready(["host", &bus, "10.9.0.2/24"]);
    let network = format!("vde,sock={}[learn=on]", url(&lab, "lan.bus"));
    let machine = image.boot(&lab, 1, "address=10.9.0.1/24 ping=10.9.0.2", &[network]);
    machine.wait_for(0, BOOT, "an answer", |line| {
        line.text.contains("10.9.0.1/24 has an answer of 10.9.0.2")
    });
    let show = lab.show(&bus);
    let members = show["members"].as_array().expect("members");
    assert!(members.iter().any(|member| member["name"] == "QEMU"), "{show}");
    let run = lab.run(["ping", &bus, "10.9.0.1", "--from", "10.9.0.3/24", "-c", "5", "--json"]);
    assert_eq!(run.report()["received"].as_u64(), Some(5), "{run}");
    drop(machine);
    lab.shows(&bus, "the host alone", |show| show["stations"] == 1);
}

#[test]
fn vde_plug_ends_with_its_bus() {
    require!("vde_plug");
    let lab = lab!();
    let mut command = vde(&lab, "vde_plug");
    let cable =
        Process::spawn("vde_plug", command.args([url(&lab, "one.bus"), url(&lab, "two.bus")]));
    let path = lab.path("two.bus");
    wait::until("it is on the bus", WAIT_TIMEOUT, || {
        Bus::open(&path).is_ok_and(|bus| bus.stations().expect("counted") == 1)
    });
    let file = std::fs::File::options().write(true).open(&path).expect("a bus");
    file.set_len(0).expect("cut");
    // As when the switch ends that it is plugged into: within a look, and by a line.
    let end = cable.finish(WAIT_TIMEOUT);
    assert!(end.stderr.starts_with("vdeplug_shmif: bus "), "{end}");
    assert!(end.stderr.contains("is gone"), "{end}");
}

#[test]
fn a_url_that_is_none_is_a_line() {
    require!("vde_plug");
    let lab = lab!();
    lab.write("file", b"precious");
    for (url, line) in [
        ("shmif://".to_owned(), "a URL has the path of a bus"),
        (format!("{}[vlan=3]", url(&lab, "lan.bus")), "`vlan=3` is no option"),
        (url(&lab, "file"), "is not a bus"),
    ] {
        let end = lab.run_program(vde(&lab, "vde_plug").arg(url));
        assert_eq!(end.status.code(), Some(1), "{end}");
        assert!(end.stderr.contains(line), "{end}");
    }
    assert!(!lab.path("lan.bus").exists());
}
