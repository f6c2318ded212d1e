//! The ports that processes run, with their counters, where `show` finds them by their bus.
//!
//! Each process that runs ports writes one file, which it keeps locked. The kernel releases the lock
//! when the process ends, so a report never outlives its process: a file that is not locked is
//! ignored, and removed by the next process that begins to report. A bus is known by its device and
//! inode, whatever its name. Reports are a service to people: where the folder cannot be used, there
//! are none, and everything else works.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use node::{Counters, PortStats};
use port::LinkState;
use serde::{Deserialize, Serialize};

use crate::registry::file_stamp::FileStamp;
use crate::registry::{Registry, file};
use crate::style::Palette;

/// The reports are written no more often than this.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How often a report that is just being written is read again.
const MAX_READS: u32 = 5;
/// A longer file is no report.
const MAX_LEN: u64 = 16 << 20;

/// The reports of this process. Dropping it withdraws them.
pub(crate) struct PortReports {
    /// None where the reports cannot be written.
    file: Option<(File, PathBuf)>,
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

/// The reports of a process, as they are written.
#[derive(Serialize, Deserialize)]
struct Reports {
    pid: u32,
    ports: Vec<PortReport>,
}

impl PortReports {
    /// Begins to report in `registry`. Without one, and where it cannot be written, nothing is
    /// reported.
    pub(crate) fn begin(registry: Option<&Registry>) -> Self {
        let begun = registry.map(|registry| create(&registry.port_reports())).transpose();
        let file = begun.unwrap_or_else(|error| {
            tracing::info!(%error, "the ports of this process are not shown");
            None
        });
        Self { file, written: None, latest: Vec::new() }
    }

    /// Reports these ports in place of all earlier ones. Call it as often as you like: it writes at
    /// most ten times a second, and only what is new.
    pub(crate) fn publish(&mut self, ports: impl Iterator<Item = PortReport>) {
        let Some((file, path)) = &self.file else { return };
        if self.written.is_some_and(|written| written.elapsed() < WRITE_INTERVAL) {
            return;
        }
        let ports: Vec<PortReport> = ports.collect();
        if self.written.replace(Instant::now()).is_some() && ports == self.latest {
            return;
        }
        let reports = Reports { pid: std::process::id(), ports };
        let written = serde_json::to_vec(&reports).map_err(Into::into).and_then(|text| {
            file.write_all_at(&text, 0)?;
            file.set_len(text.len() as u64)
        });
        if let Err(error) = written {
            tracing::info!(%error, path = %path.display(), "cannot report the ports");
        }
        self.latest = reports.ports;
    }
}

impl Drop for PortReports {
    fn drop(&mut self) {
        let Some((_, path)) = &self.file else { return };
        // Without its lock the report does not count, and other reports may keep the folder.
        let _ = fs::remove_file(path);
        let _ = path.parent().map(fs::remove_dir);
    }
}

/// Makes the file of this process, and removes those of processes that have ended.
fn create(folder: &Path) -> anyhow::Result<(File, PathBuf)> {
    file::make_folder(folder)?;
    for path in report_files(folder) {
        if let Ok(file) = open(&path)
            && file.try_lock().is_ok()
        {
            fs::remove_file(&path)?;
        }
    }
    let name = format!("{}-{:08x}.json", std::process::id(), fastrand::u32(..));
    let path = folder.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.try_lock().map_err(std::io::Error::from)?;
    Ok((file, path))
}

fn report_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
}

