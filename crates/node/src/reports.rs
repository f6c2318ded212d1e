//! The ports and stations that processes run, with their counters, where others find them by their
//! bus.
//!
//! Each process that runs ports or stations keeps their reports in an anonymous file (a memfd) with
//! a name that says so. Processes of the same user find it in `/proc`, whatever their state folder,
//! and it ends with its process, however that happens. A bus is known by its device and inode,
//! whatever its path. Reports are a service to people: where there is no such file, everything else
//! works.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use port::{LinkState, RemoteCounters};
use serde::{Deserialize, Serialize};
use shmbus::Station;

use crate::port_stats::{Counters, PortStats};

/// The name of the file, and how `/proc` shows it.
const MEMFD_NAME: &str = "busctl-ports";
const MEMFD_LINK: &str = "/memfd:busctl-ports (deleted)";
/// The reports are written no more often than this.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// To write them takes no more than this part of the time.
const WRITE_SHARE: u32 = 50;
/// How often a report that is just being written is read again.
const MAX_READS: u32 = 5;
/// A longer file is no report.
const MAX_LEN: u64 = 16 << 20;

/// The device and the inode of a bus.
pub type BusIdentity = (u64, u64);

/// Returns the device and the inode of the file at `path`; `None` when there is no such file or it
/// is not accessible.
#[must_use]
pub fn bus_identity(path: &Path) -> Option<BusIdentity> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Knows the identity of the bus that was asked for last: most stations of a process are on one.
#[derive(Debug, Default)]
pub struct BusIdentities {
    latest: Option<(PathBuf, Option<BusIdentity>)>,
}

impl BusIdentities {
    /// Returns what [`bus_identity`] returned for the path when this value asked first.
    pub fn of(&mut self, path: &Path) -> Option<BusIdentity> {
        match &self.latest {
            Some((latest, identity)) if latest == path => *identity,
            _ => self.latest.insert((path.to_owned(), bus_identity(path))).1,
        }
    }
}

/// The reports of this process, or of a part of it. Dropping it withdraws them.
#[derive(Debug)]
pub struct Reports {
    /// None where the system has no such files.
    file: Option<File>,
    /// When they may be written again.
    next: Option<Instant>,
    /// Whether something has changed that is not written yet.
    has_changed: bool,
    latest: Vec<Report>,
}

/// One port or station at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The bus it is on.
    pub bus: BusIdentity,
    /// What a port is called; empty for a station, which has its name on the bus. Another process
    /// wrote it: it may have any letters in it.
    pub name: String,
    /// Whether it is a station that sends and receives by itself, and not a port.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_station: bool,
    /// The address of a station; empty for a port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Whether frames pass through it.
    pub link: Link,
    /// What its link does to frames on purpose; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub impairments: String,
    /// The machines that a tunnel reaches; none for any other port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteReport>,
    /// What there is to say of the peer of a memif port, and of its rings: lines for people, with what
    /// the peer wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<String>,
    /// What it has counted. A port receives from its peer, a station from the bus.
    #[serde(flatten)]
    pub counters: Counters,
}

/// A machine that a tunnel reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteReport {
    /// Its address; empty when that is not known.
    pub address: String,
    /// What it is called, if that is known. Another machine may have written it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Whether frames for it leave through an overlay, and not in datagrams.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_relayed: bool,
    /// How many stations are known to be behind it.
    pub stations: usize,
    /// Frames received from it.
    pub rx_packets: u64,
    /// Bytes of the frames received.
    pub rx_bytes: u64,
    /// Frames from it that were dropped because too many were for groups.
    pub rx_dropped: u64,
    /// Frames sent to it by itself.
    pub tx_packets: u64,
    /// Bytes of the frames sent.
    pub tx_bytes: u64,
    /// Frames for it that the kernel did not take.
    pub tx_dropped: u64,
}

impl RemoteReport {
    /// Returns what people call it: its host and its address, as far as they are known. Another machine
    /// may have written the first.
    #[must_use]
    pub fn name(&self) -> String {
        match (&*self.host, &*self.address) {
            (host, "") => host.to_owned(),
            ("", address) => address.to_owned(),
            (host, address) => format!("{host} ({address})"),
        }
    }
}

