//! A bounded buffer over the bytes of a capture, and the order of bytes in its numbers.

use std::io::{self, ErrorKind, Read};

/// How many bytes are read ahead, usually.
pub(crate) const READ_AHEAD: usize = 1 << 16;

/// The longest frame that is kept, in bytes: the limit of `tcpdump` and Wireshark.
pub(crate) const MAX_CAPTURED: usize = 262_144;

/// A source that is read ahead, as far as it has bytes at this moment.
///
/// Nothing is lost when the source fails: after an error such as [`ErrorKind::WouldBlock`] the same
/// call continues where it was.
pub(crate) struct Input<R> {
    source: R,
    read_ahead: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    /// Reads `source` about `read_ahead` bytes at a time.
    pub(crate) fn new(source: R, read_ahead: usize) -> Self {
        Self { source, read_ahead, buffer: vec![0; read_ahead], start: 0, end: 0 }
    }

    /// Returns the bytes that were read and not dropped.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the same bytes, to change them in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Reads until there are `count` bytes, a frame with its header at most. Returns `false` when
    /// the source ends before.
    pub(crate) fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count {
            if self.start + count > self.buffer.len() || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if count > self.buffer.len() {
                self.buffer.resize(count + self.read_ahead, 0);
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Drops `left` bytes and counts it down to 0. Returns `false` when the source ends before.
    pub(crate) fn skip(&mut self, left: &mut u64) -> io::Result<bool> {
        while *left > 0 {
            if !self.fill(1)? {
                return Ok(false);
            }
            let part = usize::try_from(*left).unwrap_or(usize::MAX).min(self.end - self.start);
            self.start += part;
            *left -= part as u64;
        }
        Ok(true)
    }
}

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    /// Returns the number at `at`.
    ///
    /// # Panics
    /// When `bytes` end before its end.
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = [bytes[at], bytes[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// Returns the number at `at`.
    ///
    /// # Panics
    /// When `bytes` end before its end.
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}
