//! The frames of a capture, played once or more, without those that a bus does not carry.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use anyhow::bail;
use capture::CaptureReader;
use serde::Serialize;
use shmbus::{MAX_FRAME, MIN_FRAME};

use super::batch::Batch;

/// Frames that were not sent as they were on the wire.
#[derive(Debug, Default, Serialize)]
pub(super) struct Skipped {
    /// Longer than a bus carries: skipped.
    #[serde(rename = "skipped_long")]
    long: u64,
    /// Shorter than an Ethernet header: skipped.
    #[serde(rename = "skipped_short")]
    short: u64,
    /// Sent, but the capture holds only their beginning.
    cut: u64,
}

impl Skipped {
    /// Returns a line for each count that is not zero.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let lines = [
            (self.long, format!("frames passed over: longer than {MAX_FRAME} bytes")),
            (self.short, format!("frames passed over: shorter than {MIN_FRAME} bytes")),
            (self.cut, "frames sent cut: the capture holds only their beginning".to_owned()),
        ];
        lines
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, line)| format!("{count} {line}"))
    }
}

type Capture = CaptureReader<Box<dyn Read>>;

/// A capture file, or stdin.
pub(super) struct Source {
    reader: Capture,
    /// To read it again; none for stdin.
    file: Option<File>,
    /// Rounds that are left after this one.
    rounds: u64,
    filter: BusFilter,
    /// The frames of the first round, for the others; none when they are too many or there is only
    /// one round.
    cache: Option<FrameCache>,
    /// The index of the next cached frame, from the second round on.
    next_cached: Option<usize>,
}

impl Source {
    /// Opens the capture and reads its header.
    pub(super) fn open(path: &Path, rounds: u64) -> anyhow::Result<Self> {
        let file = if path == Path::new("-") { None } else { Some(File::open(path)?) };
        let reader = match &file {
            Some(file) => Self::begin(file)?,
            None if rounds > 1 => {
                bail!("stdin can be played only once; save it to a file to loop it")
            }
            None => CaptureReader::new(Box::new(io::stdin()) as Box<dyn Read>)?,
        };
        let cache = (rounds > 1).then(FrameCache::default);
        Ok(Self {
            reader,
            file,
            rounds: rounds - 1,
            filter: BusFilter::default(),
            cache,
            next_cached: None,
        })
    }

    fn begin(mut file: &File) -> anyhow::Result<Capture> {
        file.rewind()?;
        Ok(CaptureReader::new(Box::new(file.try_clone()?) as Box<dyn Read>)?)
    }

    /// Returns the bytes of all rounds; none when the size is unknown.
    pub(super) fn size(&self) -> Option<u64> {
        let file = self.file.as_ref()?.metadata().ok()?;
        file.is_file().then(|| file.len().saturating_mul(self.rounds + 1))
    }

    /// Returns what was skipped so far.
    pub(super) fn skipped(&self) -> &Skipped {
        &self.filter.skipped
    }

    /// Fills the batch; at the end of the last round it stays empty. After an error, the batch
    /// holds the frames before it.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        while !batch.is_full() {
            if !self.take_next(batch)? && !self.begin_again()? {
                break;
            }
        }
        Ok(())
    }

    /// Puts the next frame of this round into the batch, if a bus carries it; returns `false` at
    /// the end of the round.
    fn take_next(&mut self, batch: &mut Batch) -> anyhow::Result<bool> {
        if let (Some(next), Some(cache)) = (&mut self.next_cached, &self.cache) {
            let Some((frame, cut)) = cache.get(*next) else { return Ok(false) };
            *next += 1;
            self.filter.take(frame, cut, batch);
            return Ok(true);
        }
        let Some(frame) = self.reader.next_frame()? else { return Ok(false) };
        self.filter.take(frame.bytes, frame.cut, batch);
        if self.cache.as_mut().is_some_and(|cache| !cache.push(frame.bytes, frame.cut)) {
            self.cache = None;
        }
        Ok(true)
    }

    /// Begins the next round, if there is one. A capture without a usable frame has none in the
    /// next round either.
    fn begin_again(&mut self) -> anyhow::Result<bool> {
        let Some(file) = self.file.as_ref().filter(|_| self.rounds > 0 && self.filter.usable > 0)
        else {
            return Ok(false);
        };
        self.rounds -= 1;
        if self.cache.is_some() {
            self.next_cached = Some(0);
        } else {
            self.reader = Self::begin(file)?;
        }
        Ok(true)
    }
}

/// Drops frames that a bus does not carry.
#[derive(Default)]
struct BusFilter {
    /// Frames that passed.
    usable: u64,
    skipped: Skipped,
}

impl BusFilter {
    fn take(&mut self, frame: &[u8], cut: bool, batch: &mut Batch) {
        match frame.len() {
            len if len > MAX_FRAME => self.skipped.long += 1,
            len if len < MIN_FRAME => self.skipped.short += 1,
            _ => {
                self.usable += 1;
                self.skipped.cut += u64::from(cut);
                batch.push(frame);
            }
        }
    }
}

/// Frames in memory: to read a short file again for each round would take longer than to send its
/// frames.
#[derive(Default)]
struct FrameCache {
    bytes: Vec<u8>,
    /// The end of each frame in `bytes`, and whether the frame is cut.
    frames: Vec<(usize, bool)>,
}

impl FrameCache {
    /// Size in bytes at most. A larger capture is read again for each round.
    const LIMIT: usize = 64 << 20;

    /// Adds a frame; returns `false` when there is no room.
    fn push(&mut self, frame: &[u8], cut: bool) -> bool {
        let index = size_of_val(self.frames.as_slice());
        if self.bytes.len() + index + frame.len() > Self::LIMIT {
            return false;
        }
        self.bytes.extend_from_slice(frame);
        self.frames.push((self.bytes.len(), cut));
        true
    }

    fn get(&self, index: usize) -> Option<(&[u8], bool)> {
        let (end, cut) = *self.frames.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.frames[before].0);
        Some((&self.bytes[start..end], cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_until_it_is_too_much() {
        let mut cache = FrameCache::default();
        assert!(cache.push(b"one", false) && cache.push(b"", true) && cache.push(b"three", false));
        assert_eq!(cache.get(0), Some((&b"one"[..], false)));
        assert_eq!(cache.get(1), Some((&b""[..], true)));
        assert_eq!(cache.get(2), Some((&b"three"[..], false)));
        assert_eq!(cache.get(3), None);
        assert!(!cache.push(&vec![0; FrameCache::LIMIT], false));
    }
}