/// Opens a regular file of at most [`MAX_LEN`] bytes, without waiting for anything.
fn open(path: &Path) -> std::io::Result<File> {
    let options = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(options.bits()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() <= MAX_LEN {
        Ok(file)
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

/// Returns the reports in a file whose process lives.
fn read(path: &Path) -> Option<Reports> {
    for _ in 0..MAX_READS {
        let mut file = open(path).ok()?;
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut text = Vec::new();
        file.by_ref().take(MAX_LEN).read_to_end(&mut text).ok()?;
        if let Ok(reports) = serde_json::from_slice(&text) {
            return Some(reports);
        }
        // It is being written.
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
        Self { bus: bus.identity(), name, link, counters }
    }
}

/// A port as `show` shows it. The fields are keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PortView {
    name: String,
    pid: u32,
    link: Link,
    #[serde(flatten)]
    counters: Counters,
}

impl PortView {
    /// Returns the ports on the bus `bus` that are reported in `registry`, by process and name.
    pub(crate) fn on(bus: &Path, registry: &Registry) -> Vec<Self> {
        let Some(bus) = FileStamp::of(bus).map(|stamp| stamp.identity()) else { return Vec::new() };
        let mut ports = Vec::new();
        for reports in report_files(&registry.port_reports()).filter_map(|path| read(&path)) {
            let here = reports.ports.into_iter().filter(|port| port.bus == bus);
            ports.extend(here.map(|PortReport { name, link, counters, .. }| Self {
                name,
                pid: reports.pid,
                link,
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
        let Totals(c) = Totals(self.counters);
        writeln!(f, "\t\tinput: {}", Input(&c))?;
        writeln!(f, "\t\toutput: {}", Output(&c))
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
        if c.rx_too_long > 0 {
            write!(f, " ({} too long for the bus)", c.rx_too_long)?;
        }
        if c.rx_blocked > 0 {
            write!(f, ", {} dropped while blocked", c.rx_blocked)?;
        }
        Ok(())
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
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bus: &Path, name: &str) -> PortReport {
        PortReport::new(name, &FileStamp::of(bus).expect("a file"), &PortStats::default())
    }

    #[test]
    fn ports_are_found_by_their_bus_while_the_process_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = Registry::new(folder.path().join("state"));
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::write(path(name), "").expect("a file");
        }
        fs::hard_link(path("a"), path("c")).expect("another name");
        let names = |bus: &str| {
            let ports = PortView::on(&path(bus), &registry);
            ports.into_iter().map(|port| port.name).collect::<Vec<_>>()
        };
        let mut reports = PortReports::begin(Some(&registry));
        reports.publish([report(&path("a"), "x"), report(&path("b"), "y")].into_iter());
        assert_eq!(
            (names("a"), names("b"), names("c")),
            (vec!["x".into()], vec!["y".into()], vec!["x".into()])
        );
        // Another process does not take a live report for a dead one.
        let others = PortReports::begin(Some(&registry));
        assert_eq!(names("a"), ["x"]);
        // What a killed process leaves: its file without the lock.
        let (_, file) = reports.file.as_ref().expect("it reports");
        let copy = file.with_file_name("1-0.json");
        fs::copy(file, &copy).expect("copied");
        assert_eq!(names("a"), ["x"]);
        drop(PortReports::begin(Some(&registry)));
        assert!(!copy.exists());
        drop((reports, others));
        assert!(names("a").is_empty());
        assert!(!registry.port_reports().exists());
    }

    #[test]
    fn what_is_no_report_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = Registry::new(folder.path().to_owned());
        fs::create_dir(registry.port_reports()).expect("a folder");
        let fifo = registry.port_reports().join("1-1.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let damaged = registry.port_reports().join("1-2.json");
        fs::write(&damaged, "{").expect("a file");
        let locked = File::open(&damaged).expect("there");
        locked.try_lock().expect("locked");
        assert!(PortView::on(folder.path(), &registry).is_empty());
    }

    #[test]
    fn frames_that_were_too_long_or_blocked_are_said_apart() {
        let counters =
            Counters { rx_errors: 3, rx_too_long: 2, rx_blocked: 1, ..Counters::default() };
        assert_eq!(
            Totals(counters).to_string(),
            "input 0 packets, 0 bytes, 0 dropped, 3 errors (2 too long for the bus), 1 dropped while \
             blocked; output 0 packets, 0 bytes, 0 dropped, 0 errors"
        );
    }
}
