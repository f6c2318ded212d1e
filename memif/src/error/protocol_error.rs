//! The ways in which a peer can break the protocol.

/// A violation of the protocol by the peer. The link is closed, and the error's text is the reason
/// sent to the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet on the control channel has the wrong length for a message.
    #[error("message of {bytes} bytes, not 128")]
    MessageLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A message has an unknown type.
    #[error("unknown message type {kind}")]
    MessageType {
        /// The type sent.
        kind: u16,
    },
    /// A message does not belong at this point of the handshake.
    #[error("{message} out of turn, {state}")]
    OutOfTurn {
        /// The message's name in the protocol.
        message: &'static str,
        /// The state of the handshake.
        state: &'static str,
    },
    /// A message carries too many or too few file descriptors.
    #[error("{message} with {got} file descriptors, not {want}")]
    FdCount {
        /// The message's name in the protocol.
        message: &'static str,
        /// Descriptors that came with it.
        got: usize,
        /// Descriptors it needs.
        want: usize,
    },
    /// The peer speaks other protocol versions only.
    #[error("version {min:#06x} to {max:#06x}, not 0x0200")]
    Version {
        /// The lowest version that the peer speaks, as `0xMMmm`.
        min: u16,
        /// The highest version that the peer speaks, as `0xMMmm`.
        max: u16,
    },
    /// Regions are not announced as 0, 1, 2, ...
    #[error("region index {got}, not {want}")]
    RegionIndex {
        /// The index announced.
        got: u16,
        /// The index expected.
        want: u16,
    },
    /// The peer announces more regions than a link can have.
    #[error("more than {max} regions")]
    RegionCount {
        /// How many are allowed.
        max: u16,
    },
    /// A region is empty, or exceeds the limit of what is mapped for one link.
    #[error("region {index}: size of {size} bytes is not in 1..={max}")]
    RegionSize {
        /// The region.
        index: u16,
        /// The size announced, in bytes.
        size: u64,
        /// The largest size allowed, in bytes.
        max: u64,
    },
    /// A region's file is neither a memfd nor on tmpfs or hugetlbfs: its page faults could block
    /// for ever.
    #[error("region {index}: its file is not memory (F_GET_SEALS fails)")]
    RegionNotMemory {
        /// The region.
        index: u16,
    },
    /// A region is announced larger than its file.
    #[error("region {index}: {size} bytes announced, but the file has {file}")]
    RegionBeyondFile {
        /// The region.
        index: u16,
        /// The size announced, in bytes.
        size: u64,
        /// The file's size, in bytes.
        file: u64,
    },
    /// A region's file could not be mapped for reading and writing.
    #[error("region {index}: mapping it failed: {errno}")]
    RegionMap {
        /// The region.
        index: u16,
        /// The system's error, as text.
        errno: String,
    },
    /// A region's file can still shrink, on a server that
    /// [rejects](crate::SocketOptions::reject_unsealed) such files.
    #[error("region {index}: its file is not sealed against shrinking")]
    RegionUnsealed {
        /// The region.
        index: u16,
    },
    /// A region's file was cut while it was in use, or the system had no memory for its pages. This
    /// is detected when the pages are touched, and only in a program that [survives
    /// it](crate::survive_truncation).
    #[error("region {index}: its memory was taken away while in use")]
    RegionLost {
        /// The region.
        index: u16,
    },
    /// The link has no ring in one direction.
    #[error("no {direction} ring")]
    NoRing {
        /// `"S2M"` (client to server) or `"M2S"`.
        direction: &'static str,
    },
    /// A ring, or something in it, is invalid.
    #[error("{direction} ring {index}: {cause}")]
    Ring {
        /// `"S2M"` (client to server) or `"M2S"`.
        direction: &'static str,
        /// The ring's index in that direction.
        index: u16,
        /// The violation.
        cause: RingError,
    },
}

impl ProtocolError {
    /// Returns a short name of the check that failed, to count by. It stays the same when the text
    /// changes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageLength { .. } => "message-length",
            Self::MessageType { .. } => "message-type",
            Self::OutOfTurn { .. } => "out-of-turn",
            Self::FdCount { .. } => "fd-count",
            Self::Version { .. } => "version",
            Self::RegionIndex { .. } => "region-index",
            Self::RegionCount { .. } => "region-count",
            Self::RegionSize { .. } => "region-size",
            Self::RegionNotMemory { .. } => "region-not-memory",
            Self::RegionBeyondFile { .. } => "region-beyond-file",
            Self::RegionMap { .. } => "region-map",
            Self::RegionUnsealed { .. } => "region-unsealed",
            Self::RegionLost { .. } => "region-lost",
            Self::NoRing { .. } => "no-ring",
            Self::Ring { cause, .. } => cause.name(),
        }
    }
}

