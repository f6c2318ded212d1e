//! A bus as `show` shows it: its ring, its frames and its stations at one moment.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use node::Counters;
use serde::Serialize;
use shmbus::{Bus, FrameSink, LockFound, MIN_FRAME, Member, OpenError, RingFrame, Tap};

use crate::misuse::trouble;
use crate::port_view::{Input, OnBus, Output, PortView, station_name};
use crate::process::name::renamed;
use crate::registry::format_mac;
use crate::style::Palette;

/// How long a lock does not move that is called stuck: as long as a tap waits for it.
const STUCK: Duration = Duration::from_millis(100);

/// A bus at one moment. The fields are the keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct BusView {
    path: String,
    version: u32,
    /// Whether rump kernels can share it, and whose format it has otherwise.
    format: &'static str,
    /// Size of the file in bytes.
    size: u64,
    /// The longest frame that it carries, in bytes.
    max_frame: usize,
    /// The largest payload of a frame.
    mtu: usize,
    generation: u64,
    first: u32,
    last: u32,
    locked: bool,
    /// What holds the lock: `free`, `held` by a live station, `dead-station` or `unknown`.
    lock: &'static str,
    /// What is wrong with the bus, and how to cure it.
    trouble: Option<String>,
    /// Whole frames in the ring.
    frames: usize,
    /// Live stations that are no rump kernels.
    stations: usize,
    /// Those of them that describe themselves.
    members: Vec<MemberView>,
    /// The ports on the bus that processes of this user run.
    ports: Vec<PortView>,
    #[serde(skip)]
    palette: Palette,
}

/// A station as it describes itself.
#[derive(Debug, Serialize)]
pub(crate) struct MemberView {
    pub(crate) pid: u32,
    pub(crate) mac: String,
    pub(crate) name: String,
    /// What it has counted, if a process that this one may examine reports it. A station receives
    /// from the bus.
    #[serde(flatten)]
    pub(crate) counters: Option<Counters>,
    /// Whether it is the station of a port, which is shown by itself.
    #[serde(skip)]
    is_port: bool,
}

impl MemberView {
    fn new(member: Member, reported: &OnBus) -> Self {
        let mac = format_mac(member.mac);
        let is_its = |port: &&PortView| station_name(&port.name) == member.name;
        let mut ports = reported.ports.iter().filter(is_its);
        // In another pid namespace it has another pid.
        let port = ports.clone().find(|port| port.pid == member.pid).or_else(|| ports.next());
        let station = reported.stations.iter().find(|(_, report)| report.mac == mac);
        let counters = match (station, port) {
            (Some((_, report)), _) => Some(report.counters),
            (None, Some(port)) => Some(port.counters.from_the_other_side()),
            (None, None) => None,
        };
        let is_port = station.is_none() && port.is_some();
        Self { pid: member.pid, mac, name: member.name, counters, is_port }
    }
}

