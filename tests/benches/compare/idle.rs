//! What a node takes that has many ports and nothing to do.

use std::fs;
use std::time::Duration;

use memif::{Client, Event, Link, Options};
use nix::unistd::{SysconfVar, sysconf};
use system_tests::{Lab, Process, WAIT_TIMEOUT, wait};

use crate::comparison::{Table, Target};
use crate::ours;

const PORTS: u32 = 100;
/// A share of a processor is counted in clock ticks of a hundredth of a second: it takes some time to see one.
const TIME: Duration = Duration::from_secs(5);

/// Without peers, and with one on every port.
pub(crate) fn a_hundred_ports(table: &mut Table<'_>) {
    let lab = ours::lab();
    table.heading("a node with 100 memif ports and nothing to do", "its own share and memory", "-");
    let (mut command, socket) = (vec!["attach".to_owned(), lab.arg("lan.bus")], lab.path("sock"));
    command.extend((0..PORTS).map(|id| format!("memif:id={id},socket={}", socket.display())));
    let node = lab.ready(&command);
    figures(table, &lab, &node, "without peers");
    let address = socket.to_str().expect("the lab's path is text").parse().expect("an address");
    // Small rings: it is not their memory that is measured, but a hundred of them have to be there.
    let mut peers: Vec<Client> = (0..PORTS)
        .map(|id| Client::new(&address, Options::new(id).log2_ring_size(5)).expect("a client"))
        .collect();
    // All at once, as a hundred programs would: a server waits for an answer of so many and so long only.
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
    table.alone(&format!("{how}: memory of its own"), "MB", Some(Target::AtMost(30.0)), &mut || {
        own_memory(node.id())
    });
}

/// Clock ticks of processor time so far.
fn ticks(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the node runs");
    // Behind the name, which is in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // utime and stime are fields 14 and 15; the first here is 3.
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

/// Megabytes that would be free without it: neither its program's text nor what it shares with others.
fn own_memory(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the node runs");
    let kilobytes = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    rollup.lines().filter(|line| line.starts_with("Private_")).filter_map(kilobytes).sum::<f64>() * 1_024.0
        / 1e6
}
