//! Buses of machines that find each other. The last machine is a router of Zenoh's network, and an end,
//! too.

#![cfg(feature = "trunk")]

use std::fs;
use std::ops::Deref;
use std::time::{Duration, Instant};

use serde_json::Value;
use shmbus::{Burst, Bus, Station, StationOptions};
use system_tests::namespace;
use system_tests::site::Site;
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, wait};

/// Machines whose buses are ends of a trunk.
struct Trunk<'l>(Site<'l>);

impl<'l> Deref for Trunk<'l> {
    type Target = Site<'l>;

    fn deref(&self) -> &Site<'l> {
        &self.0
    }
}

impl<'l> Trunk<'l> {
    fn new(lab: &'l Lab, count: usize) -> Self {
        Self(Site::new(lab, count))
    }

    /// Joins the bus of a machine to those of the others by the router, which is the last machine.
    fn join(&self, number: usize, keys: &str) -> Process {
        let router = self.machines.len();
        let key = if number == router { "listen" } else { "connect" };
        let port = format!("trunk:lab,{key}=tcp/192.0.2.{router}:7447{keys}");
        self.ready(number, &format!("attach {} {port}", self.bus(number)))
    }

    /// Puts a host `10.0.0.NUMBER` on the bus of a machine.
    fn host(&self, number: usize) -> Process {
        self.ready(number, &format!("host {} 10.0.0.{number}/24", self.bus(number)))
    }

    /// Returns, for each end that a machine reaches, whether frames for it are Zenoh's messages.
    fn relayed(&self, number: usize) -> Vec<bool> {
        self.remotes(number).iter().map(|remote| remote["is_relayed"] == true).collect()
    }

    fn wait_for_ways(&self, number: usize, ways: &[bool]) -> Duration {
        wait::until("frames take the way", WAIT_TIMEOUT, || self.relayed(number) == ways)
    }

    /// Pings a host from the bus of a machine, and returns the report.
    fn ping(&self, from: usize, to: usize, more: &str) -> Value {
        let words =
            format!("ping {} 10.0.0.{to} --from 10.0.0.10{from}/24 --json {more}", self.bus(from));
        let run = self.lab.run(words.split_whitespace());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
    }

    fn wait_for_host(&self, from: usize, to: usize) -> Duration {
        wait::until("the host is reached", WAIT_TIMEOUT, || {
            self.ping(from, to, "-c 1 -W 0.3")["received"] == 1
        })
    }

    fn reaches(&self, from: usize, to: usize) {
        let report = self.ping(from, to, "-c 20 -i 0.01");
        assert_eq!(report["received"], 20, "{report}");
    }
}

/// Returns how many more of what a test repeats it repeats with `LONG_TESTS`.
fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("LONG_TESTS").is_some() { long } else { short }
}

#[test]
fn machines_find_each_other_and_are_one_lan() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 4);
    // The router comes last: the others wait for it.
    let _ports = [1, 2, 3, 4].map(|number| site.join(number, ""));
    let _hosts = [1, 2, 3, 4].map(|number| site.host(number));
    for number in 1..=4 {
        site.wait_for_ways(number, &[false; 3]);
    }
    for (from, to) in [(1, 2), (1, 3), (1, 4), (2, 3), (3, 1), (4, 2)] {
        site.wait_for_host(from, to);
        site.reaches(from, to);
    }
    let text = lab.run(["show", &lab.arg("1.bus")]);
    assert!(text.stdout.contains("(192.0.2.2): "), "{text}");
    thirty_stations_see_each_other(&site);
}