impl RingError {
    fn name(&self) -> &'static str {
        match self {
            Self::Index { .. } => "ring-order",
            Self::Count { .. } => "ring-count",
            Self::Size { .. } => "ring-size",
            Self::PrivateHeader { .. } => "ring-private-header",
            Self::Region { .. } => "ring-region",
            Self::Outside => "ring-outside",
            Self::Unaligned { .. } => "ring-unaligned",
            Self::Overlap => "ring-overlap",
            Self::Cookie { .. } => "ring-cookie",
            Self::NotEventFd => "ring-not-eventfd",
            Self::Jump { .. } => "ring-jump",
            Self::BufferOutside { .. } => "buffer-outside",
            Self::Empty { .. } => "buffer-empty",
            Self::Overlong { .. } => "buffer-overlong",
            Self::OpenChain { .. } => "chain-open",
            Self::LongChain { .. } => "chain-long",
        }
    }
}

/// A violation of the protocol in one ring; part of [`ProtocolError::Ring`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Rings are not announced as 0, 1, 2, ... in each direction.
    #[error("out of turn, expected {want}")]
    Index {
        /// The index expected.
        want: u16,
    },
    /// The peer announces more rings than the interface allows.
    #[error("only {max} are allowed here")]
    Count {
        /// The number allowed in this direction.
        max: u16,
    },
    /// The ring is larger than any valid ring.
    #[error("log2 size {log2_size} is too large; try ring-size 16384")]
    Size {
        /// The size announced, as a power of two.
        log2_size: u8,
    },
    /// The ring has a private header, which the format allows but no implementation uses.
    #[error("private header of {bytes} bytes")]
    PrivateHeader {
        /// The header's size in bytes.
        bytes: u16,
    },
    /// The ring's region is not announced.
    #[error("region {region} does not exist")]
    Region {
        /// The region's index.
        region: u16,
    },
    /// The ring does not lie wholly in its region.
    #[error("outside its region")]
    Outside,
    /// The ring does not begin on a multiple of 16 bytes.
    #[error("offset {offset} is not a multiple of 16")]
    Unaligned {
        /// The offset announced.
        offset: u32,
    },
    /// The ring overlaps another one.
    #[error("overlaps another ring")]
    Overlap,
    /// The ring's memory does not begin with the cookie.
    #[error("wrong cookie {cookie:#x}")]
    Cookie {
        /// The number in the cookie's place.
        cookie: u32,
    },
    /// The ring's file descriptor is no eventfd.
    #[error("its descriptor is no eventfd")]
    NotEventFd,
    /// The peer's index went back, or forward by more than the ring.
    #[error("index jumped to {index}")]
    Jump {
        /// Its new value.
        index: u16,
    },
    /// A descriptor points outside the link's regions.
    #[error("slot {slot}: buffer outside its region")]
    BufferOutside {
        /// The descriptor's place in the ring.
        slot: u16,
    },
    /// A descriptor has no bytes, or no room.
    #[error("slot {slot}: length 0")]
    Empty {
        /// The descriptor's place in the ring.
        slot: u16,
    },
    /// A packet is longer than its buffer.
    #[error("slot {slot}: {length} bytes in a buffer of {room}")]
    Overlong {
        /// The descriptor's place in the ring.
        slot: u16,
        /// The length claimed, in bytes.
        length: u32,
        /// The buffer's size, in bytes.
        room: u32,
    },
    /// A chained packet continues behind the last filled descriptor.
    #[error("slot {slot}: the packet continues, but no descriptor follows")]
    OpenChain {
        /// The last filled descriptor's place in the ring.
        slot: u16,
    },
    /// A packet has more descriptors than any peer needs.
    #[error("slot {slot}: a packet of more than {max} descriptors")]
    LongChain {
        /// The first descriptor's place in the ring.
        slot: u16,
        /// The most descriptors of one packet.
        max: usize,
    },
}
