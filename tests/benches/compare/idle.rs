//! The cost of an idle node with many ports.

use std::fs;
use std::time::Duration;

use memif::{Client, ClientOptions, Event, Link};
use nix::unistd::{SysconfVar, sysconf};
use system_tests::{Lab, Process, WAIT_TIMEOUT, wait};

use crate::comparison::{Table, Target};
use crate::ours;

const PORTS: u32 = 100;
/// Processor time is counted in ticks of a hundredth of a second, so a small share takes seconds to
/// show.
const TIME: Duration = Duration::from_secs(5);

/// Measures a node without peers, and with a peer on every port.
pub(crate) fn a_hundred_ports(table: &mut Table<'_>) {
    let lab = ours::lab();
    table.heading("a node with 100 memif ports and nothing to do", "its own share and memory", "-");
    let (mut command, socket) = (vec!["attach".to_owned(), lab.arg("lan.bus")], lab.path("sock"));
    command.extend((0..PORTS).map(|id| format!("memif:id={id},socket={}", socket.display())));
    let node = lab.ready(&command);
    figures(table, &lab, &node, "without peers");
    let address = socket.to_str().expect("the lab's path is text").parse().expect("an address");
    // The rings are small, because a hundred of them must fit and their memory is not what is
    // measured.
    let mut peers: Vec<Client> = (0..PORTS)
        .map(|id| {
            Client::new(&address, ClientOptions::new(id).log2_ring_size(5)).expect("a client")
        })
        .collect();
    // Connect all at once, as a hundred programs would: a server limits how many clients it waits
    // for, and how long.
    let mut links: Vec<Option<Link>> = peers.iter().map(|_| None).collect();
    wait::until("a peer on every port", WAIT_TIMEOUT, || {
        for (peer, link) in peers.iter_mut().zip(&mut links) {
            match peer.ready().expect("a client's descriptors work") {
                Some(Event::Connected { link: connected, .. }) => *link = Some(connected),
                Some(Event::Disconnected { .. }) => *link = None,
                _ => {}
            }
        }
        links.iter().all(Option::is_some)
    });
    figures(table, &lab, &node, "with a peer on each");
}

fn figures(table: &mut Table<'_>, _lab: &Lab, node: &Process, how: &str) {
    table.alone(&format!("{how}: processor"), "%", Some(Target::AtMost(1.0)), &mut || {
        let before = ticks(node.id());
        std::thread::sleep(TIME);
        let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        (ticks(node.id()) - before) / hertz / TIME.as_secs_f64() * 100.0
    });
    table.alone(
        &format!("{how}: memory of its own"),
        "MB",
        Some(Target::AtMost(30.0)),
        &mut || own_memory(node.id()),
    );
}

/// Returns the clock ticks of processor time used so far.
fn ticks(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the node runs");
    // Skip the name, which is in parentheses and may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // utime and stime are fields 14 and 15; the first here is 3.
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

/// Returns the megabytes that would be free without the process: neither its program's text nor
/// memory it shares.
pub(crate) fn own_memory(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the node runs");
    let kilobytes =
        |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    rollup.lines().filter(|line| line.starts_with("Private_")).filter_map(kilobytes).sum::<f64>()
        * 1_024.0
        / 1e6
}