/// Ten stations on each of three buses: what each sends to all reaches every other one, once.
fn thirty_stations_see_each_other(site: &Trunk<'_>) {
    let join = |number: usize| {
        let bus = Bus::open(site.lab.path(&format!("{number}.bus"))).expect("a bus");
        Station::join(bus, StationOptions::new()).expect("joined")
    };
    let mut stations: Vec<Station> = (0..30).map(|number| join(number % 3 + 1)).collect();
    for (number, station) in (0_u8..).zip(&mut stations) {
        let source = station.mac().into_array();
        let frame = [&[0xff; 6][..], &source, &[0x88, 0xb5], &[number; 46]].concat();
        station.send(&frame).expect("sent");
    }
    let mut burst = Burst::new(256);
    for (own, station) in (0_u8..).zip(&mut stations) {
        let mut seen = [0; 30];
        wait::until("all others were heard", WAIT_TIMEOUT, || {
            station.recv_burst(&mut burst);
            for frame in burst.iter().filter(|frame| frame.bytes[12..14] == [0x88, 0xb5]) {
                seen[usize::from(frame.bytes[14])] += 1;
            }
            seen.iter().sum::<u32>() >= 29
        });
        let others = (0..30).filter(|other| *other != own);
        assert!(others.map(usize::from).all(|other| seen[other] == 1), "{own}: {seen:?}");
    }
}

/// Two machines that only the router reaches both of: one behind a firewall.
#[test]
fn where_no_datagram_passes_frames_go_by_zenoh_in_order() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 3);
    site.machine(1).ip("route add blackhole 192.0.2.2/32");
    let _ports = [3, 1, 2].map(|number| site.join(number, ""));
    let _host = site.host(2);
    site.wait_for_host(1, 2);
    wait::until("one of two ends is relayed to", WAIT_TIMEOUT, || {
        let ways = site.relayed(1);
        ways.len() == 2 && ways.iter().filter(|relayed| **relayed).count() == 1
    });
    site.reaches(1, 2);
    // The firewall opens and closes while pings are on their way.
    let pings = site.machine(1).spawn(
        lab.program(),
        format!("ping {} 10.0.0.2 --from 10.0.0.9/24 --json -c 400 -i 0.02", site.bus(1))
            .split(' '),
    );
    site.machine(1).ip("route del blackhole 192.0.2.2/32");
    site.wait_for_ways(1, &[false; 2]);
    let report = pings.finish(WAIT_TIMEOUT).json();
    assert_eq!(report["received"], 400, "none is lost when a better way is found: {report}");
    site.machine(1).ip("route add blackhole 192.0.2.2/32");
    wait::until("frames go by Zenoh again", WAIT_TIMEOUT, || site.relayed(1).contains(&true));
    site.wait_for_host(1, 2);
    site.reaches(1, 2);
}

#[test]
fn one_way_only_is_kept_to() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 3);
    let _ports =
        [site.join(3, ",via=zenoh"), site.join(1, ",via=vxlan"), site.join(2, ",via=auto")];
    let _hosts = [2, 3].map(|number| site.host(number));
    site.wait_for_host(1, 2);
    site.wait_for_host(2, 3);
    site.reaches(2, 3);
    wait::until("ways are chosen", WAIT_TIMEOUT, || {
        let mut ways = site.relayed(2);
        ways.sort_unstable();
        ways == [false, true]
    });
    assert_eq!(site.ping(1, 3, "-c 1 -W 0.3")["received"], 0, "they have no way in common");
}

/// Cables, routers and ends fail. Frames come again soon after, and nothing is left behind.
#[test]
fn what_fails_comes_back() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 3);
    let mut router = site.join(3, "");
    let _first = site.join(1, "");
    let mut second = site.join(2, "");
    let _host = site.host(2);
    site.wait_for_host(1, 2);
    site.wait_for_ways(1, &[false; 2]);

    // A router that is away stops no datagrams.
    router.kill();
    site.reaches(1, 2);
    router = site.join(3, "");
    site.wait_for_ways(1, &[false; 2]);
    site.reaches(1, 2);

    let cut = Duration::from_secs(rounds(3, 10) as u64);
    site.switch.ip("link set u2 down");
    let begin = Instant::now();
    wait::until("the cable was cut for long enough", WAIT_TIMEOUT, || begin.elapsed() >= cut);
    assert_eq!(site.ping(1, 2, "-c 1 -W 0.3")["received"], 0);
    site.switch.ip("link set u2 up");
    eprintln!("back after a cut of {cut:?}: {:?}", site.wait_for_host(1, 2));

    second.kill();
    second = site.join(2, "");
    eprintln!("back after a kill: {:?}", site.wait_for_host(1, 2));

    // In this order: with the first address of a network the others of it go, too.
    site.machine(2).ip("address delete 192.0.2.2/24 dev eth0");
    site.machine(2).ip("address add 192.0.2.77/24 dev eth0");
    eprintln!("back at another address: {:?}", site.wait_for_host(1, 2));
    wait::until("it is reached there", WAIT_TIMEOUT, || {
        let is_there =
            |remote: &Value| remote["address"] == "192.0.2.77" && remote["is_relayed"] != true;
        site.remotes(1).iter().any(is_there)
    });
    site.reaches(1, 2);
    drop((second, router));
}

