//! The ports that processes run, with their counters, where `show` finds them by their bus.
//!
//! Each process that runs ports keeps their reports in an anonymous file (a memfd) with a name that
//! says so. Processes of the same user find it in `/proc`, whatever their state folder, and it ends
//! with its process, however that happens. A bus is known by its device and inode, whatever its
//! path. Reports are a service to people: where there is no such file, everything else works.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use node::{Counters, PortStats};
use port::LinkState;
use serde::{Deserialize, Serialize};

use crate::registry::file_stamp::FileStamp;
use crate::style::Palette;

/// The name of the file, and how `/proc` shows it.
const MEMFD_NAME: &str = "busctl-ports";
const MEMFD_LINK: &str = "/memfd:busctl-ports (deleted)";
/// The reports are written no more often than this.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How often a report that is just being written is read again.
const MAX_READS: u32 = 5;
/// A longer file is no report.
const MAX_LEN: u64 = 16 << 20;

/// The reports of this process. Dropping it withdraws them.
pub(crate) struct PortReports {
    /// None where the system has no such files.
    file: Option<File>,
    written: Option<Instant>,
    latest: Vec<PortReport>,
}

/// One port at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortReport {
    /// The device and the inode of the bus.
    bus: (u64, u64),
    name: String,
    link: Link,
    /// What its link does to frames on purpose; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    impairments: String,
    #[serde(flatten)]
    counters: Counters,
}

/// Whether frames pass through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Link {
    Down,
    Listening,
    Up,
    Blocked,
}

impl PortReports {
    /// Begins to report. Where that is not possible, nothing is reported.
    pub(crate) fn begin() -> Self {
        let file = memfd_create(MEMFD_NAME, MFdFlags::MFD_CLOEXEC)
            .inspect_err(|error| tracing::info!(%error, "the ports of this process are not shown"));
        Self { file: file.ok().map(File::from), written: None, latest: Vec::new() }
    }

    /// Reports these ports in place of all earlier ones. Call it as often as you like: it writes at
    /// most ten times a second, and only what is new.
    pub(crate) fn publish(&mut self, ports: impl Iterator<Item = PortReport>) {
        let Some(file) = &self.file else { return };
        if self.written.is_some_and(|written| written.elapsed() < WRITE_INTERVAL) {
            return;
        }
        let ports: Vec<PortReport> = ports.collect();
        if self.written.replace(Instant::now()).is_some() && ports == self.latest {
            return;
        }
        let written = serde_json::to_vec(&ports).map_err(Into::into).and_then(|text| {
            file.write_all_at(&text, 0)?;
            file.set_len(text.len() as u64)
        });
        if let Err(error) = written {
            tracing::info!(%error, "cannot report the ports");
        }
        self.latest = ports;
    }
}

/// Returns the reports of all processes that this one may examine, with their pids.
fn all_reports() -> impl Iterator<Item = (u32, Vec<PortReport>)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let mut reports = descriptors
            .map(|descriptor| descriptor.path())
            .filter(|path| fs::read_link(path).is_ok_and(|target| target == Path::new(MEMFD_LINK)));
        Some((pid, read(&reports.next()?)?))
    })
}

/// Reads reports. They may be being written at this moment.
fn read(path: &Path) -> Option<Vec<PortReport>> {
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

impl PortReport {
    /// Describes the port `name` on the bus `bus`.
    pub(crate) fn new(name: &str, bus: &FileStamp, stats: &PortStats) -> Self {
        let link = match stats.link_state() {
            LinkState::Down => Link::Down,
            LinkState::Listening => Link::Listening,
            LinkState::Up => Link::Up,
            LinkState::Blocked => Link::Blocked,
        };
        let (name, counters) = (name.to_owned(), stats.counters());
        let handle = stats.impair_handle();
        let impairments = handle.map(|handle| handle.get().to_string()).unwrap_or_default();
        Self { bus: bus.identity(), name, link, impairments, counters }
    }
}

/// A port as `show` shows it. The fields are keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PortView {
    name: String,
    pid: u32,
    link: Link,
    /// What its link does to frames on purpose; empty for nothing.
    impairments: String,
    #[serde(flatten)]
    counters: Counters,
}

impl PortView {
    /// Returns the ports on the bus `bus`, as far as this process may examine those that run them,
    /// by process and name.
    pub(crate) fn on(bus: &Path) -> Vec<Self> {
        let Some(bus) = FileStamp::of(bus).map(|stamp| stamp.identity()) else { return Vec::new() };
        let mut ports = Vec::new();
        for (pid, reports) in all_reports() {
            let here = reports.into_iter().filter(|port| port.bus == bus);
            ports.extend(here.map(|PortReport { name, link, impairments, counters, .. }| Self {
                name,
                pid,
                link,
                impairments,
                counters,
            }));
        }
        ports.sort_by(|one, other| (one.pid, &one.name).cmp(&(other.pid, &other.name)));
        ports
    }

