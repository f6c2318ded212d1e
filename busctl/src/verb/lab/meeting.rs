//! How the tests of a lab's hosts wait for each other: no check begins before all parts are up, and no
//! part goes down before all checks are done.
//!
//! Each test broadcasts on its LANs how far it knows each host to be, and merges what it hears. So word
//! of a host reaches all that are joined to it, through others too.

use std::time::{Duration, Instant};

use ::lab::{Folder, Plan};
use anyhow::Context as _;
use shmbus::{Burst, Bus, Station, StationOptions};

use crate::output;
use crate::process::shutdown::Shutdown;

/// How long the others may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a wait is before it is reported.
const SILENCE: Duration = Duration::from_secs(1);
/// How often this host is heard of.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often what ends the meeting is repeated for those that have not heard it.
const LAST_WORDS: usize = 3;
/// The frames that are looked at in one go.
const BURST: usize = 64;
/// A frame's destination, `EtherType` (one for local experiments) and mark.
const ALL: [u8; 6] = [0xff; 6];
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const MARK: &[u8; 8] = b"labtest1";
/// The bytes of a frame before the hosts: addresses, type, mark, number of the lab.
const HEAD: usize = 14 + MARK.len() + 8;
/// The shortest frame.
const MIN_FRAME: usize = 60;

/// How far the test of a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// All its nodes are ready.
    Up = 1,
    /// Its checks are done.
    Done = 2,
}

/// How a wait for the others ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    All,
    /// This process is asked to stop.
    Stopped,
    /// These are late.
    Late(Vec<String>),
}

/// What this host knows of the others.
struct Known {
    lab: u64,
    /// For each host of the plan the greatest [`Reached`] that was heard of; 0: none.
    stages: Vec<u8>,
    /// Which hosts are joined to this one by LANs, itself too.
    joined: Vec<bool>,
    own: usize,
}

/// See the module.
pub(super) struct Meeting {
    known: Known,
    names: Vec<String>,
    stations: Vec<Station>,
}

impl Meeting {
    /// Joins the LANs of a lab that is up in `folder` to hear of other hosts; `None` when it has none.
    pub(super) fn new(plan: &Plan, folder: &Folder) -> anyhow::Result<Option<Self>> {
        let Some(known) = Known::new(plan) else { return Ok(None) };
        let join = |lan: &str| -> anyhow::Result<Station> {
            let bus = Bus::open(folder.bus(lan))?;
            Ok(Station::join(bus, StationOptions::new())?)
        };
        // One LAN to each host is enough.
        let mut heard: Vec<&String> = plan.here.iter().collect();
        let lans = plan.lans_here().filter(|lan| {
            let hosts = lan.trunk.iter().flat_map(|trunk| &trunk.machines);
            let new: Vec<&String> = hosts.filter(|host| !heard.contains(host)).collect();
            heard.extend(&new);
            !new.is_empty()
        });
        let stations = lans.map(|lan| join(&lan.name)).collect::<anyhow::Result<_>>();
        let names = plan.machines.iter().map(|machine| machine.name.clone()).collect();
        let stations = stations.context("cannot join the LANs of the lab")?;
        Ok(Some(Self { known, names, stations }))
    }

    /// Says that this host is at a stage, and waits until all others are.
    pub(super) fn wait_for(&mut self, stage: Reached, stop: &Shutdown) -> Met {
        self.known.stages[self.known.own] = stage as u8;
        let begin = Instant::now();
        let mut is_reported = false;
        loop {
            self.exchange();
            let missing = self.known.missing(stage);
            if missing.is_empty() {
                break;
            }
            let names = || missing.iter().map(|host| self.names[*host].clone()).collect::<Vec<_>>();
            if begin.elapsed() >= PATIENCE {
                return Met::Late(names());
            }
            if begin.elapsed() >= SILENCE && !is_reported {
                output::note(&format!("waits for the test on {}", names().join(", ")));
                is_reported = true;
            }
            if stop.wait([], Some(INTERVAL)) {
                return Met::Stopped;
            }
        }
        for _ in 0..LAST_WORDS {
            self.exchange();
        }
        Met::All
    }

    /// Says what this host knows, and hears what others do.
    fn exchange(&mut self) {
        let mut burst = Burst::new(BURST);
        for station in &mut self.stations {
            let frame = self.known.frame(station.mac().into_array());
            // A bus that is busy has room for the next one.
            let _ = station.send(&frame);
            station.recv_burst(&mut burst);
            burst.iter().for_each(|frame| self.known.hear(frame.bytes));
        }
    }
}

