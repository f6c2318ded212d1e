//! What lies in a bus file: the header's fields, the packet header, and their limits.
//!
//! This is NetBSD's `shmif(4)` format, version 3, in the host's byte order. No I/O here, only
//! offsets and bytes:
//!
//! ```text
//!    0 ┌──────────┬──────────┬─────────────────────┐
//!      │ magic    │ version  │ generation          │
//!   16 ├──────────┼──────────┼──────────┬──────────┤
//!      │ first    │ last     │ lock     │ spare    │   lock and spare: one word to us, see `ring::lock`
//!   32 ├──────────┴──────────┴──────────┴──────────┤
//!      │ ring data: packet header, frame, packet   │   offsets in the ring count from here,
//!      │ header, frame, ... without padding        │   modulo its size
//!      └───────────────────────────────────────────┘
//! ```
//!
//! In our own format two more words follow, [`Field64::End`] and [`Field64::Oldest`], each on cache
//! lines of its own, and a [table of sleepers](sleepers) lies between the header and the ring.

pub(crate) mod member;
pub(crate) mod printable;
pub(crate) mod sleepers;

/// `magic` of an initialised bus; it is 0 in a file that no process has initialised yet.
pub(crate) const MAGIC: u32 = 0xca11_d054;
/// `magic` of a bus that earlier builds made larger than a rump kernel's: another one, so that a rump
/// kernel refuses it.
pub(crate) const BIG_MAGIC: u32 = 0xca11_d0b1;
/// `magic` of a bus of our own format, with a [table of sleepers](sleepers) before the ring.
pub(crate) const OWN_MAGIC: u32 = 0xca11_d0b3;
/// The format version we write. A rump kernel that makes a bus leaves 0 until it first sends.
pub(crate) const VERSION: u32 = 3;
/// Bytes of the file header; ring offset 0 is at this file offset, except in our own format.
pub(crate) const HEADER_SIZE: usize = 32;
/// Where the table of sleepers begins in a bus of our own format: on a page of its own.
pub(crate) const TABLE_AT: usize = 4_096;
/// Where the ring begins in a bus of our own format.
pub(crate) const OWN_DATA_AT: usize = TABLE_AT + sleepers::TABLE_SIZE;
/// Size in bytes of a bus file that rump kernels can share, and of one that is made without saying
/// otherwise.
pub const BUS_SIZE: u64 = 1 << 20;
/// The size in bytes that a bus for stations of this kind only usually has.
pub const BIG_BUS_SIZE: u64 = 16 << 20;
/// Size in bytes of the largest bus file. One that is larger than [`BUS_SIZE`] is for stations of
/// this kind only.
pub const MAX_BUS_SIZE: u64 = 1 << 30;

/// Bytes of a packet header: what a 64-bit host's C compiler makes of `u32 len, u32 sec, u32 usec,
/// u64 sender`.
pub(crate) const PACKET_HEADER_SIZE: u32 = 24;
/// 64-bit words of a packet header.
pub(crate) const PACKET_HEADER_WORDS: usize = 3;
/// The shortest frame, in bytes: an Ethernet header alone. Receivers skip anything shorter.
pub const MIN_FRAME: usize = 14;
/// The longest frame, in bytes without the check sequence: 1,500 bytes of payload and an Ethernet
/// header. A longer one makes a rump kernel assert.
pub const MAX_FRAME: usize = 1_514;
/// The longest frame on a bus that rump kernels cannot share, in bytes.
pub const MAX_BIG_FRAME: usize = 9_216;
/// The lowest MTU, in bytes, as IPv4 requires.
pub const MIN_MTU: u16 = 68;

/// Version 2 of the format has the same file header, and packets without a sender.
pub(crate) const OLD_VERSION: u32 = 2;
/// Bytes of a version 2 packet header: length, seconds, microseconds.
pub(crate) const OLD_PACKET_HEADER_SIZE: u32 = 12;

/// Whether files of this version can be dumped although they cannot be joined.
pub(crate) fn can_be_dumped(version: u32) -> bool {
    version == OLD_VERSION
}

/// What kind of bus a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) magic: u32,
    /// Bytes of the file.
    pub(crate) size: u64,
}

impl Shape {
    /// The usual bus, which rump kernels can share.
    pub(crate) const SHMIF: Self = Self { magic: MAGIC, size: BUS_SIZE };

    /// Whether a file of this size can be a bus with this magic.
    pub(crate) fn is_possible(self) -> bool {
        let Self { magic, size } = self;
        match magic {
            MAGIC => size == BUS_SIZE,
            // Whole pages, of any size that is in use.
            BIG_MAGIC => size > BUS_SIZE && size <= MAX_BUS_SIZE && size.is_multiple_of(1 << 16),
            OWN_MAGIC => (BUS_SIZE..=MAX_BUS_SIZE).contains(&size) && size.is_multiple_of(1 << 16),
            _ => false,
        }
    }