impl From<RemoteCounters> for RemoteReport {
    fn from(of: RemoteCounters) -> Self {
        Self {
            address: of.address.map(|address| address.to_string()).unwrap_or_default(),
            host: of.host.as_deref().unwrap_or_default().to_owned(),
            is_relayed: of.is_relayed,
            stations: of.stations,
            rx_packets: of.rx_packets,
            rx_bytes: of.rx_bytes,
            rx_dropped: of.rx_dropped,
            tx_packets: of.tx_packets,
            tx_bytes: of.tx_bytes,
            tx_dropped: of.tx_dropped,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Whether frames pass through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// It has no peer.
    Down,
    /// It has a peer, and finds out whether it closes a loop.
    Listening,
    /// Frames pass.
    Up,
    /// It has a peer, and would close a loop.
    Blocked,
}

impl Report {
    /// Describes the port `name` on the bus `bus`.
    #[must_use]
    pub fn of_port(name: &str, bus: BusIdentity, stats: &PortStats) -> Self {
        let link = match stats.link_state() {
            LinkState::Down => Link::Down,
            LinkState::Listening => Link::Listening,
            LinkState::Up => Link::Up,
            LinkState::Blocked => Link::Blocked,
        };
        let handle = stats.impair_handle();
        let impairments = handle.map(|handle| handle.get().to_string()).unwrap_or_default();
        Self {
            bus,
            name: name.to_owned(),
            is_station: false,
            mac: String::new(),
            link,
            impairments,
            remotes: stats.remotes().into_iter().map(RemoteReport::from).collect(),
            peer: stats.peer_lines(),
            counters: stats.counters(),
        }
    }

    /// Describes a station on the bus `bus`. It has the name that it has on the bus.
    #[must_use]
    pub fn of_station(station: &Station, bus: BusIdentity) -> Self {
        Self {
            bus,
            name: String::new(),
            is_station: true,
            mac: station.mac().to_string().to_lowercase(),
            link: if station.is_link_up() { Link::Up } else { Link::Down },
            impairments: String::new(),
            remotes: Vec::new(),
            peer: Vec::new(),
            counters: Counters::of_station(&station.stats()),
        }
    }
}

impl Reports {
    /// Begins to report. Where that is not possible, nothing is reported.
    #[must_use]
    pub fn begin() -> Self {
        let file = memfd_create(MEMFD_NAME, MFdFlags::MFD_CLOEXEC)
            .inspect_err(|error| tracing::info!(%error, "the ports of this process are not shown"));
        Self { file: file.ok().map(File::from), next: None, has_changed: true, latest: Vec::new() }
    }

    /// Notes that frames have passed, so that [`due_in`](Self::due_in) asks for a report.
    pub fn mark_changed(&mut self) {
        self.has_changed = true;
    }

    /// Returns after how much time what has changed is to be [published](Self::publish); `None`
    /// when nothing has changed.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        let left = self.next.map(|next| next.saturating_duration_since(Instant::now()));
        (self.has_changed && self.file.is_some()).then(|| left.unwrap_or_default())
    }

    /// Reports these in place of all earlier ones, if that is due. Call it as often as you like: it
    /// writes at most ten times a second, less often when there are very many, and only what is
    /// new. Returns whether it has written something new.
    pub fn publish(&mut self, reports: impl Iterator<Item = Report>) -> bool {
        let Some(file) = &self.file else { return false };
        let begin = Instant::now();
        if self.next.is_some_and(|next| begin < next) {
            return false;
        }
        self.has_changed = false;
        let reports: Vec<Report> = reports.collect();
        let is_new = self.next.is_none() || reports != self.latest;
        if is_new {
            let written = serde_json::to_vec(&reports).map_err(Into::into).and_then(|text| {
                file.write_all_at(&text, 0)?;
                file.set_len(text.len() as u64)
            });
            if let Err(error) = written {
                tracing::info!(%error, "cannot report the ports");
            }
            self.latest = reports;
        }
        let now = Instant::now();
        self.next = Some(now + WRITE_INTERVAL.max((now - begin) * WRITE_SHARE));
        is_new
    }
}

/// Returns the reports of all processes that this one may examine, with their pids.
#[must_use]
pub fn all_reports() -> Vec<(u32, Report)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let each = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let files = descriptors
            .map(|descriptor| descriptor.path())
            .filter(|path| fs::read_link(path).is_ok_and(|target| target == Path::new(MEMFD_LINK)));
        let reports: Vec<Report> = files.filter_map(|path| read(&path)).flatten().collect();
        Some(reports.into_iter().map(move |report| (pid, report)))
    });
    each.flatten().collect()
}

/// Reads reports. They may be being written at this moment.
fn read(path: &Path) -> Option<Vec<Report>> {
    for _ in 0..MAX_READS {
        let mut text = Vec::new();
        File::open(path).ok()?.take(MAX_LEN).read_to_end(&mut text).ok()?;
        if let Ok(reports) = serde_json::from_slice(&text) {
            return Some(reports);
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_by_their_bus_while_they_are_published() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::write(path(name), "").expect("a file");
        }
        fs::hard_link(path("a"), path("c")).expect("another name");
        let report = |bus: &str, name: &str| {
            let bus = bus_identity(&path(bus)).expect("a file");
            Report::of_port(name, bus, &PortStats::default())
        };
        let names = |bus: &str| {
            let bus = bus_identity(&path(bus)).expect("a file");
            let here = all_reports().into_iter().filter(|(_, report)| report.bus == bus);
            here.map(|(pid, report)| (report.name, pid)).collect::<Vec<_>>()
        };
        let (mut one, mut two) = (Reports::begin(), Reports::begin());
        assert!(one.publish([report("a", "x"), report("b", "y")].into_iter()));
        assert!(two.publish([report("b", "z")].into_iter()), "a process has several");
        let this = |name: &str| (name.to_owned(), std::process::id());
        assert_eq!((names("a"), names("c")), (vec![this("x")], vec![this("x")]));
        assert_eq!(names("b"), [this("y"), this("z")]);
        drop((one, two));
        assert_eq!(names("a"), []);
    }

    #[test]
    fn reports_of_programs_before_and_after_are_read() {
        let old = r#"[{"bus":[1,2],"name":"x","link":"up","rx_packets":3,"more":true}]"#;
        let reports: Vec<Report> = serde_json::from_str(old).expect("a report");
        assert_eq!((reports[0].is_station, reports[0].counters.rx_packets), (false, 3));
    }
}