/// An end comes and goes, and its router with it: descriptors, threads and memory stay what they were.
#[test]
fn events_leave_nothing_behind() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 3);
    let mut router = site.join(3, "");
    let first = site.join(1, "");
    let count = |folder: &str| {
        fs::read_dir(format!("/proc/{}/{folder}", first.id())).expect("it runs").count()
    };
    let mut before = None;
    for round in 0..rounds(12, 250) {
        let mut second = site.join(2, "");
        wait::until("both ends are known", WAIT_TIMEOUT, || site.relayed(1).len() == 2);
        second.kill();
        wait::until("it is gone", WAIT_TIMEOUT, || site.relayed(1).len() == 1);
        if round % 3 == 2 {
            router.kill();
            router = site.join(3, "");
            site.wait_for_ways(1, &[false]);
        }
        if round == 2 {
            before = Some((count("fd"), count("task")));
        }
    }
    let (descriptors, threads) = before.expect("some rounds");
    wait::until("what was opened is closed", WAIT_TIMEOUT, || {
        count("fd") <= descriptors + 2 && count("task") <= threads + 2
    });
}

#[test]
fn two_trunks_between_the_same_buses_are_a_loop() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let site = Trunk::new(&lab, 3);
    let _router = site.join(3, ",via=zenoh");
    let attach = |number: usize| {
        let to = "connect=tcp/192.0.2.3:7447";
        let words = format!(
            "attach {} trunk:one,{to} trunk:two,{to},local=192.0.2.{number}:4790",
            site.bus(number)
        );
        site.ready(number, &words)
    };
    let _ports = [1, 2].map(attach);
    let states = || {
        let mut states: Vec<String> = [1, 2]
            .iter()
            .flat_map(|number| {
                let bus = lab.show(&format!("./{number}.bus"));
                bus["ports"].as_array().cloned().unwrap_or_default()
            })
            .map(|port| port["link"].as_str().unwrap_or_default().to_owned())
            .collect();
        states.sort();
        states
    };
    wait::until("one of four ports is blocked", WAIT_TIMEOUT, || {
        states() == ["blocked", "up", "up", "up"]
    });
    let _host = site.host(2);
    site.wait_for_host(1, 2);
    site.reaches(1, 2);
}

#[test]
fn an_interface_is_the_end_of_a_trunk() {
    let lab = lab!();
    let there = lab.arg("there.bus");
    let port = "trunk:cellar,listen=tcp/127.0.0.95:7457,local=127.0.0.95";
    let _there = lab.ready(["attach", &there, port]);
    let _host = lab.ready(["host", &there, "10.0.0.2/24"]);
    let create = "create trunk name=cellar connect=tcp/127.0.0.95:7457 local=127.0.0.96";
    assert_eq!(lab.does(create), "trunk0\n");
    lab.does("linkstr trunk0 ./here.bus");
    let _node = lab.ready(["node"]);
    lab.does("up trunk0");
    let here = lab.arg("here.bus");
    wait::until("the host is reached", WAIT_TIMEOUT, || {
        let ping = ["ping", &here, "10.0.0.2", "--from", "10.0.0.1/24", "-c", "1", "-W", "1"];
        lab.run(ping).status.success()
    });
    lab.shows("trunk0", "the other end", |shown| shown["remotes"].as_array().is_some());
    let shown = lab.does("show trunk0");
    assert!(shown.contains("tunnel: trunk cellar, by tcp/127.0.0.95:7457, admin up"), "{shown}");
}
