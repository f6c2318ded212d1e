//! Bus files, as the verbs that make them and look at them need them.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use shmbus::{Bus, FrameSink, OpenError, RingFrame, Tap};

use crate::registry::format_mac;
use crate::style::Palette;

/// Whether opening a bus failed for a reason that stays (exit code 2), and not because of a lock or a full disk.
pub(crate) fn is_misuse(error: &OpenError) -> bool {
    match error {
        OpenError::Busy { .. } | OpenError::NoRoom { .. } => false,
        OpenError::Io { source, .. } => !port::is_passing(source),
        _ => true,
    }
}

/// A bus at one moment. The fields are the keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct BusView {
    path: String,
    version: u32,
    /// Bytes of the file.
    size: u64,
    generation: u64,
    first: u32,
    last: u32,
    locked: bool,
    /// Whole frames in the ring.
    frames: usize,
    /// Live stations of our kind.
    stations: usize,
    /// Those of them that say who they are.
    members: Vec<MemberView>,
    #[serde(skip)]
    palette: Palette,
}

/// A station as it describes itself.
#[derive(Debug, Serialize)]
struct MemberView {
    pid: u32,
    mac: String,
    name: String,
}

impl BusView {
    /// How it is to look as text.
    pub(crate) fn painted(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    /// How often the ring has been filled to its end.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

/// Looks at the bus `path`. Permission to read it is enough.
///
/// # Errors
/// When it is not a bus, or cannot be opened.
pub(crate) fn look(path: &Path) -> anyhow::Result<BusView> {
    let bus = Bus::open_read_only(path)?;
    let (state, size) = (bus.state(), bus.size());
    let members = bus
        .members()
        .into_iter()
        .map(|member| MemberView { pid: member.pid, mac: format_mac(member.mac), name: member.name })
        .collect();
    let stations =
        bus.stations().with_context(|| format!("cannot count the stations on {}", path.display()))?;
    Ok(BusView {
        path: path.display().to_string(),
        version: state.version,
        size,
        generation: state.generation,
        first: state.first,
        last: state.last,
        locked: state.locked,
        frames: count_frames(Tap::oldest(bus)?),
        stations,
        members,
        palette: Palette::default(),
    })
}

/// Counts from the oldest frame to the newest. On a busy bus the oldest is overwritten at any moment, so this goes in small
/// steps and begins again when it is overtaken; it is faster than any writer.
fn count_frames(mut tap: Tap) -> usize {
    const STEP: usize = 64;
    let deadline = Instant::now() + Duration::from_millis(300);
    let mut frames = 0;
    while Instant::now() < deadline {
        let overruns = tap.stats().overruns;
        let step = tap.recv_into(&mut Passing, STEP);
        frames += step;
        if tap.stats().overruns > overruns {
            frames = 0;
        } else if step == 0 && tap.bus().state().locked {
            // Nothing could be told while somebody holds the lock; a tap looks past one that stays.
            thread::sleep(Duration::from_millis(1));
        } else if step < STEP {
            break;
        }
    }
    frames
}

/// Takes every frame and keeps none.
pub(crate) struct Passing;

impl FrameSink for Passing {
    fn take(&mut self, _frame: &RingFrame<'_>) -> bool {
        true
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {}
}

impl fmt::Display for BusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Palette { name, bad, .. } = self.palette;
        writeln!(f, "{name}{}{name:#}: shmif bus, version {}, {} bytes", self.path, self.version, self.size)?;
        writeln!(
            f,
            "\tring: generation {}, first {:#06x}, last {:#06x}, {}",
            self.generation,
            self.first,
            self.last,
            if self.locked { format!("{bad}locked{bad:#}") } else { "not locked".to_owned() }
        )?;
        writeln!(f, "\tframes: {} whole in the ring", self.frames)?;
        writeln!(f, "\tstations: {} live, rump kernels not counted", self.stations)?;
        for member in &self.members {
            writeln!(f, "\t\t{} {} pid {}", member.mac, member.name, member.pid)?;
        }
        Ok(())
    }
}
