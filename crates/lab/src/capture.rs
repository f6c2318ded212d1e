//! The frames of a LAN, as they pass.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use capture::{CaptureWriter, CapturedInterface, Format};
use shmbus::{Burst, Bus, Tap};

use crate::error::{LabError, at};

/// How many frames are read at once.
const BURST: usize = 64;
/// How long frames are written that keep coming.
const MAX_SAVE: Duration = Duration::from_secs(2);

/// Sees the frames of a LAN or link, in order, and changes nothing.
///
/// The frames come from the bus, which keeps the latest of them: as many as its size has room for.
/// A capture that is not read for long misses those that the bus no longer has.
#[derive(Debug)]
pub struct Capture {
    name: String,
    tap: Tap,
    burst: Burst,
    /// Frames of the burst that were not taken yet.
    waiting: VecDeque<CapturedFrame>,
}

/// A frame of a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When it was sent, by the clock of its sender, since 1970.
    pub time: Duration,
    /// The station that sent it: a number that is random, and 0 for none.
    pub sender: u64,
    /// The frame, from its destination address on, without a check sequence.
    pub bytes: Vec<u8>,
}

impl Capture {
    /// Begins with the oldest frame that is still on the bus at `path`.
    ///
    /// # Errors
    /// When there is no bus.
    pub fn oldest(path: &Path) -> Result<Self, LabError> {
        Self::begin(path, Tap::oldest)
    }

    /// Begins with what is sent from now on.
    ///
    /// # Errors
    /// When there is no bus.
    pub fn from_now(path: &Path) -> Result<Self, LabError> {
        Self::begin(path, Tap::new)
    }

    fn begin(
        path: &Path,
        tap: fn(Bus) -> Result<Tap, shmbus::OpenError>,
    ) -> Result<Self, LabError> {
        let tap = Bus::open_read_only(path).and_then(tap).map_err(|error| {
            LabError::Refused(format!("cannot capture on {}: {error}", path.display()))
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, tap, burst: Burst::new(BURST), waiting: VecDeque::new() })
    }

    /// Waits for the next frame, for `timeout` at most.
    ///
    /// # Errors
    /// When the lab is down.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<CapturedFrame>, LabError> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.next_now() {
                return Ok(Some(frame));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.tap.wait(Some(left)).map_err(|error| {
                LabError::Refused(format!("cannot capture on {}: {error}", self.name))
            })?;
        }
    }

    /// Returns the next frame, if it is there already.
    fn next_now(&mut self) -> Option<CapturedFrame> {
        if self.waiting.is_empty() {
            self.tap.recv_burst(&mut self.burst);
            self.waiting.extend(self.burst.iter().map(|frame| {
                let micros = frame.info.microseconds.min(999_999);
                CapturedFrame {
                    time: Duration::new(frame.info.seconds.into(), micros * 1_000),
                    sender: frame.info.sender,
                    bytes: frame.bytes.to_vec(),
                }
            }));
        }
        self.waiting.pop_front()
    }

    /// Writes the frames that have come and were not taken to a file, as pcapng. Returns how many.
    /// Without any, no file is made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<u64, LabError> {
        let Some(first) = self.next_now() else { return Ok(0) };
        self.write(first, path).map_err(at("write", path))
    }

    fn write(&mut self, first: CapturedFrame, path: &Path) -> io::Result<u64> {
        let longest = u32::try_from(self.tap.bus().max_frame()).unwrap_or(u32::MAX);
        let interface = CapturedInterface::new(self.name.clone(), longest);
        let file = BufWriter::new(File::create(path)?);
        let mut writer = CaptureWriter::new(Format::Pcapng, vec![interface], file)?;
        let (mut next, mut count) = (Some(first), 0);
        let begin = Instant::now();
        while let Some(CapturedFrame { time, sender, bytes }) = next {
            writer.frame(0, time, sender, &bytes)?;
            count += 1;
            // A LAN that is busy has more all the time.
            next = if self.waiting.is_empty() && begin.elapsed() > MAX_SAVE {
                None
            } else {
                self.next_now()
            };
        }
        writer.file_mut().flush()?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use shmbus::{Station, StationOptions};

    use super::*;

    #[test]
    fn what_is_still_on_the_bus_is_saved_and_then_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let (bus, file) = (folder.path().join("lan"), folder.path().join("lan.pcapng"));
        let join = || Station::join(Bus::open_or_create(&bus, 0o600)?, StationOptions::new());
        let mut station = join().unwrap();
        let frame = |byte| [byte; 60];
        station.send(&frame(1)).unwrap();
        let mut now = Capture::from_now(&bus).unwrap();
        let mut oldest = Capture::oldest(&bus).unwrap();
        assert_eq!(now.save(&file).unwrap(), 0);
        assert!(!file.exists());
        station.send(&frame(2)).unwrap();
        let seen = now.next_within(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(seen.bytes, frame(2));
        assert_eq!(now.next_within(Duration::ZERO).unwrap(), None);
        assert_eq!(oldest.save(&file).unwrap(), 2);
        let mut reader = capture::CaptureReader::new(File::open(&file).unwrap());
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &frame(1)[..]);
    }
}