impl Known {
    fn new(plan: &Plan) -> Option<Self> {
        let own = plan.here.as_ref()?;
        let index = |name: &String| plan.machines.iter().position(|known| known.name == *name);
        let own = index(own)?;
        let mut joined = vec![false; plan.machines.len()];
        joined[own] = true;
        let groups: Vec<Vec<usize>> = plan
            .lans
            .iter()
            .filter_map(|lan| Some(lan.trunk.as_ref()?.machines.iter().filter_map(index).collect()))
            .collect();
        // Each round reaches further, until none does.
        loop {
            let before = joined.clone();
            for group in &groups {
                let is_reached = group.iter().any(|host| joined[*host]);
                for host in group.iter().filter(|_| is_reached) {
                    joined[*host] = true;
                }
            }
            if joined == before {
                break;
            }
        }
        if joined.iter().filter(|is_joined| **is_joined).count() < 2 {
            return None;
        }
        // The numbers of the LANs are made of the names of the lab and the LANs.
        let numbers = plan.lans.iter().filter_map(|lan| Some(lan.trunk.as_ref()?.vni));
        let lab =
            numbers.fold(0_u64, |lab, vni| lab.wrapping_mul(0x0100_0000_01b3) ^ u64::from(vni));
        Some(Self { lab, stages: vec![0; plan.machines.len()], joined, own })
    }

    /// Returns the hosts that are not at a stage yet, as far as is known.
    fn missing(&self, stage: Reached) -> Vec<usize> {
        let hosts = self.stages.iter().zip(&self.joined).enumerate();
        let late = hosts.filter(|(_, (known, is_joined))| **is_joined && **known < stage as u8);
        late.map(|(host, _)| host).collect()
    }

    fn frame(&self, source: [u8; 6]) -> Vec<u8> {
        let lab = self.lab.to_be_bytes();
        let mut frame = [&ALL[..], &source, &ETHER_TYPE, MARK, &lab, &self.stages].concat();
        frame.resize(frame.len().max(MIN_FRAME), 0);
        frame
    }

    /// Takes what another host knows. Frames that are something else change nothing.
    fn hear(&mut self, frame: &[u8]) {
        let Some(stages) = frame.get(HEAD..HEAD + self.stages.len()) else { return };
        let expected = [&ETHER_TYPE[..], MARK, &self.lab.to_be_bytes()].concat();
        if frame[12..HEAD] != expected || stages.iter().any(|stage| *stage > Reached::Done as u8) {
            return;
        }
        for (known, heard) in self.stages.iter_mut().zip(stages) {
            *known = (*known).max(*heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use ::lab::file::Source;

    use super::*;

    /// Four hosts in a row, joined by links, and one that is alone.
    const ROW: &str = "[host.a]\n[host.b]\n[host.c]\n[host.d]\n[host.e]\n\
        [link.ab]\nends = [\"na\", \"nb\"]\n[link.bc]\nends = [\"nb\", \"nc\"]\n\
        [link.cd]\nends = [\"nc\", \"nd\"]\n[node.na]\non = \"a\"\n[node.nb]\non = \"b\"\n\
        [node.nc]\non = \"c\"\n[node.nd]\non = \"d\"\n[node.ne]\non = \"e\"\n";

    fn known(host: &str) -> Option<Known> {
        let plan = Plan::from_toml(ROW, &Source::new()).unwrap();
        Known::new(&plan.on(host).unwrap())
    }

    #[test]
    fn word_of_a_host_reaches_all_that_are_joined_to_it() {
        let mut row: Vec<Known> = ["a", "b", "c", "d"].map(|host| known(host).unwrap()).into();
        assert!(known("e").is_none());
        for host in &mut row {
            host.stages[host.own] = Reached::Up as u8;
        }
        assert_eq!(row[0].missing(Reached::Up), [1, 2, 3]);
        for _ in 0..3 {
            for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)] {
                let frame = row[from].frame([2; 6]);
                row[to].hear(&frame);
            }
        }
        assert!(row.iter().all(|host| host.missing(Reached::Up).is_empty()));
        assert_eq!(row[3].missing(Reached::Done), [0, 1, 2, 3]);
    }

    #[test]
    fn other_frames_change_nothing() {
        let mut host = known("a").unwrap();
        let mut frame = known("b").unwrap().frame([2; 6]);
        host.hear(&[]);
        host.hear(&frame[..HEAD + 2]);
        // A stage that there is none of, then another lab.
        frame[HEAD + 1] = 3;
        host.hear(&frame);
        frame[HEAD + 1] = 2;
        frame[HEAD - 1] ^= 1;
        host.hear(&frame);
        assert_eq!(host.stages, [0; 5]);
        frame[HEAD - 1] ^= 1;
        host.hear(&frame);
        assert_eq!(host.stages, [0, 2, 0, 0, 0]);
    }
}