    /// Whether stations that know no table of sleepers may be on the bus: rump kernels, and
    /// programs from before there was one.
    pub(crate) fn may_have_foreign_stations(self) -> bool {
        self.magic != OWN_MAGIC
    }

    /// Whether writers publish the ring's extent in words of its own, [`Field64::End`] and
    /// [`Field64::Oldest`].
    pub(crate) fn publishes(self) -> bool {
        self.magic == OWN_MAGIC
    }

    /// Where the ring begins in the file.
    pub(crate) fn data_at(self) -> usize {
        if self.magic == OWN_MAGIC { OWN_DATA_AT } else { HEADER_SIZE }
    }

    /// The longest frame on the bus, in bytes.
    pub(crate) fn max_frame(self) -> usize {
        if self.magic == MAGIC { MAX_FRAME } else { MAX_BIG_FRAME }
    }
}

/// The header's 32-bit fields, by their file offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field32 {
    Magic = 0,
    Version = 4,
    First = 16,
    Last = 20,
}

/// The header's 64-bit fields, by their file offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field64 {
    Generation = 8,
    /// `lock` and `spare` in one.
    Lock = 24,
    /// In our own format: where the packets end that readers may read, counted in bytes since the
    /// bus was made. Processors fetch two cache lines together, so it has 128 bytes to itself.
    End = 128,
    /// In our own format: where the oldest packet begins that is not being overwritten, counted in
    /// the same way.
    Oldest = 256,
}

/// A packet's header, as values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketHeader {
    /// Bytes of the frame that follows.
    pub(crate) len: u32,
    /// The sender's clock: seconds and microseconds.
    pub(crate) sec: u32,
    pub(crate) usec: u32,
    /// Random identity of the sending interface.
    pub(crate) sender: u64,
}

impl PacketHeader {
    /// Reads the header from its words; every bit pattern is one.
    #[inline]
    pub(crate) fn from_words(words: [u64; PACKET_HEADER_WORDS]) -> Self {
        let [[len, sec], [usec, _padding], _] = words.map(halves);
        Self { len, sec, usec, sender: words[2] }
    }

    /// The header's words; the padding is 0.
    #[inline]
    pub(crate) fn to_words(self) -> [u64; PACKET_HEADER_WORDS] {
        [word([self.len, self.sec]), word([self.usec, 0]), self.sender]
    }
}

/// The 32-bit values in a word, in the order in which they lie in memory.
#[inline]
fn halves(word: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "each takes its half")]
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

/// The word in which 32-bit values lie in this order.
#[inline]
fn word([first, second]: [u32; 2]) -> u64 {
    let (low, high) =
        if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_header_lies_as_a_64_bit_host_lays_it() {
        let header = PacketHeader { len: 0x0102, sec: 3, usec: 4, sender: 0x1122_3344_5566_7788 };
        let words = header.to_words();
        let bytes = words.map(u64::to_ne_bytes);
        let bytes = bytes.as_flattened();
        assert_eq!(bytes[0..4], 0x0102_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 3_u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 4_u32.to_ne_bytes());
        assert_eq!(bytes[12..16], [0; 4]);
        assert_eq!(bytes[16..24], 0x1122_3344_5566_7788_u64.to_ne_bytes());
        assert_eq!(PacketHeader::from_words(words), header);
    }

    #[test]
    fn sizes_are_those_of_the_format() {
        assert_eq!(BUS_SIZE, 1_048_576);
        let fits = |magic, size| Shape { magic, size }.is_possible();
        assert!(fits(MAGIC, BUS_SIZE) && !fits(MAGIC, 2 * BUS_SIZE) && !fits(0, BUS_SIZE));
        assert!(fits(BIG_MAGIC, 2 * BUS_SIZE) && fits(BIG_MAGIC, MAX_BUS_SIZE));
        assert!(
            !fits(BIG_MAGIC, BUS_SIZE)
                && !fits(BIG_MAGIC, 2 * BUS_SIZE + 1)
                && !fits(BIG_MAGIC, 2 * MAX_BUS_SIZE)
        );
        assert!(fits(OWN_MAGIC, BUS_SIZE) && fits(OWN_MAGIC, MAX_BUS_SIZE));
        assert!(!fits(OWN_MAGIC, BUS_SIZE / 2) && !fits(OWN_MAGIC, BUS_SIZE + 1));
    }
}
