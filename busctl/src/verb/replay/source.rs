//! The frames of a capture, played once or more, without those that a bus does not carry.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use capture::{CaptureError, CaptureReader, Decompressed, Filter, PassedOver};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use shmbus::MIN_FRAME;

use super::batch::Batch;
use super::recording::Recording;

/// Frames that were not sent as they were on the wire.
#[derive(Debug, Default, Serialize)]
pub(super) struct Skipped {
    /// Longer than the bus carries: skipped.
    #[serde(rename = "skipped_long")]
    pub(super) long: u64,
    /// Shorter than an Ethernet header: skipped.
    #[serde(rename = "skipped_short")]
    short: u64,
    /// Of another link type than Ethernet: skipped.
    #[serde(rename = "skipped_other_link")]
    other_link: u64,
    /// Of an interface that the capture does not describe: skipped.
    #[serde(rename = "skipped_no_interface")]
    no_interface: u64,
    /// Sent, but the capture holds only their beginning.
    cut: u64,
    /// Bytes at the end of the capture that are no frame.
    trailing_bytes: u64,
}

impl Skipped {
    /// Returns a line for each count that is not zero. The bus carries frames of up to `longest`
    /// bytes.
    pub(super) fn warnings(&self, longest: usize) -> impl Iterator<Item = String> {
        let lines = [
            (self.long, format!("frames passed over: longer than {longest} bytes")),
            (self.short, format!("frames passed over: shorter than {MIN_FRAME} bytes")),
            (self.other_link, "frames passed over: of another link type than Ethernet".to_owned()),
            (
                self.no_interface,
                "frames passed over: of an interface that the capture does not describe".to_owned(),
            ),
            (self.cut, "frames sent cut: the capture holds only their beginning".to_owned()),
            (
                self.trailing_bytes,
                "bytes at the end of the capture are no frame: it may have been cut there"
                    .to_owned(),
            ),
        ];
        lines
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, line)| format!("{count} {line}"))
    }
}

/// A capture that is read without waiting.
struct Input {
    file: File,
    /// Whether it is a regular file, which always has its bytes.
    is_regular: bool,
}

impl Input {
    /// Opens a file, or stdin for `-`. A named pipe needs no writer yet.
    fn open(path: &Path) -> io::Result<Self> {
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::options().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)?
        };
        let is_regular = file.metadata()?.is_file();
        Ok(Self { file, is_regular })
    }
}

impl Read for Input {
    /// Fails with [`io::ErrorKind::WouldBlock`] when a pipe has nothing at the moment. Stdin may be
    /// shared with other processes, so it is polled and stays blocking.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_regular {
            let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::ZERO)? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.file.read(buffer)
    }
}

/// How much a batch was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The batch has all frames that there are at the moment.
    SoFar,
    /// No frame is left in any round.
    Ended,
}

/// A capture file, or stdin.
pub(super) struct Source {
    reader: CaptureReader<Decompressed<Input>>,
    /// Which frames are played; `None`: all.
    chosen: Option<Filter>,
    /// The file, to read it again and to wait for it.
    file: File,
    is_regular: bool,
    /// Rounds that are left after this one.
    rounds: u64,
    filter: BusFilter,
    /// What the reader passed over in the rounds before.
    earlier: PassedOver,
    /// The frames of the first round, for the others; none when they are too many or there is only
    /// one round.
    cache: Option<FrameCache>,
    /// The index of the next cached frame, from the second round on.
    next_cached: Option<usize>,
}

impl Source {
    /// Opens the capture. The header of a regular file is read at once.
    pub(super) fn open(path: &Path, rounds: u64, chosen: Option<Filter>) -> anyhow::Result<Self> {
        let input = Input::open(path)?;
        let (file, is_regular) = (input.file.try_clone()?, input.is_regular);
        if rounds > 1 && (!is_regular || path == Path::new("-")) {
            let what = if path == Path::new("-") { "stdin" } else { "a pipe" };
            bail!("{what} can be played only once; save it to a file to loop it");
        }
        // What comes through a pipe is taken as it comes, without waiting for more.
        let input = if is_regular { Decompressed::new(input) } else { Decompressed::plain(input) };
        let mut reader = CaptureReader::new(input);
        if is_regular {
            reader.read_header()?;
        }
        Ok(Self {
            reader,
            chosen,
            file,
            is_regular,
            rounds: rounds - 1,
            filter: BusFilter::default(),
            earlier: PassedOver::default(),
            cache: (rounds > 1).then(FrameCache::default),
            next_cached: None,
        })
    }

    /// Returns the bytes of all rounds; none when the size is unknown.
    pub(super) fn size(&self) -> Option<u64> {
        let len = self.file.metadata().ok()?.len();
        self.is_regular.then(|| len.saturating_mul(self.rounds + 1))
    }

    /// Returns what was skipped so far.
    pub(super) fn skipped(&self) -> Skipped {
        let Self { earlier, filter, .. } = self;
        let now = self.reader.passed_over();
        Skipped {
            long: filter.long + earlier.giant + now.giant,
            short: filter.short,
            other_link: earlier.other_link + now.other_link,
            no_interface: earlier.no_interface + now.no_interface,
            cut: filter.cut,
            trailing_bytes: now.trailing,
        }
    }