    /// Writes the lines of the port.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, palette: Palette) -> fmt::Result {
        let Palette { bad, .. } = palette;
        let link = match self.link {
            Link::Down => "link down".to_owned(),
            Link::Listening => "listening for loops".to_owned(),
            Link::Up => "link up".to_owned(),
            Link::Blocked => format!("{bad}blocked{bad:#}, it would close a loop"),
        };
        let name: String =
            self.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        writeln!(f, "\tport {name}: {link}, pid {}", self.pid)?;
        if !self.impairments.is_empty() {
            let printable = |c: char| if c.is_control() { '?' } else { c };
            let impairments: String = self.impairments.chars().map(printable).collect();
            writeln!(f, "\t\timpairments: {impairments}")?;
        }
        writeln!(f, "\t\tinput: {}", Input(&self.counters))?;
        writeln!(f, "\t\toutput: {}", Output(&self.counters))
    }
}

/// The counters of a port in one line.
pub(crate) struct Totals(pub(crate) Counters);

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {}; output {}", Input(&self.0), Output(&self.0))
    }
}

/// What came from the peer.
struct Input<'c>(&'c Counters);

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.0;
        write!(
            f,
            "{} packets, {} bytes, {} dropped, {} errors",
            c.rx_packets, c.rx_bytes, c.rx_dropped, c.rx_errors
        )?;
        if c.rx_oversize > 0 {
            write!(f, ", {} too long for the bus", c.rx_oversize)?;
        }
        if c.rx_blocked > 0 {
            write!(f, ", {} dropped while blocked", c.rx_blocked)?;
        }
        if c.peers_refused > 0 {
            write!(f, ", {} further clients turned away", c.peers_refused)?;
        }
        Impaired::input(c).fmt(f)
    }
}

/// What went to the peer.
struct Output<'c>(&'c Counters);

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.0;
        write!(
            f,
            "{} packets, {} bytes, {} dropped, {} errors",
            c.tx_packets, c.tx_bytes, c.tx_dropped, c.tx_errors
        )?;
        Impaired::output(c).fmt(f)
    }
}

/// What impairments have done in one direction; nothing where they have not.
pub(crate) struct Impaired([(u64, &'static str); 5]);

impl Impaired {
    /// Returns what they did to frames from the peer.
    pub(crate) fn input(c: &Counters) -> Self {
        let counts = [c.rx_lost, c.rx_corrupted, c.rx_duplicated, c.rx_reordered, c.rx_queue_drops];
        Self::new(counts)
    }

    /// Returns what they did to frames to the peer.
    pub(crate) fn output(c: &Counters) -> Self {
        let counts = [c.tx_lost, c.tx_corrupted, c.tx_duplicated, c.tx_reordered, c.tx_queue_drops];
        Self::new(counts)
    }

    fn new(counts: [u64; 5]) -> Self {
        let words = ["lost", "corrupted", "duplicated", "reordered", "dropped from the queue"];
        Self(std::array::from_fn(|index| (counts[index], words[index])))
    }
}

impl fmt::Display for Impaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.0.iter().filter(|(count, _)| *count > 0);
        done.into_iter().try_for_each(|(count, word)| write!(f, ", {count} {word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bus: &Path, name: &str) -> PortReport {
        PortReport::new(name, &FileStamp::of(bus).expect("a file"), &PortStats::default())
    }

    #[test]
    fn ports_are_found_by_their_bus_while_they_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::write(path(name), "").expect("a file");
        }
        fs::hard_link(path("a"), path("c")).expect("another name");
        let names = |bus: &str| {
            let ports = PortView::on(&path(bus)).into_iter();
            ports.map(|port| (port.name, port.pid)).collect::<Vec<_>>()
        };
        let mut reports = PortReports::begin();
        reports.publish([report(&path("a"), "x"), report(&path("b"), "y")].into_iter());
        let this = |name: &str| vec![(name.to_owned(), std::process::id())];
        assert_eq!((names("a"), names("b"), names("c")), (this("x"), this("y"), this("x")));
        drop(reports);
        assert_eq!(names("a"), []);
    }

    #[test]
    fn frames_that_were_too_long_or_blocked_are_said_apart() {
        let counters =
            Counters { rx_errors: 3, rx_oversize: 2, rx_blocked: 1, ..Counters::default() };
        assert_eq!(
            Totals(counters).to_string(),
            "input 0 packets, 0 bytes, 0 dropped, 3 errors, 2 too long for the bus, 1 dropped while \
             blocked; output 0 packets, 0 bytes, 0 dropped, 0 errors"
        );
    }
}
