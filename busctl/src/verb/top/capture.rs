//! The latest frame on a bus, as one line.

use std::path::{Path, PathBuf};

use capture::Summary;
use shmbus::{Burst, Bus, Tap};

use crate::port_view::printable;

/// How many frames are read at once.
const BURST: usize = 64;
/// The most bursts that are read in a look: a busy bus always has more.
const MAX_BURSTS: usize = 16;

/// Listens to one bus at a time.
#[derive(Default)]
pub(super) struct LiveCapture {
    tap: Option<(PathBuf, Tap)>,
    burst: Option<Burst>,
}

impl LiveCapture {
    /// Returns the newest frame on `bus` since the last call; `None` when there is none, and
    /// without a bus.
    pub(super) fn latest(&mut self, bus: Option<&Path>) -> Option<String> {
        let bus = bus?;
        let is_same = self.tap.as_ref().is_some_and(|(path, tap)| {
            path == bus && !tap.bus().is_removed() && !tap.bus().is_lost()
        });
        if !is_same {
            let tap = Tap::new(Bus::open_read_only(bus).ok()?).ok()?;
            self.tap = Some((bus.to_owned(), tap));
        }
        let (_, tap) = self.tap.as_mut()?;
        let burst = self.burst.get_or_insert_with(|| Burst::new(BURST));
        let mut line = None;
        for _ in 0..MAX_BURSTS {
            let count = tap.recv_burst(burst);
            if let Some(frame) = burst.iter().last() {
                line = Some(printable(&Summary(frame.bytes).to_string()));
            }
            if count < BURST {
                break;
            }
        }
        line
    }
}