    /// Counts frames that were too long for the bus when they were about to be sent.
    pub(super) fn count_long(&mut self, frames: usize) {
        self.filter.long += frames as u64;
    }

    /// Adds frames of up to `longest` bytes to the batch, as many as there are without waiting. After
    /// an error, the batch holds the frames before it.
    pub(super) fn fill(&mut self, batch: &mut Batch, longest: usize) -> anyhow::Result<Filled> {
        while !batch.is_full() {
            match self.take_next(batch, longest) {
                Ok(true) => {}
                Ok(false) if self.begin_again()? => {}
                Ok(false) => return Ok(Filled::Ended),
                Err(CaptureError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Filled::SoFar)
    }

    /// Puts the next frame of this round into the batch, if a bus carries it; returns `false` at
    /// the end of the round.
    fn take_next(&mut self, batch: &mut Batch, longest: usize) -> Result<bool, CaptureError> {
        if let (Some(next), Some(cache)) = (&mut self.next_cached, &self.cache) {
            let Some(Cached { frame, cut, time }) = cache.get(*next) else { return Ok(false) };
            *next += 1;
            self.filter.take(frame, cut, time, longest, batch);
            return Ok(true);
        }
        let Some(frame) = self.reader.next_frame()? else { return Ok(false) };
        let chosen = self.chosen.as_ref();
        if chosen.is_some_and(|filter| !filter.matches(frame.bytes, frame.original_len)) {
            return Ok(true);
        }
        self.filter.take(frame.bytes, frame.cut, frame.time, longest, batch);
        let cached = Cached { frame: frame.bytes, cut: frame.cut, time: frame.time };
        if self.cache.as_mut().is_some_and(|cache| !cache.push(&cached)) {
            self.cache = None;
        }
        Ok(true)
    }

    /// Begins the next round, if there is one. After a round without a usable frame the next one
    /// has none either.
    fn begin_again(&mut self) -> anyhow::Result<bool> {
        if self.rounds == 0 || self.filter.usable == 0 {
            return Ok(false);
        }
        self.rounds -= 1;
        self.filter.usable = 0;
        self.filter.recording.begin_again();
        let now = self.reader.passed_over();
        self.earlier.giant += now.giant;
        self.earlier.other_link += now.other_link;
        self.earlier.no_interface += now.no_interface;
        if self.cache.is_some() {
            self.next_cached = Some(0);
        } else {
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            let input = Input { file, is_regular: true };
            self.reader = CaptureReader::new(Decompressed::new(input));
        }
        Ok(true)
    }
}

impl AsFd for Source {
    /// Polls readable when there may be more frames.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Drops frames that the bus does not carry.
#[derive(Default)]
struct BusFilter {
    /// Frames of this round that passed.
    usable: u64,
    long: u64,
    short: u64,
    cut: u64,
    recording: Recording,
}

impl BusFilter {
    fn take(
        &mut self,
        frame: &[u8],
        cut: bool,
        time: Option<Duration>,
        longest: usize,
        batch: &mut Batch,
    ) {
        match frame.len() {
            len if len > longest => self.long += 1,
            len if len < MIN_FRAME => self.short += 1,
            _ => {
                self.usable += 1;
                self.cut += u64::from(cut);
                batch.push(frame, self.recording.place(time));
            }
        }
    }
}

/// Frames in memory: to read a short file again for each round would take longer than to send its
/// frames.
#[derive(Default)]
struct FrameCache {
    bytes: Vec<u8>,
    frames: Vec<CachedPlace>,
}

struct CachedPlace {
    /// The frame's end in the cache's bytes, where the next one begins.
    end: usize,
    cut: bool,
    time: Option<Duration>,
}

/// A frame of the cache, with what the capture says of it.
#[derive(Debug, PartialEq, Eq)]
struct Cached<'a> {
    frame: &'a [u8],
    cut: bool,
    time: Option<Duration>,
}

impl FrameCache {
    /// Size in bytes at most. A larger capture is read again for each round.
    const LIMIT: usize = 64 << 20;

    /// Adds a frame; returns `false` when there is no room.
    fn push(&mut self, &Cached { frame, cut, time }: &Cached<'_>) -> bool {
        let index = size_of_val(self.frames.as_slice());
        if self.bytes.len() + index + frame.len() > Self::LIMIT {
            return false;
        }
        self.bytes.extend_from_slice(frame);
        self.frames.push(CachedPlace { end: self.bytes.len(), cut, time });
        true
    }

    fn get(&self, index: usize) -> Option<Cached<'_>> {
        let &CachedPlace { end, cut, time } = self.frames.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.frames[before].end);
        Some(Cached { frame: &self.bytes[start..end], cut, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_until_it_is_too_much() {
        let mut cache = FrameCache::default();
        let time = Some(Duration::from_secs(1));
        let frames = [
            Cached { frame: b"one", cut: false, time },
            Cached { frame: b"", cut: true, time: None },
            Cached { frame: b"three", cut: false, time },
        ];
        assert!(frames.iter().all(|frame| cache.push(frame)));
        for (index, frame) in frames.into_iter().enumerate() {
            assert_eq!(cache.get(index), Some(frame));
        }
        assert_eq!(cache.get(3), None);
        let too_much = vec![0; FrameCache::LIMIT];
        assert!(!cache.push(&Cached { frame: &too_much, cut: false, time }));
    }
}
