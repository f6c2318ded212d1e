//! Received frames in memory of their receiver.

use crate::format::{MAX_BIG_FRAME, MAX_FRAME};
use crate::mechanism::frame::{FrameInfo, FrameSink, RingFrame};

/// A buffer for received frames: one call fills it, and the frames stay until the next.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use shmbus::{Burst, Bus, Station, StationOptions, Tap};
///
/// let mut station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
/// let mut tap = Tap::new(Bus::open_read_only(&path)?)?;
/// station.send(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello")?;
///
/// let mut burst = Burst::new(64);
/// tap.recv_burst(&mut burst);
/// for frame in &burst {
///     println!("{} bytes from {:016x}", frame.bytes.len(), frame.info.sender);
/// }
/// # assert_eq!(burst.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Burst {
    bytes: Box<[u8]>,
    frames: Vec<Entry>,
    /// Bytes taken so far.
    filled: usize,
    /// Frames known to be whole.
    whole: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    len: usize,
    info: FrameInfo,
}

/// A frame in a [`Burst`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Frame<'b> {
    /// The frame: it begins with the destination address and has no check sequence.
    pub bytes: &'b [u8],
    /// What the packet header says.
    pub info: FrameInfo,
}

impl Burst {
    /// Makes room for `frames` frames of up to [`MAX_FRAME`](crate::MAX_FRAME) bytes, and for at
    /// least one of the longest. Fewer frames fit when they are longer.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        let frames = frames.max(1);
        Self {
            bytes: vec![0; (frames * MAX_FRAME).max(MAX_BIG_FRAME)].into_boxed_slice(),
            frames: Vec::with_capacity(frames),
            filled: 0,
            whole: 0,
        }
    }

    /// Returns how many frames are in the burst.
    #[must_use]
    pub fn len(&self) -> usize {
        self.whole
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole == 0
    }

    /// Removes the frames.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.filled = 0;
        self.whole = 0;
    }

    /// Returns frame `index`, counted from the oldest.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Frame<'_>> {
        let entry = self.frames[..self.whole].get(index)?;
        Some(Frame { bytes: &self.bytes[entry.start..entry.start + entry.len], info: entry.info })
    }

    /// Returns the frames, oldest first.
    #[must_use]
    pub fn iter(&self) -> Frames<'_> {
        Frames { bytes: &self.bytes, entries: self.frames[..self.whole].iter() }
    }
}

impl<'b> IntoIterator for &'b Burst {
    type Item = Frame<'b>;
    type IntoIter = Frames<'b>;

    fn into_iter(self) -> Frames<'b> {
        self.iter()
    }
}

/// The frames of a [`Burst`], oldest first.
#[derive(Clone, Debug)]
pub struct Frames<'b> {
    bytes: &'b [u8],
    entries: std::slice::Iter<'b, Entry>,
}

impl<'b> Iterator for Frames<'b> {
    type Item = Frame<'b>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'b>> {
        let entry = self.entries.next()?;
        Some(Frame { bytes: &self.bytes[entry.start..entry.start + entry.len], info: entry.info })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl FrameSink for Burst {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let room = &mut self.bytes[self.filled..];
        if self.frames.len() == self.frames.capacity() || frame.len() > room.len() {
            return false;
        }
        let len = frame.copy_to(room);
        self.frames.push(Entry { start: self.filled, len, info: frame.info() });
        self.filled += len;
        true
    }

    fn commit(&mut self) {
        self.whole = self.frames.len();
    }

    fn discard(&mut self) {
        self.frames.truncate(self.whole);
        self.filled = self.frames.last().map_or(0, |entry| entry.start + entry.len);
    }
}
