//! The capture, played as often as asked for, without the frames that a bus does not carry.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use anyhow::bail;
use serde::Serialize;
use shmbus::{MAX_FRAME, MIN_FRAME};

use super::batch::Batch;
use crate::capture::CaptureReader;

/// Frames that were not sent as they were on the wire.
#[derive(Debug, Default, Serialize)]
pub(super) struct Skipped {
    /// Longer than a bus carries: passed over.
    #[serde(rename = "skipped_long")]
    long: u64,
    /// Shorter than an Ethernet header: passed over.
    #[serde(rename = "skipped_short")]
    short: u64,
    /// Sent, but already the capture had only the beginning of them.
    cut: u64,
}

impl Skipped {
    /// What there is to be said about it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let lines = [
            (self.long, format!("frames passed over: longer than {MAX_FRAME} bytes")),
            (self.short, format!("frames passed over: shorter than {MIN_FRAME} bytes")),
            (self.cut, "frames sent cut: the capture holds only their beginning".to_owned()),
        ];
        lines.into_iter().filter(|(count, _)| *count > 0).map(|(count, line)| format!("{count} {line}"))
    }
}

type Capture = CaptureReader<Box<dyn Read>>;

/// A capture file, or stdin.
pub(super) struct Source {
    reader: Capture,
    /// To begin again; none for stdin.
    file: Option<File>,
    /// Rounds to go after this one.
    rounds: u64,
    /// Frames of this round that a bus carries.
    usable: u64,
    skipped: Skipped,
}

impl Source {
    /// Opens it and reads its header.
    pub(super) fn open(path: &Path, rounds: u64) -> anyhow::Result<Self> {
        let file = if path == Path::new("-") { None } else { Some(File::open(path)?) };
        let reader = match &file {
            Some(file) => Self::begin(file)?,
            None if rounds > 1 => bail!("stdin can be played only once; save it to a file to loop it"),
            None => CaptureReader::new(Box::new(io::stdin()) as Box<dyn Read>)?,
        };
        Ok(Self { reader, file, rounds: rounds - 1, usable: 0, skipped: Skipped::default() })
    }

    fn begin(mut file: &File) -> anyhow::Result<Capture> {
        file.rewind()?;
        Ok(CaptureReader::new(Box::new(file.try_clone()?) as Box<dyn Read>)?)
    }

    /// Bytes to be played in all rounds, as far as is known.
    pub(super) fn size(&self) -> Option<u64> {
        let size = self.file.as_ref()?.metadata().ok()?.len();
        Some(size.saturating_mul(self.rounds + 1))
    }

    /// What was passed over so far.
    pub(super) fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Fills the batch; it stays empty at the end. With an error, the frames before it are in the batch.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> anyhow::Result<()> {
        while !batch.is_full() {
            let Some(frame) = self.reader.next_frame()? else {
                // A capture without a frame for the bus has none in the next round either.
                match &self.file {
                    Some(file) if self.rounds > 0 && self.usable > 0 => self.reader = Self::begin(file)?,
                    _ => break,
                }
                self.rounds -= 1;
                self.usable = 0;
                continue;
            };
            match frame.bytes.len() {
                len if len > MAX_FRAME => self.skipped.long += 1,
                len if len < MIN_FRAME => self.skipped.short += 1,
                _ => {
                    self.usable += 1;
                    self.skipped.cut += u64::from(frame.cut);
                    batch.push(frame.bytes);
                }
            }
        }
        Ok(())
    }
}