impl BusView {
    /// Reads the state of the bus `path`. Permission to read the file is enough.
    ///
    /// # Errors
    /// When the file is not a bus, or cannot be opened.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bus = Bus::open_read_only(path)?;
        let (size, max_frame, is_shmif) = (bus.size(), bus.max_frame(), bus.is_shmif());
        let lock = stuck_lock(&bus).with_context(|| {
            format!("cannot see which process holds the lock of {}", path.display())
        })?;
        let state = bus.state();
        let reported = OnBus::of(path);
        let members = bus.members().into_iter();
        let members = members.map(|member| MemberView::new(member, &reported)).collect();
        let stations = bus
            .stations()
            .with_context(|| format!("cannot count the stations on {}", path.display()))?;
        let (frames, damage) = match Tap::oldest(bus) {
            Ok(tap) => (count_frames(tap), None),
            Err(error @ OpenError::Corrupt { .. }) => (0, Some(trouble(&error.into()))),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path: path.display().to_string(),
            version: state.version,
            format: if is_shmif { "shmif" } else { "own" },
            size,
            max_frame,
            mtu: max_frame - MIN_FRAME,
            generation: state.generation,
            first: state.first,
            last: state.last,
            locked: state.locked,
            lock: match lock {
                LockFound::DeadStation => "dead-station",
                LockFound::Unknown => "unknown",
                _ if state.locked => "held",
                _ => "free",
            },
            trouble: damage
                .or_else(|| trouble_with_lock(lock, path))
                .map(|trouble| renamed(&trouble).into()),
            frames,
            stations,
            members,
            ports: reported.ports,
            palette: Palette::default(),
        })
    }

    /// Sets the styles of the text.
    pub(crate) fn with_palette(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    /// Returns how often the ring has been filled to its end.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

/// Returns the state of the lock. One that is held by a process that may be dead is looked at for a
/// tenth of a second: a live rump kernel moves on.
fn stuck_lock(bus: &Bus) -> io::Result<LockFound> {
    let begin = Instant::now();
    let first = (bus.lock()?, bus.state());
    loop {
        let now = (bus.lock()?, bus.state());
        if now != first || !matches!(now.0, LockFound::Unknown | LockFound::DeadStation) {
            return Ok(if bus.state().locked { LockFound::LiveStation } else { LockFound::Free });
        }
        if begin.elapsed() >= STUCK {
            return Ok(now.0);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn trouble_with_lock(lock: LockFound, path: &Path) -> Option<String> {
    let path = path.display();
    match lock {
        LockFound::Unknown => Some(format!(
            "an unknown owner, most likely a rump kernel, holds the lock and does not move; if it is dead, \
             'busctl repair {path}' frees the bus"
        )),
        LockFound::DeadStation => Some(format!(
            "a station died with the lock, and rump kernels wait for it until another station comes: \
             any that joins frees the bus, and 'busctl repair {path}' does"
        )),
        _ => None,
    }
}

/// Counts the frames from the oldest to the newest.
///
/// On a busy bus the oldest frame is overwritten at any moment. So the count goes in small steps
/// and starts again when it is overtaken; reading is faster than any writer. It ends after 300 ms.
fn count_frames(mut tap: Tap) -> usize {
    const STEP: usize = 64;
    let deadline = Instant::now() + Duration::from_millis(300);
    let mut frames = 0;
    while Instant::now() < deadline {
        let overruns = tap.stats().overruns;
        let step = tap.recv_into(&mut DiscardFrames, STEP);
        frames += step;
        if tap.stats().overruns > overruns {
            frames = 0;
        } else if step == 0 && tap.bus().state().locked {
            // A tap reads nothing while the lock is held; it reads past a lock that stays.
            thread::sleep(Duration::from_millis(1));
        } else if step < STEP {
            break;
        }
    }
    frames
}

/// Accepts every frame and stores none.
pub(crate) struct DiscardFrames;

impl FrameSink for DiscardFrames {
    fn take(&mut self, _frame: &RingFrame<'_>) -> bool {
        true
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {}
}

impl fmt::Display for BusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Palette { name, bad, .. } = self.palette;
        writeln!(
            f,
            "{name}{}{name:#}: {}, version {}, {} bytes",
            self.path,
            // As the other formats are named where one is chosen.
            if self.format == "own" { "bus of our own format" } else { "shmif bus" },
            self.version,
            self.size
        )?;
        writeln!(
            f,
            "\tring: generation {}, first {:#06x}, last {:#06x}, {}",
            self.generation,
            self.first,
            self.last,
            if self.locked { format!("{bad}locked{bad:#}") } else { "not locked".to_owned() }
        )?;
        if let Some(trouble) = &self.trouble {
            writeln!(f, "\t{bad}trouble: {trouble}{bad:#}")?;
        }
        writeln!(
            f,
            "\tframes: {} whole in the ring, {} bytes at most each, mtu {}",
            self.frames, self.max_frame, self.mtu
        )?;
        writeln!(f, "\tstations: {} live, rump kernels not counted", self.stations)?;
        for member in &self.members {
            writeln!(f, "\t\t{} {} pid {}", member.mac, member.name, member.pid)?;
            if let (Some(counters), false) = (&member.counters, member.is_port) {
                writeln!(f, "\t\t\tinput: {}", Input(counters))?;
                writeln!(f, "\t\t\toutput: {}", Output(counters))?;
            }
        }
        self.ports.iter().try_for_each(|port| port.write(f, self.palette))?;
        Ok(())
    }
}
